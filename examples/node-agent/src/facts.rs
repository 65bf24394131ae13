//! What other tasks of the agent may know of the core's state, without asking it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_datastore::model::IpPoolSpec;

/// What is said to who wants something that a locked datastore does not allow.
pub(crate) const LOCKED: &str = "the datastore is locked (ClusterInformation default: datastoreReady is false): no pod is added until `ocicatctl datastore migrate unlock`";

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
    /// Whether the datastore is locked: pods are not added, and nothing is written to it.
    pub locked: bool,
    /// Whether pods may be allowed other sources than their own addresses (`workloadSourceSpoofing` is `Any`).
    pub source_spoofing: bool,
    /// The largest packet of pods, in bytes.
    pub mtu: u32,
    /// What the addresses of tunnels depend on; `None` before the first sync.
    pub tunnel_pools: Option<TunnelPools>,
    /// Annotations of namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Facts {
    /// Whether the agent may write to the datastore: it is ready, and nobody has locked the datastore.
    #[must_use]
    pub const fn may_write(&self) -> bool {
        self.ready && !self.locked
    }
}
