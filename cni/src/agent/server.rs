use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixListener;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::{AddResult, CniError};

use super::fd::HostNamespace;
use super::{NetworkRequest, Request};

mod connection;

/// What a node agent does for the plugin. [`serve`] does the rest.
///
/// Before a handler runs, the caller's user, the frame, the configuration and the descriptor have been checked, and no other
/// handler runs for the same network, container and interface. A handler is never dropped half way while the
/// server runs: when the plugin is gone or the deadline has passed, [`Caller::gone`] resolves, and an ADD that succeeds all
/// the same is handed to [`abandoned`](Self::abandoned).
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// Attaches the container whose namespace `netns` is. Nothing may be left half done when this fails.
    ///
    /// # Errors
    /// What the runtime should be told; [`CniError::TRY_AGAIN_LATER`] when the agent is not in sync.
    async fn add(
        &self,
        request: Request,
        netns: OwnedFd,
        caller: Caller,
    ) -> Result<AddResult, CniError>;

    /// Detaches the container. What is already gone is no error.
    ///
    /// # Errors
    /// When something could not be removed.
    async fn del(&self, request: Request, netns: Option<OwnedFd>) -> Result<(), CniError>;

    /// Compares kernel, addresses and store with `request.network.prev_result`.
    ///
    /// # Errors
    /// Any difference.
    async fn check(&self, request: Request, netns: OwnedFd) -> Result<(), CniError>;

    /// Releases what belongs to this network and to none of `request.keep`.
    ///
    /// # Errors
    /// When something could not be released.
    async fn gc(&self, request: NetworkRequest) -> Result<(), CniError>;

    /// Whether ADD would be served now.
    ///
    /// # Errors
    /// [`CniError::PLUGIN_NOT_AVAILABLE`] or [`CniError::LIMITED_CONNECTIVITY`].
    async fn status(&self, request: NetworkRequest) -> Result<(), CniError>;

    /// An ADD has succeeded whose answer nobody took: it is to be undone. By default that is [`del`](Self::del).
    ///
    /// # Errors
    /// What could not be undone. Nobody is told: the implementation should log and count it.
    async fn abandoned(&self, request: Request, result: AddResult) -> Result<(), CniError> {
        drop(result);
        self.del(request, None).await
    }

    /// Assigns addresses for another plugin. By default the agent is no IPAM.
    ///
    /// # Errors
    /// What the runtime should be told.
    async fn ipam_add(&self, request: Request, caller: Caller) -> Result<AddResult, CniError> {
        drop(caller);
        Err(no_ipam(&request))
    }

    /// Releases what [`ipam_add`](Self::ipam_add) has assigned. What is already gone is no error.
    ///
    /// # Errors
    /// When something could not be released.
    async fn ipam_del(&self, request: Request) -> Result<(), CniError> {
        Err(no_ipam(&request))
    }

    /// Compares the addresses of `request.network.prev_result` with what is assigned.
    ///
    /// # Errors
    /// Any difference.
    async fn ipam_check(&self, request: Request) -> Result<(), CniError> {
        Err(no_ipam(&request))
    }

    /// Releases what [`ipam_add`](Self::ipam_add) has assigned for this network and for none of `request.keep`.
    ///
    /// # Errors
    /// When something could not be released.
    async fn ipam_gc(&self, request: NetworkRequest) -> Result<(), CniError> {
        drop(request);
        Ok(())
    }
}

fn no_ipam(request: &Request) -> CniError {
    CniError::config(format!(
        "network {}: this node agent assigns no addresses",
        request.network.name
    ))
}

/// The plugin that waits for an answer.
#[derive(Clone, Debug)]
pub struct Caller {
    process: Option<i32>,
    gone: watch::Receiver<bool>,
}

impl Caller {
    /// A caller that never goes: for calls in process.
    #[must_use]
    pub fn patient() -> Self {
        Self {
            process: None,
            gone: watch::channel(false).1,
        }
    }

    /// The plugin's process id, where the kernel knows it.
    #[must_use]
    pub const fn process(&self) -> Option<i32> {
        self.process
    }

    /// Whether the plugin has hung up, or its deadline has passed: the answer will not be used.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Waits until the plugin is gone; for ever if it stays.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        if gone.wait_for(|gone| *gone).await.is_err() {
            // The connection has been answered: it cannot go any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Bounds of what plugins can make the server do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections that are served at once; more wait in the socket's backlog. Default: 256, twice the pods that kubelet
    /// puts on a node, as each has at most one call.
    pub connections: usize,
    /// How long a request may take to arrive. Default: 5 s; it is written in one piece.
    pub arrival: Duration,
    /// The longest deadline; a later one is cut. Default: 2 minutes, after which kubelet gives up.
    pub deadline: Duration,
    /// The user that may call, as this process's user namespace numbers them. Default: 0.
    pub user: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            arrival: Duration::from_secs(5),
            deadline: Duration::from_secs(120),
            user: 0,
        }
    }
}

/// Serves plugins until it is dropped. See [`serve_until`].
///
/// # Errors
/// When accepting connections is not possible any more, or `/proc` is not there.
///
/// # Cancel safety
/// Dropping it drops the handlers that are running: prefer [`serve_until`].
pub async fn serve(
    listener: UnixListener,
    agent: Arc<dyn Agent>,
    limits: Limits,
) -> io::Result<()> {
    serve_until(listener, agent, limits, std::future::pending()).await
}

/// Serves plugins until `stop` resolves, then accepts no more and returns when every running handler has ended.
///
/// # Errors
/// When accepting connections is not possible any more, or `/proc` is not there.
///
/// # Cancel safety
/// Dropping it drops the handlers that are running.
pub async fn serve_until(
    listener: UnixListener,
    agent: Arc<dyn Agent>,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let host = HostNamespace::of_this_process()?;
    let permits = Arc::new(Semaphore::new(limits.connections.max(1)));
    let server = Arc::new(Server {
        agent,
        limits,
        host,
        locks: Locks::default(),
    });
    let mut running = JoinSet::new();
    tokio::pin!(stop);
    let outcome = loop {
        let accepted = tokio::select! {
            () = &mut stop => break Ok(()),
            Some(_) = running.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let server = Arc::clone(&server);
                running.spawn(async move {
                    connection::handle(&server, stream).await;
                    drop(permit);
                });
            }
            Err(error) if is_passing(&error) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => break Err(error),
        }
    };
    drop(listener);
    while running.join_next().await.is_some() {}
    outcome
}

struct Server {
    agent: Arc<dyn Agent>,
    limits: Limits,
    host: HostNamespace,
    locks: Locks,
}

async fn accept(
    listener: &UnixListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(tokio::net::UnixStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Errors of one connection, and of a machine that is short of something for a moment.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
    ];
    passing
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// One lock for each attachment that is being worked on.
#[derive(Default)]
struct Locks {
    held: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    async fn lock(&self, key: String) -> OwnedMutexGuard<()> {
        let lock = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|_, lock| lock.strong_count() > 0);
            let known = held.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                held.insert(key, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}
