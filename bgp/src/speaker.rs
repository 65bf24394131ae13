//! Many sessions and one RIB as one object: bytes and the time go in, bytes and events come out.

mod config;
mod dynamic;
mod event;
mod lifecycle;
mod local;
mod receive;
mod slot;
mod transmit;
mod update;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

pub use config::{DynamicPeers, SpeakerConfig};
pub use event::{BestRoute, Event, PeerStatus, Route};

use crate::export::Group;
use crate::identity::PeerId;
use crate::peer::PeerConfig;
use crate::rib::Rib;
use crate::session::{Jitter, LinkId, SLACK, Session, SessionConfig, SessionEvent, Stop};
use crate::wire::{Canonical, Cease};
use slot::Slot;

/// What happened to a peer's connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// The connection that [`Output::Connect`] asked for is there; with our address on it.
    Connected(LinkId, IpAddr),
    /// It could not be made; with the system's reason.
    ConnectFailed(LinkId, String),
    /// The connection is gone.
    Closed(LinkId),
    /// Bytes came in.
    Received(LinkId, &'a [u8]),
    /// The socket did not take all of what [`Speaker::poll_transmit`] returned. To be told again when it took some.
    Blocked(LinkId),
    /// The socket has taken all of it.
    Unblocked(LinkId),
}

/// What the speaker asks of whoever has the sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Dial the peer, from and to where its configuration says.
    Connect {
        /// Whom to dial.
        peer: PeerId,
        /// What the answer is to be called.
        link: LinkId,
    },
    /// Send `last` behind whatever [`Speaker::poll_transmit`] has returned so far, if the socket takes it at once,
    /// then close. Also ends an attempt to connect. Nothing more is to be told about the link.
    Close {
        /// Whose connection.
        peer: PeerId,
        /// Which one.
        link: LinkId,
        /// The last words: a NOTIFICATION, or nothing.
        last: Vec<u8>,
    },
}

/// Why a peer was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddPeerError {
    /// A peer with this address is there already.
    #[error("{address} is a peer already")]
    Exists {
        /// The address.
        address: IpAddr,
    },
    /// There are 65535 peers.
    #[error("no room for another peer")]
    Full,
}

/// Sessions, RIB, decision process and export as one state machine (RFC 4271).
///
/// The order of calls, for each turn: [`Speaker::handle`] with everything that came in, [`Speaker::handle_timeout`]
/// when [`Speaker::poll_timeout`] has passed, then [`Speaker::poll_output`], [`Speaker::poll_ready`] with
/// [`Speaker::poll_transmit`] and [`Speaker::poll_event`] until each has nothing more. It never fails and never
/// blocks: whatever a peer sends, the answer is an output.
pub struct Speaker {
    config: SpeakerConfig,
    rib: Rib,
    /// By the low half of [`PeerId`], which is the index of the RIB's sources as well; 0 is the speaker itself.
    slots: Vec<Option<Box<Slot>>>,
    by_address: HashMap<IpAddr, PeerId>,
    generation: u16,
    dynamic: Vec<DynamicPeers>,
    groups: Vec<Option<Group>>,
    canonical: Canonical,
    outputs: VecDeque<Output>,
    ready: VecDeque<PeerId>,
    /// What [`Speaker::poll_ready`] returned last.
    handed: Option<(PeerId, LinkId)>,
    rib_changed: bool,
    timers: BinaryHeap<Reverse<(Instant, PeerId)>>,
    /// Events with the positions in the logs up to which best paths come first.
    events: VecDeque<([u64; 2], Event)>,
    /// The host's positions in the logs, while it follows.
    host: Option<[u64; 2]>,
    complete: bool,
    deferral: Option<lifecycle::Deferral>,
    jitter: Jitter,
    refused: u64,
}

impl Speaker {
    /// A speaker without peers or routes.
    #[must_use]
    pub fn new(config: SpeakerConfig, now: Instant) -> Self {
        let deferral = config
            .restarting
            .then(|| lifecycle::Deferral::new(&config, now));
        Self {
            rib: Rib::new(config.seed, config.max_paths, config.always_compare_med),
            slots: vec![None],
            by_address: HashMap::new(),
            generation: 0,
            dynamic: Vec::new(),
            groups: Vec::new(),
            canonical: Canonical::default(),
            outputs: VecDeque::new(),
            ready: VecDeque::new(),
            handed: None,
            rib_changed: false,
            timers: BinaryHeap::new(),
            events: VecDeque::new(),
            host: None,
            complete: false,
            deferral,
            jitter: Jitter(config.seed),
            refused: 0,
            config,
        }
    }

    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &SpeakerConfig {
        &self.config
    }

    /// Adds a neighbour and starts to connect to it, or to wait for it.
    ///
    /// # Errors
    /// [`AddPeerError::Exists`] for an address that has a peer; [`AddPeerError::Full`] after 65535.
    pub fn add_peer(&mut self, config: PeerConfig, now: Instant) -> Result<PeerId, AddPeerError> {
        self.insert_peer(config, false, now)
    }

    fn insert_peer(
        &mut self,
        config: PeerConfig,
        dynamic: bool,
        now: Instant,
    ) -> Result<PeerId, AddPeerError> {
        let address = config.address;
        if self.by_address.contains_key(&address) {
            return Err(AddPeerError::Exists { address });
        }
        let vacant = self
            .slots
            .iter()
            .skip(1)
            .position(Option::is_none)
            .map(|at| at + 1);
        let index = vacant.unwrap_or(self.slots.len());
        if index > 0xffff {
            return Err(AddPeerError::Full);
        }
        self.generation = self.generation.wrapping_add(1);
        let id = PeerId(u32::from(self.generation) << 16 | index as u32);
        let session_config =
            SessionConfig::new(&config, self.config.as_number, self.config.router_id);
        let mut session = Session::new(session_config, self.jitter.next());
        session.set_restarting(self.restarting());
        session.start(now);
        let slot = Box::new(Slot::new(id, config, session, dynamic, &self.config, now));
        let source = slot.source();
        if index == self.slots.len() {
            self.slots.push(Some(slot));
            self.rib.context.sources.push(source);
        } else {
            self.slots[index] = Some(slot);
            self.rib.context.sources[index] = source;
        }
        self.by_address.insert(address, id);
        self.settle(id, now);
        Ok(id)
    }

    /// Ends a peer's session, forgets its routes and the peer. False when there is no such peer.
    pub fn remove_peer(&mut self, peer: PeerId, cease: Cease, now: Instant) -> bool {
        if self.slot(peer).is_none() {
            return false;
        }
        self.stop_peer(peer, &Stop::Cease(cease), now);
        self.discard(peer);
        true
    }

    /// Ends a peer's session and lets it begin anew: with [`Cease::BfdDown`] for a host that knows sooner than the hold
    /// timer that the peer cannot be reached, whose routes then go at once; with [`Cease::AdministrativeReset`] where a
    /// session shall start over. False when there is no such peer.
    pub fn reset_peer(&mut self, peer: PeerId, cease: &Cease, now: Instant) -> bool {
        let Some(slot) = self.slot_mut(peer) else {
            return false;
        };
        slot.session.fail_all(cease, now);
        self.settle(peer, now);
        true
    }

    /// Ends every session. With [`Stop::Silent`] peers that do graceful restart keep our routes.
    pub fn stop(&mut self, stop: &Stop, now: Instant) {
        let peers: Vec<_> = self.slots.iter().flatten().map(|slot| slot.id).collect();
        for peer in peers {
            self.stop_peer(peer, stop, now);
        }
    }

    fn stop_peer(&mut self, peer: PeerId, stop: &Stop, now: Instant) {
        if let Some(slot) = self.slot_mut(peer) {
            slot.stopping = true;
            slot.session.stop(stop, now);
            self.settle(peer, now);
        }
    }

    /// A connection from `remote` has come in at our address `local`. `None`: close it; it is from nobody we know.
    pub fn accept(
        &mut self,
        remote: IpAddr,
        local: IpAddr,
        now: Instant,
    ) -> Option<(PeerId, LinkId)> {
        let remote = remote.to_canonical();
        let known = self.by_address.get(&remote).copied();
        let peer = known.or_else(|| self.invite(remote, now));
        let accepted = peer.and_then(|peer| {
            let slot = self.slot_mut(peer)?;
            let link = slot.session.accept(now)?;
            slot.locals.push((link, local.to_canonical()));
            Some((peer, link))
        });
        self.refused += u64::from(accepted.is_none());
        if let Some((peer, _)) = accepted {
            self.settle(peer, now);
        }
        accepted
    }

    /// Takes in what happened on a peer's connection. What concerns a link or peer that is gone is ignored.
    pub fn handle(&mut self, peer: PeerId, input: Input<'_>, now: Instant) {
        let index = peer.index();
        let Some(Some(slot)) = self.slots.get_mut(index) else {
            return;
        };
        if slot.id != peer {
            return;
        }
        match input {
            Input::Connected(link, local) => {
                slot.locals.push((link, local.to_canonical()));
                slot.session.connected(link, now);
            }
            Input::ConnectFailed(link, why) => slot.session.connect_failed(link, why, now),
            Input::Closed(link) => slot.session.closed(link, now),
            Input::Blocked(link) => slot.session.blocked(link, now),
            Input::Unblocked(link) => slot.session.unblocked(link),
            Input::Received(link, bytes) => return self.received(peer, link, bytes, now),
        }
        self.settle(peer, now);
    }

    fn received(&mut self, peer: PeerId, link: LinkId, mut bytes: &[u8], now: Instant) {
        while !bytes.is_empty() {
            let Some(Some(slot)) = self.slots.get_mut(peer.index()) else {
                return;
            };
            let Slot {
                session, intake, ..
            } = &mut **slot;
            let (rib, canonical) = (&mut self.rib, &mut self.canonical);
            let taken = session.receive(link, bytes, now, &mut |negotiated, body| {
                intake.update(negotiated, body, rib, canonical)
            });
            bytes = &bytes[taken..];
            let near = intake.warn().filter(|_| session.negotiated().is_some());
            let address = slot.config.address;
            if let Some((prefixes, limit)) = near {
                self.tell(Event::NearLimit {
                    peer,
                    address,
                    prefixes,
                    limit,
                });
            }
            self.settle(peer, now);
        }
    }

    /// Lets time pass. To be called when [`Speaker::poll_timeout`] has come; earlier calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self
            .timers
            .peek()
            .is_some_and(|Reverse((at, _))| *at <= now)
        {
            // What is nearly due is looked at as well: it may not mind to be early.
            let mut due = Vec::new();
            while let Some(&Reverse((at, peer))) = self.timers.peek() {
                if at > now + SLACK {
                    break;
                }
                self.timers.pop();
                due.push((at, peer));
            }
            for (at, peer) in due {
                self.timer_due(at, peer, now);
            }
        }
        self.check_deferral(now);
    }

    fn timer_due(&mut self, at: Instant, peer: PeerId, now: Instant) {
        let Some(slot) = self.slot_mut(peer) else {
            return;
        };
        if slot.timer != Some(at) {
            return;
        }
        slot.timer = None;
        slot.session.timeout(now);
        self.expire(peer, now);
        self.settle(peer, now);
    }

    /// When [`Speaker::handle_timeout`] is to be called, if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let deferral = self.deferral.as_ref().map(|deferral| deferral.next());
        timer.into_iter().chain(deferral).min()
    }

    /// The next thing to do with a socket.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Passes on what a peer's session and intake have to say, and keeps its timer.
    fn settle(&mut self, peer: PeerId, now: Instant) {
        while let Some(slot) = self.slot_mut(peer) {
            let Some(event) = slot.session.poll_event() else {
                break;
            };
            match event {
                SessionEvent::Connect(link) => {
                    self.outputs.push_back(Output::Connect { peer, link })
                }
                SessionEvent::Close(link, last) => {
                    slot.locals.retain(|(other, _)| *other != link);
                    self.outputs.push_back(Output::Close { peer, link, last });
                }
                SessionEvent::Up(link, negotiated) => self.peer_up(peer, link, &negotiated, now),
                SessionEvent::Down(reason, negotiated) => {
                    self.peer_down(peer, reason, &negotiated, now);
                }
                SessionEvent::Failed(reason) => slot.last_error = Some(reason),
                SessionEvent::Refresh(refresh) => self.refreshed(peer, refresh, now),
            }
        }
        self.ended(peer, now);
        self.rib_changed |= self.rib.v4.log.len() + self.rib.v6.log.len() > 0;
        let Some(slot) = self.slot_mut(peer) else {
            return;
        };
        let wants = slot
            .session
            .links()
            .any(|link| slot.session.wants_transmit(link));
        if wants && !slot.queued {
            slot.queued = true;
            self.ready.push_back(peer);
        }
        self.arm(peer);
        self.drop_idle_dynamic(peer);
    }

    fn arm(&mut self, peer: PeerId) {
        let Some(slot) = self.slot_mut(peer) else {
            return;
        };
        let timers = [
            slot.session.poll_timeout(),
            slot.restart_until,
            slot.stale_until,
        ];
        let Some(next) = timers.into_iter().flatten().min() else {
            return;
        };
        if slot.timer.is_none_or(|at| next < at) {
            slot.timer = Some(next);
            self.timers.push(Reverse((next, peer)));
        }
    }

    fn slot(&self, peer: PeerId) -> Option<&Slot> {
        self.slots
            .get(peer.index())?
            .as_deref()
            .filter(|slot| slot.id == peer)
    }

    fn slot_mut(&mut self, peer: PeerId) -> Option<&mut Slot> {
        self.slots
            .get_mut(peer.index())?
            .as_deref_mut()
            .filter(|slot| slot.id == peer)
    }
}

#[cfg(test)]
mod tests;
