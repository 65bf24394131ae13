use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_ipam::testing::block_on;
use ocicat_ipam::{AffinityState, AssignError, Assignment, Block, HandleId, IpamStore};

use crate::ledger::Ledger;

/// What the pods of the cluster believe: which addresses they were given and have not given back.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) live: BTreeMap<IpAddr, HandleId>,
    pub(crate) handles: BTreeMap<HandleId, usize>,
    /// Handles that were released while their request was still under way: what it gets in the end is nobody's.
    pub(crate) given_up: BTreeSet<HandleId>,
}

impl Model {
    /// A request was answered.
    pub(crate) fn assigned(
        &mut self,
        node: usize,
        handle: &HandleId,
        answer: Result<Assignment, AssignError>,
        ledger: &Ledger,
    ) {
        let Ok(assignment) = answer else { return };
        if self.given_up.contains(handle) {
            return;
        }
        for one in assignment.addresses {
            let before = self.live.insert(one.address, handle.clone());
            assert!(
                before.is_none(),
                "{} was given to {handle} and {before:?}",
                one.address
            );
            ledger.believe(one.address, handle);
            self.handles.insert(handle.clone(), node);
        }
    }

    /// A pod goes: from here on its addresses may be given to others.
    pub(crate) fn gone(&mut self, handle: &HandleId, ledger: &Ledger) {
        self.live.retain(|address, holder| {
            if holder == handle {
                ledger.disbelieve(*address);
            }
            holder != handle
        });
        self.handles.remove(handle);
    }

    pub(crate) fn of(&self, node: usize) -> Vec<HandleId> {
        let own = self.handles.iter().filter(|(_, at)| **at == node);
        own.map(|(handle, _)| handle.clone()).collect()
    }

    /// Compares everything that is stored with itself and with what pods believe.
    pub(crate) fn check(&self, store: &dyn IpamStore) {
        let blocks: BTreeMap<_, Block> = block_on(store.all_blocks())
            .unwrap()
            .records
            .into_iter()
            .map(|stored| (stored.value.cidr(), stored.value))
            .collect();
        let handles: BTreeMap<_, _> = block_on(store.all_handles())
            .unwrap()
            .records
            .into_iter()
            .map(|stored| (stored.value.id.clone(), stored.value.blocks))
            .collect();
        for (address, holder) in &self.live {
            let block = blocks
                .values()
                .find(|block| block.cidr().contains(*address));
            let held = block.and_then(|block| block.allocation(block.ordinal(*address)?));
            let by = held.and_then(|held| held.handle.as_ref());
            assert_eq!(by, Some(holder), "{address} is not held by its pod");
        }
        for block in blocks.values() {
            let mut counts: BTreeMap<&HandleId, u32> = BTreeMap::new();
            for (ordinal, held) in block.held() {
                assert!(!block.is_free(ordinal));
                *counts.entry(held.handle.as_ref().unwrap()).or_default() += 1;
            }
            for (handle, count) in counts {
                let counted = handles
                    .get(handle)
                    .and_then(|blocks| blocks.get(&block.cidr()));
                let enough = counted.is_some_and(|counted| *counted >= count);
                assert!(
                    enough,
                    "{handle} counts {counted:?} of {count} in {}",
                    block.cidr()
                );
            }
        }
        let mut routed = BTreeSet::new();
        for claim in block_on(store.affinities(None)).unwrap().records {
            let claim = claim.value;
            if claim.state == AffinityState::Confirmed {
                assert!(
                    routed.insert(claim.block),
                    "{} is routed to two nodes",
                    claim.block
                );
                let owner = blocks.get(&claim.block).and_then(Block::owner);
                assert_eq!(
                    owner,
                    Some(&claim.owner),
                    "{} is routed wrongly",
                    claim.block
                );
            }
        }
    }
}
