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

/// Does `work` in a network namespace, on a thread of its own that ends with it: setns(2) changes one thread, which
/// must never be one that anybody else uses.
pub(crate) fn within<T: Send, E: From<EnterError> + Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    beside(namespace, work, || ()).0
}

/// As [`within`], while the calling thread does something else.
pub(crate) fn beside<T: Send, E: From<EnterError> + Send, R>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
    meanwhile: impl FnOnce() -> R,
) -> (Result<T, E>, R) {
    let entered = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            nix::Error::EINVAL => EnterError::NoNamespace,
            errno => EnterError::Refused(KernelError::new(errno as i32, None)),
        })?;
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, entered)
            .map_err(|error| EnterError::NoThread(error.into()));
        let other = meanwhile();
        let result = match thread {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(error.into()),
        };
        (result, other)
    })
}

/// The network namespace of the calling thread.
#[cfg(feature = "linux")]
pub(crate) fn own() -> Result<File, KernelError> {
    Ok(File::open(OWN)?)
}

/// Whether a descriptor is of the calling thread's own network namespace.
pub(crate) fn is_own(namespace: BorrowedFd<'_>) -> Result<bool, KernelError> {
    Ok(identity(File::open(OWN)?.as_fd())? == identity(namespace)?)
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
