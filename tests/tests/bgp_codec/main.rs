//! Our codec of BGP messages beside those of bgpkit-parser and netgauze-bgp-pkt: each reads what the others write.

mod bgpkit;
mod netgauze;
mod open;
mod said;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use ocicat_bgp::wire::{Capability, Open};
use ocicat_bgp::{
    AsNumber, Families, Family, Input, LinkId, PeerConfig, PeerId, Prefix, Speaker, SpeakerConfig,
};
use said::{Random, Said, Says};

const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const AS: u32 = 64512;
const KEEPALIVE: [u8; 19] = {
    let mut octets = [0xff; 19];
    [octets[16], octets[17], octets[18]] = [0, 19, 4];
    octets
};

/// A reflector with neighbours that the test plays.
struct Stage {
    speaker: Speaker,
    now: Instant,
}

#[derive(Clone, Copy)]
struct Neighbour {
    id: Ipv4Addr,
    peer: PeerId,
    link: LinkId,
    four: bool,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let mut speaker = Speaker::new(SpeakerConfig::new(AS, OURS), now);
        speaker.originations_complete();
        Self { speaker, now }
    }

    fn join(&mut self, last: u8, four: bool) -> Neighbour {
        let id = Ipv4Addr::new(192, 0, 2, last);
        let config = PeerConfig::new(id.into(), AS)
            .passive(true)
            .rr_client(true)
            .families(Families::BOTH);
        let peer = self.speaker.add_peer(config, self.now).expect("a new peer");
        let (_, link) = self
            .speaker
            .accept(id.into(), OURS.into(), self.now)
            .expect("known");
        let mut capabilities = Family::ALL.map(Capability::Multiprotocol).to_vec();
        capabilities.extend(four.then_some(Capability::FourOctetAs(AS)));
        let open = Open {
            as_number: AsNumber(AS),
            hold_time: 90,
            router_id: id,
            capabilities,
        };
        let mut octets = Vec::new();
        open.encode(&mut octets);
        octets.extend(KEEPALIVE);
        let neighbour = Neighbour {
            id,
            peer,
            link,
            four,
        };
        self.send(neighbour, &octets);
        self.sent(neighbour);
        neighbour
    }

    fn send(&mut self, to: Neighbour, octets: &[u8]) {
        self.speaker
            .handle(to.peer, Input::Received(to.link, octets), self.now);
    }

    /// The messages that wait for a neighbour.
    fn sent(&mut self, to: Neighbour) -> Vec<Vec<u8>> {
        let mut octets = Vec::new();
        while self
            .speaker
            .poll_transmit(to.peer, to.link, self.now, &mut octets)
        {}
        let mut messages = Vec::new();
        let mut rest = &octets[..];
        while let [_, .., _] = rest {
            let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
            messages.push(rest[..length].to_vec());
            rest = &rest[length..];
        }
        messages
    }

    /// What the neighbour is told, by both other codecs.
    fn told(&mut self, to: Neighbour) -> BTreeMap<Prefix, Option<Says>> {
        let mut told = BTreeMap::new();
        for message in self.sent(to) {
            let said = bgpkit::decode(&message, to.four);
            assert_eq!(
                said,
                netgauze::decode(&message, to.four),
                "the others agree"
            );
            let Some(said) = said else { continue };
            told.extend(said.withdrawn.iter().map(|prefix| (*prefix, None)));
            told.extend(
                said.announced
                    .iter()
                    .map(|prefix| (*prefix, Some(said.attributes.clone()))),
            );
        }
        told
    }

    fn held(&self) -> BTreeMap<Prefix, Says> {
        let routes = self.speaker.routes();
        routes
            .iter()
            .map(|route| (route.prefix, Says::of(&route.paths[0].attributes)))
            .collect()
    }
}

fn both_ways(seed: u64, encode: fn(&Said) -> Vec<u8>) {
    let mut random = Random(seed);
    let mut stage = Stage::new();
    let [from, new, old] =
        [(10, true), (11, true), (12, false)].map(|(last, four)| stage.join(last, four));
    for round in 0..1000 {
        let said = random.announcement();
        stage.send(from, &encode(&said));
        let expected: BTreeMap<_, _> = said
            .announced
            .iter()
            .map(|prefix| (*prefix, said.attributes.clone()))
            .collect();
        assert_eq!(stage.held(), expected, "round {round}: read");
        let reflected = said.attributes.clone().reflected(from.id, OURS);
        for to in [new, old] {
            let says = if to.four {
                reflected.clone()
            } else {
                reflected.clone().for_old()
            };
            let expected: BTreeMap<_, _> = said
                .announced
                .iter()
                .map(|prefix| (*prefix, Some(says.clone())))
                .collect();
            assert_eq!(stage.told(to), expected, "round {round}: written");
        }
        let gone = Said {
            withdrawn: said.announced,
            ..Said::default()
        };
        stage.send(from, &encode(&gone));
        assert_eq!(stage.held(), BTreeMap::new(), "round {round}: withdrawn");
        for to in [new, old] {
            let told = stage.told(to);
            assert!(told.values().all(Option::is_none));
            assert!(
                told.keys().eq(&gone.withdrawn),
                "round {round}: withdrawal written"
            );
        }
    }
    assert_eq!(
        stage.speaker.peers().iter().map(|peer| peer.sessions).max(),
        Some(1)
    );
}

#[test]
fn bgpkit_and_ours_read_each_other() {
    both_ways(1, bgpkit::encode);
}

#[test]
fn netgauze_and_ours_read_each_other() {
    both_ways(2, netgauze::encode);
}
