use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocicat_ipam::testing::block_on;
use ocicat_ipam::{
    AffinityState, Assigned, BlockAffine, HandleId, Ipam, IpamStore, MemoryStore, Pool, Prefix,
};

/// A moment, in seconds after an arbitrary start.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn pool(name: &str, cidr: &str, block_size: u8) -> Pool {
    Pool::new(name, prefix(cidr))
        .with_block_size(block_size)
        .unwrap()
}

pub(crate) fn store(pools: &[Pool]) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::with_pools(pools.iter().cloned()))
}

/// An allocator of its own over a store, as another process would have.
pub(crate) fn ipam(store: &Arc<MemoryStore>) -> Ipam {
    Ipam::new(
        Arc::clone(store) as Arc<dyn IpamStore>,
        Box::new(BlockAffine),
    )
}

pub(crate) fn addresses(assigned: &[Assigned]) -> Vec<String> {
    assigned.iter().map(|one| one.address.to_string()).collect()
}

/// Every address that is held, with its handle. Fails when a block, a claim or a handle contradicts another.
pub(crate) fn audit(store: &dyn IpamStore) -> BTreeMap<IpAddr, HandleId> {
    let blocks = block_on(store.all_blocks()).unwrap().records;
    let handles = block_on(store.all_handles()).unwrap().records;
    let claims = block_on(store.affinities(None)).unwrap().records;
    let mut held = BTreeMap::new();
    for block in blocks.iter().map(|stored| &stored.value) {
        for (ordinal, allocation) in block.held() {
            assert!(
                !block.is_free(ordinal),
                "{}: {ordinal} is free and held",
                block.cidr()
            );
            let handle = allocation.handle.clone().unwrap();
            let count = handles
                .iter()
                .find(|stored| stored.value.id == handle)
                .and_then(|stored| stored.value.blocks.get(&block.cidr()));
            let found = block.held_by(&handle).count();
            assert!(
                count.is_some_and(|n| *n as usize >= found),
                "{handle} counts too few"
            );
            let twice = held.insert(block.address(ordinal).unwrap(), handle);
            assert!(twice.is_none(), "an address is in two blocks");
        }
    }
    let mut confirmed = BTreeSet::new();
    for claim in claims.iter().map(|stored| &stored.value) {
        if claim.state == AffinityState::Confirmed {
            assert!(
                confirmed.insert(claim.block),
                "{} has two owners",
                claim.block
            );
            let block = blocks
                .iter()
                .find(|stored| stored.value.cidr() == claim.block);
            let owner = block.and_then(|stored| stored.value.owner());
            assert_eq!(
                owner,
                Some(&claim.owner),
                "{} is claimed by another",
                claim.block
            );
        }
    }
    held
}
