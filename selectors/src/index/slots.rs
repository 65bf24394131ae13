use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Values under keys of the caller's, each at a small number that stays the same as long as the key is there.
#[derive(Debug)]
pub(super) struct Slots<K, V> {
    numbers: BTreeMap<K, u32>,
    entries: Vec<Option<(K, V)>>,
    free: Vec<u32>,
}

impl<K: Clone + Ord, V> Slots<K, V> {
    pub(super) const fn new() -> Self {
        Self {
            numbers: BTreeMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn slot(&self, key: &K) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    pub(super) fn key(&self, slot: u32) -> Option<&K> {
        self.entry(slot).map(|(key, _)| key)
    }

    pub(super) fn at(&self, slot: u32) -> Option<&V> {
        self.entry(slot).map(|(_, value)| value)
    }

    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut V> {
        let entry = self.entries.get_mut(slot as usize)?.as_mut();
        entry.map(|(_, value)| value)
    }

    /// All slots in use.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        self.numbers.values().copied()
    }

    /// Puts the value in the key's slot, and gives back the one that was there.
    pub(super) fn insert(&mut self, key: K, value: V) -> (u32, Option<V>) {
        if let Some(slot) = self.slot(&key) {
            let old = self.at_mut(slot).map(|old| core::mem::replace(old, value));
            return (slot, old);
        }
        let entry = Some((key.clone(), value));
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.entries.get_mut(slot as usize) {
                    *place = entry;
                }
                slot
            }
            None => {
                self.entries.push(entry);
                // Four thousand million entries do not fit into memory before the number does.
                u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(key, slot);
        (slot, None)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.numbers.remove(key)?;
        let (_, value) = self.entries.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(value)
    }

    fn entry(&self, slot: u32) -> Option<&(K, V)> {
        self.entries.get(slot as usize)?.as_ref()
    }
}
