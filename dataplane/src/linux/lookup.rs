//! Questions about routes, without a dataplane: the kernel's way to an address, and whose routes are there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::interfaces::interfaces;
use crate::netlink::Socket;
use crate::netlink::route::{Hops, KernelHop};
use crate::state::{Hop, LinkName, Route, RouteKey};
use crate::{KernelError, Refusal};

/// The kernel's way to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Way {
    /// The gateway; `None` when the address is a neighbour.
    pub gateway: Option<IpAddr>,
    /// The link that packets leave by.
    pub link: Option<LinkName>,
    /// The address that the host itself would send from.
    pub source: Option<IpAddr>,
}

/// How the kernel would send to `address` now, from the calling thread's network namespace; `None` when it has no
/// route there.
///
/// # Errors
/// The kernel could not be asked.
pub fn way_to(address: IpAddr) -> Result<Option<Way>, KernelError> {
    let mut question = RouteMessage::default();
    let (family, length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    question.header = RouteHeader {
        address_family: family,
        destination_prefix_length: length,
        ..RouteHeader::default()
    };
    question
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    let answer = match Socket::open()?.get(RouteNetlinkMessage::GetRoute(question)) {
        Ok(answer) => answer,
        Err(error) if matches!(error.refusal, Refusal::Unreachable | Refusal::Missing) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let RouteNetlinkMessage::NewRoute(route) = answer else {
        return Ok(None);
    };
    let mut way = Way {
        gateway: None,
        link: None,
        source: None,
    };
    let mut index = 0;
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Gateway(gateway) => way.gateway = to_ip(&gateway),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => way.gateway = Some(gateway.into()),
            RouteAttribute::PrefSource(source) => way.source = to_ip(&source),
            RouteAttribute::Oif(link) => index = link,
            _ => {}
        }
    }
    way.link = names()?.remove(&index);
    Ok(Some(way))
}

/// The routes of one protocol number in the calling thread's network namespace, of both address families.
///
/// # Errors
/// The kernel could not be read.
pub fn routes_of(protocol: u8) -> Result<BTreeMap<RouteKey, Route>, KernelError> {
    let links = names()?;
    let mut socket = Socket::open()?;
    let mut found = BTreeMap::new();
    for v4 in [true, false] {
        let routes = socket.dump_routes(v4, protocol, |routes: &mut Vec<_>, key, route| {
            routes.push((key, route));
        })?;
        for (key, route) in routes {
            let hop = |hop: &KernelHop| named(hop, &links);
            let hops = match &route.hops {
                Hops::Blackhole => vec![Hop::Blackhole],
                Hops::One(one) => hop(one).into_iter().collect(),
                Hops::Many(many) => many.iter().filter_map(hop).collect(),
                Hops::Other => Vec::new(),
            };
            if !hops.is_empty() {
                found.insert(
                    key,
                    Route {
                        hops,
                        source: route.source,
                    },
                );
            }
        }
    }
    Ok(found)
}

fn named(hop: &KernelHop, links: &BTreeMap<u32, LinkName>) -> Option<Hop> {
    let link = links.get(&hop.link).cloned();
    match hop.gateway {
        Some(gateway) => Some(Hop::Via {
            gateway,
            link,
            onlink: hop.onlink,
        }),
        None => link.map(Hop::Link),
    }
}

fn names() -> Result<BTreeMap<u32, LinkName>, KernelError> {
    Ok(interfaces()?
        .into_iter()
        .map(|interface| (interface.index, interface.name))
        .collect())
}

const fn to_ip(address: &netlink_packet_route::route::RouteAddress) -> Option<IpAddr> {
    match address {
        netlink_packet_route::route::RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        netlink_packet_route::route::RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
