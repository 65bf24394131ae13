use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

mod blocks;
mod check;
mod search;

use self::blocks::Blocks;
pub use self::check::Refusal;
use crate::family::number;
use crate::ranges::Ranges;
use crate::{Allocation, Bitmap, Block, Family, IpamConfig, Ordinal, Owner, Prefix};

/// What is known about the address space from where one host stands, in plain data: its own blocks, after a
/// survey everybody's, reservations and settings.
///
/// A [`Strategy`](crate::Strategy) reads it. The allocator keeps it equal to the store, and a unit test fills it by hand:
///
/// ```
/// use std::time::SystemTime;
/// use ocicat_ipam::{Block, IpamConfig, Owner, View};
///
/// let now = SystemTime::UNIX_EPOCH;
/// let mut view = View::new(Owner::host("node1"), IpamConfig::default(), &[], now);
/// view.put(Block::new("10.0.0.0/26".parse()?, Owner::host("node1"), now)?);
/// assert_eq!(view.owned(ocicat_ipam::Family::V4), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct View {
    owner: Owner,
    now: SystemTime,
    config: IpamConfig,
    reservations: Vec<Prefix>,
    reserved: Ranges,
    entries: Blocks,
    /// Own blocks that have an address to give.
    open: BTreeSet<Prefix>,
    /// Other owners' blocks, and blocks of nobody, that have an address to give.
    borrowable: BTreeSet<Prefix>,
    /// Other owners' blocks that are empty and were claimed long enough ago, and empty blocks of nobody.
    reclaimable: BTreeSet<Prefix>,
    /// Own blocks with addresses that cool down.
    resting: BTreeSet<Prefix>,
    /// Every block that is known to exist.
    occupied: Ranges,
    owned: [u32; 2],
    surveyed: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    block: Block,
    /// The ordinals that are reserved; `None` when none is.
    reserved: Option<Bitmap>,
    filed: Filed,
}

/// In which of the view's sets a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Filed {
    open: bool,
    borrowable: bool,
    reclaimable: bool,
    resting: bool,
}

impl View {
    /// How long ago an empty block must have been claimed before another host may reclaim it: one minute, so that
    /// a host which has just claimed it has the time to use it.
    pub const RECLAIM_AGE: Duration = Duration::from_secs(60);

    /// A view without blocks, at `now`.
    #[must_use]
    pub fn new(owner: Owner, config: IpamConfig, reservations: &[Prefix], now: SystemTime) -> Self {
        let mut reserved = Ranges::default();
        reservations.iter().for_each(|range| reserved.insert(range));
        Self {
            owner,
            now,
            config,
            reservations: reservations.to_vec(),
            reserved,
            entries: Blocks::default(),
            open: BTreeSet::new(),
            borrowable: BTreeSet::new(),
            reclaimable: BTreeSet::new(),
            resting: BTreeSet::new(),
            occupied: Ranges::default(),
            owned: [0; 2],
            surveyed: false,
        }
    }

    /// Begins another request with the same blocks: forgets what was surveyed, which may have changed, and takes
    /// over the time, the settings and the reservations.
    pub fn begin(&mut self, config: IpamConfig, reservations: &[Prefix], now: SystemTime) {
        if self.surveyed || self.reservations != reservations || self.config != config {
            let entries = std::mem::take(&mut self.entries);
            *self = Self::new(self.owner.clone(), config, reservations, now);
            for entry in entries.into_values() {
                if entry.block.owner() == Some(&self.owner) {
                    self.put(entry.block);
                }
            }
        }
        self.now = now;
        for cidr in self.resting.clone() {
            if let Some(entry) = self.entries.get_mut(&cidr) {
                entry.block.thaw(now, self.config.cooldown);
                self.index(&cidr);
            }
        }
    }

    /// Adds a block, or replaces what was known of it.
    pub fn put(&mut self, mut block: Block) {
        let cidr = block.cidr();
        self.remove(&cidr);
        self.occupied.insert(&cidr);
        block.thaw(self.now, self.config.cooldown);
        if block.owner() == Some(&self.owner) {
            self.owned[cidr.family() as usize] += 1;
        }
        let reserved = self.reserved_in(&block);
        let filed = Filed::default();
        let entry = Entry {
            block,
            reserved,
            filed,
        };
        self.entries.insert(cidr, entry);
        self.index(&cidr);
    }

    /// Forgets a block. Its range still counts as taken until the next survey, so that a strategy does not try
    /// it for ever.
    pub fn remove(&mut self, cidr: &Prefix) {
        if let Some(entry) = self.entries.remove(cidr) {
            if entry.block.owner() == Some(&self.owner) {
                self.owned[cidr.family() as usize] -= 1;
            }
        }
        for set in [
            &mut self.open,
            &mut self.borrowable,
            &mut self.reclaimable,
            &mut self.resting,
        ] {
            set.remove(cidr);
        }
    }

    /// Notes that a range is taken by a block of which nothing else is known.
    pub fn occupy(&mut self, cidr: &Prefix) {
        self.occupied.insert(cidr);
    }

    /// Notes that every block of everybody has been [`put`](Self::put).
    pub fn set_surveyed(&mut self) {
        self.surveyed = true;
    }

    /// Takes addresses of a known block for a holder. Nothing is checked but that they are free; [`check`](Self::check)
    /// is the gate for what a strategy proposes.
    pub fn take(
        &mut self,
        cidr: &Prefix,
        ordinals: &[Ordinal],
        by: &Arc<Allocation>,
    ) -> Vec<IpAddr> {
        let Some(entry) = self.entries.get_mut(cidr) else {
            return Vec::new();
        };
        let mut taken = Vec::with_capacity(ordinals.len());
        for ordinal in ordinals {
            if entry.block.take(*ordinal, by) {
                taken.extend(entry.block.address(*ordinal));
            }
        }
        self.index(cidr);
        taken
    }

    /// Gives back addresses that were taken and not written.
    pub fn put_back(&mut self, cidr: &Prefix, ordinals: &[Ordinal]) {
        if let Some(entry) = self.entries.get_mut(cidr) {
            ordinals
                .iter()
                .rev()
                .for_each(|ordinal| entry.block.put_back(*ordinal));
            self.index(cidr);
        }
    }

    /// Takes an address that is kept for this workload; the address, and what was stored with it.
    pub(crate) fn take_kept(
        &mut self,
        cidr: &Prefix,
        ordinal: Ordinal,
        workload: &str,
        by: &Arc<Allocation>,
    ) -> Option<(IpAddr, Arc<Allocation>)> {
        let block = &mut self.entries.get_mut(cidr)?.block;
        let kept = block.take_kept(ordinal, workload, by)?;
        let address = block.address(ordinal)?;
        self.index(cidr);
        Some((address, kept))
    }

    /// Gives back an address that was kept.
    pub(crate) fn restore(&mut self, cidr: &Prefix, ordinal: Ordinal, kept: Arc<Allocation>) {
        if let Some(entry) = self.entries.get_mut(cidr) {
            entry.block.restore(ordinal, kept);
            self.index(cidr);
        }
    }

    pub(crate) fn block_mut(&mut self, cidr: &Prefix) -> Option<&mut Block> {
        self.entries.get_mut(cidr).map(|entry| &mut entry.block)
    }

    /// Who looks.
    #[must_use]
    pub const fn owner(&self) -> &Owner {
        &self.owner
    }

    /// When.
    #[must_use]
    pub const fn now(&self) -> SystemTime {
        self.now
    }

    /// The cluster-wide settings.
    #[must_use]
    pub const fn config(&self) -> &IpamConfig {
        &self.config
    }

    /// The ranges from which nothing is assigned.
    #[must_use]
    pub fn reservations(&self) -> &[Prefix] {
        &self.reservations
    }

    /// A block that is known.
    #[must_use]
    pub fn block(&self, cidr: &Prefix) -> Option<&Block> {
        self.entries.get(cidr).map(|entry| &entry.block)
    }

    /// Every block that is known, ascending; all there are after a survey.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> + '_ {
        self.entries.values().map(|entry| &entry.block)
    }

    /// How many blocks of a family the host owns.
    #[must_use]
    pub const fn owned(&self, family: Family) -> u32 {
        self.owned[family as usize]
    }

    /// Whether the blocks of everybody are known. When not, only own blocks are.
    #[must_use]
    pub const fn surveyed(&self) -> bool {
        self.surveyed
    }

    /// Whether an address is reserved.
    #[must_use]
    pub fn is_reserved(&self, address: IpAddr) -> bool {
        self.reserved.contains(Family::of(address), number(address))
    }

    fn reserved_in(&self, block: &Block) -> Option<Bitmap> {
        let cidr = block.cidr();
        let (first, last) = (cidr.first(), cidr.last());
        self.reserved.meeting(cidr.family(), first, last)?;
        let mut set = Bitmap::empty(usize::from(block.size()));
        for (from, to) in self.reserved.within(cidr.family(), first, last) {
            for at in from..=to {
                if let Ok(ordinal) = u16::try_from(at - first) {
                    set.insert(Ordinal::new(ordinal));
                }
            }
        }
        (!set.is_empty()).then_some(set)
    }

    /// Files a block under what can be done with it.
    fn index(&mut self, cidr: &Prefix) {
        let Some(entry) = self.entries.get_mut(cidr) else {
            return;
        };
        let block = &entry.block;
        let own = block.owner() == Some(&self.owner);
        let gives = entry.usable() > 0;
        let empty = !own && block.is_empty();
        let now = Filed {
            open: own && gives,
            borrowable: !own && gives,
            reclaimable: empty && is_old(block, self.now),
            resting: own && block.cooling > 0,
        };
        let before = std::mem::replace(&mut entry.filed, now);
        if before == now {
            return;
        }
        for (set, before, now) in [
            (&mut self.open, before.open, now.open),
            (&mut self.borrowable, before.borrowable, now.borrowable),
            (&mut self.reclaimable, before.reclaimable, now.reclaimable),
            (&mut self.resting, before.resting, now.resting),
        ] {
            if now && !before {
                set.insert(*cidr);
            } else if before && !now {
                set.remove(cidr);
            }
        }
    }
}

/// Whether an empty block may be taken from its owner, if it has one.
fn is_old(block: &Block, now: SystemTime) -> bool {
    block.owner().is_none()
        || block.claimed_at().is_none_or(|at| {
            let age = now.duration_since(at);
            age.is_ok_and(|age| age >= View::RECLAIM_AGE)
        })
}

impl Entry {
    fn usable(&self) -> usize {
        self.reserved.as_ref().map_or_else(
            || usize::from(self.block.free_count()),
            |reserved| self.block.free_set().count_without(reserved),
        )
    }

    fn is_reserved(&self, ordinal: Ordinal) -> bool {
        self.reserved
            .as_ref()
            .is_some_and(|set| set.contains(ordinal))
    }
}
