use std::collections::BTreeMap;

use crate::state::{PolicyId, ProfileId};

/// Packets, and their bytes with all headers above the link's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The packets.
    pub packets: u64,
    /// The bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The side of an endpoint that rules decide about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Packets to the endpoint.
    Ingress,
    /// Packets from the endpoint.
    Egress,
}

/// What the kernel has counted since its rules were made. A rule that changes starts at zero, others go on; packets of
/// open connections are not asked and not counted. Read chain by chain: each chain's counts are of one moment, those of two
/// chains may be some milliseconds apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// For each policy in force one count for each of its rules, in their order: the packets that matched it.
    pub policies: BTreeMap<(PolicyId, Direction), Vec<Count>>,
    /// The same for profiles.
    pub profiles: BTreeMap<(ProfileId, Direction), Vec<Count>>,
    /// What was dropped or refused otherwise, by reason: `the source is not the pod's`, `end of tier default`.
    pub denied: BTreeMap<String, Count>,
    /// The chains of our tables.
    pub chains: usize,
    /// The rules in them.
    pub rules: usize,
}
