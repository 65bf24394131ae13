use std::net::IpAddr;
use std::time::Instant;

use super::SpeakerConfig;
use super::receive::Intake;
use crate::export::Follower;
use crate::identity::PeerId;
use crate::number::Families;
use crate::peer::PeerConfig;
use crate::rib::Source;
use crate::session::{DownReason, LinkId, Session};

/// What a speaker keeps per peer.
pub(super) struct Slot {
    pub(super) id: PeerId,
    pub(super) config: PeerConfig,
    pub(super) session: Session,
    pub(super) intake: Intake,
    /// Our addresses on the connections.
    pub(super) locals: Vec<(LinkId, IpAddr)>,
    /// Positions in what the peer is sent, by family.
    pub(super) followers: [Option<Follower>; 2],
    /// The families with stale routes.
    pub(super) stale: Families,
    /// When the routes of a peer that is gone are dropped.
    pub(super) restart_until: Option<Instant>,
    /// When routes that a peer that is back has not sent again are dropped.
    pub(super) stale_until: Option<Instant>,
    pub(super) timer: Option<Instant>,
    pub(super) queued: bool,
    pub(super) dynamic: bool,
    /// A stop was asked for: nothing is kept.
    pub(super) stopping: bool,
    /// Was established since the speaker started, and has (families) sent End-of-RIB since.
    pub(super) seen: bool,
    pub(super) ended: Families,
    pub(super) since: Instant,
    pub(super) last_error: Option<DownReason>,
    pub(super) sessions: u64,
}

impl Slot {
    pub(super) fn new(
        id: PeerId,
        config: PeerConfig,
        session: Session,
        dynamic: bool,
        speaker: &SpeakerConfig,
        now: Instant,
    ) -> Self {
        let intake = Intake::new(id, &config, speaker);
        Self {
            id,
            config,
            session,
            intake,
            locals: Vec::new(),
            followers: [None; 2],
            stale: Families::NONE,
            restart_until: None,
            stale_until: None,
            timer: None,
            queued: false,
            dynamic,
            stopping: false,
            seen: false,
            ended: Families::NONE,
            since: now,
            last_error: None,
            sessions: 0,
        }
    }

    pub(super) fn source(&self) -> Source {
        let negotiated = self.session.negotiated();
        Source {
            external: self.intake.external(),
            rr_client: self.config.rr_client,
            router_id: negotiated.map_or(std::net::Ipv4Addr::UNSPECIFIED, |n| n.peer_id),
            address: self.config.address,
            interface: self.config.interface.clone(),
        }
    }
}
