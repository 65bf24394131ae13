use std::time::UNIX_EPOCH;

use super::{Ask, Step, Strategy};
use crate::{Block, Ordinal, Pool, Reason, View};

/// The default: addresses of a host come from blocks of its own, so that one route serves many of them.
///
/// In this order: own blocks with a free address; a new block, found from a start that the host's name decides, so
/// that hosts do not meet; an empty block of another host; unless affinity is strict, an address of another host's
/// block. At the limit of blocks it stops, without borrowing.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockAffine;

impl Strategy for BlockAffine {
    fn next(&self, ask: &Ask<'_>, view: &View) -> Step {
        if let Some(block) = ask.pools.iter().find_map(|pool| view.open_in(pool).next()) {
            return Step::Take {
                block: block.cidr(),
                ordinals: first_of(ask, view, block),
            };
        }
        if view.config().auto_allocate_blocks {
            let limit = view.block_limit(ask);
            if view.owned(ask.family) >= limit {
                return Step::Stop(Reason::BlockLimit { limit });
            }
            if !view.surveyed() {
                return Step::Survey;
            }
            let from = |pool| start_index(view, ask, pool);
            let unclaimed = |pool| view.unclaimed_in(pool, from(pool));
            if let Some(block) = ask.pools.iter().find_map(unclaimed) {
                return Step::Claim { block };
            }
            let idle = |pool| view.reclaimable_in(pool, from(pool));
            if let Some(block) = ask.pools.iter().find_map(idle) {
                return Step::Reclaim {
                    block: block.cidr(),
                };
            }
        }
        if view.config().strict_affinity {
            return Step::Stop(Reason::StrictAffinity);
        }
        if !view.surveyed() {
            return Step::Survey;
        }
        let lender = |pool| view.borrowable_in(pool, start_index(view, ask, pool));
        match ask.pools.iter().find_map(lender) {
            Some(block) => Step::Borrow {
                block: block.cidr(),
                ordinals: first_of(ask, view, block),
            },
            None => {
                let pools = ask.pools.iter().map(|pool| pool.cidr).collect();
                Step::Stop(Reason::Exhausted { pools })
            }
        }
    }
}

fn first_of(ask: &Ask<'_>, view: &View, block: &Block) -> Vec<Ordinal> {
    let missing = usize::try_from(ask.missing).unwrap_or(usize::MAX);
    view.usable(&block.cidr()).take(missing).collect()
}

/// Where a host begins to look for a block in a pool: always at the same index for one host and pool, and spread
/// evenly over hosts. Where blocks are single addresses the time and the handle decide too, since every request
/// claims a block and would meet the last one's.
#[must_use]
pub fn start_index(view: &View, ask: &Ask<'_>, pool: &Pool) -> u128 {
    let mut seed = fnv(FNV_BASIS, view.owner().name().as_bytes());
    if pool.block_size == pool.family().bits() {
        let since = view.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        seed = fnv(seed, &since.as_nanos().to_le_bytes());
        seed = fnv(seed, ask.request.handle.as_str().as_bytes());
    }
    let wide = u128::from(mix(seed)) << 64 | u128::from(mix(seed ^ u64::MAX));
    wide % pool.block_count().max(1)
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a.
fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of splitmix64: names that differ in one character end up far apart.
fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}
