use std::net::IpAddr;

use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::state::Address;

/// An address as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelAddress {
    pub(crate) link: u32,
    pub(crate) address: Address,
    /// Usable: neither deprecated nor waiting for duplicate detection.
    pub(crate) settled: bool,
    pub(crate) link_local: bool,
}

pub(crate) fn parse(message: &AddressMessage) -> Option<KernelAddress> {
    let (mut local, mut peer, mut flags) = (None, None, u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(all) => flags = all.bits(),
            _ => {}
        }
    }
    let unsettled = AddressFlags::Tentative | AddressFlags::Deprecated | AddressFlags::Dadfailed;
    let address = local.or(peer)?;
    Some(KernelAddress {
        link: message.header.index,
        address: Address::new(address, message.header.prefix_len).ok()?,
        settled: !AddressFlags::from_bits_retain(flags).intersects(unsettled),
        link_local: matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()),
    })
}

/// The message that gives a link an address, without duplicate detection: a pod would wait a second for it.
pub(crate) fn new(link: u32, address: Address) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewAddress(message(link, address))
}

/// The message that takes an address from a link.
pub(crate) fn delete(link: u32, address: Address) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelAddress(message(link, address))
}

/// The request that lists the addresses of one link, or (0) of all.
pub(crate) fn list(link: u32) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.index = link;
    RouteNetlinkMessage::GetAddress(message)
}

fn message(link: u32, address: Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    let v4 = address.is_ipv4();
    message.header = AddressHeader {
        family: if v4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        },
        prefix_len: address.prefix(),
        flags: if v4 {
            AddressHeaderFlags::empty()
        } else {
            AddressHeaderFlags::Nodad
        },
        scope: AddressScope::Universe,
        index: link,
    };
    message
        .attributes
        .push(AddressAttribute::Local(address.ip()));
    message
        .attributes
        .push(AddressAttribute::Address(address.ip()));
    message
}
