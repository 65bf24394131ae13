//! A [`State`](crate::State) as chains and sets, piece by piece: what did not change is not compiled again.

mod antispoof;
mod base;
mod desired;
mod endpoint;
mod hosts;
mod nat;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use desired::Desired;
#[cfg(feature = "linux")]
pub(crate) use desired::{Collected, Dirty};

use super::name::{Name, digest, set_name};
use super::ruleset::{Chain, Element, Part, Shape};
use crate::Prefix;
use crate::state::{
    EndpointId, IpVersion, LinkName, Member, Moment, PolicyId, PortRange, ProfileId, Protocol, Set,
    SetChange, SetId, Tier,
};

/// The bit of the packet mark that says that policy lets the packet through. It stays on the packet, so that a
/// firewall of somebody else can accept what has it: `meta mark & 0x10000 != 0 accept`.
pub const ACCEPTED: u32 = 0x0001_0000;

/// The bit of the packet mark that says that a rule left its tier with Pass. It means nothing outside our chains.
pub const PASSED: u32 = 0x0002_0000;

/// The bit of the connection's mark (`ct mark`) that says that policy has come to deny the connection.
pub const CUT: u32 = 0x0004_0000;

/// Which way policy looks at a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    In,
    Out,
}

impl Direction {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What is compiled at once, when something in it changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Piece {
    Base,
    Workload(LinkName),
    Host(EndpointId),
    /// A list of policies, by the name of its chain: endpoints with the same list share it.
    Tier(Name, Direction),
    Policy(PolicyId, Direction),
    Profile(ProfileId, Direction),
}

/// What a piece compiles to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) chains: Vec<Arc<Chain>>,
    /// Sets whose content never changes: another content has another name.
    pub(crate) fixed: Vec<Arc<Fixed>>,
    /// Sets that other pieces put elements into.
    pub(crate) collections: Vec<(Name, Shape)>,
    pub(crate) elements: Vec<(Name, Element)>,
    /// Sets of the state that its rules look at, whether the kernel has a variant for them or not.
    pub(crate) looks_at: BTreeSet<SetId>,
    pub(crate) variants: BTreeSet<(SetId, Variant)>,
    /// Chains of other pieces that it jumps to.
    pub(crate) jumps_to: Vec<Piece>,
    /// The tiers among them that are new.
    pub(crate) tiers: Vec<(Name, Tier)>,
}

/// A set that is named after its content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) name: Name,
    pub(crate) shape: Shape,
    pub(crate) elements: BTreeSet<Element>,
}

/// A set that the kernel holds for a [`Set`] of the state: its members of one family and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Variant {
    /// Single addresses, hashed.
    Addresses(IpVersion),
    /// Ranges of addresses.
    Ranges(IpVersion, Edition),
    /// Address, protocol and port.
    Ports(IpVersion),
}

/// Which of two names a set of ranges has in the kernel. A change that a live set cannot take (see
/// [`plan::ranges`](super::plan::ranges)) goes into a set of the other name, to which the rules then switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Edition {
    #[default]
    First,
    Second,
}

/// The sets of ranges, by family, that have their second name now.
pub(crate) type Editions = BTreeSet<(SetId, IpVersion)>;

/// How many members of each kind a set has, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    hosts: [usize; 2],
    nets: [usize; 2],
    ports: [usize; 2],
}

/// Which variants a set has: what compiled rules depend on.
pub(crate) type Variants = [Option<Variant>; 4];

impl Census {
    pub(crate) fn of(set: &Set) -> Self {
        let mut census = Self::default();
        for member in set.members() {
            *census.count(member) += 1;
        }
        census
    }

    pub(crate) fn follow(&mut self, changes: &[SetChange]) {
        for change in changes {
            match change {
                SetChange::Added(member) => *self.count(member) += 1,
                SetChange::Removed(member) => {
                    let count = self.count(member);
                    *count = count.saturating_sub(1);
                }
            }
        }
    }

    fn count(&mut self, member: &Member) -> &mut usize {
        let (counts, address) = match member {
            Member::Net(net) if net.is_host() => (&mut self.hosts, net.address()),
            Member::Net(net) => (&mut self.nets, net.address()),
            Member::Port(address, ..) => (&mut self.ports, *address),
        };
        let [v4, v6] = counts;
        if address.is_ipv4() { v4 } else { v6 }
    }

    fn all(&self, version: IpVersion) -> (usize, usize, usize) {
        let [v4, v6] = [0, 1].map(|at: usize| {
            let of = |counts: &[usize; 2]| counts.get(at).copied().unwrap_or(0);
            (of(&self.hosts), of(&self.nets), of(&self.ports))
        });
        if version == IpVersion::V4 { v4 } else { v6 }
    }

    pub(crate) fn variants(&self) -> Variants {
        [
            Variant::addresses(self, IpVersion::V4),
            Variant::addresses(self, IpVersion::V6),
            Variant::ports(self, IpVersion::V4),
            Variant::ports(self, IpVersion::V6),
        ]
    }
}

impl Variant {
    /// The variant for addresses of a family. A set without members of the family has none, so that rules are not
    /// doubled for a family that a cluster does not use; a set without any member has the one for IPv4, which
    /// is the likely first.
    pub(crate) fn addresses(census: &Census, version: IpVersion) -> Option<Self> {
        let empty = *census == Census::default() && version == IpVersion::V4;
        match census.all(version) {
            (_, 1.., _) => Some(Self::Ranges(version, Edition::First)),
            (1.., 0, _) => Some(Self::Addresses(version)),
            _ => empty.then_some(Self::Addresses(version)),
        }
    }

    /// The variant for ports of a family.
    pub(crate) fn ports(census: &Census, version: IpVersion) -> Option<Self> {
        let empty = *census == Census::default() && version == IpVersion::V4;
        (census.all(version).2 > 0 || empty).then_some(Self::Ports(version))
    }

    pub(crate) const fn version(self) -> IpVersion {
        match self {
            Self::Addresses(version) | Self::Ranges(version, _) | Self::Ports(version) => version,
        }
    }

    pub(crate) fn name(self, id: &SetId) -> Name {
        let role = match self {
            Self::Addresses(IpVersion::V4) => "ip4",
            Self::Addresses(IpVersion::V6) => "ip6",
            Self::Ranges(IpVersion::V4, Edition::First) => "net4",
            Self::Ranges(IpVersion::V6, Edition::First) => "net6",
            Self::Ranges(IpVersion::V4, Edition::Second) => "net4b",
            Self::Ranges(IpVersion::V6, Edition::Second) => "net6b",
            Self::Ports(IpVersion::V4) => "port4",
            Self::Ports(IpVersion::V6) => "port6",
        };
        set_name(role, id.as_str())
    }

    /// The same under its other name, for those that have one.
    pub(crate) const fn other(self) -> Option<Self> {
        match self {
            Self::Ranges(version, Edition::First) => Some(Self::Ranges(version, Edition::Second)),
            Self::Ranges(version, Edition::Second) => Some(Self::Ranges(version, Edition::First)),
            _ => None,
        }
    }

    pub(crate) fn shape(self) -> Shape {
        match self {
            Self::Addresses(version) => Shape::plain(Part::Address(version)),
            Self::Ranges(version, _) => Shape::ranges(Part::Address(version)),
            Self::Ports(version) => Shape::ports(version),
        }
    }

    /// Whether single members are single elements, so that a change of the one is a change of the other.
    pub(crate) const fn is_plain(self) -> bool {
        !matches!(self, Self::Ranges(..))
    }

    /// The element of a member, if it belongs to a plain variant.
    pub(crate) fn element(self, member: &Member) -> Option<Element> {
        let own = |v4: bool| v4 == (self.version() == IpVersion::V4);
        match (self, member) {
            (Self::Addresses(_), Member::Net(net)) if own(net.is_ipv4()) && net.is_host() => {
                Some(Element::address(net.address()))
            }
            (Self::Ports(_), Member::Port(address, protocol, port)) if own(address.is_ipv4()) => {
                Some(Element::port(*address, *protocol, *port))
            }
            _ => None,
        }
    }

    /// All elements of a set.
    pub(crate) fn elements(self, set: &Set) -> BTreeSet<Element> {
        match self {
            Self::Ranges(version, _) => {
                let nets = set.members().iter().filter_map(|member| match member {
                    Member::Net(net) => Some(net),
                    Member::Port(..) => None,
                });
                rule::net_elements(&rule::maximal(nets, version))
                    .into_iter()
                    .collect()
            }
            _ => set
                .members()
                .iter()
                .filter_map(|member| self.element(member))
                .collect(),
        }
    }
}

/// What compiling a rule asks for besides: sets.
pub(crate) struct Needs<'a> {
    pub(crate) censuses: &'a BTreeMap<SetId, Track>,
    pub(crate) sets: &'a BTreeMap<SetId, Set>,
    pub(crate) editions: &'a Editions,
    pub(crate) output: &'a mut Output,
}

/// A set of the state as compiled rules know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    pub(crate) moment: Moment,
    pub(crate) census: Census,
    pub(crate) users: BTreeSet<Piece>,
}

impl Needs<'_> {
    /// The kernel's set for a family, if the set has members of it.
    fn set(
        &mut self,
        id: &SetId,
        variant: impl Fn(&Census, IpVersion) -> Option<Variant>,
        version: IpVersion,
    ) -> Option<Name> {
        self.output.looks_at.insert(id.clone());
        let census = match self.censuses.get(id) {
            Some(track) => track.census,
            None => self.sets.get(id).map(Census::of).unwrap_or_default(),
        };
        let mut variant = variant(&census, version)?;
        if self.editions.contains(&(id.clone(), version)) {
            variant = variant.other().unwrap_or(variant);
        }
        self.output.variants.insert((id.clone(), variant));
        Some(variant.name(id))
    }

    /// A fixed set of ranges.
    pub(super) fn nets(&mut self, version: IpVersion, nets: &[Prefix]) -> Name {
        let role = if version == IpVersion::V4 {
            "nets4"
        } else {
            "nets6"
        };
        self.fixed(
            role,
            Shape::ranges(Part::Address(version)),
            rule::net_elements(nets),
        )
    }

    /// A fixed set of port numbers.
    fn numbers(&mut self, ports: &[PortRange]) -> Name {
        let (shape, elements) = rule::port_elements(ports);
        self.fixed("ports", shape, elements)
    }

    /// The protocols that have ports.
    fn port_protocols(&mut self) -> Name {
        let all = [
            Protocol::TCP,
            Protocol::UDP,
            Protocol::SCTP,
            Protocol::UDPLITE,
        ];
        let elements = all.map(|protocol| Element::single([protocol.0])).to_vec();
        self.fixed("protocols", Shape::plain(Part::Protocol), elements)
    }

    fn fixed(&mut self, role: &str, shape: Shape, elements: Vec<Element>) -> Name {
        let elements: BTreeSet<Element> = elements.into_iter().collect();
        let mut content = vec![u8::from(shape.ranges)];
        for element in &elements {
            content.push(u8::from(element.start));
            content.extend_from_slice(&element.key);
        }
        let name: Name = format!("{role}/{}", digest(&[&content])).into();
        self.output.fixed.push(Arc::new(Fixed {
            name: name.clone(),
            shape,
            elements,
        }));
        name
    }
}
