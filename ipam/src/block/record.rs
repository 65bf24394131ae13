use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::{Allocation, Block, BlockSizeError, Ordinal, Slot};
use crate::{HandleId, Kept, Owner, OwnerError, Prefix, Timestamp};

/// A block in the form in which Calico stores it; under the feature `serde` its JSON, field for field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockRecord {
    /// The block's range.
    pub cidr: Prefix,
    /// The owner, `host:NAME` or `virtual:NAME`.
    #[cfg_attr(feature = "serde", serde(default))]
    pub affinity: Option<String>,
    /// When the owner claimed it.
    #[cfg_attr(
        feature = "serde",
        serde(
            default,
            alias = "affinityClaimTime",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub affinity_claim_time: Option<Timestamp>,
    /// Nothing reads it any more; old versions want it to be there.
    #[cfg_attr(feature = "serde", serde(default, rename = "strictAffinity"))]
    pub strict_affinity: bool,
    /// For each address the place of its record in `attributes`; nothing when it is free.
    pub allocations: Vec<Option<usize>>,
    /// The free ordinals, in the order of their next use.
    #[cfg_attr(feature = "serde", serde(default))]
    pub unallocated: Vec<u32>,
    /// The records of the addresses that are held, each once.
    #[cfg_attr(feature = "serde", serde(default))]
    pub attributes: Vec<AttributeRecord>,
    /// The number of the last write.
    #[cfg_attr(feature = "serde", serde(default, rename = "sequenceNumber"))]
    pub sequence_number: u64,
    /// The number of the write that took an address, by its ordinal as text.
    #[cfg_attr(
        feature = "serde",
        serde(default, rename = "sequenceNumberForAllocation")
    )]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// The first half of a deletion in two steps; a store that deletes so hides such a record.
    #[cfg_attr(feature = "serde", serde(default))]
    pub deleted: bool,
}

/// The record of a held address in the form in which Calico stores it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
pub struct AttributeRecord {
    /// The handle.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub handle_id: Option<String>,
    /// The holder's attributes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "BTreeMap::is_empty"))]
    pub secondary: BTreeMap<String, String>,
    /// The attributes of a second holder.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "alternateOwnerAttrs",
            skip_serializing_if = "BTreeMap::is_empty"
        )
    )]
    pub alternate_owner_attrs: BTreeMap<String, String>,
    /// When the address was released, while it cools down.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "releasedAt", skip_serializing_if = "Option::is_none")
    )]
    pub released_at: Option<Timestamp>,
}

/// Why a record is no block at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockRecordError {
    /// The range has not the size of a block.
    #[error("cidr: {0}")]
    Size(#[from] BlockSizeError),
    /// The owner cannot be understood.
    #[error("affinity: {0}")]
    Owner(#[from] OwnerError),
    /// There are not as many entries as addresses.
    #[error("allocations: {found} entries for {expected} addresses")]
    Length {
        /// How many addresses the range has.
        expected: usize,
        /// How many entries there are.
        found: usize,
    },
}

/// What is wrong in a block that could be read: a leak check reports it. The address concerned counts as held, where
/// that is in doubt, and the next write of the block is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockDefect {
    /// An address is both free and held.
    FreeAndHeld(Ordinal),
    /// An address is neither free nor held; it counts as free, after the others.
    NeitherFreeNorHeld(Ordinal),
    /// A held address names a record that is not there.
    NoRecord(Ordinal),
    /// An ordinal among the free ones is none of the block's, or there twice.
    BadFree(u32),
}

impl fmt::Display for BlockDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreeAndHeld(at) => write!(f, "ordinal {at} is both free and allocated"),
            Self::NeitherFreeNorHeld(at) => write!(f, "ordinal {at} is neither free nor allocated"),
            Self::NoRecord(at) => write!(f, "ordinal {at} names an attribute that does not exist"),
            Self::BadFree(at) => {
                write!(f, "unallocated ordinal {at} is not of the block, or twice")
            }
        }
    }
}

impl Block {
    /// Reads a stored block. What is wrong in it and can be understood is kept as [`defects`](Self::defects).
    ///
    /// # Errors
    /// [`BlockRecordError`] when it is no block at all.
    pub fn from_record(record: BlockRecord) -> Result<Self, BlockRecordError> {
        let mut block = Self::vacant(record.cidr)?;
        block.owner = match record.affinity.as_deref() {
            None | Some("") => None,
            Some(owner) => Some(owner.parse::<Owner>()?),
        };
        block.claimed_at = record.affinity_claim_time.map(|time| time.0);
        block.sequence = record.sequence_number;
        let (expected, found) = (block.slots.len(), record.allocations.len());
        if expected != found {
            return Err(BlockRecordError::Length { expected, found });
        }
        let attributes: Vec<_> = record
            .attributes
            .into_iter()
            .map(|one| Arc::new(Allocation::from(one)))
            .collect();
        for (ordinal, place) in (0..).map(Ordinal).zip(record.allocations) {
            let Some(place) = place else { continue };
            let allocation = attributes.get(place).cloned().unwrap_or_else(|| {
                block.defects.push(BlockDefect::NoRecord(ordinal));
                Arc::default()
            });
            block.cooling += u16::from(allocation.rests());
            block.slots[ordinal.index()] = Slot {
                allocation: Some(allocation),
                sequence: 0,
            };
        }
        for (ordinal, sequence) in record.sequence_number_for_allocation {
            let place = ordinal
                .parse()
                .ok()
                .and_then(|at: usize| block.slots.get_mut(at));
            if let Some(slot) = place.filter(|slot| slot.allocation.is_some()) {
                slot.sequence = sequence;
            }
        }
        block.read_free(&record.unallocated);
        Ok(block)
    }

    fn read_free(&mut self, unallocated: &[u32]) {
        for &number in unallocated {
            let ordinal = u16::try_from(number)
                .ok()
                .map(Ordinal)
                .filter(|at| at.0 < self.size());
            match ordinal {
                Some(at) if self.allocation(at).is_some() => {
                    self.defects.push(BlockDefect::FreeAndHeld(at));
                }
                Some(at) if !self.free.contains(at) => self.free.push_back(at),
                _ => self.defects.push(BlockDefect::BadFree(number)),
            }
        }
        for ordinal in (0..self.size()).map(Ordinal) {
            if self.allocation(ordinal).is_none() && !self.free.contains(ordinal) {
                self.defects.push(BlockDefect::NeitherFreeNorHeld(ordinal));
                self.free.push_back(ordinal);
            }
        }
    }

    /// The block in the form in which it is stored.
    #[must_use]
    pub fn to_record(&self) -> BlockRecord {
        let mut places: HashMap<&Allocation, usize> = HashMap::new();
        let mut attributes = Vec::new();
        let mut sequences = BTreeMap::new();
        let mut allocations = Vec::with_capacity(self.slots.len());
        for (ordinal, slot) in self.slots.iter().enumerate() {
            allocations.push(slot.allocation.as_deref().map(|allocation| {
                sequences.insert(ordinal.to_string(), slot.sequence);
                *places.entry(allocation).or_insert_with(|| {
                    attributes.push(AttributeRecord::from(allocation));
                    attributes.len() - 1
                })
            }));
        }
        BlockRecord {
            cidr: self.cidr,
            affinity: self.owner.as_ref().map(ToString::to_string),
            affinity_claim_time: self.claimed_at.map(Timestamp),
            strict_affinity: false,
            allocations,
            unallocated: self.free().map(|ordinal| u32::from(ordinal.0)).collect(),
            attributes,
            sequence_number: self.sequence,
            sequence_number_for_allocation: sequences,
            deleted: false,
        }
    }
}

impl From<AttributeRecord> for Allocation {
    fn from(record: AttributeRecord) -> Self {
        let kept = Kept::of_record(record.handle_id.as_deref(), &record.secondary);
        if kept.is_some() {
            return Self {
                kept,
                ..Self::default()
            };
        }
        Self {
            handle: record.handle_id.as_deref().map(HandleId::new),
            attributes: record.secondary,
            alternate: record.alternate_owner_attrs,
            released_at: record.released_at.map(|time| time.0),
            kept,
        }
    }
}

impl From<&Allocation> for AttributeRecord {
    fn from(allocation: &Allocation) -> Self {
        if let Some((handle, secondary)) = allocation.kept.as_ref().map(Kept::to_record) {
            return Self {
                handle_id: Some(handle.to_string()),
                secondary,
                ..Self::default()
            };
        }
        Self {
            handle_id: allocation.handle.as_ref().map(ToString::to_string),
            secondary: allocation.attributes.clone(),
            alternate_owner_attrs: allocation.alternate.clone(),
            released_at: allocation.released_at.map(Timestamp),
        }
    }
}
