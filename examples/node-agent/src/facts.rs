//! What other tasks of the agent may know of the core's state, without asking it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_datastore::model::IpPoolSpec;

/// What the addresses of tunnels depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TunnelPools {
    /// The pools.
    pub pools: Vec<Arc<IpPoolSpec>>,
    /// This node's labels, which pools select by.
    pub labels: BTreeMap<String, String>,
}

/// A snapshot; a new one is published when something in it changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Whether the first complete state is in the kernel.
    pub ready: bool,
    /// Why not, or what is wrong all the same.
    pub reasons: Vec<String>,
    /// Why pods that run may be cut off: the kernel could not be programmed at all.
    pub limited: Vec<String>,
    /// Whether pods may be allowed other sources than their own addresses (`workloadSourceSpoofing` is `Any`).
    pub source_spoofing: bool,
    /// The largest packet of pods, in bytes.
    pub mtu: u32,
    /// What the addresses of tunnels depend on; `None` before the first sync.
    pub tunnel_pools: Option<TunnelPools>,
    /// Annotations of namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}
