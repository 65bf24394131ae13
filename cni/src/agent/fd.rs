//! File descriptors over unix sockets, and which of them are network namespaces.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// Sends bytes with a file descriptor beside them; returns how many bytes went out.
pub(super) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let bytes = [IoSlice::new(bytes)];
    Ok(rustix::net::sendmsg(
        socket,
        &bytes,
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

#[cfg(feature = "tokio")]
pub(super) use receiving::{HostNamespace, receive};

#[cfg(feature = "tokio")]
mod receiving {
    use std::io::{self, IoSliceMut};
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    use crate::CniError;

    /// The kernel lets at most this many descriptors travel in one message (SCM_MAX_FD).
    const MOST: usize = 253;

    /// Receives bytes and whatever descriptors are beside them. Those are closed on exec, and when dropped.
    pub(crate) fn receive(
        socket: impl AsFd,
        bytes: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [IoSliceMut::new(bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = rustix::net::recvmsg(socket, &mut bytes, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        Ok(received.bytes)
    }

    /// The network namespace of this process, which no container may be given.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct HostNamespace {
        device: u64,
        inode: u64,
    }

    impl HostNamespace {
        pub(crate) fn of_this_process() -> io::Result<Self> {
            let stat = rustix::fs::stat("/proc/self/ns/net")?;
            Ok(Self {
                device: stat.st_dev,
                inode: stat.st_ino,
            })
        }

        /// Refuses what is no network namespace, and the host's own.
        pub(crate) fn verify(self, descriptor: impl AsFd) -> Result<(), CniError> {
            const NSFS_MAGIC: u64 = 0x6e73_6673;
            const CLONE_NEWNET: i32 = 0x4000_0000;
            let refuse = |why: &str| CniError::environment("CNI_NETNS", why);
            let none = |_| refuse("is no network namespace");
            let file_system = rustix::fs::fstatfs(&descriptor).map_err(none)?;
            if file_system.f_type as u64 != NSFS_MAGIC {
                return Err(refuse("is no network namespace"));
            }
            if super::namespace::kind(&descriptor).map_err(none)? != CLONE_NEWNET {
                return Err(refuse("is a namespace of another kind"));
            }
            let stat = rustix::fs::fstat(&descriptor).map_err(none)?;
            if (stat.st_dev, stat.st_ino) == (self.device, self.inode) {
                return Err(refuse("is the host's own network namespace"));
            }
            Ok(())
        }
    }
}

#[cfg(feature = "tokio")]
#[allow(unsafe_code)]
mod namespace {
    use std::ffi::c_void;
    use std::os::fd::AsFd;

    use rustix::io::Result;
    use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

    /// NS_GET_NSTYPE of linux/nsfs.h: no argument, answers with the CLONE_NEW* flag.
    struct Kind;

    // SAFETY: the opcode takes no argument, so the null pointer is never read or written; the answer is the return value.
    unsafe impl Ioctl for Kind {
        type Output = i32;

        const IS_MUTATING: bool = false;

        fn opcode(&self) -> Opcode {
            opcode::none(0xb7, 0x3)
        }

        fn as_ptr(&mut self) -> *mut c_void {
            std::ptr::null_mut()
        }

        unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<i32> {
            Ok(out)
        }
    }

    /// The CLONE_NEW* flag of a namespace. Only for descriptors on nsfs: there the number means this.
    pub(super) fn kind(descriptor: impl AsFd) -> Result<i32> {
        // SAFETY: the caller's descriptor is open (AsFd), and Kind describes the opcode as the kernel defines it.
        unsafe { ioctl(descriptor, Kind) }
    }
}
