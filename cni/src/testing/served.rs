use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::agent::{Agent, Client, Limits, serve_until};

/// An agent that is served on a socket by a thread of its own, for tests of plugins as processes.
///
/// ```
/// use std::sync::Arc;
/// use ocicat_cni::agent::NetworkRequest;
/// use ocicat_cni::testing::{FakeAgent, ServedAgent};
/// use ocicat_cni::{CniError, NetworkConfig};
///
/// let socket = std::env::temp_dir().join(format!("ocicat-doc-{}.sock", std::process::id()));
/// let agent = Arc::new(FakeAgent::new());
/// let served = ServedAgent::start(agent, &socket)?;
/// let network = NetworkConfig::parse(br#"{"cniVersion":"1.1.0","name":"net","type":"mine"}"#)?;
/// served.client().status(&NetworkRequest::new(network))?;
/// served.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ServedAgent {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl ServedAgent {
    /// Serves with the default limits, but for the user: that of this process.
    ///
    /// # Errors
    /// When the socket cannot be bound, or a runtime cannot be made.
    pub fn start(agent: Arc<dyn Agent>, socket: impl AsRef<Path>) -> io::Result<Self> {
        let user = rustix::process::getuid().as_raw();
        Self::start_with(
            agent,
            socket,
            Limits {
                user,
                ..Limits::default()
            },
        )
    }

    /// Serves with these limits.
    ///
    /// # Errors
    /// When the socket cannot be bound, or a runtime cannot be made.
    pub fn start_with(
        agent: Arc<dyn Agent>,
        socket: impl AsRef<Path>,
        limits: Limits,
    ) -> io::Result<Self> {
        let socket = socket.as_ref().to_owned();
        let listener = std::os::unix::net::UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                serve_until(listener, agent, limits, async { drop(stopped.await) }).await
            })
        });
        Ok(Self {
            socket,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Stops accepting, waits until every running handler has ended, and removes the socket.
    ///
    /// # Errors
    /// What the server failed with.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        drop(self.stop.take());
        let _ = std::fs::remove_file(&self.socket);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(io::Error::other("the server panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for ServedAgent {
    fn drop(&mut self) {
        // A test that wants to know calls stop().
        let _ = self.end();
    }
}
