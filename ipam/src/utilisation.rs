use crate::ranges::Ranges;
use crate::{Block, Family, Ipam, Owner, Pool, Prefix, StoreError};

/// How full a pool is, and its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolUtilisation {
    /// The pool's name; `None` for blocks that lie in no pool.
    pub name: Option<String>,
    /// The pool's range; `None` for blocks that lie in no pool.
    pub cidr: Option<Prefix>,
    /// Its addresses.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub counts: Counts,
    /// Its blocks, ascending.
    pub blocks: Vec<BlockUtilisation>,
}

/// How full a block is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BlockUtilisation {
    /// The block's range.
    pub cidr: Prefix,
    /// Its owner, `host:NAME` or `virtual:NAME`.
    #[cfg_attr(feature = "serde", serde(serialize_with = "text"))]
    pub owner: Option<Owner>,
    /// Its addresses.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub counts: Counts,
}

/// Numbers of addresses: `capacity` is the sum of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counts {
    /// All addresses; of `::/0`, one fewer than there are.
    pub capacity: u128,
    /// Those that are held, reserved or not.
    pub in_use: u128,
    /// Those that are reserved and not held.
    pub reserved: u128,
    /// Those that were released and cool down, and are not reserved.
    pub cooling: u128,
    /// Those that are kept for the workloads that had them, and are not reserved.
    pub kept: u128,
    /// Those that can be assigned.
    pub available: u128,
}

#[cfg(feature = "serde")]
fn text<S: serde::Serializer>(owner: &Option<Owner>, serializer: S) -> Result<S::Ok, S::Error> {
    match owner {
        Some(owner) => serializer.collect_str(owner),
        None => serializer.serialize_none(),
    }
}

impl Ipam {
    /// How full every pool and every block is. Blocks that lie in no pool come last, in an entry without name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn utilisation(&self) -> Result<Vec<PoolUtilisation>, StoreError> {
        let nobody = crate::Audience::new(Owner::host(""), None);
        let pools = self.store().pools(&nobody).await?;
        let reservations = self.store().reservations().await?;
        let blocks = self.store().all_blocks().await?.records;
        let blocks: Vec<_> = blocks.into_iter().map(|stored| stored.value).collect();
        Ok(utilisation(&pools, &blocks, &reservations))
    }
}

/// How full pools are, from plain data.
#[must_use]
pub fn utilisation(
    pools: &[Pool],
    blocks: &[Block],
    reservations: &[Prefix],
) -> Vec<PoolUtilisation> {
    let mut reserved = Ranges::default();
    reservations.iter().for_each(|range| reserved.insert(range));
    let mut all: Vec<_> = pools
        .iter()
        .map(|pool| {
            let within = blocks
                .iter()
                .filter(|block| pool.cidr.covers(&block.cidr()));
            let mut found = of(Some(pool), within, &reserved);
            let free = span(&pool.cidr) - found.counts.capacity.min(span(&pool.cidr));
            let elsewhere = count(&reserved, &pool.cidr)
                - found
                    .blocks
                    .iter()
                    .map(|one| count(&reserved, &one.cidr))
                    .sum::<u128>();
            found.counts.capacity += free;
            found.counts.reserved += elsewhere;
            found.counts.available += free - elsewhere;
            found
        })
        .collect();
    let outside = |block: &&Block| !pools.iter().any(|pool| pool.cidr.covers(&block.cidr()));
    let orphans = of(None, blocks.iter().filter(outside), &reserved);
    if !orphans.blocks.is_empty() {
        all.push(orphans);
    }
    all
}

/// The blocks' own addresses, summed.
fn of<'a>(
    pool: Option<&Pool>,
    blocks: impl Iterator<Item = &'a Block>,
    reserved: &Ranges,
) -> PoolUtilisation {
    let mut counts = Counts::default();
    let mut blocks: Vec<_> = blocks
        .map(|block| block_utilisation(block, reserved))
        .collect();
    blocks.sort_by_key(|block| block.cidr);
    for block in &blocks {
        counts.capacity += block.counts.capacity;
        counts.in_use += block.counts.in_use;
        counts.reserved += block.counts.reserved;
        counts.cooling += block.counts.cooling;
        counts.kept += block.counts.kept;
        counts.available += block.counts.available;
    }
    let name = pool.map(|pool| pool.name.clone());
    PoolUtilisation {
        name,
        cidr: pool.map(|pool| pool.cidr),
        counts,
        blocks,
    }
}

fn block_utilisation(block: &Block, reserved: &Ranges) -> BlockUtilisation {
    let cidr = block.cidr();
    let mut counts = Counts {
        capacity: span(&cidr),
        ..Counts::default()
    };
    let is_reserved = |at: u16| reserved.contains(cidr.family(), cidr.first() + u128::from(at));
    counts.in_use = u128::from(block.held_count());
    let held = block
        .held()
        .filter(|(at, _)| is_reserved(at.value()))
        .count();
    counts.reserved = count(reserved, &cidr) - held as u128;
    let resting = |kept: bool| {
        let records = block
            .records()
            .filter(move |(_, record)| record.rests() && record.kept.is_some() == kept);
        records.filter(|(at, _)| !is_reserved(at.value())).count() as u128
    };
    (counts.cooling, counts.kept) = (resting(false), resting(true));
    counts.available =
        counts.capacity - counts.in_use - counts.reserved - counts.cooling - counts.kept;
    BlockUtilisation {
        cidr,
        owner: block.owner().cloned(),
        counts,
    }
}

/// How many addresses of a range are reserved.
fn count(reserved: &Ranges, range: &Prefix) -> u128 {
    let family: Family = range.family();
    let parts = reserved.within(family, range.first(), range.last());
    parts
        .map(|(first, last)| (last - first).saturating_add(1))
        .fold(0, u128::saturating_add)
}

fn span(range: &Prefix) -> u128 {
    (range.last() - range.first()).saturating_add(1)
}
