//! Socket options that nix does not know.

#![allow(unsafe_code, reason = "options of legacy iptables")]

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{Family, HEAD, INFO, NAME, number};

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;

/// A table as the kernel hands it out: what it is, and its entries.
pub(super) struct Filter {
    pub(super) info: Vec<u8>,
    pub(super) entries: Vec<u8>,
}

/// How often a table is read that grows meanwhile.
const ATTEMPTS: usize = 8;

/// The table `filter`; `None` when there is none.
pub(super) fn table(family: Family) -> Result<Option<Filter>, Errno> {
    let of = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let socket = socket(of, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    for _ in 0..ATTEMPTS {
        let mut info = vec![0; INFO];
        name(&mut info);
        match option(&socket, family, GET_INFO, &mut info) {
            Ok(()) => {}
            Err(Errno::ENOENT | Errno::ENOPROTOOPT) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let size = number(&info, INFO - 4).ok_or(Errno::EBADMSG)?;
        let mut entries = vec![0; HEAD + size];
        name(&mut entries);
        let length = u32::try_from(size).map_err(|_| Errno::EBADMSG)?;
        if let Some(field) = entries.get_mut(NAME..NAME + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        match option(&socket, family, GET_ENTRIES, &mut entries) {
            Ok(()) => {
                entries.drain(..HEAD);
                return Ok(Some(Filter { info, entries }));
            }
            // Another size than was said a moment ago.
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EAGAIN)
}

fn name(buffer: &mut [u8]) {
    for (to, from) in buffer.iter_mut().zip(b"filter") {
        *to = *from;
    }
}

/// Fills the buffer with the value of an option.
fn option(
    socket: &OwnedFd,
    family: Family,
    option: libc::c_int,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    let level = match family {
        Family::V4 => libc::SOL_IP,
        Family::V6 => libc::SOL_IPV6,
    };
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel writes at most `length` bytes, which is what the buffer has; every value of them is valid.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(code).map(drop)
}
