use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::Prefix;
use crate::attributes::Attributes;
use crate::identity::PeerId;
use crate::number::{AsNumber, Family};
use crate::rib::Step;
use crate::session::{DownReason, Negotiated, State};

/// What the host is told. A prefix whose best paths change several times before it asks is told about once.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(tag = "event", rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Event {
    /// The best paths of a prefix are these now. A path that is learned once more as it was, as after a graceful
    /// restart, is no change.
    Best {
        /// The destinations.
        prefix: Prefix,
        /// The best path first, then those as good as it; empty when there is none any more.
        routes: Vec<BestRoute>,
        /// Which step of the decision process chose the first.
        step: Step,
    },
    /// A session is established.
    PeerUp {
        /// Which peer.
        peer: PeerId,
        /// Its address.
        address: IpAddr,
        /// What was agreed on.
        negotiated: Box<Negotiated>,
    },
    /// A session that was established has ended.
    PeerDown {
        /// Which peer.
        peer: PeerId,
        /// Its address.
        address: IpAddr,
        /// Why.
        reason: DownReason,
        /// For how long its routes are kept (graceful restart); `None` when they are gone.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "crate::text::seconds::serialize_option")
        )]
        kept: Option<Duration>,
    },
    /// The peer has sent all routes that it has (RFC 4724 section 2).
    EndOfRib {
        /// Which peer.
        peer: PeerId,
        /// Its address.
        address: IpAddr,
        /// In which family.
        family: Family,
    },
    /// Routes kept from a session that had ended were dropped: the peer did not come back, or without them.
    StaleDropped {
        /// Which peer.
        peer: PeerId,
        /// Its address.
        address: IpAddr,
        /// How many.
        routes: u32,
    },
    /// A peer has sent more than three quarters of the prefixes that end its session
    /// ([`PeerConfig::max_prefixes`](crate::PeerConfig::max_prefixes)). Said once per session.
    NearLimit {
        /// Which peer.
        peer: PeerId,
        /// Its address.
        address: IpAddr,
        /// How many prefixes it has sent.
        prefixes: u32,
        /// How many end the session.
        limit: u32,
    },
    /// After a restart: the peers have sent their routes, or the time for it is over. What the host still has from
    /// its former life and was told no best path for is outdated now.
    RestartComplete,
}

/// One of a prefix's best paths.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BestRoute {
    /// Where packets go; `None` for a route that this speaker originates itself.
    pub next_hop: Option<IpAddr>,
    /// Whom it was learned from; `None` for a route that this speaker originates itself.
    pub peer: Option<PeerId>,
    /// That peer's address.
    pub peer_address: Option<IpAddr>,
    /// Whether that peer is in another AS.
    pub external: bool,
    /// The identifier that the peer gave the path (RFC 7911); 0 without.
    pub path_id: u32,
    /// Everything that came with the route.
    pub attributes: Attributes,
    /// Kept from a session that is gone.
    pub stale: bool,
}

/// A prefix with all its paths.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Route {
    /// The destinations.
    pub prefix: Prefix,
    /// The paths, the used ones first.
    pub paths: Vec<BestRoute>,
    /// How many of them are used.
    pub used: usize,
    /// Which step of the decision process chose the first; `None` when no next hop can be reached.
    pub step: Option<Step>,
}

/// How a peer is doing.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PeerStatus {
    /// Which peer.
    pub id: PeerId,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub peer_as: AsNumber,
    /// Where its session is.
    pub state: State,
    /// Since when it has been established, or has not. Not serialised: it is of this process's clock.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub since: Instant,
    /// Why the last session or attempt ended.
    pub last_error: Option<DownReason>,
    /// What was agreed on, while established.
    pub negotiated: Option<Negotiated>,
    /// How many of its routes are in the RIB, stale ones too.
    pub routes: u32,
    /// Whether it was accepted by prefix.
    pub dynamic: bool,
    /// UPDATE messages received since the peer was added.
    pub updates: u64,
    /// UPDATE messages whose routes were withdrawn for a malformed attribute (RFC 7606).
    pub malformed: u64,
    /// How often a session was established.
    pub sessions: u64,
}
