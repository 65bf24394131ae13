use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket as Raw, SocketAddr};
use nix::sys::socket::{getsockopt, sockopt};

use super::batch::{Batch, append, number};
use super::route::KernelRoute;
use super::wire::{Answer, Messages, object};
use super::{codec, route};
use crate::state::RouteKey;
use crate::{KernelError, Refusal};

/// How often a dump that was overtaken by changes is started again.
const DUMPS: usize = 10;

/// The largest datagram that is sent, in bytes: more gains nothing.
const ROOM: usize = 64 * 1024;

/// The kernel fills at most this much of a buffer for one part of a dump.
const RECEIVE: usize = 32 * 1024;

/// A route netlink socket of the namespace in which it was opened.
pub(crate) struct Socket {
    raw: Raw,
    port: u32,
    sequence: u32,
    /// The largest datagram, in bytes.
    room: usize,
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

    /// As [`open`](Self::open), for generic netlink.
    pub(crate) fn open_generic() -> Result<Self, KernelError> {
        Self::of(NETLINK_GENERIC)
    }

    fn of(family: isize) -> Result<Self, KernelError> {
        let mut raw = Raw::new(family)?;
        let port = raw.bind_auto()?.port_number();
        raw.connect(&SocketAddr::new(0, 0))?;
        raw.set_cap_ack(true)?;
        raw.set_ext_ack(true)?;
        // The kernel refuses a datagram that is larger than the send buffer less 32 bytes.
        let room = getsockopt(&raw, sockopt::SndBuf).map_or(4096, |size| size.saturating_sub(32));
        Ok(Self {
            raw,
            port,
            room: room.min(ROOM),
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
        append(&mut bytes, message, NLM_F_REQUEST, 0);
        self.get_raw(bytes, object)
    }

    /// Asks for what a message in bytes asks for; `read` makes something of the answer's kind and payload.
    pub(crate) fn get_raw<T>(
        &mut self,
        mut request: Vec<u8>,
        read: impl FnOnce(u16, &[u8]) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        let sequence = self.next();
        number(&mut request, 0, sequence);
        self.send(&request)?;
        loop {
            self.receive()?;
            for message in Messages(&self.received) {
                if message.sequence != sequence {
                    continue;
                }
                match message.answer() {
                    Answer::Object(payload) => return read(message.kind, payload),
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

    /// Makes all changes of a batch, in as few datagrams as the socket lets through, and empties it. What was refused
    /// is returned; the rest is done.
    ///
    /// An error means that it is not known what was done.
    pub(crate) fn run<T>(
        &mut self,
        batch: &mut Batch<T>,
    ) -> Result<Vec<(T, KernelError)>, KernelError> {
        let mut refused = Vec::new();
        while let Some((mut bytes, starts, tags)) = batch.take(self.room) {
            self.run_once(&mut bytes, &starts, tags, &mut refused)?;
        }
        Ok(refused)
    }

    fn run_once<T>(
        &mut self,
        bytes: &mut [u8],
        starts: &[usize],
        tags: Vec<T>,
        refused: &mut Vec<(T, KernelError)>,
    ) -> Result<(), KernelError> {
        let first = self.sequence.wrapping_add(1);
        for at in starts {
            number(bytes, *at, self.next());
        }
        let last = self.sequence;
        // Only the last is acknowledged: the kernel works through a datagram in order.
        let flags = starts.last().and_then(|at| bytes.get_mut(at + 6..at + 8));
        if let Some([low, high]) = flags {
            let all = u16::from_ne_bytes([*low, *high]) | NLM_F_ACK;
            [*low, *high] = all.to_ne_bytes();
        }
        self.send(bytes)?;
        let mut tags: Vec<Option<T>> = tags.into_iter().map(Some).collect();
        loop {
            self.receive()?;
            for message in Messages(&self.received) {
                let at = message.sequence.wrapping_sub(first);
                let tag = usize::try_from(at).ok().and_then(|at| tags.get_mut(at));
                let (Some(tag), Answer::Ack(result)) = (tag, message.answer()) else {
                    continue;
                };
                if let (Err(error), Some(tag)) = (result, tag.take()) {
                    refused.push((tag, error));
                }
                if message.sequence == last {
                    return Ok(());
                }
            }
        }
    }

    /// Makes room for so many bytes of answers; the kernel has a least.
    #[cfg(all(test, feature = "linux", feature = "testing"))]
    pub(crate) fn receive_buffer(&self, bytes: usize) {
        use nix::sys::socket::setsockopt;
        setsockopt(&self.raw, sockopt::RcvBuf, &bytes).unwrap();
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

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::setsockopt;

    use super::super::route::Hops;
    use super::*;

    fn blackholes(count: u16) -> Batch<u16> {
        let mut batch = Batch::new();
        for at in 0..count {
            let [high, low] = at.to_be_bytes();
            let prefix = crate::Prefix::host([10, 0, high, low].into());
            let route = KernelRoute {
                hops: Hops::Blackhole,
                source: None,
                protocol: 80,
            };
            batch.push_route(
                at,
                &RouteKey::main(prefix),
                &route,
                NLM_F_CREATE | NLM_F_EXCL,
            );
        }
        batch
    }

    #[test]
    fn a_small_send_buffer_takes_more_datagrams_and_every_refusal_is_told() {
        let test = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root or under `unshare -Urnm`");
            let mut socket = Socket::open().unwrap();
            setsockopt(&socket.raw, sockopt::SndBuf, &1).unwrap();
            socket.room = getsockopt(&socket.raw, sockopt::SndBuf).unwrap() - 32;
            assert!(socket.room < 10_000);
            assert_eq!(socket.run(&mut blackholes(1000)).unwrap().len(), 0);
            let refused = socket.run(&mut blackholes(2000)).unwrap();
            let exist = refused
                .iter()
                .all(|(_, error)| error.refusal == Refusal::Exists);
            assert!(exist && refused.len() == 1000, "{} refused", refused.len());
            let found = socket.dump_routes(true, 80, |count: &mut usize, _, _| *count += 1);
            assert_eq!(found.unwrap(), 2000);
        };
        std::thread::spawn(test).join().unwrap();
    }
}
