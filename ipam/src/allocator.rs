use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::{
    AssignError, AssignRequest, Assignment, Block, HandleId, IpamStore, Owner, Prefix, Revision,
    StoreError, Stored, Strategy, View,
};

mod assign;
mod assign_ip;
pub(crate) mod claim;
mod commit;
mod demand;
mod handles;
mod hosts;
mod load;
mod qualify;
mod release;
mod sticky;
mod uphold;

pub use self::hosts::Claims;
pub use self::release::{Release, Released};
pub use self::uphold::{Attached, Upheld};

/// How often a compare-and-swap is tried against others before the call gives up.
const ATTEMPTS: u32 = 100;

/// The allocator: asks a [`Strategy`] what to do, checks it, and does it in an [`IpamStore`] by compare-and-swap.
///
/// It remembers the blocks of the hosts that it served, so that an address usually costs two writes and no read;
/// what is remembered wrongly is found out by the write, and read again. Several allocators, in one process or on
/// many hosts, may work on one store. For many pods at once [`assign_many`](Self::assign_many) writes each block once;
/// calls for one host that overlap are correct, and slower, since each of them reads the host's blocks.
///
/// The order of writes is always the handle first, then the block, and a count too many is taken back: whatever
/// happens in between, no address is held that the release of its handle does not find.
pub struct Ipam {
    store: Arc<dyn IpamStore>,
    strategy: Box<dyn Strategy>,
    desks: Mutex<HashMap<Owner, Desk>>,
    /// Addresses that nodes use and the store does not hold.
    in_use: Mutex<BTreeMap<IpAddr, HandleId>>,
}

/// What is remembered about one host between calls.
struct Desk {
    view: View,
    revisions: HashMap<Prefix, Revision>,
    /// Blocks that have been changed in the view and not written yet.
    touched: BTreeSet<Prefix>,
    /// The pools by whose selectors empty blocks were last given up: name and whether it selects the host.
    tidied: BTreeMap<String, bool>,
}

impl Ipam {
    /// An allocator over a store.
    #[must_use]
    pub fn new(store: Arc<dyn IpamStore>, strategy: Box<dyn Strategy>) -> Self {
        Self {
            store,
            strategy,
            desks: Mutex::default(),
            in_use: Mutex::default(),
        }
    }

    /// Takes the addresses that a request wants.
    ///
    /// # Errors
    /// See [`AssignError`]. Then nothing is held, or what is held is found by a release of the handle.
    ///
    /// # Cancel safety
    /// A dropped call may leave addresses behind; a release of the handle finds them.
    pub async fn assign(
        &self,
        request: &AssignRequest,
        now: SystemTime,
    ) -> Result<Assignment, AssignError> {
        let mut results = self.serve(&request.owner, &[request], now).await;
        results.pop().unwrap_or_else(|| Ok(Assignment::default()))
    }

    /// Takes the addresses of many requests, with a result for each in their order: one batch of handle writes and
    /// one write for each block.
    ///
    /// # Cancel safety
    /// As [`assign`](Self::assign), for each request.
    pub async fn assign_many(
        &self,
        requests: &[AssignRequest],
        now: SystemTime,
    ) -> Vec<Result<Assignment, AssignError>> {
        let mut by_owner: BTreeMap<&Owner, Vec<usize>> = BTreeMap::new();
        for (at, request) in requests.iter().enumerate() {
            by_owner.entry(&request.owner).or_default().push(at);
        }
        let mut results: Vec<_> = requests.iter().map(|_| Ok(Assignment::default())).collect();
        for (owner, places) in by_owner {
            let group: Vec<_> = places.iter().map(|at| &requests[*at]).collect();
            for (at, result) in places.into_iter().zip(self.serve(owner, &group, now).await) {
                results[at] = result;
            }
        }
        results
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn IpamStore> {
        &self.store
    }

    /// Forgets what is remembered about a host: the next call reads it from the store.
    pub fn forget(&self, owner: &Owner) {
        self.desks().remove(owner);
    }

    fn desks(&self) -> MutexGuard<'_, HashMap<Owner, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One block from the store.
    pub(crate) async fn block(&self, cidr: Prefix) -> Result<Option<Stored<Block>>, StoreError> {
        Ok(self.store.blocks(&[cidr]).await?.pop().flatten())
    }

    /// A block as it is remembered.
    fn recall(&self, cidr: &Prefix) -> Option<Stored<Block>> {
        self.desks().values().find_map(|desk| desk.stored(cidr))
    }

    /// Corrects what is remembered of a block.
    fn remember(&self, cidr: &Prefix, now_is: Option<&Stored<Block>>) {
        for desk in self.desks().values_mut() {
            if desk.view.block(cidr).is_some() {
                match now_is {
                    Some(stored) => desk.put(stored.clone()),
                    None => desk.remove(cidr),
                }
            }
        }
    }
}

impl fmt::Debug for Ipam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ipam").finish_non_exhaustive()
    }
}

impl Desk {
    fn put(&mut self, stored: Stored<Block>) {
        let cidr = stored.value.cidr();
        self.touched.remove(&cidr);
        self.revisions.insert(cidr, stored.revision);
        self.view.put(stored.value);
    }

    fn remove(&mut self, cidr: &Prefix) {
        self.touched.remove(cidr);
        self.revisions.remove(cidr);
        self.view.remove(cidr);
    }

    fn stored(&self, cidr: &Prefix) -> Option<Stored<Block>> {
        let value = self.view.block(cidr)?.clone();
        Some(Stored {
            value,
            revision: self.revisions.get(cidr)?.clone(),
        })
    }

    /// Notes that a block is about to change: the first change of a round begins a write.
    fn touch(&mut self, cidr: &Prefix) {
        if self.touched.insert(*cidr) {
            if let Some(block) = self.view.block_mut(cidr) {
                block.advance();
            }
        }
    }
}
