//! Routes in bytes, written and read without anything between: what a hundred thousand of them go through.
//! `rtnetlink(7)`, `struct rtmsg`.

use std::net::IpAddr;

use super::route::{Hops, KernelHop, KernelRoute};
use crate::Prefix;
use crate::state::RouteKey;

const INET: u8 = 2;
const INET6: u8 = 10;
const UNICAST: u8 = 1;
const BLACKHOLE: u8 = 6;
const SCOPE_LINK: u8 = 253;
const SCOPE_NOWHERE: u8 = 255;
const ONLINK: u8 = 4;
const CLONED: u32 = 0x200;

const DESTINATION: u16 = 1;
const LINK: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const SOURCE: u16 = 7;
const MULTIPATH: u16 = 9;
const TABLE: u16 = 15;
/// A gateway of the other family (`struct rtvia`): an IPv4 route by way of IPv6, RFC 8950.
const VIA: u16 = 18;

/// `RTM_NEWROUTE`.
pub(crate) const NEW: u16 = 24;
/// `RTM_DELROUTE`.
pub(crate) const DELETE: u16 = 25;

/// Appends what makes a route: the message behind its header.
pub(crate) fn write_new(bytes: &mut Vec<u8>, key: &RouteKey, route: &KernelRoute) {
    let (kind, scope, flags) = match &route.hops {
        Hops::Blackhole | Hops::Other => (BLACKHOLE, 0, 0),
        Hops::One(hop) => {
            let scope = if hop.gateway.is_none() { SCOPE_LINK } else { 0 };
            (UNICAST, scope, if hop.onlink { ONLINK } else { 0 })
        }
        Hops::Many(_) => (UNICAST, 0, 0),
    };
    write_key(bytes, key, route.protocol, scope, kind, flags);
    let v4 = key.prefix.is_ipv4();
    match &route.hops {
        Hops::Blackhole | Hops::Other => {}
        Hops::One(hop) => {
            if hop.link != 0 {
                attribute(bytes, LINK, &hop.link.to_ne_bytes());
            }
            write_gateway(bytes, v4, hop.gateway);
        }
        Hops::Many(hops) => {
            let start = open(bytes, MULTIPATH);
            for hop in hops {
                let at = bytes.len();
                bytes.extend_from_slice(&[0, 0, if hop.onlink { ONLINK } else { 0 }, 0]);
                bytes.extend_from_slice(&hop.link.to_ne_bytes());
                write_gateway(bytes, v4, hop.gateway);
                close(bytes, at);
            }
            close(bytes, start);
        }
    }
    if let Some(source) = route.source {
        address(bytes, SOURCE, source);
    }
}

/// Appends what removes the route of a key, and only one of this protocol.
pub(crate) fn write_delete(bytes: &mut Vec<u8>, key: &RouteKey, protocol: u8) {
    write_key(bytes, key, protocol, SCOPE_NOWHERE, 0, 0);
}

fn write_key(bytes: &mut Vec<u8>, key: &RouteKey, protocol: u8, scope: u8, kind: u8, flags: u8) {
    let family = if key.prefix.is_ipv4() { INET } else { INET6 };
    let table = u8::try_from(key.table).unwrap_or(0);
    bytes.extend_from_slice(&[
        family,
        key.prefix.length(),
        0,
        0,
        table,
        protocol,
        scope,
        kind,
    ]);
    bytes.extend_from_slice(&u32::from(flags).to_ne_bytes());
    address(bytes, DESTINATION, key.prefix.address());
    if table == 0 {
        attribute(bytes, TABLE, &key.table.to_ne_bytes());
    }
    if key.metric != 0 {
        attribute(bytes, PRIORITY, &key.metric.to_ne_bytes());
    }
}

/// Appends the gateway of a route of one family.
fn write_gateway(bytes: &mut Vec<u8>, v4: bool, gateway: Option<IpAddr>) {
    match gateway {
        None => {}
        Some(gateway) if gateway.is_ipv4() == v4 => address(bytes, GATEWAY, gateway),
        Some(gateway) => {
            let start = open(bytes, VIA);
            let family = if gateway.is_ipv4() { INET } else { INET6 };
            bytes.extend_from_slice(&u16::from(family).to_ne_bytes());
            match gateway {
                IpAddr::V4(v4) => bytes.extend_from_slice(&v4.octets()),
                IpAddr::V6(v6) => bytes.extend_from_slice(&v6.octets()),
            }
            close(bytes, start);
            // What follows starts at a multiple of four.
            bytes.extend_from_slice(&[0; 2]);
        }
    }
}

fn address(bytes: &mut Vec<u8>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => attribute(bytes, kind, &v4.octets()),
        IpAddr::V6(v6) => attribute(bytes, kind, &v6.octets()),
    }
}

/// Appends an attribute whose value is a multiple of four bytes long.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
}

fn open(bytes: &mut Vec<u8>, kind: u16) -> usize {
    let start = bytes.len();
    attribute(bytes, kind, &[]);
    start
}

/// Writes the length of what began at `start` into its first two bytes.
fn close(bytes: &mut [u8], start: usize) {
    let length = u16::try_from(bytes.len() - start).unwrap_or(u16::MAX);
    if let Some(field) = bytes.get_mut(start..start + 2) {
        field.copy_from_slice(&length.to_ne_bytes());
    }
}

/// Reads a route; `None` for what has no key of ours (another type of service, cached, of another family) or does not
/// parse.
pub(crate) fn read(payload: &[u8]) -> Option<(RouteKey, KernelRoute)> {
    let &[family, length, from, tos, table, protocol, _scope, kind] = payload.first_chunk()?;
    let flags = u32::from_ne_bytes(*payload.get(8..)?.first_chunk()?);
    let v4 = match family {
        INET => true,
        INET6 => false,
        _ => return None,
    };
    if tos != 0 || from != 0 || flags & CLONED != 0 {
        return None;
    }
    let unspecified = if v4 {
        IpAddr::V4([0; 4].into())
    } else {
        IpAddr::V6([0; 16].into())
    };
    let (mut destination, mut table, mut metric) = (unspecified, u32::from(table), 0);
    let mut hop = KernelHop {
        gateway: None,
        link: 0,
        onlink: flags & u32::from(ONLINK) != 0,
    };
    let (mut many, mut source) = (None, None);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            DESTINATION => destination = read_ip(value)?,
            TABLE => table = u32::from_ne_bytes(value.try_into().ok()?),
            PRIORITY => metric = u32::from_ne_bytes(value.try_into().ok()?),
            GATEWAY => hop.gateway = read_ip(value),
            VIA => hop.gateway = read_via(value),
            LINK => hop.link = u32::from_ne_bytes(value.try_into().ok()?),
            SOURCE => source = read_ip(value),
            MULTIPATH => many = Some(read_hops(value)?),
            _ => {}
        }
    }
    let hops = match (kind, many) {
        (BLACKHOLE, _) => Hops::Blackhole,
        (UNICAST, Some(hops)) => Hops::Many(hops),
        (UNICAST, None) => Hops::One(hop),
        _ => Hops::Other,
    };
    let prefix = Prefix::containing(destination, length).ok()?;
    let key = RouteKey {
        prefix,
        table,
        metric,
    };
    Some((
        key,
        KernelRoute {
            hops,
            source,
            protocol,
        },
    ))
}

fn read_hops(mut bytes: &[u8]) -> Option<Box<[KernelHop]>> {
    let mut hops = Vec::new();
    while let Some(&[low, high, flags, _]) = bytes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let link = u32::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let gateway = attributes(bytes.get(8..length)?).find_map(|(kind, value)| match kind {
            GATEWAY => read_ip(value),
            VIA => read_via(value),
            _ => None,
        });
        hops.push(KernelHop {
            gateway,
            link,
            onlink: flags & ONLINK != 0,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Some(hops.into())
}

/// Reads `struct rtvia`: the family, then the address.
fn read_via(value: &[u8]) -> Option<IpAddr> {
    let (family, address) = value.split_first_chunk()?;
    let length = match u8::try_from(u16::from_ne_bytes(*family)) {
        Ok(INET) => 4,
        Ok(INET6) => 16,
        _ => return None,
    };
    read_ip(address.get(..length)?)
}

fn read_ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Kinds and values. An attribute whose length is wrong ends them.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const FLAGS: u16 = 0xc000;
    std::iter::from_fn(move || {
        let &[a, b, c, d] = bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((u16::from_ne_bytes([c, d]) & !FLAGS, value))
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable, ParseableParametrized};
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType, RouteVia};

    use super::*;

    fn samples() -> Vec<(RouteKey, KernelRoute)> {
        let hop = |gateway: &str, link, onlink| KernelHop {
            gateway: gateway.parse().ok(),
            link,
            onlink,
        };
        let mut all = Vec::new();
        for (prefix, near, far) in [
            ("10.1.0.0/26", "10.0.0.1", "10.0.0.2"),
            ("fd00::/122", "fe80::1", "fe80::2"),
        ] {
            let hops = [
                Hops::Blackhole,
                Hops::One(hop("", 7, false)),
                Hops::One(hop(near, 7, true)),
                Hops::One(hop(near, 0, false)),
                Hops::Many([hop(near, 7, true), hop(far, 8, false)].into()),
            ];
            for (hops, (table, metric)) in
                hops.into_iter()
                    .zip([(254, 0), (1000, 0), (254, 5), (7, 1024), (254, 1)])
            {
                let key = RouteKey {
                    prefix: prefix.parse().unwrap(),
                    table,
                    metric,
                };
                let source = (metric == 5).then(|| far.parse().unwrap());
                all.push((
                    key,
                    KernelRoute {
                        hops,
                        source,
                        protocol: 80,
                    },
                ));
            }
        }
        for hops in [
            Hops::One(hop("fe80::1", 7, false)),
            Hops::Many([hop("fe80::1", 7, true), hop("10.0.0.2", 8, false)].into()),
        ] {
            let route = KernelRoute {
                hops,
                source: "10.0.0.3".parse().ok(),
                protocol: 80,
            };
            all.push((RouteKey::main("10.2.0.0/26".parse().unwrap()), route));
        }
        all
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (key, route) in samples() {
            let mut bytes = Vec::new();
            write_new(&mut bytes, &key, &route);
            assert_eq!(read(&bytes), Some((key, route)));
        }
    }

    #[test]
    fn another_codec_reads_and_writes_the_same_bytes() {
        for (key, route) in samples() {
            for delete in [false, true] {
                let mut bytes = Vec::new();
                if delete {
                    write_delete(&mut bytes, &key, route.protocol);
                } else {
                    write_new(&mut bytes, &key, &route);
                }
                let kind = if delete { DELETE } else { NEW };
                let message =
                    RouteNetlinkMessage::parse_with_param(bytes.as_slice(), kind).unwrap();
                let mut again = vec![0; message.buffer_len()];
                message.emit(&mut again);
                assert_eq!(again, bytes, "{key:?} {route:?}");
                let (RouteNetlinkMessage::NewRoute(message)
                | RouteNetlinkMessage::DelRoute(message)) = message
                else {
                    panic!("{message:?}");
                };
                check(&message, &key, &route, delete);
            }
        }
    }

    fn check(message: &RouteMessage, key: &RouteKey, route: &KernelRoute, delete: bool) {
        assert_eq!(
            message.header.destination_prefix_length,
            key.prefix.length()
        );
        assert_eq!(u8::from(message.header.protocol), 80);
        let has = |attribute: RouteAttribute| message.attributes.contains(&attribute);
        assert!(has(RouteAttribute::Destination(
            key.prefix.address().into()
        )));
        assert!(
            u32::from(message.header.table) == key.table || has(RouteAttribute::Table(key.table))
        );
        assert!(key.metric == 0 || has(RouteAttribute::Priority(key.metric)));
        if delete {
            return;
        }
        assert_eq!(
            message.header.kind == RouteType::BlackHole,
            route.hops == Hops::Blackhole
        );
        if let Hops::One(hop) = &route.hops {
            assert!(hop.link == 0 || has(RouteAttribute::Oif(hop.link)));
            assert!(hop.gateway.is_none_or(|gateway| match gateway {
                IpAddr::V6(v6) if key.prefix.is_ipv4() =>
                    has(RouteAttribute::Via(RouteVia::Inet6(v6))),
                gateway => has(RouteAttribute::Gateway(gateway.into())),
            }));
        }
        if let Some(source) = route.source {
            assert!(has(RouteAttribute::PrefSource(source.into())));
        }
    }

    #[test]
    fn damaged_messages_do_not_panic() {
        for (key, route) in samples() {
            let mut bytes = Vec::new();
            write_new(&mut bytes, &key, &route);
            for at in 0..bytes.len() {
                let _ = read(&bytes[..at]);
                for value in [0, 1, 3, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] = value;
                    let _ = read(&damaged);
                }
            }
        }
    }
}
