//! The attributes of a route, as one immutable value that is cheap to clone and to compare.

mod builder;
mod community;
mod path;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub use builder::AttributesBuilder;
pub(crate) use builder::prepend;
pub use community::{Community, CommunityError, LargeCommunity};
pub use path::{AsPath, Segment};

use crate::number::AsNumber;
use crate::wire::{Reader, kind, one};

/// Where packets for a route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, perhaps with the link-local one of the same router (RFC 2545 section 3).
    V6 {
        /// The global address.
        global: Ipv6Addr,
        /// The link-local address, usable on the link that the session runs over.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The address to resolve: for IPv6 the global one.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        match self {
            Self::V4(address) => IpAddr::V4(*address),
            Self::V6 { global, .. } => IpAddr::V6(*global),
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(global) => Self::V6 {
                global,
                link_local: None,
            },
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

/// Where a route came from in the first place (RFC 4271 section 5.1.1); the first is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// From inside the originating AS.
    #[default]
    Igp,
    /// By the EGP protocol.
    Egp,
    /// By other means.
    Incomplete,
}

/// The attributes of a route.
///
/// One allocation, shared between clones. The octets are kept as they go on the wire, the values that the decision
/// process asks for beside them; communities and paths are read out of the octets on demand.
#[derive(Clone)]
pub struct Attributes(Arc<Set>);

struct Set {
    next_hop: Option<NextHop>,
    summary: Summary,
    wire: Box<[u8]>,
}

/// What decisions need, taken out of the octets once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) local_pref: Option<u32>,
    pub(crate) med: Option<u32>,
    pub(crate) originator: Option<u32>,
    pub(crate) neighbor_as: u32,
    pub(crate) path_length: u16,
    pub(crate) clusters: u16,
    pub(crate) origin: Origin,
    pub(crate) no_export: bool,
    pub(crate) no_advertise: bool,
    /// Only to customers (RFC 9234).
    pub(crate) marked: bool,
}

impl Summary {
    fn of(wire: &[u8]) -> Self {
        let mut summary = Self::default();
        for (kind, value) in parts(wire) {
            let number = || {
                value
                    .first_chunk()
                    .map(|octets| u32::from_be_bytes(*octets))
            };
            match kind {
                kind::ORIGIN => {
                    summary.origin = match value {
                        [0] => Origin::Igp,
                        [1] => Origin::Egp,
                        _ => Origin::Incomplete,
                    };
                }
                kind::AS_PATH => {
                    let path = AsPath(value);
                    summary.path_length = path.length().min(0xffff) as u16;
                    summary.neighbor_as = path.first().map_or(0, |number| number.0);
                }
                kind::MED => summary.med = number(),
                kind::LOCAL_PREF => summary.local_pref = number(),
                kind::ORIGINATOR_ID => summary.originator = number(),
                kind::CLUSTER_LIST => summary.clusters = (value.len() / 4) as u16,
                kind::OTC => summary.marked = true,
                kind::COMMUNITIES => {
                    for community in value.chunks_exact(4) {
                        // RFC 1997: NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED; without
                        // confederations the last means the same as the first.
                        match community {
                            [0xff, 0xff, 0xff, 1 | 3] => summary.no_export = true,
                            [0xff, 0xff, 0xff, 2] => summary.no_advertise = true,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        summary
    }
}

/// The attributes in canonical octets: type and value.
pub(crate) fn parts(wire: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut reader = Reader::new(wire);
    std::iter::from_fn(move || one(&mut reader).map(|(_, kind, value)| (kind, value)))
}

impl Attributes {
    /// The attributes of a route of this speaker's own: origin IGP, an empty path, and the speaker's own address as
    /// next hop on each session.
    #[must_use]
    pub fn local() -> Self {
        AttributesBuilder::default().build()
    }

    /// A builder with origin IGP, an empty path and no next hop.
    #[must_use]
    pub fn builder() -> AttributesBuilder {
        AttributesBuilder::default()
    }

    /// A builder that holds what `self` holds.
    #[must_use]
    pub fn edit(&self) -> AttributesBuilder {
        AttributesBuilder::from_attributes(self)
    }

    pub(crate) fn from_wire(next_hop: Option<NextHop>, wire: &[u8]) -> Self {
        Self(Arc::new(Set {
            next_hop,
            summary: Summary::of(wire),
            wire: wire.into(),
        }))
    }

    pub(crate) fn wire(&self) -> &[u8] {
        &self.0.wire
    }

    pub(crate) fn summary(&self) -> &Summary {
        &self.0.summary
    }

    fn value(&self, wanted: u8) -> &[u8] {
        parts(&self.0.wire)
            .find(|&(kind, _)| kind == wanted)
            .map_or(&[], |(_, value)| value)
    }

    /// The next hop; `None` on a route of this speaker's own, which gets the session's own address.
    #[must_use]
    pub fn next_hop(&self) -> Option<NextHop> {
        self.0.next_hop
    }

    /// ORIGIN.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.summary.origin
    }

    /// AS_PATH, in four octets whatever the session carried.
    #[must_use]
    pub fn as_path(&self) -> AsPath<'_> {
        AsPath(self.value(kind::AS_PATH))
    }

    /// MULTI_EXIT_DISC, if it came with the route.
    #[must_use]
    pub fn med(&self) -> Option<u32> {
        self.0.summary.med
    }

    /// LOCAL_PREF, if it came with the route; 100 is assumed where it did not.
    #[must_use]
    pub fn local_pref(&self) -> Option<u32> {
        self.0.summary.local_pref
    }

    /// The communities of RFC 1997.
    pub fn communities(&self) -> impl Iterator<Item = Community> + '_ {
        self.value(kind::COMMUNITIES).chunks_exact(4).map(|octets| {
            Community(u32::from_be_bytes([
                octets[0], octets[1], octets[2], octets[3],
            ]))
        })
    }

    /// The large communities of RFC 8092.
    pub fn large_communities(&self) -> impl Iterator<Item = LargeCommunity> + '_ {
        self.value(kind::LARGE_COMMUNITIES)
            .chunks_exact(12)
            .map(LargeCommunity::read)
    }

    /// The extended communities of RFC 4360, eight octets each.
    pub fn extended_communities(&self) -> impl Iterator<Item = [u8; 8]> + '_ {
        self.value(kind::EXTENDED_COMMUNITIES)
            .chunks_exact(8)
            .map(|octets| {
                let mut array = [0; 8];
                array.copy_from_slice(octets);
                array
            })
    }

    /// ORIGINATOR_ID: the router that brought the route into this AS (RFC 4456).
    #[must_use]
    pub fn originator_id(&self) -> Option<Ipv4Addr> {
        self.0.summary.originator.map(Ipv4Addr::from)
    }

    /// CLUSTER_LIST: the reflectors that the route has passed, the last one first (RFC 4456).
    pub fn cluster_list(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.value(kind::CLUSTER_LIST)
            .chunks_exact(4)
            .map(|octets| Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
    }

    /// OTC: the AS from which on the route goes to customers only (RFC 9234).
    #[must_use]
    pub fn only_to_customer(&self) -> Option<AsNumber> {
        let value = self.value(kind::OTC).first_chunk()?;
        Some(AsNumber(u32::from_be_bytes(*value)))
    }

    /// AGGREGATOR: who aggregated the route.
    #[must_use]
    pub fn aggregator(&self) -> Option<(AsNumber, Ipv4Addr)> {
        let mut reader = Reader::new(self.value(kind::AGGREGATOR));
        Some((AsNumber(reader.u32()?), reader.u32()?.into()))
    }
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.next_hop == other.0.next_hop && self.0.wire == other.0.wire)
    }
}

impl Eq for Attributes {}

impl Hash for Attributes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.next_hop.hash(state);
        self.0.wire.hash(state);
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Attributes");
        out.field("origin", &self.origin())
            .field("as_path", &self.as_path());
        if let Some(next_hop) = self.next_hop() {
            out.field("next_hop", &next_hop);
        }
        if let Some(med) = self.med() {
            out.field("med", &med);
        }
        if let Some(local_pref) = self.local_pref() {
            out.field("local_pref", &local_pref);
        }
        for (kind, value) in parts(self.wire()).filter(|(kind, _)| *kind > kind::LOCAL_PREF) {
            out.field(&format!("type {kind}"), &value);
        }
        out.finish()
    }
}
