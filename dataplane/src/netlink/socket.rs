use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket as Raw, SocketAddr};

use super::batch::{Batch, append, number};
use super::route::KernelRoute;
use super::wire::{Answer, Messages, object};
use super::{codec, route};
use crate::state::RouteKey;
use crate::{KernelError, Refusal};

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
        let socket = Self::of(NETLINK_ROUTE)?;
        // Lets the kernel filter dumps (Linux 4.20).
        socket.raw.set_netlink_get_strict_chk(true)?;
        Ok(socket)
    }

    /// As [`open`](Self::open), for netlink's netfilter family.
    pub(crate) fn open_netfilter() -> Result<Self, KernelError> {
        Self::of(NETLINK_NETFILTER)
    }

    fn of(family: isize) -> Result<Self, KernelError> {
        let mut raw = Raw::new(family)?;
        let port = raw.bind_auto()?.port_number();
        raw.connect(&SocketAddr::new(0, 0))?;
        raw.set_cap_ack(true)?;
        raw.set_ext_ack(true)?;
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
        let mut bytes = Vec::new();
        append(&mut bytes, request.clone(), NLM_F_REQUEST | NLM_F_DUMP, 0);
        self.dump_raw(bytes, |whole, kind, payload| {
            // One object that does not parse (a driver's novelty) does not hide the others.
            if let Ok(object) = object(kind, payload) {
                fold(whole, object);
            }
        })
    }

    /// Lists what a message in bytes asks for.
    pub(crate) fn dump_raw<T: Default>(
        &mut self,
        mut request: Vec<u8>,
        mut fold: impl FnMut(&mut T, u16, &[u8]),
    ) -> Result<T, KernelError> {
        let mut tries = 0;
        loop {
            let mut whole = T::default();
            match self.dump_once(&mut request, &mut |kind, payload| {
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
        let mut bytes = Vec::new();
        append(
            &mut bytes,
            route::list(v4, protocol),
            NLM_F_REQUEST | NLM_F_DUMP,
            0,
        );
        self.dump_raw(bytes, |whole, _, payload| {
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
        request: &mut [u8],
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<(), KernelError> {
        const INTERRUPTED: u16 = 0x10;
        let sequence = self.next();
        number(request, 0, sequence);
        self.send(request)?;
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
            number(&mut batch.bytes, *at, self.next());
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

    const fn next(&mut self) -> u32 {
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
