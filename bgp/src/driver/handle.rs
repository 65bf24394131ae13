use std::net::IpAddr;

use tokio::sync::{mpsc, oneshot};

use crate::Prefix;
use crate::attributes::Attributes;
use crate::identity::PeerId;
use crate::peer::PeerConfig;
use crate::session::Stop;
use crate::speaker::{AddPeerError, DynamicPeers, Event, PeerStatus, Route};
use crate::wire::Cease;

pub(super) enum Command {
    AddPeer(
        Box<PeerConfig>,
        oneshot::Sender<Result<PeerId, AddPeerError>>,
    ),
    UpdatePeer(
        PeerId,
        Box<PeerConfig>,
        oneshot::Sender<Result<PeerId, AddPeerError>>,
    ),
    AddDynamic(Box<DynamicPeers>),
    RemoveDynamic(Prefix, Cease),
    RemovePeer(PeerId, Cease, oneshot::Sender<bool>),
    ResetPeer(PeerId, Cease),
    Originate(Prefix, Attributes),
    Withdraw(Prefix),
    Complete,
    NextHop(IpAddr, Option<u32>),
    Interface(IpAddr, Option<String>),
    Events(mpsc::Sender<Event>),
    Peers(oneshot::Sender<Vec<PeerStatus>>),
    Routes(oneshot::Sender<Vec<Route>>),
    #[cfg(feature = "metrics")]
    Metrics(oneshot::Sender<crate::Metrics>),
    Stop(Stop, oneshot::Sender<()>),
}

/// The driver has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the BGP driver has ended")]
pub struct Stopped;

/// Why a call about a peer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The speaker refused.
    #[error(transparent)]
    Refused(#[from] AddPeerError),
    /// The driver has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What a program holds of its speaker. Clones are the same speaker; calls take effect in their order.
///
/// Calls that return nothing do nothing once the driver has ended.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
}

/// How many events wait for the host before the speaker holds them back; prefixes that change again meanwhile are
/// reported once.
const EVENTS: usize = 1024;

impl Handle {
    pub(super) fn new(commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { commands }
    }

    fn send(&self, command: Command) {
        // Without a driver there is nobody to tell.
        let _ = self.commands.send(command);
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Stopped> {
        let (sender, receiver) = oneshot::channel();
        self.commands.send(command(sender)).map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }

    /// Adds a neighbour and starts to connect.
    ///
    /// # Errors
    /// [`PeerError::Refused`] when its address has a peer; [`PeerError::Stopped`].
    ///
    /// # Cancel safety
    /// A dropped call may have added the peer.
    pub async fn add_peer(&self, config: PeerConfig) -> Result<PeerId, PeerError> {
        Ok(self
            .ask(|reply| Command::AddPeer(Box::new(config), reply))
            .await??)
    }

    /// Gives a neighbour new settings. The session is kept when only filters and timers of later sessions change.
    ///
    /// # Errors
    /// As [`Handle::add_peer`]; the peer may have a new id.
    ///
    /// # Cancel safety
    /// A dropped call may have changed the peer.
    pub async fn update_peer(&self, peer: PeerId, config: PeerConfig) -> Result<PeerId, PeerError> {
        Ok(self
            .ask(|reply| Command::UpdatePeer(peer, Box::new(config), reply))
            .await??)
    }

    /// Accepts neighbours by prefix.
    pub fn add_dynamic_peers(&self, dynamic: DynamicPeers) {
        self.send(Command::AddDynamic(Box::new(dynamic)));
    }

    /// Accepts no more neighbours by this prefix and ends the sessions of those that came from it, unless another
    /// prefix lets them in.
    pub fn remove_dynamic_peers(&self, prefix: Prefix, cease: Cease) {
        self.send(Command::RemoveDynamic(prefix, cease));
    }

    /// Ends a neighbour's session and forgets it and its routes. False when there was none.
    ///
    /// # Errors
    /// [`Stopped`].
    ///
    /// # Cancel safety
    /// A dropped call may have removed the peer.
    pub async fn remove_peer(&self, peer: PeerId, cease: Cease) -> Result<bool, Stopped> {
        self.ask(|reply| Command::RemovePeer(peer, cease, reply))
            .await
    }

    /// Ends a neighbour's session and lets it begin anew, see [`Speaker::reset_peer`](crate::Speaker::reset_peer).
    pub fn reset_peer(&self, peer: PeerId, cease: Cease) {
        self.send(Command::ResetPeer(peer, cease));
    }

    /// Announces a route of our own, or changes its attributes.
    pub fn originate(&self, prefix: Prefix, attributes: Attributes) {
        self.send(Command::Originate(prefix, attributes));
    }

    /// Withdraws a route of our own.
    pub fn withdraw(&self, prefix: Prefix) {
        self.send(Command::Withdraw(prefix));
    }

    /// Everything that is to be originated has been: End-of-RIB may be sent.
    pub fn originations_complete(&self) {
        self.send(Command::Complete);
    }

    /// Says how far a next hop is, or that it cannot be reached (`None`).
    pub fn set_next_hop(&self, address: IpAddr, cost: Option<u32>) {
        self.send(Command::NextHop(address, cost));
    }

    /// Says which interface a next hop is reached over, for filters that ask.
    pub fn set_next_hop_interface(&self, address: IpAddr, interface: Option<String>) {
        self.send(Command::Interface(address, interface));
    }

    /// What happens from now on, best paths that are there already first. One receiver gets the events: a later call
    /// takes them over. A receiver that is slow delays nobody and misses nothing but intermediate states.
    #[must_use]
    pub fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        self.send(Command::Events(sender));
        receiver
    }

    /// The state of every peer.
    ///
    /// # Errors
    /// [`Stopped`].
    ///
    /// # Cancel safety
    /// Nothing stays behind.
    pub async fn peers(&self) -> Result<Vec<PeerStatus>, Stopped> {
        self.ask(Command::Peers).await
    }

    /// Every prefix with its paths.
    ///
    /// # Errors
    /// [`Stopped`].
    ///
    /// # Cancel safety
    /// Nothing stays behind.
    pub async fn routes(&self) -> Result<Vec<Route>, Stopped> {
        self.ask(Command::Routes).await
    }

    /// The counters.
    ///
    /// # Errors
    /// [`Stopped`].
    ///
    /// # Cancel safety
    /// Nothing stays behind.
    #[cfg(feature = "metrics")]
    pub async fn metrics(&self) -> Result<crate::Metrics, Stopped> {
        self.ask(Command::Metrics).await
    }

    /// Ends every session and the driver; returns when the connections are closed. With [`Stop::Silent`] peers that
    /// do graceful restart keep our routes.
    ///
    /// # Cancel safety
    /// A dropped call stops the driver all the same.
    pub async fn stop(&self, stop: Stop) {
        // An error says that the driver has ended already.
        let _ = self.ask(|reply| Command::Stop(stop, reply)).await;
    }
}
