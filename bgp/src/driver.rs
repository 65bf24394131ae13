//! The speaker on tokio: listeners, connections and timers (feature `tokio`).
//!
//! [`new`] returns a [`Handle`] and a [`Driver`], a future that the program spawns. The driver is one task for all
//! peers: what all sockets brought is taken in before anything is sent, so that changes that arrive together leave
//! together, and nothing is locked.
//!
//! ```no_run
//! use ocicat_bgp::driver::{self, DriverConfig};
//! use ocicat_bgp::{Attributes, Event, PeerConfig, SpeakerConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let speaker = SpeakerConfig::new(64512, [192, 0, 2, 1].into());
//! let (bgp, driver) = driver::new(DriverConfig::new(speaker).listen("0.0.0.0:179".parse()?))?;
//! tokio::spawn(driver);
//! let mut events = bgp.events();
//! bgp.add_peer(PeerConfig::new("192.0.2.2".parse()?, 64513)).await?;
//! bgp.originate("10.1.0.0/26".parse()?, Attributes::local());
//! bgp.originations_complete();
//! while let Some(event) = events.recv().await {
//!     if let Event::Best { prefix, routes, .. } = event {
//!         println!("{prefix} via {:?}", routes.first().map(|route| route.next_hop));
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod connection;
mod handle;
mod socket;
mod turn;
mod wake;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::Sleep;

pub use handle::{Handle, PeerError, Stopped};

use crate::identity::PeerId;
use crate::session::{LinkId, Stop};
use crate::speaker::{Event, Speaker, SpeakerConfig};
use connection::Connection;
use handle::Command;
use wake::Wakes;

/// How a [`Driver`] is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DriverConfig {
    /// The speaker.
    pub speaker: SpeakerConfig,
    /// Where connections are accepted. Default: nowhere.
    pub listen: Vec<SocketAddr>,
    /// How many connections may wait to be accepted. Default 4096: a cluster that starts at once connects at once.
    pub backlog: i32,
}

impl DriverConfig {
    /// A driver that listens nowhere yet.
    #[must_use]
    pub fn new(speaker: SpeakerConfig) -> Self {
        Self {
            speaker,
            listen: Vec::new(),
            backlog: 4096,
        }
    }

    /// Adds an address to listen at.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }
}

/// Why a driver could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// An address cannot be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Makes a driver and the handle to it. The listening sockets are bound when this returns.
///
/// # Errors
/// [`DriverError::Listen`] when an address is taken, is not ours, or needs a privilege.
pub fn new(config: DriverConfig) -> Result<(Handle, Driver), DriverError> {
    let mut listeners = Vec::new();
    for &address in &config.listen {
        let listener = socket::listen(address, config.backlog)
            .map_err(|source| DriverError::Listen { address, source })?;
        listeners.push(Listener::Bound(listener));
    }
    let (commands, receiver) = mpsc::unbounded_channel();
    let driver = Inner {
        speaker: Speaker::new(config.speaker, Instant::now()),
        commands: receiver,
        listeners,
        connections: Vec::new(),
        index: HashMap::new(),
        wakes: Arc::new(Wakes::default()),
        events: None,
        room: None,
        sleep: None,
        input: vec![0; 256 * 1024].into_boxed_slice(),
        output: Vec::new(),
        stopping: None,
    };
    Ok((Handle::new(commands), Driver(unconstrained(driver))))
}

/// The future that does the work. It ends after [`Handle::stop`], and silently when every handle is gone.
///
/// # Cancel safety
/// Dropping it closes every connection without a NOTIFICATION, as [`Stop::Silent`] does.
#[must_use = "nothing happens until the driver is spawned"]
pub struct Driver(Unconstrained<Inner>);

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// A listening socket, before and after it met the runtime.
enum Listener {
    Bound(std::net::TcpListener),
    Open(tokio::net::TcpListener),
    Failed,
}

type Room = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Inner {
    speaker: Speaker,
    commands: mpsc::UnboundedReceiver<Command>,
    listeners: Vec<Listener>,
    connections: Vec<Option<Connection>>,
    index: HashMap<(PeerId, LinkId), usize>,
    wakes: Arc<Wakes>,
    events: Option<mpsc::Sender<Event>>,
    /// Wakes the driver when the host has taken an event.
    room: Option<Room>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Every socket is read into this.
    input: Box<[u8]>,
    /// Every message is made in this; a connection keeps only what its socket did not take.
    output: Vec<u8>,
    stopping: Option<(Stop, Vec<oneshot::Sender<()>>)>,
}
