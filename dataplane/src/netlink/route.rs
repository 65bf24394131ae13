use std::net::IpAddr;

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::Prefix;
use crate::state::RouteKey;

/// A route as the kernel has it, with links by their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelRoute {
    pub(crate) hops: Hops,
    pub(crate) source: Option<IpAddr>,
    pub(crate) protocol: u8,
}

/// Where packets go, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hops {
    Blackhole,
    One(KernelHop),
    Many(Box<[KernelHop]>),
    /// A kind of route that we never make.
    Other,
}

/// One way out, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KernelHop {
    pub(crate) gateway: Option<IpAddr>,
    /// The link's index; 0 in a request leaves it to the kernel.
    pub(crate) link: u32,
    pub(crate) onlink: bool,
}

impl KernelRoute {
    /// Whether the kernel's route is what this request would make: a link that the request leaves open fits any.
    pub(crate) fn satisfied_by(&self, found: &Self) -> bool {
        self.source == found.source
            && self.protocol == found.protocol
            && match (&self.hops, &found.hops) {
                (Hops::Blackhole, Hops::Blackhole) => true,
                (Hops::One(want), Hops::One(have)) => want.satisfied_by(have),
                (Hops::Many(want), Hops::Many(have)) => {
                    want.len() == have.len()
                        && want.iter().all(|w| have.iter().any(|h| w.satisfied_by(h)))
                }
                _ => false,
            }
    }

    /// Whether any way out is by this link.
    pub(crate) fn uses(&self, link: u32) -> bool {
        match &self.hops {
            Hops::One(hop) => hop.link == link,
            Hops::Many(hops) => hops.iter().any(|hop| hop.link == link),
            Hops::Blackhole | Hops::Other => false,
        }
    }
}

impl KernelHop {
    fn satisfied_by(&self, found: &Self) -> bool {
        self.gateway == found.gateway
            && self.onlink == found.onlink
            && (self.link == 0 || self.link == found.link)
    }
}

/// The key as the kernel reads it back: IPv6 has no metric 0.
pub(crate) fn kernel_key(key: &RouteKey) -> RouteKey {
    let mut key = key.clone();
    if key.metric == 0 && !key.prefix.is_ipv4() {
        key.metric = 1024;
    }
    key
}

/// Reads a route; `None` for what has no key of ours (another type of service, multicast, cached).
pub(crate) fn parse(message: &RouteMessage) -> Option<(RouteKey, KernelRoute)> {
    let header = &message.header;
    let v4 = header.address_family == AddressFamily::Inet;
    if !(v4 || header.address_family == AddressFamily::Inet6)
        || header.tos != 0
        || header.source_prefix_length != 0
        || header.flags.contains(RouteFlags::Cloned)
    {
        return None;
    }
    let unspecified = if v4 {
        IpAddr::V4([0; 4].into())
    } else {
        IpAddr::V6([0; 16].into())
    };
    let (mut destination, mut table, mut metric) = (unspecified, u32::from(header.table), 0);
    let mut hop = KernelHop {
        gateway: None,
        link: 0,
        onlink: header.flags.contains(RouteFlags::Onlink),
    };
    let (mut many, mut source) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = ip(to)?,
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Gateway(gateway) => hop.gateway = ip(gateway),
            RouteAttribute::Oif(index) => hop.link = *index,
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::MultiPath(hops) => many = Some(hops.iter().map(next_hop).collect()),
            _ => {}
        }
    }
    let hops = match (header.kind, many) {
        (RouteType::BlackHole, _) => Hops::Blackhole,
        (RouteType::Unicast, Some(hops)) => Hops::Many(hops),
        (RouteType::Unicast, None) => Hops::One(hop),
        _ => Hops::Other,
    };
    let prefix = Prefix::containing(destination, header.destination_prefix_length).ok()?;
    let key = RouteKey {
        prefix,
        table,
        metric,
    };
    let protocol = header.protocol.into();
    Some((
        key,
        KernelRoute {
            hops,
            source,
            protocol,
        },
    ))
}

fn next_hop(hop: &RouteNextHop) -> KernelHop {
    let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(gateway) => ip(gateway),
        _ => None,
    });
    KernelHop {
        gateway,
        link: hop.interface_index,
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
    }
}

const fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// The message that makes a route.
pub(crate) fn new(key: &RouteKey, route: &KernelRoute) -> RouteNetlinkMessage {
    let mut message = keyed(key, route.protocol);
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    match &route.hops {
        Hops::Blackhole | Hops::Other => message.header.kind = RouteType::BlackHole,
        Hops::One(hop) => {
            if hop.gateway.is_none() {
                message.header.scope = RouteScope::Link;
            }
            if hop.onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
            if hop.link != 0 {
                message.attributes.push(RouteAttribute::Oif(hop.link));
            }
            message.attributes.extend(
                hop.gateway
                    .map(|address| RouteAttribute::Gateway(address.into())),
            );
        }
        Hops::Many(hops) => {
            let hops = hops.iter().map(next_hop_message).collect();
            message.attributes.push(RouteAttribute::MultiPath(hops));
        }
    }
    message.attributes.extend(
        route
            .source
            .map(|address| RouteAttribute::PrefSource(address.into())),
    );
    RouteNetlinkMessage::NewRoute(message)
}

/// The message that removes a route, and only one of this protocol.
pub(crate) fn delete(key: &RouteKey, protocol: u8) -> RouteNetlinkMessage {
    let mut message = keyed(key, protocol);
    message.header.scope = RouteScope::NoWhere;
    RouteNetlinkMessage::DelRoute(message)
}

/// The request that lists the routes of one family, of one protocol or (0) of all.
pub(crate) fn list(v4: bool, protocol: u8) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if v4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        },
        protocol: RouteProtocol::from(protocol),
        ..RouteHeader::default()
    };
    RouteNetlinkMessage::GetRoute(message)
}

fn keyed(key: &RouteKey, protocol: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if key.prefix.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        },
        destination_prefix_length: key.prefix.length(),
        table: u8::try_from(key.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: RouteProtocol::from(protocol),
        ..RouteHeader::default()
    };
    message
        .attributes
        .push(RouteAttribute::Destination(key.prefix.address().into()));
    if message.header.table == RouteHeader::RT_TABLE_UNSPEC {
        message.attributes.push(RouteAttribute::Table(key.table));
    }
    if key.metric != 0 {
        message
            .attributes
            .push(RouteAttribute::Priority(key.metric));
    }
    message
}

fn next_hop_message(hop: &KernelHop) -> RouteNextHop {
    let mut message = RouteNextHop::default();
    message.interface_index = hop.link;
    if hop.onlink {
        message.flags = RouteNextHopFlags::Onlink;
    }
    message.attributes.extend(
        hop.gateway
            .map(|address| RouteAttribute::Gateway(address.into())),
    );
    message
}
