use std::net::Ipv4Addr;
use std::time::Duration;

use crate::Prefix;
use crate::attributes::NextHop;
use crate::number::AsNumber;
use crate::peer::PeerConfig;

/// A speaker. Made by [`SpeakerConfig::new`], changed by the setters.
#[derive(Clone, Debug)]
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
    pub deferral: Duration,
    /// After a restart, how long to wait for peers that have not been seen yet. Default 10 s.
    pub deferral_unseen: Duration,
    /// How many equally good paths are used per prefix, 1..=255. Default 1.
    pub max_paths: u8,
    /// Compare MED between different neighbouring ASes. Default false, as RFC 4271 has it.
    pub always_compare_med: bool,
    /// The next hop for IPv4 routes on sessions over IPv6.
    pub next_hop_v4: Option<NextHop>,
    /// The next hop for IPv6 routes on sessions over IPv4.
    pub next_hop_v6: Option<NextHop>,
    /// Seeds jitter and the hashing of what peers send; take a random one. Default 0, which suits tests.
    pub seed: u64,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: impl Into<$type>) -> Self {
            self.$name = $name.into();
            self
        })*
    };
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
            next_hop_v4: None,
            next_hop_v6: None,
            seed: 0,
        }
    }

    setters! {
        /// Sets the cluster.
        cluster_id: Ipv4Addr;
        /// Sets whether the process has restarted.
        restarting: bool;
        /// Sets the longest wait for peers that are up after a restart.
        deferral: Duration;
        /// Sets the wait for peers that have not been seen after a restart.
        deferral_unseen: Duration;
        /// Sets how many equally good paths are used per prefix.
        max_paths: u8;
        /// Sets whether MED is compared between different neighbouring ASes.
        always_compare_med: bool;
        /// Sets the next hop for IPv4 routes on sessions over IPv6.
        next_hop_v4: Option<NextHop>;
        /// Sets the next hop for IPv6 routes on sessions over IPv4.
        next_hop_v6: Option<NextHop>;
        /// Sets the seed.
        seed: u64;
    }
}

/// Neighbours that need not be configured one by one: whoever connects from a prefix.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DynamicPeers {
    /// Where they connect from.
    pub prefix: Prefix,
    /// What they are like; the address is each one's own, and they are passive.
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
