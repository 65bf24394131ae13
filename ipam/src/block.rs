use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

mod bitmap;
mod queue;
mod record;
mod rest;

pub use self::bitmap::Bitmap;
use self::queue::Queue;
pub use self::record::{AttributeRecord, BlockDefect, BlockRecord, BlockRecordError};
use crate::family::number;
use crate::{Family, HandleId, Kept, Owner, Prefix};

/// The place of an address in its block: 0 for the first, at most 4,095.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(u16);

impl Ordinal {
    /// The ordinal of this number. One beyond a block's size names no address of it, and is refused there.
    #[must_use]
    pub const fn new(value: u16) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<Ordinal> for u16 {
    fn from(ordinal: Ordinal) -> Self {
        ordinal.value()
    }
}

impl From<Ordinal> for usize {
    fn from(ordinal: Ordinal) -> Self {
        ordinal.index()
    }
}

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who holds an address, and what is known about it. Addresses that were taken together share one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Allocation {
    /// The handle by which the address is released.
    pub handle: Option<HandleId>,
    /// What the holder said about itself: `pod`, `namespace`, `node`, `type`, `timestamp` and others.
    pub attributes: BTreeMap<String, String>,
    /// The attributes of a second holder, while a virtual machine moves between nodes.
    pub alternate: BTreeMap<String, String>,
    /// Set when the address has been released and is cooling down: it is neither held nor free, and nothing else is
    /// known about it.
    pub released_at: Option<SystemTime>,
    /// Set when the address has been released and is kept for the workload that had it: it is neither held nor free,
    /// and nothing else is known about it.
    pub kept: Option<Kept>,
}

impl Allocation {
    /// An address held under a handle.
    #[must_use]
    pub fn new(handle: HandleId, attributes: BTreeMap<String, String>) -> Self {
        Self {
            handle: Some(handle),
            attributes,
            ..Self::default()
        }
    }

    /// With the attribute `node` where it has none, so that the addresses of a host that is gone can be told.
    pub(crate) fn of_host(mut self, owner: &Owner) -> Self {
        if let Some(node) = owner.node() {
            self.attributes
                .entry("node".to_owned())
                .or_insert_with(|| node.to_owned());
        }
        self
    }
}

/// The prefix length is none that blocks have: 20 to 32 for IPv4, 116 to 128 for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an {family} block cannot be a /{length}")]
pub struct BlockSizeError {
    /// The address family.
    pub family: Family,
    /// The prefix length that was asked for.
    pub length: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) allocation: Option<Arc<Allocation>>,
    /// The number of the write that took the address.
    pub(crate) sequence: u64,
}

/// A run of addresses with one owner, and the only truth about which of them are held.
///
/// Free addresses are in a queue: they leave at its head and come back at its tail, so that an address rests as
/// long as possible. Every operation on one address is O(1); nothing depends on the size of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub(crate) cidr: Prefix,
    pub(crate) owner: Option<Owner>,
    pub(crate) claimed_at: Option<SystemTime>,
    pub(crate) slots: Vec<Slot>,
    free: Queue,
    pub(crate) cooling: u16,
    pub(crate) sequence: u64,
    defects: Vec<BlockDefect>,
}

impl Block {
    /// A block without holders, claimed at `now`. Its sequence number starts at `now` in nanoseconds since 1970,
    /// so that a block which is deleted and made again never repeats a number.
    ///
    /// # Errors
    /// [`BlockSizeError`] when the range has not the size of a block.
    pub fn new(cidr: Prefix, owner: Owner, now: SystemTime) -> Result<Self, BlockSizeError> {
        let mut block = Self::vacant(cidr)?;
        block.free = Queue::full(block.size());
        block.owner = Some(owner);
        block.claimed_at = Some(now);
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        block.sequence = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2);
        Ok(block)
    }

    /// A block in which nothing is free and nothing is held; storage is read into it.
    pub(crate) fn vacant(cidr: Prefix) -> Result<Self, BlockSizeError> {
        let (family, length) = (cidr.family(), cidr.length());
        let host_bits = family.bits() - length;
        if host_bits > 12 {
            return Err(BlockSizeError { family, length });
        }
        let size = 1_u16 << host_bits;
        Ok(Self {
            cidr,
            owner: None,
            claimed_at: None,
            slots: vec![Slot::default(); usize::from(size)],
            free: Queue::empty(size),
            cooling: 0,
            sequence: 0,
            defects: Vec::new(),
        })
    }

    /// The addresses of the block.
    #[must_use]
    pub const fn cidr(&self) -> Prefix {
        self.cidr
    }

    /// Whom the block belongs to; `None` when its owner gave it up while others held addresses in it.
    #[must_use]
    pub const fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// When the owner claimed the block.
    #[must_use]
    pub const fn claimed_at(&self) -> Option<SystemTime> {
        self.claimed_at
    }

    /// The number of the block's last write.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many addresses the block has: 1 to 4,096.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // at most 4096, by construction
    pub fn size(&self) -> u16 {
        self.slots.len() as u16
    }

    /// How many addresses are free.
    #[must_use]
    pub fn free_count(&self) -> u16 {
        self.free.count()
    }

    /// How many addresses are held; those that cool down or are kept are not.
    #[must_use]
    pub fn held_count(&self) -> u16 {
        self.size() - self.free.count() - self.cooling
    }

    /// Whether no address is held, cools down or is kept: the block can be deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.count() == self.size()
    }

    /// Whether nothing is held, cools down or is kept for a workload, but what the host itself keeps at the block's ends
    /// ([`HostReserved`](crate::HostReserved)): the block can be given up.
    #[must_use]
    pub fn is_vacant(&self) -> bool {
        let kept = |held: &Allocation| {
            held.handle
                .as_ref()
                .is_some_and(|h| h.as_str() == crate::HostReserved::HANDLE)
        };
        self.is_empty() || self.records().all(|(_, held)| kept(held))
    }

    /// What was wrong in the block when it was read.
    #[must_use]
    pub fn defects(&self) -> &[BlockDefect] {
        &self.defects
    }

    /// The free ordinals as a set.
    #[must_use]
    pub fn free_set(&self) -> &Bitmap {
        self.free.members()
    }

    /// The free ordinals in the order of their next use.
    pub fn free(&self) -> impl Iterator<Item = Ordinal> + '_ {
        self.free.iter()
    }

    /// Whether the ordinal is free.
    #[must_use]
    pub fn is_free(&self, ordinal: Ordinal) -> bool {
        self.free.contains(ordinal)
    }

    /// The address at an ordinal; `None` past the block's end.
    #[must_use]
    pub fn address(&self, ordinal: Ordinal) -> Option<IpAddr> {
        (ordinal.0 < self.size()).then(|| {
            self.cidr
                .family()
                .address(self.cidr.first() + u128::from(ordinal.0))
        })
    }

    /// The ordinal of an address; `None` when it is none of the block's.
    #[must_use]
    pub fn ordinal(&self, address: IpAddr) -> Option<Ordinal> {
        if !self.cidr.contains(address) {
            return None;
        }
        u16::try_from(number(address) - self.cidr.first())
            .ok()
            .map(Ordinal)
    }

    /// The record of an address that is held, cools down or is kept.
    #[must_use]
    pub fn allocation(&self, ordinal: Ordinal) -> Option<&Arc<Allocation>> {
        self.slots.get(ordinal.index())?.allocation.as_ref()
    }

    /// The number of the write that took an address; `None` when it is free.
    #[must_use]
    pub fn sequence_of(&self, ordinal: Ordinal) -> Option<u64> {
        let slot = self.slots.get(ordinal.index())?;
        slot.allocation.is_some().then_some(slot.sequence)
    }

    /// Every address that is held, ascending; those that cool down or are kept are left out.
    pub fn held(&self) -> impl Iterator<Item = (Ordinal, &Arc<Allocation>)> + '_ {
        self.records().filter(|(_, allocation)| !allocation.rests())
    }

    /// Every address held under a handle, ascending.
    pub fn held_by<'a>(&'a self, handle: &'a HandleId) -> impl Iterator<Item = Ordinal> + 'a {
        self.held()
            .filter(move |(_, allocation)| allocation.handle.as_ref() == Some(handle))
            .map(|(ordinal, _)| ordinal)
    }

    /// Every address that is held, cools down or is kept, ascending.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Ordinal, &Arc<Allocation>)> + '_ {
        (0..)
            .map(Ordinal)
            .zip(&self.slots)
            .filter_map(|(ordinal, slot)| {
                slot.allocation
                    .as_ref()
                    .map(|allocation| (ordinal, allocation))
            })
    }

    /// Begins a write: addresses that are taken from here on carry the new sequence number.
    pub fn advance(&mut self) {
        self.defects.clear();
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Takes an address for a holder; false, and nothing changed, when it is not free.
    #[must_use]
    pub fn take(&mut self, ordinal: Ordinal, allocation: &Arc<Allocation>) -> bool {
        if !self.free.remove(ordinal) {
            return false;
        }
        self.slots[ordinal.index()] = Slot {
            allocation: Some(Arc::clone(allocation)),
            sequence: self.sequence,
        };
        true
    }

    /// Undoes a [`take`](Self::take) that was not written: the address is again the next to be used.
    pub fn put_back(&mut self, ordinal: Ordinal) {
        if self.clear(ordinal) {
            self.free.push_front(ordinal);
        }
    }

    /// Gives the block to an owner, or to nobody; the claim begins at `now`.
    pub fn set_owner(&mut self, owner: Option<Owner>, now: SystemTime) {
        self.claimed_at = owner.as_ref().map(|_| now);
        self.owner = owner;
    }

    fn clear(&mut self, ordinal: Ordinal) -> bool {
        let Some(slot) = self.slots.get_mut(ordinal.index()) else {
            return false;
        };
        let Some(was) = slot.allocation.take() else {
            return false;
        };
        slot.sequence = 0;
        if was.rests() {
            self.cooling -= 1;
        }
        true
    }
}
