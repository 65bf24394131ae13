//! The kernel's part: transactions that a table has sent, sent again on a plain socket.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};

use crate::netfilter::netfilter_socket;

/// A netlink header.
const HEADER: usize = 16;
/// The same and an `nfgenmsg`: a transaction's begin that names no generation.
const BEGIN: usize = 20;

pub(crate) struct Floor {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Floor {
    /// A socket in the calling thread's network namespace.
    pub(crate) fn open() -> Self {
        let socket = netfilter_socket();
        setsockopt(&socket, sockopt::SndBufForce, &(16 << 20)).ok();
        Self {
            socket,
            buffer: vec![0; 64 << 10],
        }
    }

    /// How long the kernel takes to answer.
    pub(crate) fn send(&mut self, datagram: &[u8]) -> Duration {
        let start = Instant::now();
        send(self.socket.as_raw_fd(), datagram, MsgFlags::empty()).unwrap();
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()).unwrap();
        let took = start.elapsed();
        let code = &self.buffer[HEADER..length.min(BEGIN)];
        assert_eq!(code, [0; 4], "the kernel refused it");
        took
    }
}

/// The transaction for whatever generation the table has.
pub(crate) fn any_generation(mut datagram: Vec<u8>) -> Vec<u8> {
    let length = usize::try_from(u32::from_ne_bytes(datagram[..4].try_into().unwrap())).unwrap();
    datagram.drain(BEGIN..length);
    datagram[..4].copy_from_slice(&u32::try_from(BEGIN).unwrap().to_ne_bytes());
    datagram
}
