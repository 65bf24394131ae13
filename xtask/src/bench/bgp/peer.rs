//! One peer of the speaker under test: its connection, and what it holds.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};

use super::load::ADDRESS;
use super::speakers::PORT;
use super::wire;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Down,
    Connecting,
    Open,
    Confirm,
    Up,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Ipv4Addr,
    pub(super) number: u32,
    pub(super) state: State,
    pub(super) stream: Option<TcpStream>,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) sent: usize,
    pub(super) retry_at: Option<Instant>,
    pub(super) spoke_at: Instant,
    /// One bit for each prefix of the load.
    pub(super) holds: Vec<u64>,
    pub(super) count: usize,
    pub(super) wanted: usize,
    pub(super) done_at: Option<Instant>,
}

impl Peer {
    pub(super) fn new(address: Ipv4Addr, number: u32, nets: usize, now: Instant) -> Self {
        Self {
            address,
            number,
            state: State::Down,
            stream: None,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            retry_at: Some(now),
            spoke_at: now,
            holds: vec![0; nets.div_ceil(64)],
            count: 0,
            wanted: 0,
            done_at: None,
        }
    }

    /// Begins to connect.
    pub(super) fn dial(&mut self) -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::new(self.address.into(), 0).into())?;
        match socket.connect(&SocketAddr::new(ADDRESS.into(), PORT).into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
            _ => {
                self.stream = Some(socket.into());
                self.state = State::Connecting;
                self.retry_at = None;
                Ok(())
            }
        }
    }

    /// The connection is made, or was refused.
    pub(super) fn connected(&mut self, hold: u16) -> io::Result<()> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        self.state = State::Open;
        wire::open(self.number, hold, self.address, &mut self.output);
        self.flush()
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
        self.state = State::Down;
        self.input.clear();
        self.output.clear();
        self.sent = 0;
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        while self.sent < self.output.len() {
            match stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Reads what is there; true when it may be more.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        match stream.read(scratch) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.extend_from_slice(&scratch[..count]);
                Ok(count == scratch.len())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Counts a prefix as held or not; whether that is a change.
    pub(super) fn mark(&mut self, net: usize, held: bool) -> bool {
        let (word, bit) = (net / 64, 1u64 << (net % 64));
        if (self.holds[word] & bit != 0) == held {
            return false;
        }
        self.holds[word] ^= bit;
        if held {
            self.count += 1;
        } else {
            self.count -= 1;
        }
        true
    }

    /// Waits until exactly `wanted` prefixes are held.
    pub(super) fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
        self.done_at = None;
    }
}
