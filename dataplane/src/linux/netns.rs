use std::os::fd::{AsFd, BorrowedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;

use crate::{AttachError, KernelError};

/// Does `work` in a network namespace, on a thread of its own that ends with it: setns(2) changes one thread, which
/// must never be one that anybody else uses.
pub(crate) fn within<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, AttachError> + Send,
) -> Result<T, AttachError> {
    let entered = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            nix::Error::EINVAL => AttachError::Namespace {
                why: "the descriptor is of something else",
            },
            errno => AttachError::Kernel {
                step: "the container's network namespace could not be entered",
                source: KernelError::new(errno as i32, None),
            },
        })?;
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, entered)
            .map_err(|error| AttachError::Kernel {
                step: "a thread could not be started",
                source: error.into(),
            })?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Refuses the calling thread's own namespace: a container that shares the host's network has nothing to attach.
pub(crate) fn refuse_own(namespace: BorrowedFd<'_>) -> Result<(), AttachError> {
    let step = "the network namespace could not be looked at";
    let kernel = |source| AttachError::Kernel { step, source };
    let own =
        std::fs::File::open("/proc/thread-self/ns/net").map_err(|error| kernel(error.into()))?;
    let identity = |fd: BorrowedFd<'_>| {
        let found = fstat(fd).map_err(|errno| kernel(KernelError::new(errno as i32, None)))?;
        Ok::<_, AttachError>((found.st_dev, found.st_ino))
    };
    if identity(own.as_fd())? == identity(namespace)? {
        return Err(AttachError::Namespace {
            why: "it is the node's own",
        });
    }
    Ok(())
}
