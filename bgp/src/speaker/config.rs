use std::net::Ipv4Addr;
use std::time::Duration;

use crate::Prefix;
use crate::attributes::NextHop;
use crate::number::AsNumber;
use crate::peer::PeerConfig;

/// A speaker. Made by [`SpeakerConfig::new`], changed by the setters.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", default = "SpeakerConfig::blank", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct SpeakerConfig {
    /// The AS of the speaker.
    pub as_number: AsNumber,
    /// Its BGP identifier, unique in its AS.
    pub router_id: Ipv4Addr,
    /// Its cluster, if it reflects routes (RFC 4456). Default: the BGP identifier.
    pub cluster_id: Ipv4Addr,
    /// The process has restarted and its peers may hold routes of its former life (RFC 4724 section 4.1): it asks them
    /// to wait, and takes its time before it says End-of-RIB. Default false.
    pub restarting: bool,
    /// After a restart, the longest time to wait for the routes of peers that are up. Default 120 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
    pub deferral: Duration,
    /// After a restart, how long to wait for peers that have not been seen yet. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
    pub deferral_unseen: Duration,
    /// How many equally good paths are used per prefix, 1..=255. Default 1.
    pub max_paths: u8,
    /// Compare MED between different neighbouring ASes. Default false, as RFC 4271 has it.
    pub always_compare_med: bool,
    /// Nothing passes to or from peers in other ASes without a filter for that way (RFC 8212). Default false.
    pub external_needs_policy: bool,
    /// The next hop for IPv4 routes on sessions over IPv6.
    pub next_hop_v4: Option<NextHop>,
    /// The next hop for IPv6 routes on sessions over IPv4.
    pub next_hop_v6: Option<NextHop>,
    /// Seeds jitter and the hashing of what peers send; take a random one. Default 0, which suits tests.
    pub seed: u64,
}

impl SpeakerConfig {
    /// A speaker with every other setting at its default.
    #[must_use]
    pub fn new(as_number: impl Into<AsNumber>, router_id: Ipv4Addr) -> Self {
        Self {
            as_number: as_number.into(),
            router_id,
            cluster_id: router_id,
            restarting: false,
            deferral: Duration::from_secs(120),
            deferral_unseen: Duration::from_secs(10),
            max_paths: 1,
            always_compare_med: false,
            external_needs_policy: false,
            next_hop_v4: None,
            next_hop_v6: None,
            seed: 0,
        }
    }

    /// Sets the cluster.
    #[must_use]
    pub fn cluster_id(mut self, cluster_id: Ipv4Addr) -> Self {
        self.cluster_id = cluster_id;
        self
    }

    /// Sets whether the process has restarted.
    #[must_use]
    pub fn restarting(mut self, restarting: bool) -> Self {
        self.restarting = restarting;
        self
    }

    /// Sets the longest wait for peers that are up after a restart.
    #[must_use]
    pub fn deferral(mut self, deferral: Duration) -> Self {
        self.deferral = deferral;
        self
    }

    /// Sets the wait for peers that have not been seen after a restart.
    #[must_use]
    pub fn deferral_unseen(mut self, deferral_unseen: Duration) -> Self {
        self.deferral_unseen = deferral_unseen;
        self
    }

    /// Sets how many equally good paths are used per prefix.
    #[must_use]
    pub fn max_paths(mut self, max_paths: u8) -> Self {
        self.max_paths = max_paths;
        self
    }

    /// Sets whether MED is compared between different neighbouring ASes.
    #[must_use]
    pub fn always_compare_med(mut self, always_compare_med: bool) -> Self {
        self.always_compare_med = always_compare_med;
        self
    }

    /// Sets whether nothing passes between ASes without a filter.
    #[must_use]
    pub fn external_needs_policy(mut self, external_needs_policy: bool) -> Self {
        self.external_needs_policy = external_needs_policy;
        self
    }

    /// Sets the next hop for IPv4 routes on sessions over IPv6.
    #[must_use]
    pub fn next_hop_v4(mut self, next_hop_v4: impl Into<Option<NextHop>>) -> Self {
        self.next_hop_v4 = next_hop_v4.into();
        self
    }

    /// Sets the next hop for IPv6 routes on sessions over IPv4.
    #[must_use]
    pub fn next_hop_v6(mut self, next_hop_v6: impl Into<Option<NextHop>>) -> Self {
        self.next_hop_v6 = next_hop_v6.into();
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Neighbours that need not be configured one by one: whoever connects from a prefix.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", default = "DynamicPeers::blank", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct DynamicPeers {
    /// Where they connect from.
    pub prefix: Prefix,
    /// What they are like; the address is each one's own, and they are passive.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::template"))]
    pub template: PeerConfig,
    /// How many dynamic neighbours the speaker may have at once. Default 5000.
    pub limit: usize,
}

impl DynamicPeers {
    /// Up to 5000 neighbours from `prefix`, all configured as `template`.
    #[must_use]
    pub fn new(prefix: Prefix, template: PeerConfig) -> Self {
        Self {
            prefix,
            template,
            limit: 5000,
        }
    }

    /// Sets how many dynamic neighbours there may be.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}
