//! What the kernel means when it refuses: the one place where an errno becomes a word.

use std::fmt;

/// A refusal by the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// What the refusal means.
    pub refusal: Refusal,
    /// The number behind it, as in errno(3).
    pub errno: i32,
    /// The kernel's own words, where it has any (extended ACK).
    pub message: Option<Box<str>>,
}

/// What a refusal by the kernel means for links, addresses and routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Something with that name or key is there already (EEXIST).
    Exists,
    /// There is no such object (ENOENT, ESRCH).
    Missing,
    /// There is no such link (ENODEV, ENXIO).
    NoLink,
    /// The link is down (ENETDOWN).
    LinkDown,
    /// The gateway or the network cannot be reached from here (ENETUNREACH, EHOSTUNREACH).
    Unreachable,
    /// The object or the kernel is busy; try again (EBUSY, EAGAIN).
    Busy,
    /// A privilege is missing: `CAP_NET_ADMIN` in the namespace's user namespace (EPERM, EACCES).
    Denied,
    /// This kernel cannot do it (EOPNOTSUPP, EAFNOSUPPORT, EPROTONOSUPPORT).
    Unsupported,
    /// The request makes no sense to the kernel (EINVAL, ERANGE).
    Invalid,
    /// The request does not fit the socket (EMSGSIZE).
    TooLarge,
    /// The kernel's answers did not fit the socket's receive buffer: what was done is unknown (ENOBUFS).
    Overrun,
    /// A dump was overtaken by changes (EINTR, `NLM_F_DUMP_INTR`).
    Interrupted,
    /// No memory (ENOMEM).
    NoMemory,
    /// The process has too many open files (EMFILE, ENFILE).
    TooManyFiles,
    /// The kernel's answer could not be read.
    Malformed,
    /// Anything else; see the number.
    Other,
}

impl KernelError {
    /// The meaning of an errno, given as a positive number.
    #[must_use]
    pub fn new(errno: i32, message: Option<&str>) -> Self {
        let message = message.filter(|text| !text.is_empty()).map(Into::into);
        Self {
            refusal: Refusal::of(errno),
            errno,
            message,
        }
    }

    /// An answer that could not be read.
    #[cfg(any(feature = "attach", feature = "linux"))]
    pub(crate) fn malformed(why: impl fmt::Display) -> Self {
        Self {
            refusal: Refusal::Malformed,
            errno: 74, // EBADMSG
            message: Some(why.to_string().into_boxed_str()),
        }
    }

    /// Whether the same request may succeed a moment later, without anybody changing it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self.refusal,
            Refusal::Busy | Refusal::Overrun | Refusal::Interrupted | Refusal::NoMemory
        )
    }
}

impl Refusal {
    /// Linux's numbers are the same on every architecture that Rust's standard library runs on, but MIPS, SPARC and
    /// Alpha; there, the names of the numbers above 34 differ and fall to [`Self::Other`].
    const fn of(errno: i32) -> Self {
        match errno {
            17 => Self::Exists,
            2 | 3 => Self::Missing,
            19 | 6 => Self::NoLink,
            100 => Self::LinkDown,
            101 | 113 => Self::Unreachable,
            16 | 11 => Self::Busy,
            1 | 13 => Self::Denied,
            95 | 97 | 93 => Self::Unsupported,
            22 | 34 => Self::Invalid,
            90 => Self::TooLarge,
            105 => Self::Overrun,
            4 => Self::Interrupted,
            12 => Self::NoMemory,
            24 | 23 => Self::TooManyFiles,
            74 => Self::Malformed,
            _ => Self::Other,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Exists => "it exists already",
            Self::Missing => "there is no such object",
            Self::NoLink => "there is no such link",
            Self::LinkDown => "the link is down",
            Self::Unreachable => "the gateway cannot be reached",
            Self::Busy => "busy",
            Self::Denied => "not permitted (CAP_NET_ADMIN is missing)",
            Self::Unsupported => "this kernel cannot do it",
            Self::Invalid => "invalid",
            Self::TooLarge => "too large for the socket",
            Self::Overrun => "answers were lost",
            Self::Interrupted => "overtaken by changes",
            Self::NoMemory => "out of memory",
            Self::TooManyFiles => "too many open files",
            Self::Malformed => "the kernel's answer could not be read",
            Self::Other => "refused",
        }
    }
}

impl From<std::io::Error> for KernelError {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::new(errno, None),
            None => Self {
                refusal: Refusal::Other,
                errno: 5, // EIO
                message: Some(error.to_string().into_boxed_str()),
            },
        }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (errno {}", self.refusal.words(), self.errno)?;
        match &self.message {
            Some(message) => write!(f, ": {message})"),
            None => f.write_str(")"),
        }
    }
}

impl std::error::Error for KernelError {}
