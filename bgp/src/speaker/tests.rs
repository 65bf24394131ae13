//! A speaker whose neighbours are played by the test.

mod export;
mod intake;
mod life;

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::attributes::{AttributesBuilder, parts};
use crate::filter::{Filter, FilterPeer, Verdict};
use crate::number::{AsNumber, Families, Family};
use crate::wire::{AttributeContext, Capability, Key, Open, UpdateContext, V4, kind};
use crate::{Attributes, Community, NextHopMode, Prefix};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What a neighbour was sent about a prefix: attributes, or a withdrawal.
type Told = Vec<(Prefix, Option<Attributes>)>;

/// A speaker with neighbours that are played by the test.
struct Stage {
    speaker: Speaker,
    now: Instant,
    actors: Vec<Actor>,
}

struct Actor {
    peer: PeerId,
    link: LinkId,
    four_octets: bool,
    external: bool,
}

fn address(actor: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 10 + actor)
}

impl Stage {
    fn new(config: SpeakerConfig) -> Self {
        let now = Instant::now();
        let mut speaker = Speaker::new(config, now);
        speaker.originations_complete();
        speaker.subscribe();
        Self {
            speaker,
            now,
            actors: Vec::new(),
        }
    }

    /// A neighbour that connects and goes through with its OPEN.
    fn join(
        &mut self,
        as_number: u32,
        change: impl FnOnce(PeerConfig) -> PeerConfig,
        four_octets: bool,
    ) -> usize {
        let number = self.actors.len() as u8;
        let config = PeerConfig::new(address(number).into(), as_number).passive(true);
        let peer = self.speaker.add_peer(change(config), self.now).unwrap();
        let (_, link) = self
            .speaker
            .accept(address(number).into(), LOCAL.into(), self.now)
            .unwrap();
        let mut capabilities = vec![
            Capability::Multiprotocol(Family::Ipv4Unicast),
            Capability::Multiprotocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
        ];
        if four_octets {
            capabilities.push(Capability::FourOctetAs(as_number));
        }
        let open = Open {
            as_number: AsNumber(as_number),
            hold_time: 90,
            router_id: address(number),
            capabilities,
        };
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        crate::wire::keepalive(&mut bytes);
        self.speaker
            .handle(peer, Input::Received(link, &bytes), self.now);
        let external = self.speaker.is_external(peer);
        self.actors.push(Actor {
            peer,
            link,
            four_octets,
            external,
        });
        self.told(usize::from(number));
        usize::from(number)
    }

    /// A neighbour announces a prefix with these attributes as they go over the wire.
    fn announce(&mut self, actor: usize, prefix: &str, attributes: &AttributesBuilder) {
        let attributes = attributes.clone().build();
        let Some(crate::NextHop::V4(hop)) = attributes.next_hop() else {
            panic!("next hop")
        };
        let mut section = Vec::new();
        crate::wire::put(&mut section, 0x40, kind::NEXT_HOP, &hop.octets());
        section.extend_from_slice(attributes.wire());
        let mut bytes = Vec::new();
        let begin = crate::wire::start(2, &mut bytes);
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&(section.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&section);
        V4::from_prefix(&prefix.parse().unwrap())
            .unwrap()
            .write(&mut bytes);
        crate::wire::finish(begin, &mut bytes);
        self.send(actor, &bytes);
    }

    fn withdraw(&mut self, actor: usize, prefix: &str) {
        let mut bytes = Vec::new();
        let begin = crate::wire::start(2, &mut bytes);
        let at = bytes.len();
        bytes.extend_from_slice(&[0, 0]);
        V4::from_prefix(&prefix.parse().unwrap())
            .unwrap()
            .write(&mut bytes);
        bytes[at + 1] = (bytes.len() - at - 2) as u8;
        bytes.extend_from_slice(&[0, 0]);
        crate::wire::finish(begin, &mut bytes);
        self.send(actor, &bytes);
    }

    fn send(&mut self, actor: usize, bytes: &[u8]) {
        let Actor { peer, link, .. } = self.actors[actor];
        self.speaker
            .handle(peer, Input::Received(link, bytes), self.now);
    }

    fn sent(&mut self, actor: usize) -> Vec<u8> {
        let Actor { peer, link, .. } = self.actors[actor];
        let (speaker, now) = (&mut self.speaker, self.now);
        let mut bytes = Vec::new();
        while speaker.poll_transmit(peer, link, now, &mut bytes) {}
        bytes
    }

    /// What the neighbour is sent now; the others are left waiting.
    fn told(&mut self, actor: usize) -> Told {
        let bytes = self.sent(actor);
        let Actor {
            four_octets,
            external,
            ..
        } = self.actors[actor];
        let mut told = Vec::new();
        let mut rest = &bytes[..];
        while let Some(head) = crate::wire::header(rest, 4096).unwrap() {
            if head.kind == 2 {
                let context = UpdateContext {
                    attributes: AttributeContext {
                        four_octets,
                        external,
                    },
                    families: Families::BOTH,
                    add_path: Families::NONE,
                    extended_next_hop: false,
                };
                let mut canonical = Canonical::default();
                let update =
                    crate::wire::parse(&rest[19..head.length], context, &mut canonical).unwrap();
                assert_eq!(update.problem, None, "we never send what we would not take");
                for (key, _) in update.withdrawn.iter::<V4>() {
                    told.push((key.prefix(), None));
                }
                let hop = update.next_hop.map(crate::NextHop::V4);
                let attributes = Attributes::from_wire(hop, &canonical.wire);
                for (key, _) in update.announced.iter::<V4>() {
                    told.push((key.prefix(), Some(attributes.clone())));
                }
            }
            rest = &rest[head.length..];
        }
        told
    }

    /// The attributes of the one prefix that the neighbour is told about.
    fn one(&mut self, actor: usize) -> Attributes {
        let told = self.told(actor);
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].1.clone().expect("an announcement")
    }
}

fn learned(first: u32) -> AttributesBuilder {
    let hop: IpAddr = Ipv4Addr::new(198, 51, 100, 1).into();
    Attributes::builder()
        .next_hop(hop)
        .prepend(AsNumber(first), 1)
}

fn inside() -> AttributesBuilder {
    let hop: IpAddr = Ipv4Addr::new(198, 51, 100, 1).into();
    Attributes::builder().next_hop(hop).local_pref(100)
}

fn stage() -> Stage {
    Stage::new(SpeakerConfig::new(64512, LOCAL))
}

fn kinds(attributes: &Attributes) -> Vec<u8> {
    parts(attributes.wire()).map(|(kind, _)| kind).collect()
}

struct Rules;

impl Filter for Rules {
    fn judge(&self, _: &FilterPeer, prefix: &Prefix, attributes: &Attributes) -> Verdict {
        match prefix.length() {
            8 => Verdict::Reject,
            16 => Verdict::Replace(attributes.edit().community(Community(5)).build()),
            _ => Verdict::Accept,
        }
    }
}
