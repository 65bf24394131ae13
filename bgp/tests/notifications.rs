//! Every NOTIFICATION that a speaker sends, seen in the octets that it sends last; and what the host is told of it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ocicat_bgp::wire::{Capability, Open};
use ocicat_bgp::{
    AsNumber, Cease, DownReason, Event, Families, Family, Input, LinkId, Output, PeerConfig,
    PeerId, Role, Speaker, SpeakerConfig,
};

const THEM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const US: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A speaker and a neighbour that is played by the test.
struct Stage {
    speaker: Speaker,
    now: Instant,
    peer: PeerId,
    link: LinkId,
}

fn open(change: impl FnOnce(&mut Open)) -> Vec<u8> {
    let mut open = Open {
        as_number: AsNumber(64513),
        hold_time: 9,
        router_id: THEM,
        capabilities: vec![
            Capability::Multiprotocol(Family::Ipv4Unicast),
            Capability::FourOctetAs(64513),
            Capability::RouteRefresh,
        ],
    };
    change(&mut open);
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    bytes
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend_from_slice(&(body.len() as u16 + 19).to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

/// An UPDATE with these attributes and one prefix.
fn update(attributes: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    body.extend_from_slice(attributes);
    body.extend_from_slice(&[8, 10]);
    message(2, &body)
}

impl Stage {
    /// The neighbour has connected.
    fn new(change: impl FnOnce(PeerConfig) -> PeerConfig) -> Self {
        let now = Instant::now();
        let mut speaker = Speaker::new(SpeakerConfig::new(64512, [192, 0, 2, 1].into()), now);
        let config = PeerConfig::new(THEM.into(), 64513)
            .passive(true)
            .families(Families::BOTH)
            .graceful_restart(None);
        let peer = speaker.add_peer(change(config), now).unwrap();
        let (_, link) = speaker.accept(THEM.into(), US, now).unwrap();
        Self {
            speaker,
            now,
            peer,
            link,
        }
    }

    fn up(change: impl FnOnce(PeerConfig) -> PeerConfig) -> Self {
        let mut stage = Self::new(change);
        stage.hears(&open(|_| {}));
        stage.hears(&message(4, &[]));
        stage
    }

    fn hears(&mut self, bytes: &[u8]) {
        let input = Input::Received(self.link, bytes);
        self.speaker.handle(self.peer, input, self.now);
    }

    fn waits(&mut self, time: Duration) {
        self.now += time;
        while self.speaker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.speaker.handle_timeout(self.now);
        }
    }

    /// The code and subcode in the last octets that a connection is closed with.
    fn last_words(&mut self) -> Option<(u8, u8)> {
        let mut found = None;
        while let Some(output) = self.speaker.poll_output() {
            let Output::Close { last, .. } = output else {
                continue;
            };
            let mut rest = &last[..];
            while rest.len() >= 19 {
                let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
                if rest[18] == 3 {
                    found = Some((rest[19], rest[20]));
                }
                rest = &rest[length..];
            }
        }
        found
    }
}

fn after_open(bytes: &[u8]) -> Option<(u8, u8)> {
    let mut stage = Stage::new(|peer| peer);
    stage.hears(bytes);
    stage.last_words()
}

fn when_up(bytes: &[u8]) -> Option<(u8, u8)> {
    let mut stage = Stage::up(|peer| peer);
    stage.hears(bytes);
    stage.last_words()
}

/// RFC 4271 sections 6.1 and 6.2, RFC 5492 section 5, RFC 6286 section 2.2, RFC 9234 section 4.2.
#[test]
fn headers_and_opens() {
    let bare = |change: fn(&mut Vec<u8>)| {
        let mut bytes = open(|_| {});
        change(&mut bytes);
        after_open(&bytes)
    };
    assert_eq!(bare(|bytes| bytes[0] = 0), Some((1, 1)));
    assert_eq!(bare(|bytes| bytes[16] = 0xf0), Some((1, 2)));
    assert_eq!(bare(|bytes| bytes[18] = 77), Some((1, 3)));
    assert_eq!(bare(|bytes| bytes[19] = 3), Some((2, 1)));
    assert_eq!(
        bare(|bytes| bytes[29] = 9),
        Some((2, 4)),
        "no such parameter"
    );
    let said = |change: fn(&mut Open)| after_open(&open(change));
    let other = said(|open| {
        open.as_number = AsNumber(9);
        open.capabilities
            .retain(|each| !matches!(each, Capability::FourOctetAs(_)));
    });
    assert_eq!(other, Some((2, 2)));
    assert_eq!(
        said(|open| open.router_id = Ipv4Addr::UNSPECIFIED),
        Some((2, 3))
    );
    assert_eq!(said(|open| open.hold_time = 2), Some((2, 6)));
    let strange = Capability::Unknown {
        code: 1,
        value: vec![0, 25, 0, 70],
    };
    let bytes = open(|open| open.capabilities = vec![strange, Capability::FourOctetAs(64513)]);
    assert_eq!(after_open(&bytes), Some((2, 7)));
    let mut stage = Stage::new(|peer| peer.role(Role::Peer).strict_role(true));
    stage.hears(&open(|_| {}));
    assert_eq!(stage.last_words(), Some((2, 11)));
    assert_eq!(after_open(&message(4, &[])), Some((5, 1)), "RFC 6608");
    let twice = [open(|_| {}), open(|_| {})].concat();
    assert_eq!(after_open(&twice), Some((5, 2)));
    assert_eq!(when_up(&open(|_| {})), Some((5, 3)));
}

/// The defects that still end a session under RFC 7606; all others withdraw routes.
#[test]
fn updates_and_refreshes() {
    let known = [
        0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1, 0x40, 3, 4, 192, 0, 2, 2,
    ];
    assert_eq!(when_up(&update(&known)), None);
    let with = |more: &[u8]| when_up(&update(&[&known[..], more].concat()));
    assert_eq!(
        with(&[0x40, 99, 1, 0]),
        Some((3, 2)),
        "well-known and unknown"
    );
    assert_eq!(
        with(&[0x80, 14, 3, 0, 1, 1]),
        Some((3, 9)),
        "MP_REACH_NLRI that ends early"
    );
    let twice = [0x80, 15, 3, 0, 2, 1, 0x80, 15, 3, 0, 2, 1];
    assert_eq!(with(&twice), Some((3, 1)), "MP_UNREACH_NLRI twice");
    let long = message(2, &[0, 0, 0, 0, 33, 10, 0, 0, 0, 0]);
    assert_eq!(when_up(&long), Some((3, 10)), "a prefix of 33 bits");
    assert_eq!(when_up(&message(2, &[0, 9, 0, 0])), Some((3, 1)), "lengths");
    assert_eq!(
        when_up(&message(5, &[0, 1, 0])),
        Some((7, 1)),
        "RFC 7313 section 5"
    );
}

/// RFC 4271 section 6.5, RFC 9687 section 4.
#[test]
fn timers() {
    let mut stage = Stage::up(|peer| peer);
    stage.waits(Duration::from_secs(10));
    assert_eq!(stage.last_words(), Some((4, 0)));
    let mut stage = Stage::up(|peer| peer);
    let input = Input::Blocked(stage.link);
    stage.speaker.handle(stage.peer, input, stage.now);
    for _ in 0..120 {
        stage.hears(&message(4, &[]));
        stage.waits(Duration::from_secs(5));
    }
    assert_eq!(stage.last_words(), Some((8, 0)));
}

/// RFC 4486, RFC 9003, RFC 8538 section 3, RFC 9384; RFC 4271 section 6.8.
#[test]
fn every_cease() {
    let mut stage = Stage::up(|peer| peer.max_prefixes(0));
    let known = [
        0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1, 0x40, 3, 4, 192, 0, 2, 2,
    ];
    stage.hears(&update(&known));
    assert_eq!(stage.last_words(), Some((6, 1)));
    for (cease, subcode) in [
        (Cease::AdministrativeShutdown("a".into()), 2),
        (Cease::PeerDeconfigured, 3),
        (Cease::AdministrativeReset("b".into()), 4),
        (Cease::ConnectionRejected, 5),
        (Cease::ConfigurationChange, 6),
        (Cease::OutOfResources, 8),
        (Cease::BfdDown, 10),
    ] {
        let mut stage = Stage::up(|peer| peer);
        stage
            .speaker
            .remove_peer(stage.peer, cease.clone(), stage.now);
        assert_eq!(stage.last_words(), Some((6, subcode)), "{cease:?}");
    }
    // Two connections at once: the one that loses is told.
    let mut stage = Stage::new(|peer| peer.passive(false));
    let Some(Output::Connect { link, .. }) = stage.speaker.poll_output() else {
        panic!("it dials")
    };
    stage
        .speaker
        .handle(stage.peer, Input::Connected(link, US), stage.now);
    stage.hears(&open(|_| {}));
    assert_eq!(stage.last_words(), Some((6, 7)));
    // Where a NOTIFICATION starts a graceful restart, an end that is meant is a hard reset.
    let restart = ocicat_bgp::GracefulRestart::default();
    let mut stage = Stage::new(|peer| peer.graceful_restart(restart));
    let capability = Capability::GracefulRestart(ocicat_bgp::wire::GracefulRestartCapability {
        notification: true,
        time: 60,
        ..Default::default()
    });
    stage.hears(&open(|open| open.capabilities.push(capability)));
    stage.hears(&message(4, &[]));
    stage
        .speaker
        .remove_peer(stage.peer, Cease::PeerDeconfigured, stage.now);
    assert_eq!(stage.last_words(), Some((6, 9)));
}

/// A host that knows sooner than the hold timer says so; the session begins anew.
#[test]
fn a_peer_that_the_host_has_lost() {
    let mut stage = Stage::up(|peer| peer);
    assert!(
        stage
            .speaker
            .reset_peer(stage.peer, &Cease::BfdDown, stage.now)
    );
    assert_eq!(stage.last_words(), Some((6, 10)));
    let mut downs = Vec::new();
    while let Some(event) = stage.speaker.poll_event() {
        if let Event::PeerDown { reason, kept, .. } = event {
            downs.push((reason.to_string(), kept));
        }
    }
    assert_eq!(downs, [("sent: cease: BFD down (6/10)".to_owned(), None)]);
    let status = &stage.speaker.peers()[0];
    assert!(matches!(&status.last_error, Some(DownReason::Sent(n)) if n.subcode == 10));
    assert!(
        stage.speaker.accept(THEM.into(), US, stage.now).is_some(),
        "it may come again"
    );
}

/// Nobody that is not configured gets more than a close; and it is counted.
#[test]
fn strangers_are_counted_and_five_thousand_may_come() {
    let mut stage = Stage::new(|peer| peer);
    let stranger = IpAddr::from([203, 0, 113, 9]);
    for _ in 0..3 {
        assert_eq!(stage.speaker.accept(stranger, US, stage.now), None);
    }
    assert_eq!(stage.speaker.refused_connections(), 3);
    let template = PeerConfig::new([10, 0, 0, 0].into(), 64512);
    let prefix = "10.0.0.0/8".parse().unwrap();
    stage
        .speaker
        .add_dynamic_peers(ocicat_bgp::DynamicPeers::new(prefix, template));
    let accepted = (0..6000u32)
        .filter(|number| {
            let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + number));
            stage.speaker.accept(address, US, stage.now).is_some()
        })
        .count();
    assert_eq!(
        (accepted, stage.speaker.refused_connections()),
        (5000, 1003)
    );
}
