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

/// RFC 4271 sections 5.1.2 to 5.1.5: what goes to another AS and what stays inside.
#[test]
fn attributes_between_ases_and_within() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let external = stage.join(64514, |peer| peer, true);
    let internal = stage.join(64512, |peer| peer, true);
    let own = stage.join(64512, |peer| peer.next_hop(NextHopMode::Own), true);
    let keep = stage.join(64515, |peer| peer.next_hop(NextHopMode::Keep), true);
    stage.announce(from, "10.0.0.0/8", &learned(64513).med(7));
    assert_eq!(stage.told(from), [], "not back to where it came from");
    let seen = stage.one(external);
    assert_eq!(seen.as_path().to_string(), "64512 64513");
    assert_eq!((seen.med(), seen.local_pref()), (None, None));
    assert_eq!(seen.next_hop().unwrap().address(), IpAddr::V4(LOCAL));
    let seen = stage.one(internal);
    assert_eq!(seen.as_path().to_string(), "64513");
    assert_eq!((seen.med(), seen.local_pref()), (Some(7), Some(100)));
    assert_eq!(
        seen.next_hop().unwrap().address(),
        IpAddr::V4([198, 51, 100, 1].into())
    );
    assert_eq!(
        stage.one(own).next_hop().unwrap().address(),
        IpAddr::V4(LOCAL)
    );
    assert_eq!(
        stage.one(keep).next_hop().unwrap().address(),
        IpAddr::V4([198, 51, 100, 1].into())
    );
    stage.withdraw(from, "10.0.0.0/8");
    for actor in [external, internal, own, keep] {
        assert_eq!(stage.told(actor), [("10.0.0.0/8".parse().unwrap(), None)]);
    }
    // Routes of our own: origin, an empty path inside, our address as next hop.
    stage
        .speaker
        .originate("10.1.0.0/26".parse().unwrap(), &Attributes::local());
    assert_eq!(stage.one(external).as_path().to_string(), "64512");
    let seen = stage.one(internal);
    assert!(seen.as_path().is_empty());
    assert_eq!(seen.next_hop().unwrap().address(), IpAddr::V4(LOCAL));
}

/// RFC 4456 section 6 in every direction, sections 8 and 7: marks and loops.
#[test]
fn reflection_in_every_direction() {
    let mut stage =
        Stage::new(SpeakerConfig::new(64512, LOCAL).cluster_id(Ipv4Addr::new(1, 1, 1, 1)));
    let client = stage.join(64512, |peer| peer.rr_client(true), true);
    let other_client = stage.join(64512, |peer| peer.rr_client(true), true);
    let plain = stage.join(64512, |peer| peer, true);
    let other_plain = stage.join(64512, |peer| peer, true);
    let external = stage.join(64513, |peer| peer, true);
    stage.announce(client, "10.1.0.0/16", &inside());
    assert_eq!(stage.told(client), []);
    for actor in [other_client, plain, other_plain] {
        let seen = stage.one(actor);
        assert_eq!(seen.originator_id(), Some(address(client as u8)));
        assert_eq!(
            seen.cluster_list().collect::<Vec<_>>(),
            [Ipv4Addr::new(1, 1, 1, 1)]
        );
    }
    assert_eq!(kinds(&stage.one(external)), [1, 2], "no marks outside");
    let marked = inside()
        .originator_id([9, 9, 9, 9].into())
        .raw(0x80, 10, vec![2, 2, 2, 2]);
    stage.announce(plain, "10.2.0.0/16", &marked);
    assert_eq!(
        stage.told(other_plain),
        [],
        "not between two that are no clients"
    );
    let seen = stage.one(client);
    assert_eq!(seen.originator_id(), Some([9, 9, 9, 9].into()));
    let clusters = [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(2, 2, 2, 2)];
    assert_eq!(seen.cluster_list().collect::<Vec<_>>(), clusters);
    stage.announce(plain, "10.3.0.0/16", &inside().originator_id(LOCAL));
    stage.announce(
        plain,
        "10.4.0.0/16",
        &inside().raw(0x80, 10, vec![1, 1, 1, 1]),
    );
    stage.announce(
        external,
        "10.5.0.0/16",
        &learned(64513).originator_id(LOCAL),
    );
    let known: Vec<_> = stage
        .speaker
        .routes()
        .iter()
        .map(|route| route.prefix.to_string())
        .collect();
    assert!(
        !known
            .iter()
            .any(|prefix| prefix == "10.3.0.0/16" || prefix == "10.4.0.0/16"),
        "{known:?}"
    );
    assert!(
        known.iter().any(|prefix| prefix == "10.5.0.0/16"),
        "from outside the mark means nothing"
    );
}

/// RFC 1997.
#[test]
fn well_known_communities_are_obeyed() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let external = stage.join(64514, |peer| peer, true);
    let internal = stage.join(64512, |peer| peer, true);
    for (community, outside, within) in [
        (Community::NO_EXPORT, false, true),
        (Community::NO_EXPORT_SUBCONFED, false, true),
        (Community::NO_ADVERTISE, false, false),
        (Community(1), true, true),
    ] {
        stage.announce(from, "10.0.0.0/8", &learned(64513).community(community));
        let reached = |told: Told| told.iter().any(|(_, attributes)| attributes.is_some());
        assert_eq!(reached(stage.told(external)), outside, "{community}");
        assert_eq!(reached(stage.told(internal)), within, "{community}");
    }
    // Formerly sent, now forbidden: withdrawn.
    stage.announce(
        from,
        "10.0.0.0/8",
        &learned(64513).community(Community::NO_ADVERTISE),
    );
    for actor in [external, internal] {
        assert_eq!(stage.told(actor), [("10.0.0.0/8".parse().unwrap(), None)]);
    }
}

/// RFC 6793 section 4.2.2.
#[test]
fn old_speakers_get_two_octets() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let old = stage.join(64514, |peer| peer, false);
    let aggregator = [vec![0, 1, 0, 9], vec![1, 2, 3, 4]].concat();
    let attributes = learned(4_200_000_000)
        .prepend(AsNumber(64513), 1)
        .raw(0xc0, 7, aggregator);
    stage.announce(from, "10.0.0.0/8", &attributes);
    let seen = stage.one(old);
    assert_eq!(
        seen.as_path().to_string(),
        "64512 64513 4200000000",
        "put together again"
    );
    assert_eq!(
        seen.aggregator(),
        Some((AsNumber(65545), [1, 2, 3, 4].into()))
    );
}

/// RFC 4271 section 9.1.2: our own AS in the path, as often as is allowed; section 6.3: the peer's AS comes first.
#[test]
fn loops_are_not_taken() {
    let mut stage = stage();
    let strict = stage.join(64513, |peer| peer, true);
    let lenient = stage.join(
        64514,
        |peer| peer.allow_own_as(1).enforce_first_as(false),
        true,
    );
    let ours = AsNumber(64512);
    stage.announce(
        strict,
        "10.1.0.0/16",
        &learned(64512).prepend(AsNumber(64513), 1),
    );
    stage.announce(strict, "10.2.0.0/16", &learned(64999));
    stage.announce(lenient, "10.3.0.0/16", &learned(64999).prepend(ours, 1));
    stage.announce(lenient, "10.4.0.0/16", &learned(64999).prepend(ours, 2));
    // Taken before, then with a loop: gone.
    stage.announce(strict, "10.5.0.0/16", &learned(64513));
    stage.announce(
        strict,
        "10.5.0.0/16",
        &learned(64512).prepend(AsNumber(64513), 1),
    );
    let known: Vec<_> = stage
        .speaker
        .routes()
        .iter()
        .map(|route| route.prefix.to_string())
        .collect();
    assert_eq!(known, ["10.3.0.0/16"]);
}

/// A peer that reads nothing for long gets each prefix once, as it is now.
#[test]
fn a_slow_reader_gets_the_newest_state() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let slow = stage.join(64514, |peer| peer, true);
    let quick = stage.join(64515, |peer| peer, true);
    for round in 0..20_000u32 {
        let prefix = format!("10.{}.0.0/16", round % 7);
        if round % 3 == 0 {
            stage.withdraw(from, &prefix);
        } else {
            stage.announce(from, &prefix, &learned(64513).community(Community(round)));
        }
        if round % 11 == 0 {
            stage.told(quick);
        }
        while stage.speaker.poll_ready().is_some() {}
        while stage.speaker.poll_event().is_some() {}
    }
    assert!(
        stage.speaker.rib.v4.log.len() < 10_000,
        "the log does not grow with time"
    );
    let (slow, quick) = (stage.told(slow), stage.told(quick));
    assert!(slow.len() <= 7, "{}", slow.len());
    let routes = stage.speaker.routes();
    for (prefix, attributes) in &slow {
        let route = routes
            .iter()
            .find(|route| route.prefix == *prefix && route.used > 0);
        let newest = route.map(|route| route.paths[0].attributes.communities().collect::<Vec<_>>());
        assert_eq!(
            attributes
                .as_ref()
                .map(|a| a.communities().collect::<Vec<_>>()),
            newest,
            "{prefix}"
        );
    }
    assert!(quick.len() <= slow.len());
    stage.told(from);
    while stage.speaker.poll_ready().is_some() {}
    assert_eq!(
        stage.speaker.rib.v4.log.len(),
        0,
        "everybody has seen everything"
    );
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

#[test]
fn filters_decide_on_both_ways() {
    let mut stage = stage();
    let rules: std::sync::Arc<dyn Filter> = std::sync::Arc::new(Rules);
    let from = stage.join(
        64513,
        |peer| peer.import(std::sync::Arc::clone(&rules)),
        true,
    );
    let plain = stage.join(64514, |peer| peer, true);
    for prefix in ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24"] {
        stage.announce(from, prefix, &learned(64513));
    }
    let told = stage.told(plain);
    let seen: Vec<_> = told
        .iter()
        .map(|(prefix, attributes)| {
            (
                prefix.length(),
                attributes.as_ref().unwrap().communities().count(),
            )
        })
        .collect();
    assert_eq!(seen, [(24, 0), (16, 1)]);
    // The same rules towards a peer that has been sent everything: what they reject is withdrawn.
    stage
        .speaker
        .originate("11.0.0.0/8".parse().unwrap(), &Attributes::local());
    stage.told(plain);
    let peer = stage.actors[plain].peer;
    let config = stage
        .speaker
        .peer_config(peer)
        .unwrap()
        .clone()
        .export(rules);
    assert_eq!(
        stage.speaker.update_peer(peer, config, stage.now),
        Ok(peer),
        "the session stays"
    );
    let told = stage.told(plain);
    assert!(
        told.contains(&("11.0.0.0/8".parse().unwrap(), None)),
        "{told:?}"
    );
    // No reference to an attribute set is lost.
    stage
        .speaker
        .remove_peer(stage.actors[from].peer, Cease::PeerDeconfigured, stage.now);
    stage.speaker.withdraw(&"11.0.0.0/8".parse().unwrap());
    assert_eq!(stage.speaker.attribute_sets(), 0);
}

/// RFC 4486: more prefixes than agreed on end the session, and graceful restart does not keep them.
#[test]
fn too_many_prefixes() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer.max_prefixes(2), true);
    for number in 0..3 {
        stage.announce(from, &format!("10.{number}.0.0/16"), &learned(64513));
    }
    let status = &stage.speaker.peers()[0];
    let reason = status.last_error.as_ref().unwrap().to_string();
    assert_eq!(
        reason,
        "sent: cease: maximum number of prefixes reached (6/1)"
    );
    assert_eq!(stage.speaker.routes(), []);
}

#[test]
fn strangers_are_refused_before_anything_is_kept() {
    let mut stage = stage();
    let stranger: IpAddr = Ipv4Addr::new(203, 0, 113, 5).into();
    assert!(
        stage
            .speaker
            .accept(stranger, LOCAL.into(), stage.now)
            .is_none()
    );
    assert_eq!(
        (
            stage.speaker.refused_connections(),
            stage.speaker.peers().len()
        ),
        (1, 0)
    );
    let template = PeerConfig::new(stranger, 64513);
    let prefix = "203.0.113.0/24".parse().unwrap();
    stage
        .speaker
        .add_dynamic_peers(DynamicPeers::new(prefix, template).limit(1));
    let (peer, link) = stage
        .speaker
        .accept(stranger, LOCAL.into(), stage.now)
        .unwrap();
    let other: IpAddr = Ipv4Addr::new(203, 0, 113, 6).into();
    assert!(
        stage
            .speaker
            .accept(other, LOCAL.into(), stage.now)
            .is_none(),
        "the limit is one"
    );
    assert!(stage.speaker.peers()[0].dynamic);
    stage.speaker.handle(peer, Input::Closed(link), stage.now);
    assert_eq!(stage.speaker.peers(), [], "gone with its connection");
    assert!(
        stage
            .speaker
            .accept(other, LOCAL.into(), stage.now)
            .is_some()
    );
}

/// RFC 4724 section 4.1: after a restart learned routes and End-of-RIB wait for the peers', but not for ever.
#[test]
fn deferral_ends() {
    let now = Instant::now();
    let mut speaker = Speaker::new(SpeakerConfig::new(64512, LOCAL).restarting(true), now);
    speaker.originations_complete();
    let config = PeerConfig::new(address(0).into(), 64513).passive(true);
    speaker.add_peer(config, now).unwrap();
    let mut at = now;
    while !matches!(speaker.poll_event(), Some(Event::RestartComplete)) {
        at = speaker.poll_timeout().expect("the deferral is a timer");
        assert!(
            at <= now + Duration::from_secs(10),
            "peers that were never seen are not waited for"
        );
        speaker.handle_timeout(at);
    }
    assert_eq!(at, now + Duration::from_secs(10));
}

/// RFC 2918, RFC 7313 section 4: the answer to a refresh lies between its marks; what a refresh of the peer's leaves
/// out is gone at its end.
#[test]
fn refreshes_in_both_directions() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let asks = stage.join(64514, |peer| peer, true);
    stage.announce(from, "10.1.0.0/16", &learned(64513));
    stage.announce(from, "10.2.0.0/16", &learned(64513));
    assert_eq!(stage.told(asks).len(), 2);
    let refresh = |subtype: u8| {
        let mut bytes = Vec::new();
        crate::wire::Refresh::encode(Family::Ipv4Unicast, subtype, &mut bytes);
        bytes
    };
    stage.send(asks, &refresh(0));
    let bytes = stage.sent(asks);
    let mut rest = &bytes[..];
    let mut seen = Vec::new();
    while let Some(head) = crate::wire::header(rest, 4096).unwrap() {
        seen.push((head.kind, if head.kind == 5 { rest[21] } else { 0 }));
        rest = &rest[head.length..];
    }
    assert_eq!(seen, [(5, 1), (2, 0), (5, 2)]);

    stage.send(from, &refresh(1));
    stage.announce(from, "10.2.0.0/16", &learned(64513));
    assert_eq!(
        stage.speaker.routes().len(),
        2,
        "nothing goes before the end"
    );
    stage.send(from, &refresh(2));
    assert_eq!(stage.told(asks), [("10.1.0.0/16".parse().unwrap(), None)]);
    // RFC 7313 section 5: a length that is wrong.
    stage.send(from, &{
        let mut bytes = Vec::new();
        let begin = crate::wire::start(5, &mut bytes);
        bytes.extend_from_slice(&[0, 1, 0, 1, 9]);
        crate::wire::finish(begin, &mut bytes);
        bytes
    });
    let reason = stage.speaker.peers()[0].last_error.clone().unwrap();
    assert!(reason.to_string().contains("(7/1)"), "{reason}");
}

/// RFC 8326 section 4.2.
#[test]
fn a_route_in_graceful_shutdown_loses_to_any_other() {
    let mut stage = stage();
    let leaving = stage.join(64513, |peer| peer, true);
    let staying = stage.join(64514, |peer| peer, true);
    let shutdown = learned(64513).community(Community::GRACEFUL_SHUTDOWN);
    stage.announce(leaving, "10.0.0.0/8", &shutdown);
    stage.announce(
        staying,
        "10.0.0.0/8",
        &learned(64999).prepend(AsNumber(64514), 3),
    );
    let route = &stage.speaker.routes()[0];
    assert_eq!(route.paths[0].peer, Some(stage.actors[staying].peer));
    assert_eq!(route.step, Some(crate::Step::LocalPref));
}

/// RFC 8212: between ASes nothing passes without a policy, inside one everything does.
#[test]
fn nothing_passes_between_ases_without_policy() {
    let mut stage = Stage::new(SpeakerConfig::new(64512, LOCAL).external_needs_policy(true));
    let external = stage.join(64513, |peer| peer, true);
    let internal = stage.join(64512, |peer| peer, true);
    let rules: std::sync::Arc<dyn Filter> = std::sync::Arc::new(Rules);
    let both = |peer: PeerConfig| {
        peer.import(std::sync::Arc::clone(&rules))
            .export(std::sync::Arc::clone(&rules))
    };
    let filtered = stage.join(64514, both, true);
    stage.announce(external, "10.1.1.0/24", &learned(64513));
    stage.announce(filtered, "10.1.2.0/24", &learned(64514));
    stage.announce(internal, "10.1.3.0/24", &inside());
    let known: Vec<_> = stage
        .speaker
        .routes()
        .iter()
        .map(|route| route.prefix.to_string())
        .collect();
    assert_eq!(known, ["10.1.2.0/24", "10.1.3.0/24"]);
    assert_eq!(stage.told(external), []);
    assert_eq!(stage.told(filtered).len(), 1);
    assert_eq!(stage.told(internal).len(), 1);
}

/// RFC 9687: a peer that takes nothing for eight minutes is given up, however alive it says it is.
#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    let mut stage = stage();
    let stuck = stage.join(64513, |peer| peer, true);
    let Actor { peer, link, .. } = stage.actors[stuck];
    stage.speaker.handle(peer, Input::Blocked(link), stage.now);
    let mut keepalive = Vec::new();
    crate::wire::keepalive(&mut keepalive);
    let end = stage.now + Duration::from_secs(481);
    while stage.now < end {
        stage.now += Duration::from_secs(20);
        stage.send(stuck, &keepalive);
        while stage
            .speaker
            .poll_timeout()
            .is_some_and(|at| at <= stage.now)
        {
            stage.speaker.handle_timeout(stage.now);
        }
        let up = stage.speaker.peers()[0].negotiated.is_some();
        assert_eq!(
            up,
            stage.now < end - Duration::from_secs(1),
            "at {:?}",
            end - stage.now
        );
        if !up {
            break;
        }
    }
    let reason = stage.speaker.peers()[0].last_error.clone().unwrap();
    assert_eq!(reason.to_string(), "sent: send hold timer expired (8/0)");
}
