use super::Ordinal;

/// A set of ordinals of one block, one bit each in words of 64.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    /// An empty set with room for `size` ordinals.
    #[must_use]
    pub fn empty(size: usize) -> Self {
        Self {
            words: vec![0; size.div_ceil(64)],
        }
    }

    /// Whether the ordinal is in the set.
    #[must_use]
    pub fn contains(&self, ordinal: Ordinal) -> bool {
        self.words
            .get(ordinal.index() / 64)
            .is_some_and(|word| word & (1 << (ordinal.index() % 64)) != 0)
    }

    /// Puts an ordinal into the set; one beyond the set's room is ignored.
    pub fn insert(&mut self, ordinal: Ordinal) {
        if let Some(word) = self.words.get_mut(ordinal.index() / 64) {
            *word |= 1 << (ordinal.index() % 64);
        }
    }

    /// Takes an ordinal out of the set.
    pub fn remove(&mut self, ordinal: Ordinal) {
        if let Some(word) = self.words.get_mut(ordinal.index() / 64) {
            *word &= !(1 << (ordinal.index() % 64));
        }
    }

    /// How many ordinals are in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many ordinals are in this set and not in `other`; a word at a time.
    #[must_use]
    pub fn count_without(&self, other: &Self) -> usize {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        self.words
            .iter()
            .zip(others)
            .map(|(word, other)| (word & !other).count_ones() as usize)
            .sum()
    }
}
