//! How the agent is doing, in figures: what the core tells metrics and health checks.

use std::time::Duration;

use crate::control::Peer;
use crate::world::PoolUse;

/// Whether all is well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// The first complete state is in the kernel, and the datastore is not locked.
    pub(crate) ready: bool,
    /// Why not, or what is wrong all the same.
    pub(crate) reasons: Vec<String>,
    /// For how long the kernel has owed an answer.
    pub(crate) waiting: Option<Duration>,
}

/// Figures of the core, for metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) ready: bool,
    pub(crate) locked: bool,
    pub(crate) in_sync: bool,
    pub(crate) connected: bool,
    pub(crate) restored: bool,
    pub(crate) draining: bool,
    pub(crate) nodes: usize,
    pub(crate) workloads: usize,
    pub(crate) cluster_policies: usize,
    pub(crate) local_endpoints: usize,
    pub(crate) local_policies: usize,
    pub(crate) sets: usize,
    pub(crate) routes: usize,
    pub(crate) own_blocks: usize,
    pub(crate) learned: usize,
    pub(crate) announced: usize,
    pub(crate) astray: usize,
    pub(crate) failures: usize,
    pub(crate) problems: usize,
    pub(crate) applies: u64,
    pub(crate) failed_applies: u64,
    pub(crate) updates: u64,
    pub(crate) waits: usize,
    pub(crate) peers: Vec<Peer>,
    pub(crate) selectors: usize,
    pub(crate) evaluations: u64,
    /// Parts of policy that the kernel refused so far.
    pub(crate) refused: u64,
    /// From the start of the agent until the first complete state was in the kernel.
    pub(crate) first_ready: Option<Duration>,
    pub(crate) pools: Vec<PoolUse>,
    pub(crate) node: String,
}
