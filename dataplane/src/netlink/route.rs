use std::net::IpAddr;

use netlink_packet_route::route::{RouteHeader, RouteMessage, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

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
