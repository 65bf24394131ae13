//! Links that we own: made, compared, made again where a setting cannot be changed on a live link.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

use super::view::View;
use crate::netlink::link::{KernelLink, Settings, Vxlan};
use crate::netlink::{Batch, Socket, address, link};
use crate::report::{Fault, Object, Report};
use crate::state::{Address, Link, LinkKind, LinkName, MacAddr};
use crate::{KernelError, Refusal};

/// Brings one link and its addresses to what the state says.
pub(super) fn ensure(
    socket: &mut Socket,
    view: &mut View,
    name: &LinkName,
    wanted: &Link,
    keep_more: bool,
    report: &mut Report,
) -> Result<(), KernelError> {
    let made = match &wanted.kind {
        LinkKind::Vxlan { .. } => ensure_vxlan(socket, view, name, wanted, report),
        LinkKind::Ipip => ensure_ipip(socket, view, name, report),
    };
    let index = match made {
        Ok(index) => index,
        Err(Fault::Kernel(error)) if error.refusal == Refusal::Overrun => return Err(error),
        Err(fault) => {
            report.fail(Object::Link(name.clone()), fault);
            return Ok(());
        }
    };
    settle(socket, view, index, wanted, report)?;
    ensure_addresses(socket, view, index, name, wanted, keep_more, report)
}

/// Removes a link of ours that the state does not name.
pub(super) fn remove(socket: &mut Socket, view: &mut View, name: &LinkName, report: &mut Report) {
    let Some(found) = view.named(name) else {
        return;
    };
    if found.kind != "vxlan" {
        return;
    }
    let index = found.index;
    match socket.execute(link::delete(index), 0) {
        Err(error) if error.refusal != Refusal::NoLink => {
            report.fail(Object::Link(name.clone()), error.into());
        }
        _ => {
            report.changed += 1;
            view.remove_link(index);
            view.drop_routes_by(index);
        }
    }
}

fn ensure_vxlan(
    socket: &mut Socket,
    view: &mut View,
    name: &LinkName,
    wanted: &Link,
    report: &mut Report,
) -> Result<u32, Fault> {
    let (settings, mac) = vxlan_settings(view, &wanted.kind)?;
    if let Some(found) = view.named(name) {
        if found.kind != "vxlan" {
            return Err(Fault::Foreign {
                found: found.kind.clone(),
            });
        }
        if found.vxlan.as_ref() == Some(&settings) && found.mac == Some(mac) {
            return Ok(found.index);
        }
        let index = found.index;
        socket.execute(link::delete(index), 0)?;
        view.remove_link(index);
        view.drop_routes_by(index);
    }
    let message = link::vxlan(name, &settings, mac, wanted.mtu);
    socket
        .execute(message, NLM_F_CREATE | NLM_F_EXCL)
        .map_err(|error| match error.refusal {
            Refusal::Unsupported => Fault::Unsupported {
                what: "VXLAN (module vxlan)",
            },
            _ => error.into(),
        })?;
    report.changed += 1;
    reread(socket, view, name)
}

fn vxlan_settings(view: &View, kind: &LinkKind) -> Result<(Vxlan, MacAddr), Fault> {
    let LinkKind::Vxlan {
        vni,
        port,
        local,
        parent,
        mac,
    } = kind
    else {
        return Err(Fault::Invalid {
            why: "not a VXLAN link",
        });
    };
    let parent = match parent {
        None => 0,
        Some(name) => view
            .index(name)
            .ok_or_else(|| Fault::LinkMissing(name.clone()))?,
    };
    let settings = Vxlan {
        vni: *vni,
        port: *port,
        local: Some(*local),
        parent,
        learning: false,
        external: false,
    };
    Ok((settings, *mac))
}

/// `tunl0` comes with the module, in every namespace; asking for a device of its kind loads the module.
fn ensure_ipip(
    socket: &mut Socket,
    view: &mut View,
    name: &LinkName,
    report: &mut Report,
) -> Result<u32, Fault> {
    if let Some(found) = view.named(name) {
        return if found.kind == "ipip" {
            Ok(found.index)
        } else {
            Err(Fault::Foreign {
                found: found.kind.clone(),
            })
        };
    }
    match socket.execute(link::ipip(name), NLM_F_CREATE | NLM_F_EXCL) {
        Ok(()) => report.changed += 1,
        Err(error) => match error.refusal {
            Refusal::Exists => {}
            Refusal::Unsupported => {
                return Err(Fault::Unsupported {
                    what: "IP in IP (module ipip)",
                });
            }
            _ => return Err(error.into()),
        },
    }
    reread(socket, view, name)
}

/// Reads a link that was made a moment ago.
fn reread(socket: &mut Socket, view: &mut View, name: &LinkName) -> Result<u32, Fault> {
    let RouteNetlinkMessage::NewLink(message) = socket.get(link::get(name))? else {
        return Err(Fault::LinkMissing(name.clone()));
    };
    let found: KernelLink =
        link::parse(&message).ok_or_else(|| Fault::LinkMissing(name.clone()))?;
    let index = found.index;
    view.put_link(found);
    view.read_entries(socket, index)?;
    Ok(index)
}

/// What can be changed on a live link: its MTU, and that it is up.
fn settle(
    socket: &mut Socket,
    view: &mut View,
    index: u32,
    wanted: &Link,
    report: &mut Report,
) -> Result<(), KernelError> {
    let Some(found) = view.link(index) else {
        return Ok(());
    };
    let settings = Settings {
        mtu: (found.mtu != wanted.mtu).then_some(wanted.mtu),
        up: (!found.up).then_some(true),
        ..Settings::default()
    };
    if settings.mtu.is_none() && settings.up.is_none() {
        return Ok(());
    }
    let name = found.name.clone();
    match socket.execute(link::set_index(index, &settings), 0) {
        Ok(()) => {
            report.changed += 1;
            let mut now = found.clone();
            now.mtu = wanted.mtu;
            now.up = true;
            view.put_link(now);
        }
        Err(error) if error.refusal == Refusal::Overrun => return Err(error),
        Err(error) => report.fail(Object::Link(name), error.into()),
    }
    Ok(())
}

fn ensure_addresses(
    socket: &mut Socket,
    view: &mut View,
    index: u32,
    name: &LinkName,
    wanted: &Link,
    keep_more: bool,
    report: &mut Report,
) -> Result<(), KernelError> {
    let known = view.addresses.entry(index).or_default();
    let mut batch: Batch<(Address, bool)> = Batch::new();
    for address in wanted.addresses.difference(known) {
        batch.push(
            (*address, true),
            address::new(index, *address),
            NLM_F_CREATE | NLM_F_REPLACE,
        );
    }
    // New ones first: a link is never without the address that others reach it by.
    for address in known.difference(&wanted.addresses).filter(|_| !keep_more) {
        batch.push((*address, false), address::delete(index, *address), 0);
    }
    let changes = batch.len();
    let before = known.clone();
    if !keep_more {
        known.clear();
    }
    known.extend(wanted.addresses.iter().copied());
    let refused = socket.run(&mut batch)?;
    report.changed += changes - refused.len();
    for ((address, added), error) in refused {
        if !added && error.refusal == Refusal::Missing {
            continue;
        }
        if before.contains(&address) {
            known.insert(address);
        } else {
            known.remove(&address);
        }
        report.fail(Object::Address(name.clone(), address), error.into());
    }
    Ok(())
}
