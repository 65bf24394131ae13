use super::{Bitmap, Ordinal};

/// The free ordinals of a block in the order of their next use: first freed, first used again.
///
/// A doubly linked list over the ordinals, threaded through two arrays, and a bitmap of its members: taking the
/// head, appending, and taking an ordinal out of the middle are O(1).
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// `next[i]` follows `i`; the entry past the last ordinal is the list's head and tail.
    next: Vec<u16>,
    previous: Vec<u16>,
    members: Bitmap,
    count: u16,
}

impl Queue {
    /// Every ordinal of a block of `size` addresses, ascending.
    pub(crate) fn full(size: u16) -> Self {
        let mut queue = Self::empty(size);
        for ordinal in 0..size {
            queue.push_back(Ordinal::new(ordinal));
        }
        queue
    }

    /// No ordinal of a block of `size` addresses.
    pub(crate) fn empty(size: u16) -> Self {
        let links = usize::from(size) + 1;
        Self {
            next: vec![size; links],
            previous: vec![size; links],
            members: Bitmap::empty(usize::from(size)),
            count: 0,
        }
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    pub(crate) fn members(&self) -> &Bitmap {
        &self.members
    }

    pub(crate) fn contains(&self, ordinal: Ordinal) -> bool {
        self.members.contains(ordinal)
    }

    /// Appends an ordinal; one that is queued already, or is none of this block's, changes nothing.
    pub(crate) fn push_back(&mut self, ordinal: Ordinal) {
        let end = self.end();
        self.link(ordinal, self.previous[end], self.end_link());
    }

    /// Puts an ordinal at the head; one that is queued already, or is none of this block's, changes nothing.
    pub(crate) fn push_front(&mut self, ordinal: Ordinal) {
        let end = self.end();
        self.link(ordinal, self.end_link(), self.next[end]);
    }

    /// Takes an ordinal out, wherever it is; false when it was not queued.
    pub(crate) fn remove(&mut self, ordinal: Ordinal) -> bool {
        if !self.members.contains(ordinal) {
            return false;
        }
        let (before, after) = (self.previous[ordinal.index()], self.next[ordinal.index()]);
        self.next[usize::from(before)] = after;
        self.previous[usize::from(after)] = before;
        self.members.remove(ordinal);
        self.count -= 1;
        true
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Ordinal> + '_ {
        let end = self.end_link();
        let following = move |at: u16| (at != end).then_some(at);
        std::iter::successors(following(self.next[self.end()]), move |at| {
            following(self.next[usize::from(*at)])
        })
        .map(Ordinal::new)
    }

    fn end(&self) -> usize {
        self.next.len() - 1
    }

    #[allow(clippy::cast_possible_truncation)] // at most 4096 ordinals
    fn end_link(&self) -> u16 {
        self.end() as u16
    }

    fn link(&mut self, ordinal: Ordinal, before: u16, after: u16) {
        if ordinal.index() >= self.end() || self.members.contains(ordinal) {
            return;
        }
        self.previous[ordinal.index()] = before;
        self.next[ordinal.index()] = after;
        self.next[usize::from(before)] = ordinal.value();
        self.previous[usize::from(after)] = ordinal.value();
        self.members.insert(ordinal);
        self.count += 1;
    }
}

impl PartialEq for Queue {
    fn eq(&self, other: &Self) -> bool {
        self.end() == other.end() && self.iter().eq(other.iter())
    }
}

impl Eq for Queue {}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_deque_without_duplicates(
            size in 1_u16..130,
            steps in prop::collection::vec((0_u8..3, 0_u16..130), 0..200),
        ) {
            let mut queue = Queue::full(size);
            let mut model: VecDeque<u16> = (0..size).collect();
            for (step, at) in steps {
                let known = model.contains(&at);
                match step {
                    0 => {
                        queue.push_back(Ordinal::new(at));
                        if !known && at < size { model.push_back(at); }
                    }
                    1 => {
                        queue.push_front(Ordinal::new(at));
                        if !known && at < size { model.push_front(at); }
                    }
                    _ => {
                        prop_assert_eq!(queue.remove(Ordinal::new(at)), known);
                        model.retain(|one| *one != at);
                    }
                }
                prop_assert!(queue.iter().map(Ordinal::value).eq(model.iter().copied()));
                prop_assert_eq!(usize::from(queue.count()), model.len());
                prop_assert_eq!(queue.members().count(), model.len());
            }
        }
    }
}
