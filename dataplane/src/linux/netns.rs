use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;

use crate::KernelError;

/// The network namespace of the calling thread, as a file.
const OWN: &str = "/proc/thread-self/ns/net";

/// Why a network namespace could not be entered.
#[derive(Debug)]
pub(crate) enum EnterError {
    /// The descriptor is of something else.
    NoNamespace,
    /// The kernel refused.
    Refused(KernelError),
    /// No thread.
    NoThread(KernelError),
}

/// Does `work` in a network namespace, and is back in the own one when it returns.
///
/// setns(2) changes one thread. It is the calling one where that surely can come back, since nobody else runs on it
/// meanwhile, which saves what a thread costs: more than all the rest. Else it is a thread that ends with `work`.
pub(crate) fn within<T: Send, E: From<EnterError> + Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    // Entering the namespace that one is in asks for the same rights as coming back to it.
    match own().map(Return) {
        Ok(home) if enter(home.0.as_fd()).is_ok() => {
            enter(namespace)?;
            let result = work();
            drop(home);
            result
        }
        _ => on_a_thread(namespace, work),
    }
}

fn on_a_thread<T: Send, E: From<EnterError> + Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                enter(namespace)?;
                work()
            })
            .map_err(|error| EnterError::NoThread(error.into()))?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(namespace: BorrowedFd<'_>) -> Result<(), EnterError> {
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        nix::Error::EINVAL => EnterError::NoNamespace,
        errno => EnterError::Refused(KernelError::new(errno as i32, None)),
    })
}

/// The namespace that a thread came from, to which it returns when this is dropped, also by a panic.
struct Return(File);

impl Drop for Return {
    fn drop(&mut self) {
        // It was tried before: all that can be missing is memory, and a thread must not go on elsewhere.
        while enter(self.0.as_fd()).is_err() {
            std::thread::yield_now();
        }
    }
}

/// The network namespace of the calling thread.
pub(crate) fn own() -> Result<File, KernelError> {
    Ok(File::open(OWN)?)
}

/// Whether a descriptor is of the calling thread's own network namespace.
pub(crate) fn is_own(namespace: BorrowedFd<'_>) -> Result<bool, KernelError> {
    Ok(identity(own()?.as_fd())? == identity(namespace)?)
}

fn identity(file: BorrowedFd<'_>) -> Result<(u64, u64), KernelError> {
    let found = fstat(file).map_err(|errno| KernelError::new(errno as i32, None))?;
    Ok((found.st_dev, found.st_ino))
}

/// The network namespace that a dataplane was opened in.
#[cfg(feature = "linux")]
pub(crate) struct Home(File);

#[cfg(feature = "linux")]
impl Home {
    /// That of the calling thread.
    pub(crate) fn here() -> Result<Self, KernelError> {
        own().map(Self)
    }

    /// Whether `namespace` is this one.
    pub(crate) fn is(&self, namespace: BorrowedFd<'_>) -> Result<bool, KernelError> {
        Ok(identity(self.0.as_fd())? == identity(namespace)?)
    }

    /// Does `work` there: what is below /proc/sys/net depends on who looks, unlike a socket.
    pub(crate) fn run<T: Send, E: From<EnterError> + From<KernelError> + Send>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, E> {
        if is_own(self.0.as_fd())? {
            work()
        } else {
            within(self.0.as_fd(), work)
        }
    }
}

impl From<EnterError> for KernelError {
    fn from(error: EnterError) -> Self {
        match error {
            EnterError::NoNamespace => Self::new(22, None),
            EnterError::Refused(error) | EnterError::NoThread(error) => error,
        }
    }
}
