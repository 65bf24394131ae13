//! Connections of addresses that have left: the kernel would go on sending their packets where the address was.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};

use super::netns::Home;
use crate::netlink::codec::attributes;
use crate::netlink::{Batch, Socket, message};
use crate::{KernelError, Refusal};

/// `NFNL_SUBSYS_CTNETLINK` and its `IPCTNL_MSG_CT_GET`, `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const NESTED: u16 = 0x8000;

/// Makes the kernel forget the connections that any of these addresses takes part in, before or after translation, and
/// says how many those were. 0 where the kernel tracks no connections.
///
/// It reads the whole table once, whatever the number of addresses: an empty one takes some 3 ms (the kernel walks all
/// of its buckets), 100,000 entries some 50 ms.
///
/// # Errors
/// The table could not be read or changed.
pub fn forget_connections(addresses: &BTreeSet<IpAddr>) -> Result<usize, KernelError> {
    Connections::default().forget(None, addresses)
}

/// The kernel's table of connections, by one socket of the dataplane's own namespace. Reading the table is what costs:
/// the kernel walks all its buckets, some 3 ms for 262,144 of them, however few connections there are.
#[derive(Default)]
pub(super) struct Connections {
    /// `None` until it is needed, and after a failure.
    socket: Option<Socket>,
}

impl Connections {
    /// As [`forget_connections`], in the namespace `home` or the calling thread's.
    pub(super) fn forget(
        &mut self,
        home: Option<&Home>,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<usize, KernelError> {
        if addresses.is_empty() {
            return Ok(0);
        }
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => match home.map_or_else(Socket::open_netfilter, |home| {
                home.run(Socket::open_netfilter)
            }) {
                Err(error) if error.refusal == Refusal::Unsupported => return Ok(0),
                other => other?,
            },
        };
        let forgotten = forget(&mut socket, addresses)?;
        self.socket = Some(socket);
        Ok(forgotten)
    }
}

fn forget(socket: &mut Socket, addresses: &BTreeSet<IpAddr>) -> Result<usize, KernelError> {
    let entries = match list(socket, addresses) {
        // The module is not there, so nothing is tracked.
        Err(error) if matches!(error.refusal, Refusal::Invalid | Refusal::Unsupported) => {
            return Ok(0);
        }
        other => other?,
    };
    let mut forgotten = entries.len();
    let mut batch = Batch::new();
    let mut entries = entries.iter().peekable();
    while let Some(entry) = entries.next() {
        batch.raw((), DELETE, 0, |bytes| bytes.extend_from_slice(entry));
        if batch.is_full() || entries.peek().is_none() {
            // One that ended by itself meanwhile is as good.
            forgotten -= socket.run(&mut batch)?.len();
        }
    }
    Ok(forgotten)
}

/// Whether connections can be read here.
pub(super) fn readable() -> Result<(), KernelError> {
    list(&mut Socket::open_netfilter()?, &BTreeSet::new()).map(drop)
}

/// What names each connection of the addresses to the kernel: family, tuple, zone and id.
fn list(socket: &mut Socket, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Vec<u8>>, KernelError> {
    let mut request = Vec::new();
    message(&mut request, GET, NLM_F_REQUEST | NLM_F_DUMP, |bytes| {
        bytes.extend_from_slice(&[0; 4]); // struct nfgenmsg: any family
    });
    socket.dump_raw(request, |found: &mut Vec<Vec<u8>>, _, payload| {
        let Some((header, rest)) = payload.split_first_chunk::<4>() else {
            return;
        };
        let takes_part = attributes(rest)
            .filter(|(kind, _)| matches!(*kind, TUPLE_ORIGINAL | TUPLE_REPLY))
            .flat_map(|(_, tuple)| attributes(tuple).filter(|(kind, _)| *kind == TUPLE_IP))
            .flat_map(|(_, ip)| attributes(ip))
            .any(|(_, value)| ip(value).is_some_and(|ip| addresses.contains(&ip)));
        if !takes_part {
            return;
        }
        let mut entry = header.to_vec();
        for (kind, value) in attributes(rest) {
            match kind {
                TUPLE_ORIGINAL => copy(&mut entry, kind | NESTED, value),
                ID | ZONE => copy(&mut entry, kind, value),
                _ => {}
            }
        }
        found.push(entry);
    })
}

fn copy(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}
