//! A filter in the kernel, so that a hundred thousand routes of our own, or of a router beside us, do not fill the
//! buffer of the socket that listens.

#![allow(unsafe_code)]

use std::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use crate::KernelError;

/// What the program answers: the whole message, or nothing of it.
const TAKE: u32 = u32::MAX;
const DROP: u32 = 0;

/// Lets through what neither the socket of `port` caused nor is a route of another protocol.
///
/// The program sees `struct nlmsghdr` and what follows, in the machine's byte order, and loads in the network's.
pub(super) fn attach(socket: BorrowedFd<'_>, port: u32, protocol: u8) -> Result<(), KernelError> {
    let port = u32::from_be_bytes(port.to_ne_bytes());
    let kind = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    let mut program = [
        load(libc::BPF_W, 12),           // 0: who caused it
        jump(port, 5, 0),                // 1: we did: to 7
        load(libc::BPF_H, 4),            // 2: what it is
        jump(kind(24), 1, 0),            // 3: RTM_NEWROUTE: to 5
        jump(kind(25), 0, 3),            // 4: no RTM_DELROUTE: to 8
        load(libc::BPF_B, 21),           // 5: struct rtmsg's protocol
        jump(u32::from(protocol), 1, 0), // 6: ours: to 8
        answer(DROP),                    // 7
        answer(TAKE),                    // 8
    ];
    let length = u16::try_from(program.len()).unwrap_or(0);
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    let size = libc::socklen_t::try_from(size_of_val(&filter)).unwrap_or(0);
    // SAFETY: the option's value is a `sock_fprog` of that size, which points to `len` instructions; both live until
    // the call returns, and the kernel keeps copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error().into())
    }
}

fn load(size: u32, at: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, at, 0, 0)
}

fn jump(equal: u32, then: u8, otherwise: u8) -> libc::sock_filter {
    instruction(
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        equal,
        then,
        otherwise,
    )
}

fn answer(length: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, length, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = u16::try_from(code).unwrap_or(0);
    libc::sock_filter { code, jt, jf, k }
}
