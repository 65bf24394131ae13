//! Settings that the kernel tells without `/proc/sys` (`RTM_GETNETCONF`, `linux/netconf.h`).
//!
//! A file below `/proc/sys/net` is found among those of its name in all namespaces that were asked for theirs, one after the
//! other: on a node with some hundred pods that takes longer than all else that an attachment asks the kernel.

use super::{Socket, codec, message};
use crate::KernelError;

const GET: u16 = 82;
const LINK: u16 = 1;
const FORWARDING: u16 = 2;
/// `NETCONFA_IFINDEX_ALL`.
const ALL: i32 = -1;
const INET: u8 = 2;
const INET6: u8 = 10;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;

/// Whether the socket's namespace forwards packets of a family: `ipv4/ip_forward`, or `ipv6/conf/all/forwarding`. `None`
/// where the kernel does not tell.
pub(crate) fn forwards(socket: &mut Socket, v4: bool) -> Result<Option<bool>, KernelError> {
    let mut request = Vec::new();
    message(&mut request, GET, REQUEST, |bytes| {
        // struct netconfmsg: the family, and padding.
        bytes.extend_from_slice(&[if v4 { INET } else { INET6 }, 0, 0, 0]);
        bytes.extend_from_slice(&8_u16.to_ne_bytes());
        bytes.extend_from_slice(&LINK.to_ne_bytes());
        bytes.extend_from_slice(&ALL.to_ne_bytes());
    });
    socket.get_raw(request, |_, payload| {
        let all = payload.get(4..).unwrap_or(&[]);
        let found = codec::attributes(all).find(|(kind, _)| *kind == FORWARDING);
        let value = found.and_then(|(_, value)| value.try_into().ok());
        Ok(value.map(|value| i32::from_ne_bytes(value) != 0))
    })
}

#[cfg(all(test, feature = "linux"))]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn it_says_what_the_files_say() {
        let test = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root or under `unshare -Urnm`");
            let mut socket = Socket::open().unwrap();
            for (v4, path) in [
                (true, "ipv4/ip_forward"),
                (false, "ipv6/conf/all/forwarding"),
            ] {
                for on in [true, false] {
                    let text = if on { "1" } else { "0" };
                    std::fs::write(format!("/proc/sys/net/{path}"), text).unwrap();
                    assert_eq!(forwards(&mut socket, v4), Ok(Some(on)), "{path}");
                }
            }
        };
        std::thread::spawn(test).join().unwrap();
    }
}
