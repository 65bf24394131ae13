use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Request, Status, Waited, Written, frame};

/// Asks a running agent; blocking.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why an agent gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nobody listens on the socket, or the connection broke.
    #[error("the agent at {} does not answer", socket.display())]
    Connection {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The answer is not what this client understands; agent and client may be of different versions.
    #[error("the agent at {} answered what this client does not understand", socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
}

impl Client {
    /// A client of the agent whose control socket this is.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Waits until everything written is in force on the agent's node.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down. An agent that is late is no error: see [`Waited`].
    pub fn wait(&self, objects: Vec<Written>, timeout: Duration) -> Result<Waited, ControlError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Wait {
            objects,
            timeout_ms,
        };
        self.ask(&request, timeout + Duration::from_secs(2))
    }

    /// What the agent is and knows.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down.
    pub fn status(&self) -> Result<Status, ControlError> {
        self.ask(&Request::Status, Duration::from_secs(5))
    }

    /// The routes that the agent's speaker knows.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down.
    pub fn routes(&self) -> Result<Value, ControlError> {
        self.ask(&Request::Routes, Duration::from_secs(5))
    }

    /// What happens at the agent from now on; the iterator blocks until the next event and ends with the agent.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down.
    pub fn events(&self) -> Result<Events, ControlError> {
        let stream = self.send(&Request::Events, None)?;
        Ok(Events { stream })
    }

    fn ask<T: DeserializeOwned>(
        &self,
        request: &Request,
        limit: Duration,
    ) -> Result<T, ControlError> {
        let mut stream = self.send(request, Some(limit))?;
        let answer = frame::read(&mut stream).map_err(|source| broken(&self.socket, source))?;
        serde_json::from_slice(&answer).map_err(|source| ControlError::Answer {
            socket: self.socket.clone(),
            source,
        })
    }

    fn send(&self, request: &Request, limit: Option<Duration>) -> Result<UnixStream, ControlError> {
        let attempt = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(limit)?;
            frame::write(&mut stream, &serde_json::to_vec(request)?)?;
            Ok(stream)
        };
        attempt().map_err(|source| broken(&self.socket, source))
    }
}

fn broken(socket: &Path, source: io::Error) -> ControlError {
    ControlError::Connection {
        socket: socket.to_path_buf(),
        source,
    }
}

/// Events of an agent, as they happen.
#[derive(Debug)]
pub struct Events {
    stream: UnixStream,
}

impl Events {
    /// A handle that ends the iteration from another thread, by `shutdown`.
    ///
    /// # Errors
    /// When the system has no file descriptor left.
    pub fn closer(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }
}

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let bytes = frame::read(&mut self.stream).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}
