//! What an UPDATE says, in no codec's terms.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ocicat_bgp::attributes::Segment;
use ocicat_bgp::{Attributes, NextHop, Prefix};

/// Whether a segment is a set, and its numbers.
pub(crate) type Path = Vec<(bool, Vec<u32>)>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) announced: BTreeSet<Prefix>,
    pub(crate) withdrawn: BTreeSet<Prefix>,
    pub(crate) attributes: Says,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Says {
    pub(crate) next_hop: Option<IpAddr>,
    pub(crate) link_local: Option<Ipv6Addr>,
    pub(crate) origin: u8,
    pub(crate) path: Path,
    pub(crate) path4: Option<Path>,
    pub(crate) med: Option<u32>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) communities: Vec<u32>,
    pub(crate) large: Vec<(u32, u32, u32)>,
    pub(crate) originator: Option<Ipv4Addr>,
    pub(crate) clusters: Vec<Ipv4Addr>,
    pub(crate) aggregator: Option<(u32, Ipv4Addr)>,
    pub(crate) aggregator4: Option<(u32, Ipv4Addr)>,
}

/// AS_TRANS (RFC 6793).
const TRANS: u32 = 23456;

impl Says {
    /// What our crate holds.
    pub(crate) fn of(attributes: &Attributes) -> Self {
        let link_local = match attributes.next_hop() {
            Some(NextHop::V6 { link_local, .. }) => link_local,
            _ => None,
        };
        let numbers = |all: Vec<ocicat_bgp::AsNumber>| all.iter().map(|n| n.0).collect();
        let path = attributes
            .as_path()
            .segments()
            .map(|segment| match segment {
                Segment::Set(all) => (true, numbers(all)),
                Segment::Sequence(all) => (false, numbers(all)),
            });
        Self {
            next_hop: attributes.next_hop().map(|hop| hop.address()),
            link_local,
            origin: attributes.origin() as u8,
            path: path.collect(),
            path4: None,
            med: attributes.med(),
            local_pref: attributes.local_pref(),
            communities: attributes.communities().map(|c| c.0).collect(),
            large: attributes
                .large_communities()
                .map(|c| (c.0, c.1, c.2))
                .collect(),
            originator: attributes.originator_id(),
            clusters: attributes.cluster_list().collect(),
            aggregator: attributes.aggregator().map(|(n, by)| (n.0, by)),
            aggregator4: None,
        }
    }

    /// The same towards a speaker that knows two octets only (RFC 6793 section 4.2.2).
    pub(crate) fn for_old(mut self) -> Self {
        let wide = |number: &u32| *number > 0xffff;
        if self.path.iter().any(|(_, all)| all.iter().any(wide)) {
            self.path4 = Some(self.path.clone());
            for number in self.path.iter_mut().flat_map(|(_, all)| all) {
                *number = if wide(number) { TRANS } else { *number };
            }
        }
        if let Some((number, by)) = self.aggregator.filter(|(number, _)| wide(number)) {
            self.aggregator4 = Some((number, by));
            self.aggregator = Some((TRANS, by));
        }
        self
    }

    /// The same reflected by `cluster` (RFC 4456 section 8).
    pub(crate) fn reflected(mut self, from: Ipv4Addr, cluster: Ipv4Addr) -> Self {
        self.originator.get_or_insert(from);
        self.clusters.insert(0, cluster);
        self
    }
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// An AS number that is neither 0, AS_TRANS nor the speaker's own.
    fn number(&mut self) -> u32 {
        if self.one_in(2) {
            1 + self.below(20_000)
        } else {
            70_000 + self.below(4_000_000_000)
        }
    }

    fn path(&mut self) -> Path {
        let mut path = Path::new();
        for at in 0..self.below(3) {
            let longest = if self.one_in(20) { 255 } else { 5 };
            let count = 1 + self.below(longest);
            let set = at > 0 && self.one_in(2);
            // Two sequences one after the other are another way to write one.
            if !set && path.last().is_some_and(|(set, _)| !set) {
                continue;
            }
            path.push((set, (0..count).map(|_| self.number()).collect()));
        }
        path
    }

    fn list<T>(&mut self, most: u32, mut each: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most);
        (0..count).map(|_| each(self)).collect()
    }

    fn id(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(0x0101_0101 + self.below(0x7000_0000))
    }

    fn attributes(&mut self, v6: bool) -> Says {
        let next_hop: IpAddr = if v6 {
            Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(self.next())).into()
        } else {
            Ipv4Addr::from(0x0a00_0000 + self.below(0x00ff_ffff)).into()
        };
        let mut communities = self.list(80, |random| 1 + random.below(0xf000_0000));
        communities.sort_unstable();
        communities.dedup();
        Says {
            next_hop: Some(next_hop),
            origin: self.below(3) as u8,
            path: self.path(),
            med: self.one_in(2).then(|| self.next()),
            local_pref: Some(self.next()),
            communities,
            large: self.list(3, |random| (random.next(), random.next(), random.next())),
            originator: self.one_in(3).then(|| self.id()),
            clusters: self.list(3, Self::id),
            aggregator: self.one_in(3).then(|| (self.number(), self.id())),
            ..Says::default()
        }
    }

    /// An announcement of some prefixes of one family; none has length 0, in which bgpkit sees a path identifier.
    pub(crate) fn announcement(&mut self) -> Said {
        let v6 = self.one_in(2);
        let prefixes = (0..=self.below(9)).map(|_| {
            let prefix = if v6 {
                let address = 0x2000_0000 << 96
                    | u128::from(self.next()) << 64
                    | u128::from(self.next()) << 8;
                Prefix::containing(Ipv6Addr::from(address).into(), 1 + self.below(128) as u8)
            } else {
                let address = Ipv4Addr::from(0x0100_0000 + self.below(0xd000_0000));
                Prefix::containing(address.into(), 8 + self.below(25) as u8)
            };
            prefix.expect("the length fits")
        });
        Said {
            announced: prefixes.collect(),
            withdrawn: BTreeSet::new(),
            attributes: self.attributes(v6),
        }
    }
}
