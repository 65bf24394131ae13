use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use super::codec;
use super::route::KernelRoute;
use crate::state::RouteKey;

/// How many messages go into one datagram. The kernel answers each that it refuses, all within one `send`; more
/// answers than the default receive buffer holds (about 250) would be lost.
const MESSAGES: usize = 128;

/// Changes that go to the kernel in one datagram, each with a tag by which a refusal is recognised.
pub(crate) struct Batch<T> {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    tags: Vec<T>,
}

impl<T> Batch<T> {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            starts: Vec::new(),
            tags: Vec::new(),
        }
    }

    /// Adds a change; `flags` are those of a new object (`NLM_F_CREATE` and the like).
    pub(crate) fn push(&mut self, tag: T, message: RouteNetlinkMessage, flags: u16) {
        self.starts.push(self.bytes.len());
        self.tags.push(tag);
        append(&mut self.bytes, message, flags | NLM_F_REQUEST, 0);
    }

    /// Adds a route; `flags` as in [`push`](Self::push).
    pub(crate) fn push_route(&mut self, tag: T, key: &RouteKey, route: &KernelRoute, flags: u16) {
        self.raw(tag, codec::NEW, flags, |bytes| {
            codec::write_new(bytes, key, route)
        });
    }

    /// Adds the removal of a route.
    pub(crate) fn push_removal(&mut self, tag: T, key: &RouteKey, protocol: u8) {
        self.raw(tag, codec::DELETE, 0, |bytes| {
            codec::write_delete(bytes, key, protocol)
        });
    }

    /// Adds a message whose payload is written in bytes.
    pub(crate) fn raw(&mut self, tag: T, kind: u16, flags: u16, write: impl FnOnce(&mut Vec<u8>)) {
        self.starts.push(self.bytes.len());
        self.tags.push(tag);
        message(&mut self.bytes, kind, flags | NLM_F_REQUEST, write);
    }

    /// How many changes wait.
    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether it is time to run it.
    pub(crate) fn is_full(&self) -> bool {
        self.tags.len() >= MESSAGES
    }

    /// Takes from the front what fits into a datagram: bytes, where each message starts, tags.
    pub(super) fn take(&mut self, room: usize) -> Option<(Vec<u8>, Vec<usize>, Vec<T>)> {
        let all = self.tags.len();
        let end = |count: usize| self.starts.get(count).copied().unwrap_or(self.bytes.len());
        // At least one: the kernel's word that it is too large is better than silence.
        let fits = |count: &usize| *count == 1 || *count <= MESSAGES && end(*count) <= room;
        let count = (1..=all).take_while(fits).last()?;
        let cut = end(count);
        let rest = (
            self.bytes.split_off(cut),
            self.starts.split_off(count),
            self.tags.split_off(count),
        );
        let taken = (
            std::mem::replace(&mut self.bytes, rest.0),
            std::mem::replace(&mut self.starts, rest.1),
            std::mem::replace(&mut self.tags, rest.2),
        );
        self.starts.iter_mut().for_each(|start| *start -= cut);
        Some(taken)
    }
}

/// Appends a message whose payload is written in bytes.
pub(crate) fn message(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    write(bytes);
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    if let Some(field) = bytes.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_ne_bytes());
    }
}

/// Gives the message at `start` its sequence number.
pub(super) fn number(bytes: &mut [u8], start: usize, sequence: u32) {
    if let Some(field) = bytes.get_mut(start + 8..start + 12) {
        field.copy_from_slice(&sequence.to_ne_bytes());
    }
}

pub(super) fn append(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    if let Some(space) = bytes.get_mut(start..) {
        message.serialize(space);
    }
}
