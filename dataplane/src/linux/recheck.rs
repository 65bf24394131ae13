//! Open connections judged again: those that policy denies now are marked, and their packets dropped.
//!
//! Forgetting them would not do: the next packet of the other side would begin a connection the other way round, which
//! policy may allow, and both directions would be open again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};

use crate::netlink::codec::attributes;
use crate::netlink::{Batch, Socket, message};
use crate::nft::CUT;
use crate::state::{LinkName, OpenConnections, Protocol};
use crate::verdict::{Connection, Packet};
use crate::{KernelError, Refusal, State};

/// `NFNL_SUBSYS_CTNETLINK` and its `IPCTNL_MSG_CT_NEW`, `IPCTNL_MSG_CT_GET`.
const NEW: u16 = 0x100;
const GET: u16 = 0x101;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const MARK: u16 = 8;
const ZONE: u16 = 18;
const MARK_MASK: u16 = 21;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const NESTED: u16 = 0x8000;

/// What [`recheck_connections`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rechecked {
    /// Connections that are denied now and were not before.
    pub cut: usize,
    /// Connections that were denied and are allowed again.
    pub mended: usize,
}

/// Judges every tracked connection of the state's pods by its policies, as its first packet would be judged now, and
/// marks those that are denied ([`CUT`]); a connection that is allowed again loses the mark. Nothing is done unless the
/// state's host rules say [`OpenConnections::Cut`]: [`LinuxDataplane`](super::LinuxDataplane) calls it after each
/// change of policy.
///
/// Policy of the node's own interfaces is considered where an endpoint stands for all of them. It reads the whole
/// table of connections; each of a pod costs some microseconds.
///
/// # Errors
/// The table could not be read or changed.
pub fn recheck_connections(state: &State) -> Result<Rechecked, KernelError> {
    let mut done = Rechecked::default();
    if state.host.open_connections == OpenConnections::Keep || state.incomplete {
        return Ok(done);
    }
    let mut socket = match Socket::open_netfilter() {
        Err(error) if error.refusal == Refusal::Unsupported => return Ok(done),
        other => other?,
    };
    let judge = Judge::of(state)?;
    let mut request = Vec::new();
    message(&mut request, GET, NLM_F_REQUEST | NLM_F_DUMP, |bytes| {
        bytes.extend_from_slice(&[0; 4]); // struct nfgenmsg: any family
    });
    let changes = socket.dump_raw(request, |changes: &mut Vec<(bool, Vec<u8>)>, _, payload| {
        changes.extend(Entry::read(payload).and_then(|entry| judge.change(&entry)));
    });
    let changes = match changes {
        // The module is not there, so nothing is tracked.
        Err(error) if matches!(error.refusal, Refusal::Invalid | Refusal::Unsupported) => {
            return Ok(done);
        }
        other => other?,
    };
    let mut batch = Batch::new();
    let mut left = changes.iter().peekable();
    while let Some((cut, bytes)) = left.next() {
        batch.raw(*cut, NEW, 0, |to| to.extend_from_slice(bytes));
        if *cut {
            done.cut += 1;
        } else {
            done.mended += 1;
        }
        if batch.is_full() || left.peek().is_none() {
            // One that ended by itself meanwhile is as good.
            socket.run(&mut batch)?;
        }
    }
    Ok(done)
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug)]
struct Tuple {
    source: IpAddr,
    protocol: u8,
    ports: (u16, u16),
    icmp: Option<(u8, u8)>,
}

/// A tracked connection.
struct Entry<'a> {
    header: [u8; 4],
    original: Tuple,
    reply: Tuple,
    mark: u32,
    tuple: &'a [u8],
    zone: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        let (header, rest) = payload.split_first_chunk::<4>()?;
        let find = |wanted| {
            attributes(rest)
                .find(|(kind, _)| *kind == wanted)
                .map(|(_, v)| v)
        };
        let tuple = find(TUPLE_ORIGINAL)?;
        let mark = find(MARK).and_then(<[u8]>::first_chunk);
        Some(Self {
            header: *header,
            original: Tuple::read(tuple)?,
            reply: Tuple::read(find(TUPLE_REPLY)?)?,
            mark: mark.map_or(0, |bytes| u32::from_be_bytes(*bytes)),
            tuple,
            zone: find(ZONE),
        })
    }
}

impl Tuple {
    fn read(bytes: &[u8]) -> Option<Self> {
        let nest = |wanted| {
            attributes(bytes)
                .find(|(kind, _)| *kind == wanted)
                .map(|(_, v)| v)
        };
        let source = attributes(nest(TUPLE_IP)?).find(|(kind, _)| matches!(*kind, 1 | 3));
        let number = |wanted| {
            let found = attributes(nest(TUPLE_PROTOCOL)?).find(|(kind, _)| *kind == wanted);
            found.map(|(_, value)| value)
        };
        let byte = |wanted| number(wanted).and_then(|value| value.first().copied());
        let port = |wanted| {
            let bytes = number(wanted).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes))
        };
        Some(Self {
            source: address(source?.1)?,
            protocol: byte(1)?,
            ports: (port(2), port(3)),
            icmp: byte(5).zip(byte(6)).or_else(|| byte(8).zip(byte(9))),
        })
    }
}

struct Judge<'a> {
    state: &'a State,
    pods: BTreeMap<IpAddr, &'a LinkName>,
    /// The node's own addresses.
    own: BTreeSet<IpAddr>,
    /// Stands for whatever link leads to the rest of the world.
    elsewhere: LinkName,
}

impl<'a> Judge<'a> {
    fn of(state: &'a State) -> Result<Self, KernelError> {
        let workloads = state.workloads.iter();
        let pods = workloads.flat_map(|(link, workload)| {
            let addresses = workload.addresses.iter();
            addresses.map(move |address| (*address, link))
        });
        let interfaces = super::interfaces()?;
        let addresses = interfaces.iter().flat_map(|link| &link.addresses);
        Ok(Self {
            state,
            pods: pods.collect(),
            own: addresses.map(|address| address.ip()).collect(),
            elsewhere: LinkName::new("elsewhere").map_err(KernelError::malformed)?,
        })
    }

    /// The message that makes an entry's mark right, and whether it sets it.
    fn change(&self, entry: &Entry<'_>) -> Option<(bool, Vec<u8>)> {
        let (from, to) = (entry.original.source, entry.reply.source);
        if !self.pods.contains_key(&from) && !self.pods.contains_key(&to) {
            return None;
        }
        let link = |address: &IpAddr| match self.pods.get(address) {
            Some(link) => Some((*link).clone()),
            None if self.own.contains(address) => None,
            None => Some(self.elsewhere.clone()),
        };
        let protocol = Protocol(entry.original.protocol);
        let packet = Packet {
            in_link: link(&from),
            out_link: link(&to),
            source: from,
            // Policy sees destinations as they are behind translation: as the answers' sources.
            destination: to,
            protocol,
            ports: protocol
                .has_ports()
                .then_some((entry.original.ports.0, entry.reply.ports.0)),
            icmp: entry.original.icmp,
            connection: Connection::New,
        };
        let cut = !self.state.verdict(&packet).is_allowed();
        if cut == (entry.mark & CUT != 0) {
            return None;
        }
        let mut bytes = entry.header.to_vec();
        attribute(&mut bytes, TUPLE_ORIGINAL | NESTED, entry.tuple);
        if let Some(zone) = entry.zone {
            attribute(&mut bytes, ZONE, zone);
        }
        let bit = if cut { CUT } else { 0 };
        attribute(&mut bytes, MARK, &bit.to_be_bytes());
        attribute(&mut bytes, MARK_MASK, &CUT.to_be_bytes());
        Some((cut, bytes))
    }
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}
