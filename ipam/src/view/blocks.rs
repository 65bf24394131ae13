use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::Entry;
use crate::Prefix;

/// Blocks by range: found in O(1), listed in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    entries: HashMap<Prefix, Entry, BuildHasherDefault<Mix>>,
    order: BTreeSet<Prefix>,
}

impl Blocks {
    pub(super) fn get(&self, cidr: &Prefix) -> Option<&Entry> {
        self.entries.get(cidr)
    }

    pub(super) fn get_mut(&mut self, cidr: &Prefix) -> Option<&mut Entry> {
        self.entries.get_mut(cidr)
    }

    pub(super) fn insert(&mut self, cidr: Prefix, entry: Entry) {
        self.order.insert(cidr);
        self.entries.insert(cidr, entry);
    }

    pub(super) fn remove(&mut self, cidr: &Prefix) -> Option<Entry> {
        self.order.remove(cidr);
        self.entries.remove(cidr)
    }

    /// Ascending.
    pub(super) fn values(&self) -> impl Iterator<Item = &Entry> + '_ {
        self.order.iter().filter_map(|cidr| self.entries.get(cidr))
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = Entry> {
        self.entries.into_values()
    }
}

/// Mixes the few bytes of a range. Ranges are laid out by whoever runs the cluster: nobody picks them to collide.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number.unsigned_abs() as u64);
    }
}
