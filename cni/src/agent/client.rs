use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::Value;

use crate::{AddResult, CniError, Command};

use super::wire::{self, Message, Reply, Role};
use super::{NetworkRequest, Request, fd};

/// How much longer than the deadline the client waits, so that the agent's own word on it arrives.
const GRACE: Duration = Duration::from_secs(1);

/// Calls a node agent. Blocking, without a runtime; every call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why a call has no answer, or what error it was answered with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nobody listens on the socket: the agent is not running, or not yet.
    #[error("the node agent does not answer on {socket}", socket = socket.display())]
    Unavailable {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke, or the deadline passed, before the answer: what the agent did is unknown.
    #[error("the node agent on {socket} has not answered", socket = socket.display())]
    Lost {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The request is longer than a frame may be, or the answer does not decode.
    #[error("talking to the node agent: {what}")]
    Protocol {
        /// What is wrong.
        what: String,
    },
    /// The agent answered with an error.
    #[error("{0}")]
    Refused(CniError),
}

impl CallError {
    /// Whether the agent has perhaps, or surely, done nothing: [`Unavailable`](Self::Unavailable) or [`Lost`](Self::Lost).
    #[must_use]
    pub const fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Lost { .. })
    }
}

/// What the plugin prints: the agent's own error, or number 11 (try again later) with the reason.
impl From<CallError> for CniError {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::Refused(error) => error,
            CallError::Unavailable { source, .. } | CallError::Lost { source, .. } => {
                Self::try_again(text).with_details(source.to_string())
            }
            CallError::Protocol { .. } => Self::internal(text),
        }
    }
}

impl Client {
    /// A client of the agent that listens on this socket.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// ADD, with the container's network namespace.
    ///
    /// # Errors
    /// [`CallError`]; after [`CallError::Lost`] the agent undoes what it did.
    pub fn add(&self, request: &Request, netns: BorrowedFd<'_>) -> Result<AddResult, CallError> {
        let message = Message::about_attachment(Command::Add, Role::Network, request);
        result(self.call(&message, Some(netns))?)
    }

    /// DEL, with the container's network namespace when it is still there.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn del(&self, request: &Request, netns: Option<BorrowedFd<'_>>) -> Result<(), CallError> {
        let message = Message::about_attachment(Command::Del, Role::Network, request);
        self.call(&message, netns).map(drop)
    }

    /// CHECK, with the container's network namespace.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn check(&self, request: &Request, netns: BorrowedFd<'_>) -> Result<(), CallError> {
        let message = Message::about_attachment(Command::Check, Role::Network, request);
        self.call(&message, Some(netns)).map(drop)
    }

    /// GC.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn gc(&self, request: &NetworkRequest) -> Result<(), CallError> {
        self.call(
            &Message::about_network(Command::Gc, Role::Network, request),
            None,
        )
        .map(drop)
    }

    /// STATUS.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn status(&self, request: &NetworkRequest) -> Result<(), CallError> {
        self.call(
            &Message::about_network(Command::Status, Role::Network, request),
            None,
        )
        .map(drop)
    }

    /// ADD of an IPAM plugin: addresses without an interface.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn ipam_add(&self, request: &Request) -> Result<AddResult, CallError> {
        let message = Message::about_attachment(Command::Add, Role::Ipam, request);
        result(self.call(&message, None)?)
    }

    /// DEL of an IPAM plugin.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn ipam_del(&self, request: &Request) -> Result<(), CallError> {
        let message = Message::about_attachment(Command::Del, Role::Ipam, request);
        self.call(&message, None).map(drop)
    }

    /// CHECK of an IPAM plugin.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn ipam_check(&self, request: &Request) -> Result<(), CallError> {
        let message = Message::about_attachment(Command::Check, Role::Ipam, request);
        self.call(&message, None).map(drop)
    }

    /// GC of an IPAM plugin.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn ipam_gc(&self, request: &NetworkRequest) -> Result<(), CallError> {
        self.call(
            &Message::about_network(Command::Gc, Role::Ipam, request),
            None,
        )
        .map(drop)
    }

    fn call(&self, message: &Message, netns: Option<BorrowedFd<'_>>) -> Result<Value, CallError> {
        let frame = wire::frame(message).ok_or_else(|| protocol("the request is too long"))?;
        let until = Instant::now() + message.deadline() + GRACE;
        let stream =
            connect(&self.socket, message.deadline()).map_err(|source| CallError::Unavailable {
                socket: self.socket.clone(),
                source,
            })?;
        let lost = |source| CallError::Lost {
            socket: self.socket.clone(),
            source,
        };
        let body = exchange(stream, &frame, netns, until).map_err(lost)?;
        let body = body.ok_or_else(|| protocol("the reply is too long"))?;
        let reply: Reply = serde_json::from_slice(&body)
            .map_err(|cause| protocol(format!("the reply does not decode: {cause}")))?;
        reply.into_answer().map_err(CallError::Refused)
    }
}

fn protocol(what: impl Into<String>) -> CallError {
    CallError::Protocol { what: what.into() }
}

fn result(answer: Value) -> Result<AddResult, CallError> {
    AddResult::from_value(&answer).map_err(|error| protocol(error.to_string()))
}

/// The kernel's timeout for sending holds for connecting too: a full backlog must not hang the plugin for ever.
fn connect(socket: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let descriptor: OwnedFd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    set_socket_timeout(&descriptor, Timeout::Send, Some(at_least(timeout)))?;
    rustix::net::connect(&descriptor, &SocketAddrUnix::new(socket)?)?;
    Ok(UnixStream::from(descriptor))
}

/// A timeout of zero would mean none.
fn at_least(timeout: Duration) -> Duration {
    timeout.max(Duration::from_millis(1))
}

/// The reply's body; `None` when its length is above the limit.
fn exchange(
    mut stream: UnixStream,
    frame: &[u8],
    netns: Option<BorrowedFd<'_>>,
    until: Instant,
) -> io::Result<Option<Vec<u8>>> {
    // An agent that refuses the caller answers without reading: its word counts more than the broken pipe.
    let written = fd::send(stream.as_fd(), frame, netns)
        .and_then(|sent| stream.write_all(frame.get(sent..).unwrap_or_default()));
    let mut header = [0; wire::HEADER];
    if let Err(error) = read_exact_until(&mut stream, &mut header, until) {
        return Err(written.err().unwrap_or(error));
    }
    let Some(length) = wire::body_length(header) else {
        return Ok(None);
    };
    let mut body = vec![0; length];
    read_exact_until(&mut stream, &mut body, until)?;
    Ok(Some(body))
}

fn read_exact_until(stream: &mut UnixStream, buffer: &mut [u8], until: Instant) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let left = until.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(at_least(left)))?;
        match stream.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
