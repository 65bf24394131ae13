use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::neighbour_table::{
    NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter,
};
use netlink_packet_route::route::RouteType;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::state::MacAddr;

/// A permanent entry as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelNeighbour {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    pub(crate) mac: MacAddr,
    pub(crate) permanent: bool,
}

pub(crate) fn parse(message: &NeighbourMessage) -> Option<KernelNeighbour> {
    let (mac, address) = parts(message);
    Some(KernelNeighbour {
        link: message.header.ifindex,
        address: address?,
        mac: mac.unwrap_or(MacAddr([0; 6])),
        permanent: message.header.state == NeighbourState::Permanent,
    })
}

fn parts(message: &NeighbourMessage) -> (Option<MacAddr>, Option<IpAddr>) {
    let (mut mac, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(MacAddr);
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::V4(*v4))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::V6(*v6))
            }
            // The bridge family does not say of which family the address is.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                address = match bytes.len() {
                    4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
                    _ => <[u8; 16]>::try_from(bytes.as_slice())
                        .ok()
                        .map(IpAddr::from),
                };
            }
            _ => {}
        }
    }
    (mac, address)
}

/// The message that makes a permanent neighbour.
pub(crate) fn new(link: u32, address: IpAddr, mac: MacAddr) -> RouteNetlinkMessage {
    let mut message = neighbour(link, address);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    RouteNetlinkMessage::NewNeighbour(message)
}

/// The message that removes a neighbour.
pub(crate) fn delete(link: u32, address: IpAddr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelNeighbour(neighbour(link, address))
}

/// The request that lists the neighbours of one link.
pub(crate) fn list(link: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.attributes.push(NeighbourAttribute::IfIndex(link));
    RouteNetlinkMessage::GetNeighbour(message)
}

/// The message that makes a link answer ARP for others at once (`proxy_delay` 0).
pub(crate) fn no_proxy_delay(link: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourTableMessage::default();
    message.header.family = AddressFamily::Inet;
    message.attributes = vec![
        NeighbourTableAttribute::Name("arp_cache".to_owned()),
        NeighbourTableAttribute::Parms(vec![
            NeighbourTableParameter::Ifindex(link),
            NeighbourTableParameter::ProxyDelay(0),
        ]),
    ];
    RouteNetlinkMessage::SetNeighbourTable(message)
}

fn neighbour(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: if address.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        },
        ifindex: link,
        kind: RouteType::Unicast,
        ..NeighbourHeader::default()
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination(address)));
    message
}

const fn destination(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    }
}

/// A forwarding entry as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelFdb {
    pub(crate) link: u32,
    pub(crate) mac: MacAddr,
    pub(crate) remote: IpAddr,
}

pub(crate) fn parse_fdb(message: &NeighbourMessage) -> Option<KernelFdb> {
    let (mac, remote) = parts(message);
    Some(KernelFdb {
        link: message.header.ifindex,
        mac: mac?,
        remote: remote?,
    })
}

/// The message that makes a permanent forwarding entry of a VXLAN device.
pub(crate) fn new_fdb(link: u32, mac: MacAddr, remote: IpAddr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewNeighbour(fdb(link, mac, remote))
}

/// The message that removes a forwarding entry.
pub(crate) fn delete_fdb(link: u32, mac: MacAddr, remote: IpAddr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelNeighbour(fdb(link, mac, remote))
}

/// The request that lists the forwarding entries of one device.
pub(crate) fn list_fdb(link: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    RouteNetlinkMessage::GetNeighbour(message)
}

fn fdb(link: u32, mac: MacAddr, remote: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: AddressFamily::Bridge,
        ifindex: link,
        state: NeighbourState::Permanent,
        flags: netlink_packet_route::neighbour::NeighbourFlags::Own,
        kind: RouteType::Unspec,
    };
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination(remote)));
    message
}
