//! A speaker whose neighbours are played by the target.
#![allow(dead_code)] // Each target uses its own part.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ocicat_bgp::wire::{AddPathMode, Capability, GracefulRestartCapability, Open};
use ocicat_bgp::{
    AddPath, AsNumber, Attributes, Event, Families, Family, GracefulRestart, Input, LinkId, Output,
    PeerConfig, PeerId, Prefix, Role, Speaker, SpeakerConfig, State,
};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

pub(crate) struct Stage {
    pub(crate) speaker: Speaker,
    now: Instant,
    best: BTreeMap<Prefix, Attributes>,
    /// Sessions have everything that is off by default.
    full: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Neighbour {
    peer: PeerId,
    link: Option<LinkId>,
}

/// A message with a sound header.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(4096 - 19)];
    let mut octets = vec![0xff; 16];
    octets.extend(((body.len() + 19) as u16).to_be_bytes());
    octets.push(kind);
    octets.extend_from_slice(body);
    octets
}

/// OPEN and KEEPALIVE.
pub(crate) fn hello(last: u8, as_number: u32, four: bool, full: bool) -> Vec<u8> {
    let mut capabilities = Family::ALL.map(Capability::Multiprotocol).to_vec();
    capabilities.push(Capability::RouteRefresh);
    capabilities.push(Capability::EnhancedRouteRefresh);
    capabilities.push(Capability::GracefulRestart(GracefulRestartCapability {
        restarting: false,
        notification: true,
        time: 60,
        families: Family::ALL.map(|family| (family, true)).to_vec(),
    }));
    capabilities.extend(four.then_some(Capability::FourOctetAs(as_number)));
    if full {
        let paths = Family::ALL.map(|family| (family, AddPathMode::Both));
        let hops = (Family::Ipv4Unicast, Family::Ipv6Unicast);
        capabilities.extend([
            Capability::AddPath(paths.to_vec()),
            Capability::ExtendedMessage,
            Capability::ExtendedNextHop(vec![hops]),
            Capability::Role(4),
        ]);
    }
    let open = Open {
        as_number: AsNumber(as_number),
        hold_time: 90,
        router_id: Ipv4Addr::new(192, 0, 2, last),
        capabilities,
    };
    let mut octets = Vec::new();
    open.encode(&mut octets);
    octets.extend(message(4, &[]));
    octets
}

impl Stage {
    /// A speaker whose identifier is 192.0.2 and `last`.
    pub(crate) fn new(last: u8) -> Self {
        let now = Instant::now();
        let mut speaker = Speaker::new(SpeakerConfig::new(64512, [192, 0, 2, last].into()), now);
        speaker.originations_complete();
        speaker.subscribe();
        Self {
            speaker,
            now,
            best: BTreeMap::new(),
            full: false,
        }
    }

    /// The same, with several paths per prefix, long messages, IPv6 next hops and roles.
    pub(crate) fn full(last: u8) -> Self {
        Self {
            full: true,
            ..Self::new(last)
        }
    }

    /// A neighbour that has connected and not said anything yet.
    pub(crate) fn connect(&mut self, last: u8, as_number: u32) -> Neighbour {
        let address = Ipv4Addr::new(192, 0, 2, last).into();
        let peer = self.speaker.peer_at(address).unwrap_or_else(|| {
            let config = PeerConfig::new(address, as_number)
                .passive(true)
                .rr_client(as_number == 64512)
                .families(Families::BOTH)
                .graceful_restart(GracefulRestart::new(Duration::from_secs(60)));
            let config = if self.full {
                config
                    .add_path(AddPath::both(Families::BOTH))
                    .extended_messages(true)
                    .extended_next_hop(true)
                    .role(Role::Peer)
            } else {
                config
            };
            self.speaker.add_peer(config, self.now).expect("a new peer")
        });
        let link = self.speaker.accept(address, LOCAL.into(), self.now);
        self.settle();
        Neighbour {
            peer,
            link: link.map(|(_, link)| link),
        }
    }

    /// A neighbour whose session is established.
    pub(crate) fn join(&mut self, last: u8, as_number: u32, four: bool) -> Neighbour {
        let neighbour = self.connect(last, as_number);
        self.send(neighbour, &hello(last, as_number, four, self.full));
        self.sent(neighbour);
        let peers = self.speaker.peers();
        let peer = peers.iter().find(|peer| peer.id == neighbour.peer);
        assert_eq!(peer.map(|peer| peer.state), Some(State::Established));
        neighbour
    }

    pub(crate) fn send(&mut self, from: Neighbour, octets: &[u8]) {
        if let Some(link) = from.link {
            self.speaker
                .handle(from.peer, Input::Received(link, octets), self.now);
        }
        self.settle();
    }

    pub(crate) fn close(&mut self, from: Neighbour) {
        if let Some(link) = from.link {
            self.speaker
                .handle(from.peer, Input::Closed(link), self.now);
        }
        self.settle();
    }

    pub(crate) fn sent(&mut self, to: Neighbour) -> Vec<u8> {
        let mut octets = Vec::new();
        if let Some(link) = to.link {
            while self
                .speaker
                .poll_transmit(to.peer, link, self.now, &mut octets)
            {}
        }
        octets
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        while self.speaker.poll_timeout().is_some_and(|at| at <= self.now) {
            let before = self.speaker.poll_timeout();
            self.speaker.handle_timeout(self.now);
            assert_ne!(self.speaker.poll_timeout(), before, "a timer that stands");
        }
        self.settle();
    }

    /// Takes what the speaker has to say: the events add up to its routes.
    pub(crate) fn settle(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            assert!(!matches!(output, Output::Connect { .. }), "all are passive");
        }
        while let Some(event) = self.speaker.poll_event() {
            if let Event::Best { prefix, routes, .. } = event {
                match routes.into_iter().next() {
                    Some(route) => self.best.insert(prefix, route.attributes),
                    None => self.best.remove(&prefix),
                };
            }
        }
        assert_eq!(self.held(), self.best, "the events add up to the routes");
    }

    /// The best routes.
    pub(crate) fn held(&self) -> BTreeMap<Prefix, Attributes> {
        let routes = self.speaker.routes();
        let used = routes.into_iter().filter(|route| route.used > 0);
        used.map(|route| (route.prefix, route.paths[0].attributes.clone()))
            .collect()
    }

    /// How many sessions there have been.
    pub(crate) fn sessions(&self) -> u64 {
        self.speaker.peers().iter().map(|peer| peer.sessions).sum()
    }

    /// Whether every session is up.
    pub(crate) fn all_up(&self) -> bool {
        let up = |peer: &ocicat_bgp::PeerStatus| peer.state == State::Established;
        self.speaker.peers().iter().all(up)
    }

    /// UPDATEs that had to be treated as withdrawals.
    pub(crate) fn malformed(&self) -> u64 {
        self.speaker.peers().iter().map(|peer| peer.malformed).sum()
    }
}
