//! Permanent neighbours and forwarding entries of tunnels.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};

use super::view::View;
use crate::netlink::{Batch, Socket, neighbour};
use crate::report::{Fault, Object, Report};
use crate::state::{Fdb, LinkName, MacAddr, Neighbour};
use crate::{KernelError, Refusal, State};

/// Makes and changes what the state names.
pub(super) fn add(
    socket: &mut Socket,
    view: &mut View,
    desired: &State,
    report: &mut Report,
) -> Result<(), KernelError> {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let mut batch = Batch::new();
    for (wanted, mac) in desired.neighbours.iter() {
        let object = || Object::Neighbour(wanted.clone());
        let Some(index) = ready(view, &wanted.link, object, report) else {
            continue;
        };
        let key = (index, wanted.address);
        if view.neighbours.get(&key) != Some(mac) {
            batch.push(
                Entry::Neighbour(key, wanted),
                neighbour::new(index, wanted.address, *mac),
                flags,
            );
            view.neighbours.insert(key, *mac);
            run_full(socket, &mut batch, view, report)?;
        }
    }
    for (wanted, remote) in desired.fdb.iter() {
        let Some(index) = ready(view, &wanted.link, || Object::Fdb(wanted.clone()), report) else {
            continue;
        };
        let key = (index, wanted.mac);
        if view.fdb.get(&key) != Some(remote) {
            batch.push(
                Entry::Fdb(key, wanted),
                neighbour::new_fdb(index, wanted.mac, *remote),
                flags,
            );
            view.fdb.insert(key, *remote);
            run_full(socket, &mut batch, view, report)?;
        }
    }
    run(socket, &mut batch, view, report)
}

/// Removes what the links of ours hold and the state does not name.
pub(super) fn remove(
    socket: &mut Socket,
    view: &mut View,
    desired: &State,
    report: &mut Report,
) -> Result<(), KernelError> {
    let wanted: BTreeMap<(u32, IpAddr), &Neighbour> = desired
        .neighbours
        .keys()
        .filter_map(|key| Some(((view.index(&key.link)?, key.address), key)))
        .collect();
    let mut batch = Batch::new();
    let gone: Vec<_> = view
        .neighbours
        .keys()
        .filter(|key| !wanted.contains_key(key))
        .copied()
        .collect();
    for (index, address) in gone {
        view.neighbours.remove(&(index, address));
        batch.push((), neighbour::delete(index, address), 0);
    }
    let wanted: BTreeMap<(u32, MacAddr), &Fdb> = desired
        .fdb
        .keys()
        .filter_map(|key| Some(((view.index(&key.link)?, key.mac), key)))
        .collect();
    let gone: Vec<_> = view
        .fdb
        .iter()
        .filter(|(key, _)| !wanted.contains_key(key))
        .map(|(key, remote)| (*key, *remote))
        .collect();
    for ((index, mac), remote) in gone {
        view.fdb.remove(&(index, mac));
        batch.push((), neighbour::delete_fdb(index, mac, remote), 0);
        if batch.is_full() {
            report.changed += batch.len();
            socket.run(&mut batch)?;
        }
    }
    report.changed += batch.len();
    // What is refused here is gone already, or is read again at the next resync.
    socket.run(&mut batch)?;
    Ok(())
}

enum Entry<'a> {
    Neighbour((u32, IpAddr), &'a Neighbour),
    Fdb((u32, MacAddr), &'a Fdb),
}

/// The index of a link that can take entries.
fn ready(
    view: &View,
    name: &LinkName,
    object: impl FnOnce() -> Object,
    report: &mut Report,
) -> Option<u32> {
    match view.named(name) {
        Some(link) if link.up => Some(link.index),
        Some(_) => {
            report.fail(object(), Fault::LinkDown(name.clone()));
            None
        }
        None => {
            report.fail(object(), Fault::LinkMissing(name.clone()));
            None
        }
    }
}

fn run_full(
    socket: &mut Socket,
    batch: &mut Batch<Entry<'_>>,
    view: &mut View,
    report: &mut Report,
) -> Result<(), KernelError> {
    if batch.is_full() {
        run(socket, batch, view, report)
    } else {
        Ok(())
    }
}

fn run(
    socket: &mut Socket,
    batch: &mut Batch<Entry<'_>>,
    view: &mut View,
    report: &mut Report,
) -> Result<(), KernelError> {
    let all = batch.len();
    let refused = socket.run(batch)?;
    report.changed += all - refused.len();
    for (entry, error) in refused {
        if error.refusal == Refusal::Overrun {
            return Err(error);
        }
        match entry {
            Entry::Neighbour(key, wanted) => {
                view.neighbours.remove(&key);
                report.fail(Object::Neighbour(wanted.clone()), error.into());
            }
            Entry::Fdb(key, wanted) => {
                view.fdb.remove(&key);
                report.fail(Object::Fdb(wanted.clone()), error.into());
            }
        }
    }
    Ok(())
}
