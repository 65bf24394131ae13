use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use netlink_sys::{Socket as Raw, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::unix::AsyncFd;

use crate::KernelError;
use crate::netlink::{Notice, notices};

mod filter;

/// Multicast groups of route netlink (`RTNLGRP_*`): links; addresses, routes and rules of IPv4, and of IPv6.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// How much may wait to be read, in bytes; the kernel's limit is taken where it may not be passed.
const BUFFER: usize = 8 * 1024 * 1024;

/// Listens to what changes in a network namespace.
pub(super) struct Monitor {
    socket: Waiter,
    received: Vec<u8>,
}

/// Registered with the reactor only when somebody waits, so that opening needs no runtime.
enum Waiter {
    Idle(Option<Listener>),
    Registered(AsyncFd<Listener>),
}

struct Listener(Raw);

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Whether everything that happened is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Everything.
    All,
    /// Notices were lost: what is known of the kernel is void.
    Gaps,
}

impl Monitor {
    /// Listens in the network namespace of the calling thread to everything but what the socket of `port` causes
    /// itself and the routes of other protocols.
    pub(super) fn open(port: u32, protocol: u8) -> Result<Self, KernelError> {
        let mut raw = Raw::new(NETLINK_ROUTE)?;
        raw.bind_auto()?;
        filter::attach(raw.as_fd(), port, protocol)?;
        raw.set_non_blocking(true)?;
        // The first needs CAP_NET_ADMIN in the first user namespace; a small buffer only means more gaps.
        let _ = setsockopt(&raw, sockopt::RcvBufForce, &BUFFER)
            .or_else(|_| setsockopt(&raw, sockopt::RcvBuf, &BUFFER));
        for group in GROUPS {
            raw.add_membership(group)?;
        }
        Ok(Self {
            socket: Waiter::Idle(Some(Listener(raw))),
            received: Vec::with_capacity(64 * 1024),
        })
    }

    /// Reads what happened up to now, without waiting.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Notice)) -> Heard {
        let mut heard = Heard::All;
        let listener = match &self.socket {
            Waiter::Idle(Some(listener)) => listener,
            Waiter::Registered(registered) => registered.get_ref(),
            Waiter::Idle(None) => return Heard::Gaps,
        };
        loop {
            self.received.clear();
            match listener.0.recv(&mut self.received, 0) {
                Ok(_) => notices(&self.received).for_each(&mut each),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return heard,
                    ErrorKind::Interrupted => {}
                    // ENOBUFS: what did not fit is lost, what follows is whole again.
                    _ if error.raw_os_error() == Some(105) => heard = Heard::Gaps,
                    _ => return Heard::Gaps,
                },
            }
        }
    }

    /// Waits until there is something to [`drain`](Self::drain). An error means that waiting is not possible here.
    pub(super) async fn readable(&mut self) -> std::io::Result<()> {
        if let Waiter::Idle(listener) = &mut self.socket
            && let Some(listener) = listener.take()
        {
            self.socket = match register(listener) {
                Ok(registered) => Waiter::Registered(registered),
                Err((listener, error)) => {
                    self.socket = Waiter::Idle(Some(listener));
                    return Err(error);
                }
            };
        }
        match &self.socket {
            Waiter::Registered(registered) => {
                registered.readable().await?.clear_ready();
                Ok(())
            }
            Waiter::Idle(_) => Err(ErrorKind::NotConnected.into()),
        }
    }
}

// Deprecated in tokio 1.54 for descriptors that may be closed or exchanged while registered; this one is owned by the
// listener, which never gives it away. What is to replace it is unsafe, and unknown to older versions.
#[allow(deprecated)]
fn register(listener: Listener) -> Result<AsyncFd<Listener>, (Listener, std::io::Error)> {
    AsyncFd::try_with_interest(listener, tokio::io::Interest::READABLE)
        .map_err(tokio::io::unix::AsyncFdTryNewError::into_parts)
}
