use std::collections::BTreeSet;
use std::ops::Bound;

use super::View;
use crate::{Block, Ordinal, Pool, Prefix};

/// Searches in O(log n) of the blocks that are known; none depends on the size of a pool.
impl View {
    /// The host's own blocks of a pool that have an address to give, ascending.
    pub fn open_in<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a Block> + 'a {
        blocks_from(&self.open, pool, &pool.cidr).filter_map(|cidr| self.block(cidr))
    }

    /// The free addresses of a block that are not reserved, in the order of their next use.
    pub fn usable(&self, block: &Prefix) -> impl Iterator<Item = Ordinal> + '_ {
        self.entries.get(block).into_iter().flat_map(|entry| {
            entry
                .block
                .free()
                .filter(|ordinal| !entry.is_reserved(*ordinal))
        })
    }

    /// How many free addresses of a block are not reserved.
    #[must_use]
    pub fn usable_count(&self, block: &Prefix) -> usize {
        self.entries.get(block).map_or(0, super::Entry::usable)
    }

    /// The first block of a pool, from an index on and around, that does not exist and is not reserved as a whole.
    /// Needs a survey; without one, other hosts' blocks look free.
    #[must_use]
    pub fn unclaimed_in(&self, pool: &Pool, from: u128) -> Option<Prefix> {
        let start = pool.block_at(from).or_else(|| pool.block_at(0))?;
        let (first, last) = (pool.cidr.first(), pool.cidr.last());
        self.unclaimed_between(pool, start.first(), last)
            .or_else(|| {
                let before = start.first().checked_sub(1).filter(|end| *end >= first)?;
                self.unclaimed_between(pool, first, before)
            })
    }

    /// The first empty block of another owner that was claimed at least [`RECLAIM_AGE`](Self::RECLAIM_AGE) ago, or of
    /// nobody, from an index of the pool on and around. Needs a survey.
    #[must_use]
    pub fn reclaimable_in(&self, pool: &Pool, from: u128) -> Option<&Block> {
        self.around(&self.reclaimable, pool, from)
    }

    /// The first block of another owner, from an index of the pool on and around, that has an address to give.
    /// Needs a survey.
    #[must_use]
    pub fn borrowable_in(&self, pool: &Pool, from: u128) -> Option<&Block> {
        self.around(&self.borrowable, pool, from)
    }

    /// An address of these pools that is kept for a workload, and not reserved: of the host's own blocks first, then, unless
    /// affinity is strict, of others; the one with the longest lease of them.
    #[must_use]
    pub fn kept_for(&self, workload: &str, pools: &[Pool]) -> Option<(Prefix, Ordinal)> {
        let blocks = self.blocks().filter(|block| block.cooling > 0);
        let blocks = blocks.filter(|block| pools.iter().any(|pool| pool.has_block(&block.cidr())));
        let kept = blocks.flat_map(|block| {
            let own = block.owner() == Some(&self.owner);
            let allowed = own || !self.config.strict_affinity;
            let reserved = |at| {
                self.entries
                    .get(&block.cidr())
                    .is_none_or(|e| e.is_reserved(at))
            };
            let theirs = block
                .kept()
                .filter(move |(_, kept)| allowed && kept.workload == workload);
            theirs
                .filter(move |(at, _)| !reserved(*at))
                .map(move |(at, kept)| ((own, kept.until), (block.cidr(), at)))
        });
        kept.max().map(|(_, found)| found)
    }

    fn around(&self, set: &BTreeSet<Prefix>, pool: &Pool, from: u128) -> Option<&Block> {
        let start = pool.block_at(from).unwrap_or(pool.cidr);
        blocks_from(set, pool, &start)
            .chain(blocks_from(set, pool, &pool.cidr))
            .next()
            .and_then(|cidr| self.block(cidr))
    }

    fn unclaimed_between(&self, pool: &Pool, first: u128, last: u128) -> Option<Prefix> {
        let family = pool.family();
        let span = (1_u128 << (family.bits() - pool.block_size)) - 1;
        let mut at = first;
        while at <= last && at.checked_add(span)? <= last {
            let end = at + span;
            if let Some(run) = self.occupied.meeting(family, at, end) {
                at = (run | span).checked_add(1)?;
            } else if let Some(run) = self.reserved.covering(family, at, end) {
                at = run.checked_add(1)? & !span;
            } else {
                return Prefix::containing(family.address(at), pool.block_size).ok();
            }
        }
        None
    }
}

/// The members of a set that are blocks of a pool, from one on, ascending.
fn blocks_from<'a>(
    set: &'a BTreeSet<Prefix>,
    pool: &'a Pool,
    start: &Prefix,
) -> impl Iterator<Item = &'a Prefix> + 'a {
    // A range of the same first address and a shorter length sorts before every block in it.
    set.range((Bound::Included(*start), Bound::Unbounded))
        .take_while(|cidr| pool.cidr.covers(cidr))
        .filter(|cidr| pool.has_block(cidr))
}
