use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::handles::{CountedIn, Counts};
use super::{Desk, Ipam};
use crate::{
    Allocation, AssignError, Block, HandleId, Ordinal, Prefix, Record, RecordKey, Revision,
    StoreError, Stored, View, Write,
};

/// Addresses of one block that have been taken in the view for one demand, and are to be written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) demand: usize,
    pub(super) handle: HandleId,
    pub(super) block: Prefix,
    pub(super) ordinals: Vec<Ordinal>,
    pub(super) addresses: Vec<IpAddr>,
    /// For an address that was kept for the workload: what was stored with it.
    pub(super) kept: Option<Arc<Allocation>>,
}

impl Entry {
    /// Gives the addresses back to the view.
    pub(super) fn undo(&self, view: &mut View) {
        match (&self.kept, self.ordinals.first()) {
            (Some(kept), Some(ordinal)) => view.restore(&self.block, *ordinal, Arc::clone(kept)),
            _ => view.put_back(&self.block, &self.ordinals),
        }
    }
}

/// What became of an entry.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The block holds the addresses.
    Written,
    /// Somebody else changed the block; nothing is held, and the desk knows the block as it is now.
    Lost,
    /// The store failed. What may be held is found by a release of the handle.
    Failed(AssignError),
}

impl Ipam {
    /// Writes entries: their handles in one batch, then each block once. What did not get into a block is counted
    /// out of its handle again.
    pub(super) async fn commit(&self, desk: &mut Desk, entries: &[Entry]) -> Vec<Outcome> {
        let wanted = counts(entries.iter());
        let (counted, early) = if self.store.is_ordered() {
            let all: BTreeSet<_> = entries.iter().map(|entry| entry.block).collect();
            let writes = all.iter().filter_map(|cidr| desk.stored(cidr)).map(update);
            self.count_in_and_write(&wanted, writes.collect()).await
        } else {
            (self.count_in(&wanted).await, Vec::new())
        };
        let CountedIn {
            written,
            failed: refused,
        } = counted;
        let mut blocks = BTreeSet::new();
        for entry in entries {
            if refused.contains_key(&entry.handle) {
                entry.undo(&mut desk.view);
            } else {
                blocks.insert(entry.block);
            }
        }
        desk.touched.retain(|cidr| blocks.contains(cidr));
        let failed = self.write_blocks(desk, &blocks, early).await;
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            outcomes.push(
                match (refused.get(&entry.handle), failed.get(&entry.block)) {
                    (Some(error), _) => Outcome::Failed(error.clone().into()),
                    (None, None) => Outcome::Written,
                    (None, Some(failure)) => settle_entry(entry, failure),
                },
            );
        }
        let lost = entries
            .iter()
            .zip(&outcomes)
            .filter(|(_, o)| matches!(o, Outcome::Lost));
        let lost = counts(lost.map(|(entry, _)| entry));
        self.take_back(written, &lost).await;
        outcomes
    }

    /// Writes changed blocks in one batch, but for the first of them, of which it is known how that went. A block that was not written is read again, and forgotten when that is
    /// not possible.
    async fn write_blocks(
        &self,
        desk: &mut Desk,
        blocks: &BTreeSet<Prefix>,
        early: Vec<Result<Revision, StoreError>>,
    ) -> BTreeMap<Prefix, Failure> {
        let stored: Vec<_> = blocks.iter().filter_map(|cidr| desk.stored(cidr)).collect();
        let sequences: Vec<_> = stored
            .iter()
            .map(|s| (s.value.cidr(), s.value.sequence()))
            .collect();
        let left = stored.into_iter().skip(early.len()).map(update);
        let left: Vec<_> = left.collect();
        let mut results = early;
        if !left.is_empty() {
            results.extend(self.store.write(left).await);
        }
        let mut failed = BTreeMap::new();
        let mut results = results.into_iter();
        for (cidr, sequence) in sequences {
            let missing = || Err(StoreError::Missing(RecordKey::Block(cidr)));
            let result: Result<Revision, _> = results.next().unwrap_or_else(missing);
            desk.touched.remove(&cidr);
            match result {
                Ok(revision) => drop(desk.revisions.insert(cidr, revision)),
                Err(error) => {
                    desk.remove(&cidr);
                    let found = self.block(cidr).await;
                    if let Ok(Some(found)) = &found {
                        desk.put(found.clone());
                    }
                    failed.insert(
                        cidr,
                        Failure {
                            error,
                            sequence,
                            found,
                        },
                    );
                }
            }
        }
        for cidr in blocks {
            // Forgotten while it was planned with: cannot happen, and would be a block that is not written.
            let known = desk.view.block(cidr).is_some() || failed.contains_key(cidr);
            if !known {
                let error = StoreError::Missing(RecordKey::Block(*cidr));
                failed.insert(
                    *cidr,
                    Failure {
                        error,
                        sequence: 0,
                        found: Ok(None),
                    },
                );
            }
        }
        failed
    }
}

fn update(stored: Stored<Block>) -> Write {
    Write::Update(Record::Block(stored.value), stored.revision)
}

/// A block that was not written, or of which that is not known.
struct Failure {
    error: StoreError,
    /// The number that the write would have had.
    sequence: u64,
    found: Result<Option<Stored<Block>>, StoreError>,
}

fn settle_entry(entry: &Entry, failure: &Failure) -> Outcome {
    let Failure {
        error,
        sequence,
        found,
    } = failure;
    match found {
        _ if error.is_conflict() => Outcome::Lost,
        Ok(Some(found)) if holds(&found.value, entry, *sequence) => Outcome::Written,
        // Not written, or an answer is still on its way: only a release of the handle can tell.
        _ => Outcome::Failed(error.clone().into()),
    }
}

/// Whether a block holds an entry's addresses by the write of this number.
fn holds(block: &Block, entry: &Entry, sequence: u64) -> bool {
    entry.ordinals.iter().all(|ordinal| {
        let handle = block
            .allocation(*ordinal)
            .and_then(|held| held.handle.as_ref());
        handle == Some(&entry.handle) && block.sequence_of(*ordinal) == Some(sequence)
    })
}

/// How many addresses the entries have by handle and block.
pub(super) fn counts<'a>(entries: impl Iterator<Item = &'a Entry>) -> Counts {
    let mut counts = Counts::new();
    for entry in entries {
        let count = u32::try_from(entry.ordinals.len()).unwrap_or(u32::MAX);
        let blocks = counts.entry(entry.handle.clone()).or_default();
        *blocks.entry(entry.block).or_default() += count;
    }
    counts
}
