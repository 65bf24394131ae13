use std::collections::BTreeMap;

use super::{ATTEMPTS, Ipam};
use crate::{
    Handle, HandleId, Prefix, Record, RecordKey, ReleaseError, Revision, StoreError, Stored, Write,
};

/// Addresses by handle and block.
pub(crate) type Counts = BTreeMap<HandleId, BTreeMap<Prefix, u32>>;

/// How counting in went, handle by handle.
#[derive(Default)]
pub(super) struct CountedIn {
    /// The handles as they have been written.
    pub(super) written: BTreeMap<HandleId, Stored<Handle>>,
    /// Those that could not be written, and why.
    pub(super) failed: BTreeMap<HandleId, StoreError>,
}

/// A handle never counts too few: whoever subtracts does it at a version from which it knows that nobody relies on
/// what it subtracts, and otherwise counts what is really there.
impl Ipam {
    /// Counts addresses in, for many handles in one batch. A handle that does not exist is made without a read.
    pub(super) async fn count_in(&self, counts: &Counts) -> CountedIn {
        let mut counted = CountedIn::default();
        let mut open: Vec<(HandleId, Option<Stored<Handle>>)> =
            counts.keys().map(|id| (id.clone(), None)).collect();
        for _ in 0..ATTEMPTS {
            let (mut values, mut writes) = (Vec::new(), Vec::new());
            for (id, known) in open {
                let (value, revision) = match known {
                    Some(stored) => (stored.value, Some(stored.revision)),
                    None => (Handle::new(id), None),
                };
                let value = incremented(value, counts);
                let record = Record::Handle(value.clone());
                writes.push(match revision {
                    Some(revision) => Write::Update(record, revision),
                    None => Write::Create(record),
                });
                values.push(value);
            }
            let mut again = Vec::new();
            for (value, result) in values.into_iter().zip(self.store.write(writes).await) {
                let id = value.id.clone();
                match result {
                    Ok(revision) => {
                        counted.written.insert(id, Stored { value, revision });
                    }
                    Err(error) if error.is_conflict() => again.push(id),
                    Err(error) => drop(counted.failed.insert(id, error)),
                }
            }
            if again.is_empty() {
                return counted;
            }
            match self.store.handles(&again).await {
                Ok(found) => open = again.into_iter().zip(found).collect(),
                Err(error) => {
                    counted
                        .failed
                        .extend(again.into_iter().map(|id| (id, error.clone())));
                    return counted;
                }
            }
        }
        for (id, _) in open {
            let error = StoreError::Conflict(RecordKey::Handle(id.clone()));
            counted.failed.insert(id, error);
        }
        counted
    }

    /// Counts addresses in and writes blocks, in one call of a store that keeps their order: handles that do not exist are
    /// made, then the blocks are replaced. Also says what became of the first blocks; those after these have not
    /// been tried.
    pub(super) async fn count_in_and_write(
        &self,
        counts: &Counts,
        blocks: Vec<Write>,
    ) -> (CountedIn, Vec<Result<Revision, StoreError>>) {
        let fresh = counts.keys().map(|id| incremented(Handle::new(id), counts));
        let fresh: Vec<Handle> = fresh.collect();
        let create = |handle: &Handle| Write::Create(Record::Handle(handle.clone()));
        let (handles, expected) = (fresh.len(), blocks.len());
        let writes = fresh.iter().map(create).chain(blocks).collect();
        let mut results = self.store.write_in_order(writes).await;
        let of_blocks = results.split_off(results.len().min(handles));
        let failure = results.iter().chain(&of_blocks).find_map(|result| {
            let error = result.as_ref().err()?;
            (!error.is_conflict()).then(|| error.clone())
        });
        let mut counted = CountedIn::default();
        for (value, result) in fresh.into_iter().zip(results) {
            if let Ok(revision) = result {
                let id = value.id.clone();
                counted.written.insert(id, Stored { value, revision });
            }
        }
        if let Some(error) = failure {
            // Whether anything was written is not known: the blocks will tell.
            let done = of_blocks.into_iter().filter(Result::is_ok);
            let unknown = std::iter::repeat_with(|| Err(error.clone()));
            return (counted, done.chain(unknown).take(expected).collect());
        }
        if counted.written.len() < handles {
            let mut rest = counts.clone();
            rest.retain(|id, _| !counted.written.contains_key(id));
            let CountedIn { written, failed } = self.count_in(&rest).await;
            counted.written.extend(written);
            counted.failed = failed;
        }
        (counted, of_blocks)
    }

    /// Takes back what was counted in and did not get into a block, unless somebody has written the handle since: then
    /// it may count too many, which it may.
    pub(super) async fn take_back(
        &self,
        mut written: BTreeMap<HandleId, Stored<Handle>>,
        lost: &Counts,
    ) {
        let back = lost
            .iter()
            .filter_map(|(id, blocks)| reduced(written.remove(id)?, blocks));
        let back: Vec<_> = back.collect();
        if !back.is_empty() {
            // What cannot be written stays counted.
            drop(self.store.write(back).await);
        }
    }

    /// Counts out addresses of a block that have been freed, from handles as they were before. One that somebody has
    /// written since is counted anew.
    pub(super) async fn count_out(
        &self,
        before: Vec<Stored<Handle>>,
        block: Prefix,
        freed: &BTreeMap<HandleId, u32>,
    ) -> Result<(), ReleaseError> {
        let mut writes = Vec::new();
        let mut ids = Vec::new();
        if before.is_empty() {
            return Ok(());
        }
        for stored in before {
            let id = stored.value.id.clone();
            let count = freed.get(&id).copied().unwrap_or(0);
            if let Some(write) = reduced(stored, &BTreeMap::from([(block, count)])) {
                writes.push(write);
                ids.push(id);
            }
        }
        for (id, result) in ids.into_iter().zip(self.store.write(writes).await) {
            match result {
                Ok(_) => {}
                Err(error) if error.is_conflict() => self.recount(&id, block).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes a handle count in a block what it holds there.
    ///
    /// The block is written, unchanged, between the two looks at the handle: whoever has counted an address in before
    /// and not written the block loses, and counts again.
    pub(crate) async fn recount(&self, id: &HandleId, block: Prefix) -> Result<(), ReleaseError> {
        for _ in 0..ATTEMPTS {
            let found = self
                .store
                .handles(std::slice::from_ref(id))
                .await?
                .pop()
                .flatten();
            let held = match self.outdate(block).await? {
                Some(block) => u32::try_from(block.held_by(id).count()).unwrap_or(u32::MAX),
                None => 0,
            };
            let counted = found
                .as_ref()
                .and_then(|stored| stored.value.blocks.get(&block).copied());
            if counted.unwrap_or(0) == held {
                return Ok(());
            }
            let write = match found {
                None => {
                    let mut fresh = Handle::new(id);
                    fresh.increment(block, held);
                    Write::Create(Record::Handle(fresh))
                }
                Some(Stored {
                    mut value,
                    revision,
                }) => {
                    value.blocks.remove(&block);
                    value.increment(block, held);
                    replace(value, revision)
                }
            };
            match self.write(write).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReleaseError::Contention { attempts: ATTEMPTS })
    }
}

fn incremented(mut handle: Handle, counts: &Counts) -> Handle {
    let blocks = counts.get(&handle.id).cloned().unwrap_or_default();
    for (block, count) in blocks {
        handle.increment(block, count);
    }
    handle
}

/// The write of a handle with so much less in its blocks; `None` when that changes nothing.
fn reduced(stored: Stored<Handle>, blocks: &BTreeMap<Prefix, u32>) -> Option<Write> {
    let mut value = stored.value.clone();
    for (block, count) in blocks {
        value.decrement(*block, *count);
    }
    (value != stored.value).then(|| replace(value, stored.revision))
}

/// The write of a handle at a version; one that counts nothing is deleted.
pub(super) fn replace(value: Handle, revision: crate::Revision) -> Write {
    if value.is_empty() {
        Write::Delete(RecordKey::Handle(value.id), revision)
    } else {
        Write::Update(Record::Handle(value), revision)
    }
}
