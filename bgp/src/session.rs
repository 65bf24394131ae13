//! One neighbour's finite state machine (RFC 4271 section 8) without sockets or clocks.

mod input;
mod link;
mod negotiate;

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub use negotiate::Negotiated;

pub(crate) use input::SLACK;
pub(crate) use link::Link;

use crate::number::{AsNumber, Families};
use crate::peer::{AddPath, GracefulRestart, PeerConfig, Role};
use crate::wire::Notification;

/// One TCP connection of a peer. A number is not used again while the peer is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(crate) u32);

/// The states of RFC 4271 section 8.2.2; of several connections the one that is furthest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum State {
    /// Stopped.
    Idle,
    /// A connection attempt is under way.
    Connect,
    /// Waiting for the peer to connect, or for the next attempt.
    Active,
    /// Connected, our OPEN is out.
    OpenSent,
    /// Both OPENs are through, waiting for the first KEEPALIVE.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a session, or an attempt at one, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownReason {
    /// We found an error and said so.
    Sent(Notification),
    /// The peer said why.
    Received(Notification),
    /// The connection broke or was closed without a word.
    Closed,
    /// Nothing came for the hold time.
    HoldTimerExpired,
    /// The peer connected anew: it has restarted (RFC 4724 section 4.2).
    Restarted,
    /// The connection could not be made; the text is the system's.
    ConnectFailed(String),
    /// Stopped by this side.
    Stopped,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => write!(f, "sent: {notification}"),
            Self::Received(notification) => write!(f, "received: {notification}"),
            Self::Closed => f.write_str("connection closed"),
            Self::HoldTimerExpired => f.write_str("hold timer expired (4/0)"),
            Self::Restarted => f.write_str("peer restarted"),
            Self::ConnectFailed(text) => write!(f, "cannot connect: {text}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// How a session is ended by its own side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The connection is closed without a NOTIFICATION: with graceful restart the peer keeps our routes.
    Silent,
    /// The peer is told and drops our routes, also where it would keep them through a NOTIFICATION (RFC 8538).
    Cease(crate::wire::Cease),
}

/// What a session needs to know.
#[derive(Clone, Debug)]
pub(crate) struct SessionConfig {
    pub(crate) local_as: AsNumber,
    pub(crate) peer_as: AsNumber,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) hold_time: Duration,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) families: Families,
    pub(crate) passive: bool,
    pub(crate) connect_retry: Duration,
    pub(crate) error_wait: Duration,
    pub(crate) graceful_restart: Option<GracefulRestart>,
    pub(crate) add_path: AddPath,
    pub(crate) extended_messages: bool,
    pub(crate) extended_next_hop: bool,
    pub(crate) role: Option<Role>,
    pub(crate) strict_role: bool,
}

impl SessionConfig {
    pub(crate) fn new(peer: &PeerConfig, speaker_as: AsNumber, router_id: Ipv4Addr) -> Self {
        let local_as = peer.local_as.unwrap_or(speaker_as);
        Self {
            local_as,
            peer_as: peer.peer_as,
            router_id,
            hold_time: peer.hold_time,
            keepalive: peer.keepalive,
            families: peer.families,
            passive: peer.passive,
            connect_retry: peer.connect_retry,
            error_wait: peer.error_wait,
            graceful_restart: peer.graceful_restart,
            add_path: peer.add_path,
            extended_messages: peer.extended_messages,
            extended_next_hop: peer.extended_next_hop,
            role: peer.role_in(local_as),
            strict_role: peer.strict_role,
        }
    }
}

/// What a session asks of its owner, in order.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    Connect(LinkId),
    Close(LinkId, Vec<u8>),
    Up(LinkId, Box<Negotiated>),
    Down(DownReason, Box<Negotiated>),
    /// An attempt failed; no session was up.
    Failed(DownReason),
    Refresh(crate::wire::Refresh),
}

/// A small generator for jitter (splitmix64); good enough to spread timers, nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(pub(crate) u64);

impl Jitter {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Three quarters to the whole of `time` (RFC 4271 section 10).
    pub(crate) fn of(&mut self, time: Duration) -> Duration {
        time.mul_f64(0.75 + 0.25 * (self.next() >> 40) as f64 / (1u64 << 24) as f64)
    }
}

/// One neighbour's sessions: at most one established, others on their way or about to lose a collision.
#[derive(Debug)]
pub(crate) struct Session {
    config: SessionConfig,
    links: Vec<Link>,
    started: bool,
    /// An attempt to connect, and when it is given up.
    connecting: Option<(LinkId, Instant)>,
    connect_at: Option<Instant>,
    next_link: u32,
    /// Attempts since the last established session.
    attempts: u32,
    /// Errors since the last session that lasted.
    errors: u32,
    jitter: Jitter,
    /// The R bit of the next OPEN.
    restarting: bool,
    /// A session was up in this process: our forwarding outlives its connection.
    was_up: bool,
    events: VecDeque<SessionEvent>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// RFC 4271 section 8.2.2: "a hold timer value of 4 minutes is suggested" until the OPENs are through; a peer that
/// has connected has no reason to take that long, and each such connection holds memory.
const OPEN_WAIT: Duration = Duration::from_secs(60);

impl Session {
    pub(crate) fn new(config: SessionConfig, seed: u64) -> Self {
        Self {
            config,
            links: Vec::new(),
            started: false,
            connecting: None,
            connect_at: None,
            next_link: 0,
            attempts: 0,
            errors: 0,
            jitter: Jitter(seed),
            restarting: false,
            was_up: false,
            events: VecDeque::new(),
        }
    }

    pub(crate) fn set_restarting(&mut self, restarting: bool) {
        self.restarting = restarting;
    }

    /// Whether there ever was a connection.
    pub(crate) fn had_links(&self) -> bool {
        self.next_link > 0
    }

    /// New settings for the sessions to come. A peer that was waited for and is to be dialled is dialled.
    pub(crate) fn set_config(&mut self, config: SessionConfig, now: Instant) {
        self.config = config;
        if self.config.passive {
            self.connect_at = None;
        } else if self.connect_at.is_none() {
            self.schedule(now);
        }
    }

    /// Asks the peer to send its routes once more (RFC 2918).
    pub(crate) fn ask_refresh(&mut self) {
        let link = self.links.iter_mut().find(|link| link.confirmed);
        if let Some((link, negotiated)) = link.and_then(|link| {
            let negotiated = link.negotiated.clone()?;
            Some((link, negotiated))
        }) {
            for family in negotiated.families.iter() {
                crate::wire::Refresh::encode(family, 0, &mut link.control);
            }
        }
    }

    /// Marks the beginning of the answer to a refresh (RFC 7313 section 4).
    pub(crate) fn mark_refresh(&mut self, family: crate::Family) {
        if let Some(link) = self.links.iter_mut().find(|link| link.confirmed) {
            crate::wire::Refresh::encode(family, 1, &mut link.control);
        }
    }

    pub(crate) fn state(&self) -> State {
        let furthest = self.links.iter().map(Link::state).max();
        match furthest {
            Some(state) => state,
            None if !self.started => State::Idle,
            None if self.connecting.is_some() => State::Connect,
            None => State::Active,
        }
    }

    pub(crate) fn negotiated(&self) -> Option<&Negotiated> {
        self.established()
            .and_then(|link| link.negotiated.as_deref())
    }

    fn established(&self) -> Option<&Link> {
        self.links
            .iter()
            .find(|link| link.state() == State::Established)
    }

    pub(crate) fn established_link(&self) -> Option<LinkId> {
        self.established().map(|link| link.id)
    }

    pub(crate) fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Whether anything but routes waits to be sent on `link`.
    pub(crate) fn wants_transmit(&self, link: LinkId) -> bool {
        self.links
            .iter()
            .any(|each| each.id == link && !each.control.is_empty())
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.links.iter().map(|link| link.id)
    }

    /// Moves what waits on `link` into `out`.
    pub(crate) fn take_control(&mut self, link: LinkId, out: &mut Vec<u8>) {
        if let Some(link) = self.links.iter_mut().find(|each| each.id == link) {
            out.append(&mut link.control);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let links = self
            .links
            .iter()
            .flat_map(|link| [link.hold_at, link.keepalive_at, link.send_hold_at]);
        let attempt = [self.connect_at, self.connecting.map(|(_, until)| until)];
        links.chain(attempt).flatten().min()
    }

    fn link_id(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    /// Plans the next attempt, sooner when fewer have failed.
    fn schedule(&mut self, now: Instant) {
        if !self.started
            || self.config.passive
            || !self.links.is_empty()
            || self.connecting.is_some()
        {
            return;
        }
        let pause = if self.errors > 0 {
            self.config.error_wait * (1 << (self.errors - 1).min(3)).min(6)
        } else {
            (FIRST_RETRY * (1 << self.attempts.min(8))).min(self.config.connect_retry)
        };
        self.connect_at = Some(now + self.jitter.of(pause));
    }

    fn connect(&mut self, now: Instant) {
        let id = self.link_id();
        self.connect_at = None;
        self.connecting = Some((id, now + CONNECT_TIMEOUT));
        self.events.push_back(SessionEvent::Connect(id));
    }

    fn cancel_connect(&mut self) {
        self.connect_at = None;
        if let Some((id, _)) = self.connecting.take() {
            self.events.push_back(SessionEvent::Close(id, Vec::new()));
        }
    }

    /// Removes a link and says why; `notification` is sent as its last words.
    fn drop_link(
        &mut self,
        at: usize,
        reason: DownReason,
        last: Option<&Notification>,
        now: Instant,
    ) {
        let link = self.links.remove(at);
        let mut words = link.control;
        if let Some(notification) = last {
            notification.encode(&mut words);
        } else {
            words.clear();
        }
        self.events.push_back(SessionEvent::Close(link.id, words));
        match link.negotiated {
            Some(negotiated) if link.confirmed => {
                self.events
                    .push_back(SessionEvent::Down(reason, negotiated));
            }
            _ => self.events.push_back(SessionEvent::Failed(reason)),
        }
        self.schedule(now);
    }

    fn fail(&mut self, at: usize, notification: Notification, now: Instant) {
        self.errors += 1;
        let reason = DownReason::Sent(notification.clone());
        self.drop_link(at, reason, Some(&notification), now);
    }

    fn position(&self, link: LinkId) -> Option<usize> {
        self.links.iter().position(|each| each.id == link)
    }
}

#[cfg(test)]
mod tests;
