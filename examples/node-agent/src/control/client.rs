use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Drained, Endpoint, PolicyCounters, Request, Status, Version, Waited, Written, frame};

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
    /// The agent cannot do it, or does not know the question.
    #[error("the agent at {}: {error}", socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// Why.
        error: String,
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

    /// The agent's versions.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down.
    pub fn version(&self) -> Result<Version, ControlError> {
        self.ask(&Request::Version, Duration::from_secs(5))
    }

    /// Every parameter in force, and where it comes from.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down.
    pub fn config(&self) -> Result<Value, ControlError> {
        self.ask(&Request::Config, Duration::from_secs(5))
    }

    /// The pods of the agent's node.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, ControlError> {
        self.ask(&Request::Endpoints, Duration::from_secs(5))
    }

    /// What the rules of policies have met.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down, or cannot read the kernel's counters.
    pub fn counters(&self) -> Result<PolicyCounters, ControlError> {
        self.ask(&Request::Counters, Duration::from_secs(10))
    }

    /// Drains the agent's node, or ends that.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down, or cannot note it.
    pub fn drain(&self, on: bool) -> Result<Drained, ControlError> {
        self.ask(&Request::Drain { on }, Duration::from_secs(5))
    }

    /// The files of the agent's diagnostics, by name, secrets taken out.
    ///
    /// # Errors
    /// [`ControlError`] when the agent is down, or ends half-way.
    pub fn diags(&self) -> Result<Vec<(String, String)>, ControlError> {
        let mut stream = self.send(&Request::Diags, Some(Duration::from_secs(30)))?;
        let mut files = Vec::new();
        loop {
            let frame = frame::read(&mut stream).map_err(|source| broken(&self.socket, source))?;
            let value: Value = self.read(&frame)?;
            let text = |name: &str| value[name].as_str().map(str::to_owned);
            match (text("file"), text("text")) {
                (Some(file), Some(text)) => files.push((file, text)),
                _ => return Ok(files),
            }
        }
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
        let value: Value = self.read(&answer)?;
        if let Some(error) = value["error"].as_str()
            && value.as_object().is_some_and(|members| members.len() == 1)
        {
            return Err(ControlError::Refused {
                socket: self.socket.clone(),
                error: error.to_owned(),
            });
        }
        self.read(&answer)
    }

    fn read<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ControlError> {
        serde_json::from_slice(answer).map_err(|source| ControlError::Answer {
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
