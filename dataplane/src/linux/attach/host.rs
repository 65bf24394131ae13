//! The node's side.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

use super::pair::Pair;
use super::{difference, run, run_all};
use crate::linux::sysctl::Sysctl;
use crate::netlink::link::{Inet6, KernelLink, Settings};
use crate::netlink::route::{Hops, KernelHop, KernelRoute};
use crate::netlink::{Batch, Socket, link, neighbour, route};
use crate::state::{LinkName, RouteKey};
use crate::{AttachError, Attachment, Difference, Prefix, Refusal, names};

/// Brings the node's side to what is asked for.
pub(super) fn configure(
    socket: &mut Socket,
    sysctl: Sysctl<'_>,
    attachment: &Attachment,
    pair: &Pair,
) -> Result<(), AttachError> {
    let found = &pair.host;
    let with_v6 = attachment.has_family(false);
    // Before the other end is up: from then on IPv6 looks for duplicates of the link-local address.
    for (name, is, value) in found.inet6.iter().flat_map(|is| wanted_v6(is, with_v6)) {
        if is != value {
            let path = format!("ipv6/conf/{}/{name}", attachment.host_link);
            sysctl.write(&path, &value.to_string())?;
        }
    }
    let settings = Settings {
        alias: Some(&attachment.alias),
        mac: (found.mac != Some(names::HOST_MAC)).then_some(names::HOST_MAC),
        mtu: (found.mtu != attachment.mtu).then_some(attachment.mtu),
        up: Some(true),
        inet: &SETTINGS_V4.map(|(number, _, value)| (number, value)),
        without_link_local: !with_v6 && found.inet6.is_some(),
        ..Settings::default()
    };
    let mut batch = Batch::new();
    batch.push(
        "the node's link could not be brought up",
        link::set_index(found.index, &settings),
        0,
    );
    batch.push(
        "the node's link could not be made to answer ARP at once",
        neighbour::no_proxy_delay(found.index),
        0,
    );
    add_routes(socket, attachment, found.index, &mut batch)
}

/// IPv4 settings of the node's end: number (`IPV4_DEVCONF_*`), name, value.
const SETTINGS_V4: [(u16, &str, u32); 4] = [
    (1, "forwarding", 1),
    (3, "proxy_arp", 1),
    (4, "accept_redirects", 0),
    (8, "rp_filter", 1),
];

/// Waits until the node's end takes packets, so that the container's first one is answered: mostly some microseconds,
/// and a second at most. The container's end came up last and takes them at once.
pub(super) fn await_active(socket: &mut Socket, name: &LinkName) -> Result<(), AttachError> {
    const STEP: std::time::Duration = std::time::Duration::from_micros(100);
    for _ in 0..10_000 {
        match socket.get(link::get(name)) {
            Ok(RouteNetlinkMessage::NewLink(message)) if !link::is_active(&message) => {}
            Ok(_) => return Ok(()),
            Err(source) => {
                let step = "the node's end could not be looked up";
                return Err(AttachError::Kernel { step, source });
            }
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// The settings of the node's end. Not `route_localnet`: it opens the node's loopback to pods (CVE-2020-8558).
fn wanted_settings(link: &KernelLink, with_v6: bool) -> Vec<(String, String)> {
    let name = &link.name;
    let v4 = SETTINGS_V4
        .into_iter()
        .map(|(_, setting, value)| (format!("ipv4/conf/{name}/{setting}"), value.to_string()));
    let delay = (format!("ipv4/neigh/{name}/proxy_delay"), "0".to_owned());
    let v6 = link.inet6.iter().flat_map(|is| wanted_v6(is, with_v6));
    let v6 =
        v6.map(|(setting, _, value)| (format!("ipv6/conf/{name}/{setting}"), value.to_string()));
    v4.chain([delay]).chain(v6).collect()
}

/// Those of IPv6, which netlink tells and does not take: name, how it is, how it should be.
///
/// Towards a container without an address of IPv6 the node has none either, nor anything to answer for: all that is left
/// is not to believe its routers. Each setting costs more than a message: its file is looked for among those of all
/// namespaces.
fn wanted_v6(is: &Inet6, with_v6: bool) -> Vec<(&'static str, i32, i32)> {
    let accept_ra = ("accept_ra", is.accept_ra, 0);
    if !with_v6 {
        return vec![accept_ra];
    }
    vec![
        ("addr_gen_mode", is.addr_gen_mode, 0),
        ("disable_ipv6", is.disable_ipv6, 0),
        ("accept_dad", is.accept_dad, 0),
        accept_ra,
        ("accept_redirects", is.accept_redirects, 0),
        ("proxy_ndp", is.proxy_ndp, 1),
        ("forwarding", is.forwarding, 1),
    ]
}

fn wanted_route(attachment: &Attachment, address: IpAddr, link: u32) -> (RouteKey, KernelRoute) {
    let hop = KernelHop {
        gateway: None,
        link,
        onlink: false,
    };
    let route = KernelRoute {
        hops: Hops::One(hop),
        source: None,
        protocol: attachment.route_protocol,
    };
    (RouteKey::main(Prefix::host(address)), route)
}

/// Runs the batch with the routes to the container. Somebody else's with the same key is not replaced; an old one of ours is.
fn add_routes(
    socket: &mut Socket,
    attachment: &Attachment,
    link: u32,
    batch: &mut Batch<&'static str>,
) -> Result<(), AttachError> {
    let step = ROUTE;
    for address in &attachment.addresses {
        let (key, wanted) = wanted_route(attachment, *address, link);
        batch.push_route(step, &key, &wanted, NLM_F_CREATE | NLM_F_EXCL);
    }
    let refused = run(socket, batch)?;
    if refused.is_empty() {
        return Ok(());
    }
    if let Some((step, source)) = refused
        .into_iter()
        .find(|(step, e)| *step != ROUTE || e.refusal != Refusal::Exists)
    {
        return Err(AttachError::Kernel { step, source });
    }
    for address in &attachment.addresses {
        let (key, wanted) = wanted_route(attachment, *address, link);
        if let Some(found) = existing(socket, &key)? {
            if found.protocol != attachment.route_protocol {
                return Err(AttachError::RouteTaken {
                    address: *address,
                    protocol: found.protocol,
                });
            }
            if !wanted.satisfied_by(&found) {
                batch.push_route(step, &key, &wanted, NLM_F_CREATE | NLM_F_REPLACE);
            }
        }
    }
    run_all(socket, batch)
}

/// The step that an older route may be in the way of.
const ROUTE: &str = "the route to the container could not be added";

/// The route of exactly this key.
fn existing(socket: &mut Socket, key: &RouteKey) -> Result<Option<KernelRoute>, AttachError> {
    let wanted = route::kernel_key(key);
    socket
        .dump_routes(
            key.prefix.is_ipv4(),
            0,
            |found: &mut Option<_>, key, route| {
                if key == wanted {
                    *found = Some(route);
                }
            },
        )
        .map_err(|source| AttachError::Kernel {
            step: "the node's routes could not be read",
            source,
        })
}

/// What is not as [`configure`] would make it.
pub(super) fn compare(
    socket: &mut Socket,
    sysctl: Sysctl<'_>,
    attachment: &Attachment,
    found: &KernelLink,
) -> Result<Vec<Difference>, AttachError> {
    let name = &attachment.host_link;
    let mut differences = Vec::new();
    let mut expect = |what: String, expected: String, is: String| {
        if expected != is {
            differences.push(difference(what, expected, is));
        }
    };
    expect(format!("kind of {name}"), "veth".into(), found.kind.clone());
    expect(
        format!("alias of {name}"),
        attachment.alias.clone(),
        found.alias.clone().unwrap_or_default(),
    );
    expect(
        format!("state of {name}"),
        "up".into(),
        if found.up { "up" } else { "down" }.into(),
    );
    expect(
        format!("mtu of {name}"),
        attachment.mtu.to_string(),
        found.mtu.to_string(),
    );
    let mac = found.mac.map_or_else(String::new, |mac| mac.to_string());
    expect(
        format!("hardware address of {name}"),
        names::HOST_MAC.to_string(),
        mac,
    );
    for (setting, value) in wanted_settings(found, attachment.has_family(false)) {
        expect(
            setting.clone(),
            value,
            sysctl.get(&setting)?.unwrap_or_default(),
        );
    }
    for address in &attachment.addresses {
        let (key, wanted) = wanted_route(attachment, *address, found.index);
        let is = existing(socket, &key)?;
        if !is.as_ref().is_some_and(|is| wanted.satisfied_by(is)) {
            let is = is.map_or("missing", |_| "another");
            differences.push(difference(
                format!("route {}", key.prefix),
                format!("dev {name}"),
                is,
            ));
        }
    }
    Ok(differences)
}
