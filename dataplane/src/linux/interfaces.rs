use std::collections::BTreeMap;

use netlink_packet_route::RouteNetlinkMessage;

use crate::KernelError;
use crate::interfaces::Interface;
use crate::netlink::link::KernelLink;
use crate::netlink::{Socket, address, link};

/// The links of the calling thread's network namespace with their addresses, by index.
///
/// # Errors
/// The kernel refused, or changed faster than it could be read.
pub fn interfaces() -> Result<Vec<Interface>, KernelError> {
    let mut socket = Socket::open()?;
    let links: BTreeMap<u32, Interface> = socket.dump(&link::list(), |links, object| {
        if let RouteNetlinkMessage::NewLink(message) = object
            && let Some(link) = link::parse(&message)
        {
            BTreeMap::insert(links, link.index, Interface::from(link));
        }
    })?;
    let addresses: Vec<_> = socket.dump(&address::list(0), |addresses, object| {
        if let RouteNetlinkMessage::NewAddress(message) = object {
            Vec::extend(addresses, address::parse(&message));
        }
    })?;
    let mut links = links;
    for found in addresses.into_iter().filter(|found| found.settled) {
        if let Some(interface) = links.get_mut(&found.link) {
            interface.addresses.push(found.address);
        }
    }
    Ok(links.into_values().collect())
}

impl From<KernelLink> for Interface {
    fn from(link: KernelLink) -> Self {
        Self {
            index: link.index,
            name: link.name,
            kind: link.kind,
            mtu: link.mtu,
            mac: link.mac,
            up: link.up,
            loopback: link.loopback,
            alias: link.alias,
            addresses: Vec::new(),
        }
    }
}
