//! The container's side: everything here runs on a thread in the container's network namespace.

use std::net::IpAddr;
use std::os::fd::AsFd as _;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

use super::pair::Pair;
use super::{difference, lookup, open, run_all};
use crate::linux::netns::within;
use crate::linux::sysctl::Sysctl;
use crate::netlink::link::{KernelLink, Settings};
use crate::netlink::neighbour::KernelNeighbour;
use crate::netlink::route::{Hops, KernelHop, KernelRoute};
use crate::netlink::{Batch, Socket, address, link, neighbour, netconf, route};
use crate::state::{Address, MacAddr, RouteKey};
use crate::{AttachError, Attachment, Difference, KernelError, Prefix, names};

/// The protocol of the container's own routes: `boot`, as `ip route` gives it.
const BOOT: u8 = 3;

/// The container's end, if it is there.
pub(super) fn end_of(attachment: &Attachment) -> Result<Option<KernelLink>, AttachError> {
    lookup(&mut open()?, &attachment.container_link)
}

/// What can be done in the container's namespace before its end is there: a socket, which then works from anywhere, and
/// the settings that are of no link.
pub(super) fn enter(sysctl: Sysctl<'_>, attachment: &Attachment) -> Result<Socket, AttachError> {
    let mut socket = open()?;
    for v4 in [true, false] {
        // Asking is much cheaper than looking into a file.
        let told = !v4 && !attachment.has_family(false)
            || netconf::forwards(&mut socket, v4).is_ok_and(|is| is == Some(attachment.ip_forward));
        if !told {
            let (name, value) = wanted_forwarding(attachment, v4);
            sysctl.set(name, value)?;
        }
    }
    if attachment.has_family(false) {
        for (name, value) in WANTED_V6 {
            sysctl.set(name, value)?;
        }
    }
    Ok(socket)
}

/// Brings the container's side to what is asked for; its hardware address.
pub(super) fn configure(
    socket: &mut Socket,
    sysctl: Sysctl<'_>,
    attachment: &Attachment,
    pair: &Pair,
) -> Result<MacAddr, AttachError> {
    if attachment.has_family(false) {
        // Before it is up, so that its link-local address is not looked for elsewhere first.
        within::<_, AttachError>(attachment.namespace.as_fd(), || {
            for (name, value) in wanted_link_settings(attachment) {
                sysctl.set(&name, value)?;
            }
            Ok(())
        })?;
    }
    let mut batch = Batch::new();
    let differs = |mac: &MacAddr| pair.end.as_ref().is_some_and(|end| end.mac != Some(*mac));
    let up = Settings {
        up: Some(true),
        mac: attachment.mac.filter(differs),
        mtu: pair.end.as_ref().map(|_| attachment.mtu),
        ..Settings::default()
    };
    batch.push(
        "the container's link could not be brought up",
        link::set_index(pair.inner, &up),
        0,
    );
    let loopback = Settings {
        up: Some(true),
        ..Settings::default()
    };
    batch.push(
        "the container's loopback could not be brought up",
        link::set_index(1, &loopback),
        0,
    );
    for address in &attachment.addresses {
        let message = address::new(pair.inner, Address::from(*address));
        batch.push(
            "the container's address could not be added",
            message,
            NLM_F_CREATE | NLM_F_REPLACE,
        );
    }
    for v4 in [true, false] {
        if attachment.has_family(v4) {
            gateway(&mut batch, attachment, pair.inner, v4);
        }
    }
    run_all(socket, &mut batch)?;
    let known = attachment
        .mac
        .or_else(|| pair.end.as_ref().and_then(|end| end.mac));
    match known {
        Some(mac) => Ok(mac),
        None => mac_of(socket, pair.inner),
    }
}

/// The hardware address that the kernel chose.
fn mac_of(socket: &mut Socket, index: u32) -> Result<MacAddr, AttachError> {
    let found = match socket.get(link::get_index(index)) {
        Ok(RouteNetlinkMessage::NewLink(message)) => link::parse(&message),
        Ok(_) => None,
        Err(source) => {
            let step = "the container's end could not be looked up";
            return Err(AttachError::Kernel { step, source });
        }
    };
    Ok(found.and_then(|found| found.mac).unwrap_or(MacAddr([0; 6])))
}

/// The neighbour entry, the route to the gateway and the default route. The entry is permanent: the node's proxy ARP
/// answers for the gateway only where the node itself has a route to it by another link, such as a default route.
fn gateway(batch: &mut Batch<&'static str>, attachment: &Attachment, end: u32, v4: bool) {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let (address, routes) = routes(attachment, end, v4);
    let entry = neighbour::new(end, address, names::HOST_MAC);
    batch.push(
        "the container's gateway could not be made a neighbour",
        entry,
        flags,
    );
    for (key, wanted) in routes {
        batch.push_route(
            "the container's route could not be added",
            &key,
            &wanted,
            flags,
        );
    }
}

/// The route to the gateway and the default route. A container's further links have routes of a higher metric, so that
/// neither making nor removing one of them touches the routes by `eth0`.
fn routes(attachment: &Attachment, end: u32, v4: bool) -> (IpAddr, [(RouteKey, KernelRoute); 2]) {
    let metric = match (attachment.container_link.as_str(), v4) {
        ("eth0", _) => 0,
        (_, true) => 100 + end,
        // IPv6 reads 0 as 1024.
        (_, false) => 2048 + end,
    };
    let (address, all) = if v4 {
        (IpAddr::V4(names::GATEWAY_V4), IpAddr::V4([0; 4].into()))
    } else {
        (IpAddr::V6(names::GATEWAY_V6), IpAddr::V6([0; 16].into()))
    };
    let by = |gateway| KernelRoute {
        hops: Hops::One(KernelHop {
            gateway,
            link: end,
            onlink: false,
        }),
        source: None,
        protocol: BOOT,
    };
    let everything = Prefix::containing(all, 0).unwrap_or_else(|_| Prefix::host(all));
    let key = |prefix| RouteKey {
        metric,
        ..RouteKey::main(prefix)
    };
    let on_link = (key(Prefix::host(address)), by(None));
    (address, [on_link, (key(everything), by(Some(address)))])
}

/// Whether the container forwards packets of a family.
const fn wanted_forwarding(attachment: &Attachment, v4: bool) -> (&'static str, &'static str) {
    let name = if v4 {
        "ipv4/ip_forward"
    } else {
        "ipv6/conf/all/forwarding"
    };
    (name, if attachment.ip_forward { "1" } else { "0" })
}

/// Runtimes turn IPv6 off in namespaces that they do not know to be for it.
const WANTED_V6: [(&str, &str); 2] = [
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/lo/disable_ipv6", "0"),
];

/// The settings of the container's namespace that are of no link.
fn wanted_settings(attachment: &Attachment) -> Vec<(&'static str, &'static str)> {
    let mut wanted = vec![wanted_forwarding(attachment, true)];
    if attachment.has_family(false) {
        wanted.push(wanted_forwarding(attachment, false));
        wanted.extend(WANTED_V6);
    }
    wanted
}

/// The settings of the container's end.
fn wanted_link_settings(attachment: &Attachment) -> Vec<(String, &'static str)> {
    if !attachment.has_family(false) {
        return Vec::new();
    }
    let link = &attachment.container_link;
    let setting = |name: &str| (format!("ipv6/conf/{link}/{name}"), "0");
    ["disable_ipv6", "accept_dad", "accept_ra"]
        .map(setting)
        .to_vec()
}

/// What is not as [`configure`] would make it.
pub(super) fn compare(
    sysctl: Sysctl<'_>,
    attachment: &Attachment,
    host: &KernelLink,
) -> Result<Vec<Difference>, AttachError> {
    let mut socket = open()?;
    let name = &attachment.container_link;
    let Some(end) = lookup(&mut socket, name)? else {
        return Ok(vec![difference(name, "there", "missing")]);
    };
    let mut found = Vec::new();
    let mut expect = |what: String, expected: String, is: String| {
        if expected != is {
            found.push(difference(what, expected, is));
        }
    };
    expect(
        format!("other end of {name}"),
        host.index.to_string(),
        end.peer.unwrap_or(0).to_string(),
    );
    expect(
        format!("state of {name}"),
        "up".into(),
        if end.up { "up" } else { "down" }.into(),
    );
    expect(
        format!("mtu of {name}"),
        attachment.mtu.to_string(),
        end.mtu.to_string(),
    );
    if let Some(mac) = attachment.mac {
        let is = end.mac.map_or_else(String::new, |mac| mac.to_string());
        expect(format!("hardware address of {name}"), mac.to_string(), is);
    }
    let settings = wanted_settings(attachment).into_iter();
    let settings = settings.map(|(name, value)| (name.to_owned(), value));
    for (setting, value) in settings.chain(wanted_link_settings(attachment)) {
        expect(
            setting.clone(),
            value.into(),
            sysctl.get(&setting)?.unwrap_or_default(),
        );
    }
    found.extend(compare_addresses(&mut socket, attachment, end.index)?);
    found.extend(compare_gateways(&mut socket, attachment, end.index)?);
    Ok(found)
}

fn compare_addresses(
    socket: &mut Socket,
    attachment: &Attachment,
    end: u32,
) -> Result<Vec<Difference>, AttachError> {
    let addresses: Vec<_> = socket
        .dump(&address::list(0), |all: &mut Vec<_>, object| {
            if let RouteNetlinkMessage::NewAddress(message) = object {
                all.extend(address::parse(&message).filter(|address| address.link == end));
            }
        })
        .map_err(unread)?;
    let missing = attachment.addresses.iter().filter(|wanted| {
        !addresses
            .iter()
            .any(|found| found.address == Address::from(**wanted))
    });
    let what = format!("address of {}", attachment.container_link);
    let missing = missing
        .map(|address| difference(&what, address, "missing"))
        .collect::<Vec<_>>();
    let more = addresses
        .iter()
        .filter(|found| !found.link_local && !attachment.addresses.contains(&found.address.ip()));
    Ok(missing
        .into_iter()
        .chain(more.map(|found| difference(&what, "none", found.address)))
        .collect())
}

fn compare_gateways(
    socket: &mut Socket,
    attachment: &Attachment,
    end: u32,
) -> Result<Vec<Difference>, AttachError> {
    let mut differences = Vec::new();
    for v4 in [true, false] {
        if !attachment.has_family(v4) {
            continue;
        }
        let (gateway, wanted) = routes(attachment, end, v4);
        let routes = socket
            .dump_routes(v4, 0, |all: &mut Vec<_>, key, route| all.push((key, route)))
            .map_err(unread)?;
        for (key, route) in wanted {
            let key = route::kernel_key(&key);
            if !routes
                .iter()
                .any(|(k, r)| *k == key && route.satisfied_by(r))
            {
                differences.push(difference(
                    format!("route {}", key.prefix),
                    "there",
                    "missing",
                ));
            }
        }
        let neighbours: Vec<KernelNeighbour> = socket
            .dump(&neighbour::list(end), |all: &mut Vec<_>, object| {
                if let RouteNetlinkMessage::NewNeighbour(message) = object {
                    all.extend(neighbour::parse(&message));
                }
            })
            .map_err(unread)?;
        let entry = neighbours
            .iter()
            .find(|found| found.link == end && found.address == gateway);
        if !entry.is_some_and(|found| found.permanent && found.mac == names::HOST_MAC) {
            let is = entry.map_or_else(|| "missing".to_owned(), |found| found.mac.to_string());
            differences.push(difference(
                format!("neighbour {gateway}"),
                names::HOST_MAC,
                is,
            ));
        }
    }
    Ok(differences)
}

fn unread(source: KernelError) -> AttachError {
    AttachError::Kernel {
        step: "the container's side could not be read",
        source,
    }
}
