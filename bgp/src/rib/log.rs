use std::collections::VecDeque;

/// Positions of changes, oldest first. Positions only grow; the front goes when every follower has passed it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    ids: VecDeque<u32>,
    base: u64,
}

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

    pub(crate) fn push(&mut self, id: u32) -> u64 {
        let position = self.end();
        self.ids.push_back(id);
        position
    }

    /// What changed at `position`.
    pub(crate) fn at(&self, position: u64) -> Option<u32> {
        let offset = position.checked_sub(self.base)?;
        self.ids.get(usize::try_from(offset).ok()?).copied()
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, u32)> {
        let id = self.ids.pop_front()?;
        self.base += 1;
        Some((self.base - 1, id))
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
        mut latest: impl FnMut(u64, u32) -> bool,
        mut moved: impl FnMut(u32, u64),
        followers: &mut [&mut u64],
    ) {
        let mut kept = Vec::new();
        let mut ids = VecDeque::new();
        for (offset, &id) in self.ids.iter().enumerate() {
            let position = self.base + offset as u64;
            if latest(position, id) {
                moved(id, self.base + ids.len() as u64);
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
