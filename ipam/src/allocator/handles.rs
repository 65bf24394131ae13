use std::collections::BTreeMap;

use super::{ATTEMPTS, Ipam};
use crate::{Handle, HandleId, Prefix, Record, RecordKey, StoreError, Stored, Write};

/// Addresses by handle and block.
pub(super) type Counts = BTreeMap<HandleId, BTreeMap<Prefix, u32>>;

impl Ipam {
    /// Counts addresses in, for many handles in one batch; says which could not be written, and why. A handle that
    /// does not exist is made without a read.
    pub(super) async fn count_in(&self, counts: &Counts) -> BTreeMap<HandleId, StoreError> {
        let mut failed = BTreeMap::new();
        let mut open: Vec<&HandleId> = counts.keys().collect();
        let mut known = BTreeMap::new();
        for _ in 0..ATTEMPTS {
            let writes = open.iter().map(|id| match known.remove(*id) {
                Some(stored) => increment(stored, &counts[*id]),
                None => Write::Create(Record::Handle(incremented(Handle::new(*id), &counts[*id]))),
            });
            let results = self.store.write(writes.collect()).await;
            let mut again = Vec::new();
            for (id, result) in open.into_iter().zip(results) {
                match result {
                    Ok(_) => {}
                    Err(error) if error.is_conflict() => again.push((id, error)),
                    Err(error) => drop(failed.insert(id.clone(), error)),
                }
            }
            if again.is_empty() {
                return failed;
            }
            let ids: Vec<_> = again.iter().map(|(id, _)| HandleId::clone(id)).collect();
            match self.store.handles(&ids).await {
                Ok(found) => known.extend(ids.into_iter().zip(found).filter_map(flat)),
                Err(error) => {
                    failed.extend(ids.into_iter().map(|id| (id, error.clone())));
                    return failed;
                }
            }
            open = again.into_iter().map(|(id, _)| id).collect();
        }
        for id in open {
            failed.insert(
                id.clone(),
                StoreError::Conflict(RecordKey::Handle(id.clone())),
            );
        }
        failed
    }

    /// Counts addresses out, for many handles in one batch; a handle that counts none any more is deleted.
    ///
    /// What cannot be written stays counted, which costs a look into the block when the handle is released.
    pub(super) async fn count_out(&self, counts: &Counts) -> Result<(), StoreError> {
        let mut open: Vec<HandleId> = counts.keys().cloned().collect();
        for _ in 0..ATTEMPTS {
            if open.is_empty() {
                return Ok(());
            }
            let found = self.store.handles(&open).await?;
            let known: Vec<_> = open.into_iter().zip(found).filter_map(flat).collect();
            open = self.write_out(known, counts).await?;
        }
        Ok(())
    }

    /// As [`count_out`](Self::count_out), starting from a handle that has just been read.
    pub(super) async fn count_out_from(
        &self,
        handle: Stored<Handle>,
        counts: &Counts,
    ) -> Result<(), StoreError> {
        let id = handle.value.id.clone();
        if self.write_out(vec![(id, handle)], counts).await?.is_empty() {
            return Ok(());
        }
        self.count_out(counts).await
    }

    /// Writes reduced handles; the names of those that somebody else changed.
    async fn write_out(
        &self,
        known: Vec<(HandleId, Stored<Handle>)>,
        counts: &Counts,
    ) -> Result<Vec<HandleId>, StoreError> {
        let writes: Vec<_> = known
            .iter()
            .filter_map(|(id, stored)| decrement(stored, counts.get(id)?))
            .collect();
        let keys: Vec<_> = writes.iter().map(Write::key).collect();
        let mut again = Vec::new();
        for (key, result) in keys.into_iter().zip(self.store.write(writes).await) {
            match (key, result) {
                (_, Ok(_)) => {}
                (RecordKey::Handle(id), Err(error)) if error.is_conflict() => again.push(id),
                (_, Err(error)) => return Err(error),
            }
        }
        Ok(again)
    }
}

fn flat((id, stored): (HandleId, Option<Stored<Handle>>)) -> Option<(HandleId, Stored<Handle>)> {
    Some((id, stored?))
}

fn incremented(mut handle: Handle, counts: &BTreeMap<Prefix, u32>) -> Handle {
    for (block, count) in counts {
        handle.increment(*block, *count);
    }
    handle
}

fn increment(stored: Stored<Handle>, counts: &BTreeMap<Prefix, u32>) -> Write {
    Write::Update(
        Record::Handle(incremented(stored.value, counts)),
        stored.revision,
    )
}

/// `None` when nothing is to be written.
fn decrement(stored: &Stored<Handle>, counts: &BTreeMap<Prefix, u32>) -> Option<Write> {
    let mut handle = stored.value.clone();
    for (block, count) in counts {
        handle.decrement(*block, *count);
    }
    if handle.is_empty() {
        return Some(Write::Delete(
            RecordKey::Handle(handle.id),
            stored.revision.clone(),
        ));
    }
    let changed = handle != stored.value;
    changed.then(|| Write::Update(Record::Handle(handle), stored.revision.clone()))
}
