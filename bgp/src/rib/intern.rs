use hashbrown::HashTable;

use crate::attributes::{Attributes, NextHop};
use crate::wire::mix;

/// An interned attribute set; equal sets have equal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SetId(pub(crate) u32);

#[derive(Debug)]
struct Slot {
    attributes: Option<Attributes>,
    references: u32,
    hash: u32,
}

/// Every attribute set in use, once, with a count of its users.
#[derive(Debug)]
pub(crate) struct Interner {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashTable<u32>,
    seed: u64,
    empty: Attributes,
}

const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

impl Interner {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            seed,
            empty: Attributes::local(),
        }
    }

    /// The number of `wire` with `next_hop`; the caller holds one reference and must [`Interner::release`] it.
    pub(crate) fn intern(&mut self, next_hop: Option<NextHop>, wire: &[u8]) -> SetId {
        self.insert(next_hop, wire, || Attributes::from_wire(next_hop, wire))
    }

    /// As [`Interner::intern`] for attributes that exist already.
    pub(crate) fn intern_attributes(&mut self, attributes: &Attributes) -> SetId {
        self.insert(attributes.next_hop(), attributes.wire(), || {
            attributes.clone()
        })
    }

    fn insert(
        &mut self,
        next_hop: Option<NextHop>,
        wire: &[u8],
        make: impl FnOnce() -> Attributes,
    ) -> SetId {
        let hash = self.hash(next_hop, wire);
        let slots = &self.slots;
        let equal = |&id: &u32| {
            let slot = &slots[id as usize];
            slot.hash == hash
                && slot
                    .attributes
                    .as_ref()
                    .is_some_and(|set| set.next_hop() == next_hop && set.wire() == wire)
        };
        if let Some(&id) = self.index.find(spread(hash), equal) {
            self.slots[id as usize].references += 1;
            return SetId(id);
        }
        let slot = Slot {
            attributes: Some(make()),
            references: 1,
            hash,
        };
        let id = if let Some(id) = self.free.pop() {
            self.slots[id as usize] = slot;
            id
        } else {
            self.slots.push(slot);
            self.slots.len() as u32 - 1
        };
        let slots = &self.slots;
        self.index
            .insert_unique(spread(hash), id, |&id| spread(slots[id as usize].hash));
        SetId(id)
    }

    pub(crate) fn get(&self, id: SetId) -> &Attributes {
        self.slots
            .get(id.0 as usize)
            .and_then(|slot| slot.attributes.as_ref())
            .unwrap_or(&self.empty)
    }

    pub(crate) fn retain(&mut self, id: SetId) {
        self.slots[id.0 as usize].references += 1;
    }

    pub(crate) fn release(&mut self, id: SetId) {
        let slot = &mut self.slots[id.0 as usize];
        slot.references -= 1;
        if slot.references > 0 {
            return;
        }
        slot.attributes = None;
        let hash = slot.hash;
        if let Ok(found) = self.index.find_entry(spread(hash), |&other| other == id.0) {
            found.remove();
        }
        self.free.push(id.0);
        if self.index.is_empty() {
            *self = Self::new(self.seed);
        }
    }

    /// How many sets are in use.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    fn hash(&self, next_hop: Option<NextHop>, wire: &[u8]) -> u32 {
        let mut hash = self.seed;
        let mut add = |word: u64| hash = mix(hash ^ word, 0xa076_1d64_78bd_642f);
        match next_hop {
            None => add(0),
            Some(NextHop::V4(address)) => add(u64::from(u32::from(address)) << 8 | 1),
            Some(NextHop::V6 { global, .. }) => {
                let global = u128::from(global);
                add(global as u64);
                add((global >> 64) as u64);
            }
        }
        let (words, rest) = wire.as_chunks_stable();
        for word in words {
            add(u64::from_le_bytes(word));
        }
        let mut tail = [0; 8];
        tail[..rest.len()].copy_from_slice(rest);
        add(u64::from_le_bytes(tail));
        add(wire.len() as u64);
        (hash ^ hash >> 32) as u32
    }
}

/// Eight octets at a time, and what is left.
trait Chunks {
    fn as_chunks_stable(&self) -> (impl Iterator<Item = [u8; 8]>, &[u8]);
}

impl Chunks for [u8] {
    fn as_chunks_stable(&self) -> (impl Iterator<Item = [u8; 8]>, &[u8]) {
        let chunks = self.chunks_exact(8);
        let rest = chunks.remainder();
        (chunks.filter_map(|chunk| chunk.try_into().ok()), rest)
    }
}
