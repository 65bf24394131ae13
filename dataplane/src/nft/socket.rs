//! A blocking netlink socket for nf_tables: one `sendmsg` for a transaction, dumps, the generation number.

#[cfg(test)]
pub(crate) mod faults;

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockopt, recv,
    send, setsockopt, socket, sockopt,
};

use super::messages::Transaction;
use super::wire::{Buffer, INET, Kind, Message, SUBSYSTEM, flags, messages};

/// The receive buffer that is asked for, in bytes: refusals come all at once.
const ANSWERS: usize = 2 << 20;
/// What the kernel takes off the send buffer for itself.
const OVERHEAD: usize = 512;
/// One datagram of a dump is at most 32 KiB, or what the reader offers.
const DATAGRAM: usize = 128 << 10;
const DONE: u16 = 3;
const ERROR: u16 = 2;

/// What the kernel said about one message of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The message's place in the transaction; `None` is the transaction as a whole.
    pub(crate) message: Option<usize>,
    pub(crate) errno: Errno,
}

/// Why a transaction was not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Somebody else committed since the generation that was given.
    Outdated,
    /// Answers were lost: it is unknown what the kernel did.
    Lost,
    /// The kernel refused messages, all of them named.
    Refused(Vec<Refusal>),
    /// The socket itself failed.
    Socket(Errno),
}

/// Why a dump failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DumpError {
    /// The table changed meanwhile.
    Interrupted,
    /// The kernel's answer; ENOENT when the table or the set is not there.
    Kernel(Errno),
}

#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    limit: usize,
    buffer: Vec<u8>,
    sequence: u32,
    /// What was sent, when somebody wants to know.
    #[cfg(feature = "testing")]
    pub(crate) sent: Option<Vec<Vec<u8>>>,
    #[cfg(test)]
    pub(crate) faults: faults::Faults,
}

impl Socket {
    /// A socket in the calling thread's network namespace.
    pub(crate) fn open(send_buffer: usize) -> Result<Self, Errno> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // The kernel doubles what it is asked for, for its own bookkeeping.
        let ask = send_buffer / 2;
        if setsockopt(&fd, sockopt::SndBufForce, &ask).is_err() {
            // The kernel gives what it allows and does not say so.
            let _ = setsockopt(&fd, sockopt::SndBuf, &ask);
        }
        if setsockopt(&fd, sockopt::RcvBufForce, &ANSWERS).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &ANSWERS);
        }
        let limit = getsockopt(&fd, sockopt::SndBuf)?.saturating_sub(OVERHEAD);
        Ok(Self {
            fd,
            limit,
            buffer: vec![0; DATAGRAM],
            sequence: 1,
            #[cfg(feature = "testing")]
            sent: None,
            #[cfg(test)]
            faults: faults::Faults::default(),
        })
    }

    /// The bytes that a transaction may have.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// The next sequence number, to be moved on by who uses it.
    pub(crate) const fn sequence(&mut self) -> &mut u32 {
        &mut self.sequence
    }

    /// Sends a transaction and hears what became of it.
    pub(crate) fn commit(
        &mut self,
        transaction: &Transaction,
        generation: Option<u32>,
    ) -> Result<(), Failure> {
        #[cfg(test)]
        if let Some(failure) = self.faults.0.as_mut().and_then(|fault| fault(transaction)) {
            return Err(failure);
        }
        self.drain();
        let mut batch = Buffer::default();
        batch.batch_begin(transaction.sequences.start, generation);
        batch.append(&transaction.messages);
        batch.batch_end(transaction.sequences.end - 1);
        #[cfg(feature = "testing")]
        if let Some(sent) = &mut self.sent {
            sent.push(batch.bytes().to_vec());
        }
        self.send(batch.bytes()).map_err(|errno| match errno {
            Errno::ENOBUFS => Failure::Lost,
            errno => Failure::Socket(errno),
        })?;
        self.answers(transaction)
    }

    /// The kernel has answered by the time that `send` returns: what is there is all.
    fn answers(&mut self, transaction: &Transaction) -> Result<(), Failure> {
        let mut refusals = Vec::new();
        let mut acknowledged = false;
        let begin = transaction.sequences.start;
        let last = transaction.sequences.end.wrapping_sub(2);
        loop {
            let length = match recv(
                self.fd.as_raw_fd(),
                &mut self.buffer,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => break,
                Err(Errno::ENOBUFS) => return Err(Failure::Lost),
                Err(errno) => return Err(Failure::Socket(errno)),
            };
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                if message.kind != ERROR || !transaction.sequences.contains(&message.sequence) {
                    continue;
                }
                match errno_of(&message) {
                    None => acknowledged |= message.sequence == last,
                    Some(Errno::ERESTART) if message.sequence == begin => {
                        return Err(Failure::Outdated);
                    }
                    Some(errno) => refusals.push(Refusal {
                        message: usize::try_from(message.sequence - begin)
                            .ok()
                            .and_then(|at| at.checked_sub(1)),
                        errno,
                    }),
                }
            }
        }
        match (refusals.is_empty(), acknowledged) {
            (true, true) => Ok(()),
            (true, false) => Err(Failure::Lost),
            (false, _) => Err(Failure::Refused(refusals)),
        }
    }

    /// The number of the last commit of anybody in this namespace.
    pub(crate) fn generation(&mut self) -> Result<u32, Errno> {
        let sequence = self.ask(INET, Kind::GetGeneration, 0, |_| {})?;
        loop {
            let length = self.receive()?;
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                if message.sequence != sequence {
                    continue;
                }
                if message.kind == (SUBSYSTEM << 8) | Kind::NewGeneration as u16 {
                    return message.attributes().be32(1).ok_or(Errno::EBADMSG);
                }
                if let Some(errno) = errno_of(&message).filter(|_| message.kind == ERROR) {
                    return Err(errno);
                }
            }
        }
    }

    /// Reads all objects of a kind and family, 0 for all families; `take` sees each answer.
    pub(crate) fn dump_of(
        &mut self,
        family: u8,
        kind: Kind,
        body: impl FnOnce(&mut Buffer),
        mut take: impl FnMut(&Message<'_>),
    ) -> Result<(), DumpError> {
        let sequence = self
            .ask(family, kind, flags::DUMP, body)
            .map_err(DumpError::Kernel)?;
        let mut interrupted = false;
        loop {
            let length = self.receive().map_err(DumpError::Kernel)?;
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & flags::DUMP_INTERRUPTED != 0;
                match message.kind {
                    DONE | ERROR => {
                        let errno = errno_of(&message);
                        return match (errno, interrupted) {
                            (Some(Errno::EINTR), _) | (None, true) => Err(DumpError::Interrupted),
                            (Some(errno), _) => Err(DumpError::Kernel(errno)),
                            (None, false) => Ok(()),
                        };
                    }
                    _ => take(&message),
                }
            }
        }
    }

    fn ask(
        &mut self,
        family: u8,
        kind: Kind,
        flags: u16,
        body: impl FnOnce(&mut Buffer),
    ) -> Result<u32, Errno> {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut buffer = Buffer::default();
        buffer.message_of(family, kind, flags, sequence, body);
        self.drain();
        self.send(buffer.bytes())?;
        Ok(sequence)
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                answer => return answer,
            }
        }
    }

    /// Throws away answers to what was given up.
    fn drain(&mut self) {
        loop {
            match recv(
                self.fd.as_raw_fd(),
                &mut self.buffer,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

/// The error number of an answer; `None` is success.
fn errno_of(message: &Message<'_>) -> Option<Errno> {
    let code = i32::from_ne_bytes(*message.payload.first_chunk()?);
    (code != 0).then(|| Errno::from_raw(code.wrapping_neg()))
}
