use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket as Raw, SocketAddr, protocols::NETLINK_ROUTE};

use super::route::KernelRoute;
use super::wire::{Answer, Messages, object};
use super::{codec, route};
use crate::state::RouteKey;
use crate::{KernelError, Refusal};

/// How many messages go into one datagram. The kernel answers each that it refuses, all within one `send`; more
/// answers than the default receive buffer holds (about 250) would be lost.
const MESSAGES: usize = 128;

/// How often a dump that was overtaken by changes is started again.
const DUMPS: usize = 10;

/// The kernel fills at most this much of a buffer for one part of a dump.
const RECEIVE: usize = 32 * 1024;

/// A route netlink socket of the namespace in which it was opened.
pub(crate) struct Socket {
    raw: Raw,
    port: u32,
    sequence: u32,
    received: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, KernelError> {
        let mut raw = Raw::new(NETLINK_ROUTE)?;
        let port = raw.bind_auto()?.port_number();
        raw.connect(&SocketAddr::new(0, 0))?;
        raw.set_cap_ack(true)?;
        raw.set_ext_ack(true)?;
        // Lets the kernel filter dumps (Linux 4.20).
        raw.set_netlink_get_strict_chk(true)?;
        Ok(Self {
            raw,
            port,
            sequence: 0,
            received: Vec::with_capacity(RECEIVE),
        })
    }

    /// The port by which notices tell who caused them.
    pub(crate) const fn port(&self) -> u32 {
        self.port
    }

    /// Makes one change and waits for its result.
    pub(crate) fn execute(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), KernelError> {
        let mut batch = Batch::new();
        batch.push((), message, flags);
        match self.run(&mut batch)?.pop() {
            Some(((), error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Asks for one object.
    pub(crate) fn get(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage, KernelError> {
        let mut bytes = Vec::new();
        let sequence = self.next();
        append(&mut bytes, message, NLM_F_REQUEST, sequence);
        self.send(&bytes)?;
        loop {
            self.receive()?;
            for message in Messages(&self.received) {
                if message.sequence != sequence {
                    continue;
                }
                match message.answer() {
                    Answer::Object(payload) => return object(message.kind, payload),
                    Answer::Ack(Err(error)) | Answer::Done(Err(error)) => return Err(error),
                    Answer::Ack(Ok(())) | Answer::Done(Ok(())) => {
                        return Err(KernelError::new(2, Some("an empty answer")));
                    }
                    Answer::Noop => {}
                }
            }
        }
    }

    /// Lists objects: `fold` makes something of each, from the beginning every time that changes overtook the dump.
    ///
    /// Refused as [`Refusal::Interrupted`] when the kernel changes faster than it can be read.
    pub(crate) fn dump<T: Default>(
        &mut self,
        request: &RouteNetlinkMessage,
        mut fold: impl FnMut(&mut T, RouteNetlinkMessage),
    ) -> Result<T, KernelError> {
        self.dump_raw(request, |whole, kind, payload| {
            // One object that does not parse (a driver's novelty) does not hide the others.
            if let Ok(object) = object(kind, payload) {
                fold(whole, object);
            }
        })
    }

    fn dump_raw<T: Default>(
        &mut self,
        request: &RouteNetlinkMessage,
        mut fold: impl FnMut(&mut T, u16, &[u8]),
    ) -> Result<T, KernelError> {
        let mut tries = 0;
        loop {
            let mut whole = T::default();
            match self.dump_once(request, &mut |kind, payload| {
                fold(&mut whole, kind, payload)
            }) {
                Ok(()) => return Ok(whole),
                Err(error) if error.refusal == Refusal::Interrupted && tries < DUMPS => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`dump`](Self::dump), for the routes of one family, of one protocol or (0) of all.
    pub(crate) fn dump_routes<T: Default>(
        &mut self,
        v4: bool,
        protocol: u8,
        mut fold: impl FnMut(&mut T, RouteKey, KernelRoute),
    ) -> Result<T, KernelError> {
        self.dump_raw(&route::list(v4, protocol), |whole, _, payload| {
            // The filter is the kernel's since 4.20; it costs nothing to look.
            if let Some((key, found)) = codec::read(payload)
                && (protocol == 0 || found.protocol == protocol)
            {
                fold(whole, key, found);
            }
        })
    }

    fn dump_once(
        &mut self,
        request: &RouteNetlinkMessage,
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<(), KernelError> {
        const INTERRUPTED: u16 = 0x10;
        let mut bytes = Vec::new();
        let sequence = self.next();
        append(
            &mut bytes,
            request.clone(),
            NLM_F_REQUEST | NLM_F_DUMP,
            sequence,
        );
        self.send(&bytes)?;
        let mut interrupted = false;
        loop {
            self.receive()?;
            for message in Messages(&self.received) {
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & INTERRUPTED != 0;
                match message.answer() {
                    // The rest is read, so that the next answer is not taken for it.
                    Answer::Object(_) if interrupted => {}
                    Answer::Object(payload) => each(message.kind, payload),
                    Answer::Ack(Err(error)) | Answer::Done(Err(error)) => return Err(error),
                    Answer::Done(Ok(())) if interrupted => return Err(KernelError::new(4, None)),
                    Answer::Done(Ok(())) => return Ok(()),
                    Answer::Ack(Ok(())) | Answer::Noop => {}
                }
            }
        }
    }

    /// Makes all changes of a batch, in one datagram, and empties it. What was refused is returned; the rest is done.
    ///
    /// An error means that it is not known what was done.
    pub(crate) fn run<T>(
        &mut self,
        batch: &mut Batch<T>,
    ) -> Result<Vec<(T, KernelError)>, KernelError> {
        let Some(last) = batch.tags.len().checked_sub(1) else {
            return Ok(Vec::new());
        };
        let first = self.sequence.wrapping_add(1);
        for at in &batch.starts {
            let sequence = self.next().to_ne_bytes();
            if let Some(field) = batch.bytes.get_mut(at + 8..at + 12) {
                field.copy_from_slice(&sequence);
            }
        }
        // Only the last is acknowledged: the kernel works through a datagram in order.
        if let Some(flags) = batch
            .starts
            .last()
            .and_then(|at| batch.bytes.get_mut(at + 6..at + 8))
        {
            let [low, high] = (u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK).to_ne_bytes();
            flags.copy_from_slice(&[low, high]);
        }
        let sent = self.send(&batch.bytes);
        let mut tags: Vec<Option<T>> = std::mem::take(&mut batch.tags)
            .into_iter()
            .map(Some)
            .collect();
        batch.clear();
        sent?;
        let mut refused = Vec::new();
        loop {
            self.receive()?;
            for message in Messages(&self.received) {
                let at =
                    usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                let Some(tag) = tags.get_mut(at) else {
                    continue;
                };
                if let Answer::Ack(result) = message.answer() {
                    if let (Err(error), Some(tag)) = (result, tag.take()) {
                        refused.push((tag, error));
                    }
                    if at == last {
                        return Ok(refused);
                    }
                }
            }
        }
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, bytes: &[u8]) -> Result<(), KernelError> {
        let sent = self.raw.send(bytes, 0)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(KernelError::new(90, None))
        }
    }

    fn receive(&mut self) -> Result<(), KernelError> {
        self.received.clear();
        loop {
            match self.raw.recv(&mut self.received, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

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

    fn raw(&mut self, tag: T, kind: u16, flags: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.tags.push(tag);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        write(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(start..start + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// How many changes wait.
    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether it is time to run it.
    pub(crate) fn is_full(&self) -> bool {
        self.tags.len() >= MESSAGES
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }
}

fn append(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
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
