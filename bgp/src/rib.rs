//! The routing information base: paths from peers, the best of them, and a log of what changed.
//!
//! One table per family holds, per prefix, the paths that passed the import filters (Adj-RIB-In and Loc-RIB in one).
//! Attributes are interned; a path is twelve octets. Whoever follows the best paths (groups of peers, the host) has a
//! position in the table's log, in which each prefix counts once, at its latest change: a slow follower finds the
//! newest state and costs no queue.

mod decision;
mod intern;
mod log;
mod path;
mod table;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub use decision::Step;

pub(crate) use decision::decide;
pub(crate) use intern::{Interner, SetId};
pub(crate) use path::Path;
pub(crate) use table::{Entry, Learned, Table};

use crate::attributes::NextHop;
use crate::wire::{V4, V6};

/// Where paths come from: a peer, or this speaker itself (index 0).
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) external: bool,
    pub(crate) rr_client: bool,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) address: IpAddr,
    /// The interface that it is reached over, if the host has said so.
    pub(crate) interface: Option<Arc<str>>,
}

impl Source {
    pub(crate) const LOCAL: Self = Self {
        external: false,
        rr_client: true,
        router_id: Ipv4Addr::UNSPECIFIED,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        interface: None,
    };
}

/// The index of the speaker's own routes among the sources.
pub(crate) const LOCAL: u16 = 0;

/// What the decision process knows beside the paths.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) interner: Interner,
    pub(crate) sources: Vec<Source>,
    /// Next hops that the host has spoken about: the cost to reach them, `None` for unreachable.
    pub(crate) hops: HashMap<IpAddr, Option<u32>>,
    /// The interfaces that next hops are reached over, where the host has said so.
    pub(crate) interfaces: HashMap<IpAddr, Arc<str>>,
    pub(crate) max_paths: u8,
    pub(crate) always_compare_med: bool,
}

impl Context {
    /// The cost to a path's next hop; `None` when it cannot be reached. Unknown next hops are reachable at no cost.
    pub(crate) fn cost(&self, path: &Path) -> Option<u32> {
        if self.hops.is_empty() {
            return Some(0);
        }
        match self.interner.get(path.set).next_hop() {
            Some(hop) => self.hops.get(&hop.address()).copied().unwrap_or(Some(0)),
            None => Some(0),
        }
    }

    /// The interface that a route with this next hop leads out of, as filters see it.
    pub(crate) fn interface(&self, hop: Option<NextHop>, source: u16) -> Option<Arc<str>> {
        let known = hop.and_then(|hop| self.interfaces.get(&hop.address()));
        known
            .or(self.sources.get(usize::from(source))?.interface.as_ref())
            .cloned()
    }
}

/// Both families' tables and what they share.
#[derive(Debug)]
pub(crate) struct Rib {
    pub(crate) context: Context,
    pub(crate) v4: Table<V4>,
    pub(crate) v6: Table<V6>,
}

impl Rib {
    pub(crate) fn new(seed: u64, max_paths: u8, always_compare_med: bool) -> Self {
        let context = Context {
            interner: Interner::new(seed),
            sources: vec![Source::LOCAL],
            hops: HashMap::new(),
            interfaces: HashMap::new(),
            max_paths,
            always_compare_med,
        };
        Self {
            context,
            v4: Table::new(seed),
            v6: Table::new(seed),
        }
    }
}

#[cfg(test)]
mod tests;
