use std::collections::VecDeque;

/// Positions of changes, oldest first. Positions only grow; the front goes when every follower has passed it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Numbers of entries; the highest bit says that the best paths have changed, not only others.
    ids: VecDeque<u32>,
    base: u64,
}

const BEST: u32 = 1 << 31;

impl Log {
    /// The position behind the newest change.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.ids.len() as u64
    }

    pub(crate) fn start(&self) -> u64 {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn push(&mut self, id: u32, best: bool) -> u64 {
        let position = self.end();
        self.ids.push_back(id | if best { BEST } else { 0 });
        position
    }

    /// What changed at `position`, and whether the best paths did.
    pub(crate) fn at(&self, position: u64) -> Option<(u32, bool)> {
        let offset = position.checked_sub(self.base)?;
        let id = *self.ids.get(usize::try_from(offset).ok()?)?;
        Some((id & !BEST, id & BEST != 0))
    }

    /// Whether the change with this low half of a position, which is in the log, was one of the best paths.
    pub(crate) fn latest_is_best(&self, low: u32) -> bool {
        let offset = low.wrapping_sub(self.base as u32);
        self.at(self.base + u64::from(offset))
            .is_some_and(|(_, best)| best)
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, u32)> {
        let id = self.ids.pop_front()?;
        self.base += 1;
        Some((self.base - 1, id & !BEST))
    }

    /// Frees memory that a burst has left behind.
    pub(crate) fn shrink(&mut self) {
        if self.ids.is_empty() && self.ids.capacity() > 4096 {
            self.ids = VecDeque::new();
        }
    }

    /// Drops every change that `latest` does not confirm, moving the rest together, and moves the followers along.
    pub(crate) fn compact(
        &mut self,
        mut latest: impl FnMut(u64) -> bool,
        mut moved: impl FnMut(u32, u64),
        followers: &mut [&mut u64],
    ) {
        let mut kept = Vec::new();
        let mut ids = VecDeque::new();
        for (offset, &id) in self.ids.iter().enumerate() {
            let position = self.base + offset as u64;
            if latest(position) {
                moved(id & !BEST, self.base + ids.len() as u64);
                kept.push(position);
                ids.push_back(id);
            }
        }
        for follower in followers {
            let behind = kept.partition_point(|&position| position < **follower);
            **follower = self.base + behind as u64;
        }
        self.ids = ids;
    }
}
