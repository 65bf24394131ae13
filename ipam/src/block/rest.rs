//! What becomes of an address between two holders.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Block, Ordinal, Slot};
use crate::{Allocation, Kept};

impl Block {
    /// Frees an address that is held: at once, or to cool down from `now` when `cooldown` is not zero. One that was taken
    /// for a workload from a pool with a lease is kept for that workload.
    /// False, and nothing changed, when it is not held.
    pub fn release(&mut self, ordinal: Ordinal, now: SystemTime, cooldown: Duration) -> bool {
        let Some(slot) = self.slots.get_mut(ordinal.index()) else {
            return false;
        };
        let Some(held) = slot.allocation.as_ref().filter(|held| !held.rests()) else {
            return false;
        };
        let resting = match held.kept_from(now) {
            Some(kept) => Allocation {
                kept: Some(kept),
                ..Allocation::default()
            },
            None if cooldown.is_zero() => return self.discard(ordinal),
            None => Allocation {
                released_at: Some(now),
                ..Allocation::clone(held)
            },
        };
        slot.allocation = Some(Arc::new(resting));
        self.cooling += 1;
        true
    }

    /// Frees an address that is held, cools down or is kept, for anybody at once. False when it was free.
    pub fn discard(&mut self, ordinal: Ordinal) -> bool {
        let freed = self.clear(ordinal);
        if freed {
            self.free.push_back(ordinal);
        }
        freed
    }

    /// Frees every address whose cool-down or lease is over, oldest release first; says how many.
    /// One whose release lies in the future, by a clock that was set back, waits for at most `cooldown` from there.
    pub fn thaw(&mut self, now: SystemTime, cooldown: Duration) -> u16 {
        if self.cooling == 0 {
            return 0;
        }
        let since = |held: &Allocation| {
            let kept = held.kept.as_ref().map(|kept| kept.until);
            held.released_at.or(kept)
        };
        let mut over: Vec<_> = self
            .records()
            .filter(|(_, held)| held.has_rested(now, cooldown))
            .map(|(ordinal, held)| (since(held), ordinal))
            .collect();
        over.sort_unstable();
        for (_, ordinal) in &over {
            self.discard(*ordinal);
        }
        u16::try_from(over.len()).unwrap_or(u16::MAX)
    }

    /// Every address that is kept for a workload, ascending.
    pub fn kept(&self) -> impl Iterator<Item = (Ordinal, &Kept)> + '_ {
        let none = self.cooling == 0;
        self.records()
            .take_while(move |_| !none)
            .filter_map(|(ordinal, record)| Some((ordinal, record.kept.as_ref()?)))
    }

    /// Takes an address that is kept for the workload of this name; what was there, to be
    /// [restored](Self::restore) when the write fails.
    pub(crate) fn take_kept(
        &mut self,
        ordinal: Ordinal,
        workload: &str,
        by: &Arc<Allocation>,
    ) -> Option<Arc<Allocation>> {
        let sequence = self.sequence;
        let slot = self.slots.get_mut(ordinal.index())?;
        let kept = slot.allocation.as_ref()?.kept.as_ref()?;
        if kept.workload != workload {
            return None;
        }
        let allocation = Some(Arc::clone(by));
        let was = std::mem::replace(
            slot,
            Slot {
                allocation,
                sequence,
            },
        );
        self.cooling -= 1;
        was.allocation
    }

    /// Undoes a [`take_kept`](Self::take_kept) that was not written.
    pub(crate) fn restore(&mut self, ordinal: Ordinal, was: Arc<Allocation>) {
        if let Some(slot) = self.slots.get_mut(ordinal.index()) {
            self.cooling += u16::from(was.rests());
            slot.allocation = Some(was);
        }
    }

    /// Begins a write whose number is above any that the block can have had before `now`, also in a copy of the store
    /// that is newer than this one.
    pub(crate) fn outrun(&mut self, now: SystemTime) {
        self.advance();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_nanos()).unwrap_or_default();
        self.sequence = self.sequence.max(now);
    }

    /// Puts another holder in the place of the one that an address has, or of none.
    pub(crate) fn replace(&mut self, ordinal: Ordinal, by: &Arc<Allocation>) -> bool {
        self.discard(ordinal);
        self.take(ordinal, by)
    }
}
