//! What registering a node depends on in the cluster. The core follows it anyway, so that nobody lists it a second time:
//! thousands of agents that start at once ask the datastore for each kind once.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the core has seen, once the kinds that it is about are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Addresses of this node that another has, too, and which.
    pub(crate) taken: BTreeMap<IpAddr, String>,
    /// Whether the datastore is locked.
    pub(crate) locked: bool,
    /// Whether there is any pool, also one that cannot be read.
    pub(crate) pools: bool,
    /// Whether a claim of this node was left half done.
    pub(crate) unsettled: bool,
}
