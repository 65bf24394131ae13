use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::{ATTEMPTS, Ipam};
use crate::{
    AffinityState, Allocation, Block, BlockAffinity, HandleId, HostReserved, Ordinal, Owner,
    Prefix, Record, RecordKey, ReleaseError, Revision, StoreError, Stored, Write,
};

/// How a claim ended.
pub(crate) enum Claimed {
    /// The block is the claimer's, and the claim confirmed.
    Ours(Stored<Block>),
    /// It is somebody else's; the claim has been taken back.
    Lost(Option<Stored<Block>>),
}

impl Ipam {
    /// Claims a block: affinity pending, block, affinity confirmed.
    ///
    /// A block that exists and names the owner is confirmed. Whoever cleans up meanwhile loses, since every step
    /// gives the affinity or the block a new version.
    pub(crate) async fn claim_block(
        &self,
        owner: &Owner,
        cidr: Prefix,
        reserved: HostReserved,
        now: SystemTime,
    ) -> Result<Claimed, ReleaseError> {
        for _ in 0..ATTEMPTS {
            let Some(claim) = self.begin_claim(owner, cidr).await? else {
                continue;
            };
            let Some(fresh) = new_block(owner, cidr, reserved, now) else {
                return Err(ReleaseError::NoBlocks(cidr));
            };
            let block = match self
                .write(Write::Create(Record::Block(fresh.clone())))
                .await
            {
                Ok(revision) => Stored {
                    value: fresh,
                    revision,
                },
                Err(StoreError::Exists(_)) => {
                    let Some(found) = self.block(cidr).await? else {
                        continue;
                    };
                    if found.value.owner() != Some(owner) {
                        self.drop_claim(&claim).await?;
                        return Ok(Claimed::Lost(Some(found)));
                    }
                    if claim.value.state == AffinityState::Confirmed {
                        return Ok(Claimed::Ours(found));
                    }
                    let Some(found) = self.touch_block(found).await? else {
                        continue;
                    };
                    found
                }
                Err(error) => return Err(error.into()),
            };
            // Also a claim that was confirmed before is written: whoever releases it meanwhile loses, or we do.
            let confirmed = BlockAffinity {
                state: AffinityState::Confirmed,
                ..claim.value
            };
            match self
                .write(Write::Update(Record::Affinity(confirmed), claim.revision))
                .await
            {
                Ok(_) => return Ok(Claimed::Ours(block)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReleaseError::Contention { attempts: ATTEMPTS })
    }

    /// The owner's claim, pending under a version of our own, or confirmed already. `None`: try again.
    async fn begin_claim(
        &self,
        owner: &Owner,
        block: Prefix,
    ) -> Result<Option<Stored<BlockAffinity>>, StoreError> {
        let state = AffinityState::Pending;
        let value = BlockAffinity {
            owner: owner.clone(),
            block,
            state,
        };
        match self
            .write(Write::Create(Record::Affinity(value.clone())))
            .await
        {
            Ok(revision) => return Ok(Some(Stored { value, revision })),
            Err(StoreError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
        let Some(found) = self.store.affinity(owner, block).await? else {
            return Ok(None);
        };
        if found.value.state == AffinityState::Confirmed {
            return Ok(Some(found));
        }
        retry(
            self.write(Write::Update(
                Record::Affinity(value.clone()),
                found.revision,
            ))
            .await,
        )
        .map(|revision| revision.map(|revision| Stored { value, revision }))
    }

    /// Writes a block unchanged, so that whoever has read it before cannot write it. `None`: try again.
    async fn touch_block(&self, found: Stored<Block>) -> Result<Option<Stored<Block>>, StoreError> {
        let mut value = found.value;
        value.advance();
        retry(
            self.write(Write::Update(Record::Block(value.clone()), found.revision))
                .await,
        )
        .map(|revision| revision.map(|revision| Stored { value, revision }))
    }

    /// Deletes a claim, unless somebody has changed it since: then it is theirs to finish.
    pub(crate) async fn drop_claim(&self, claim: &Stored<BlockAffinity>) -> Result<(), StoreError> {
        let BlockAffinity { owner, block, .. } = &claim.value;
        let key = RecordKey::Affinity(owner.clone(), *block);
        retry(self.write(Write::Delete(key, claim.revision.clone())).await).map(|_| ())
    }

    /// Gives a block up for its owner: affinity pendingDeletion, block deleted or without owner, affinity deleted.
    ///
    /// When the block must be empty and is not, or is not as it was `expected`, an affinity that was on its way out
    /// is confirmed again: its block serves addresses, and needs its route.
    pub(crate) async fn release_block(
        &self,
        owner: &Owner,
        cidr: Prefix,
        must_be_empty: bool,
        expected: Option<u64>,
        now: SystemTime,
    ) -> Result<(), ReleaseError> {
        for _ in 0..ATTEMPTS {
            let claim = self.store.affinity(owner, cidr).await?;
            let Some(block) = self.thawed(cidr, now).await? else {
                if let Some(claim) = claim {
                    self.drop_claim(&claim).await?;
                }
                self.remember(&cidr, None);
                return Ok(());
            };
            if block.value.owner() != Some(owner) {
                if let Some(claim) = claim {
                    self.drop_claim(&claim).await?;
                }
                return Err(ReleaseError::NotOwner {
                    block: cidr,
                    owner: owner.clone(),
                });
            }
            if let Some(reason) = objection(&block.value, must_be_empty, expected) {
                if self.restore(claim, block).await? {
                    return Err(reason);
                }
                continue;
            }
            let Some(claim) = self.end_claim(claim).await? else {
                continue;
            };
            let write = given_up(&block, now);
            match self.write(write).await {
                Ok(_) => {}
                Err(error) if error.is_conflict() => continue,
                Err(error) => return Err(error.into()),
            }
            self.remember(&cidr, None);
            if let Some(claim) = claim {
                self.drop_claim(&claim).await?;
            }
            return Ok(());
        }
        Err(ReleaseError::Contention { attempts: ATTEMPTS })
    }

    /// Deletes a block that is nobody's and in which nothing is held.
    pub(crate) async fn delete_vacant(
        &self,
        cidr: Prefix,
        now: SystemTime,
    ) -> Result<(), ReleaseError> {
        let Some(block) = self.thawed(cidr, now).await? else {
            return Ok(());
        };
        if block.value.owner().is_some() || !block.value.is_vacant() {
            return Err(ReleaseError::Changed { block: cidr });
        }
        let deleted = self.write(given_up(&block, now)).await;
        deleted.map(drop).map_err(ReleaseError::from)
    }

    /// A block, with what has cooled down free.
    async fn thawed(
        &self,
        cidr: Prefix,
        now: SystemTime,
    ) -> Result<Option<Stored<Block>>, StoreError> {
        let mut found = self.block(cidr).await?;
        if let Some(block) = found.as_mut().filter(|block| block.value.cooling > 0) {
            let cooldown = self.store.config().await?.cooldown;
            block.value.thaw(now, cooldown);
        }
        Ok(found)
    }

    /// Marks a claim as on its way out; a claim that is missing needs no mark. `None`: try again.
    async fn end_claim(
        &self,
        claim: Option<Stored<BlockAffinity>>,
    ) -> Result<Option<Option<Stored<BlockAffinity>>>, StoreError> {
        let Some(claim) = claim else {
            return Ok(Some(None));
        };
        let value = BlockAffinity {
            state: AffinityState::PendingDeletion,
            ..claim.value
        };
        retry(
            self.write(Write::Update(
                Record::Affinity(value.clone()),
                claim.revision,
            ))
            .await,
        )
        .map(|revision| revision.map(|revision| Some(Stored { value, revision })))
    }

    /// Confirms a claim that was on its way out; false when somebody else was faster. The block is written first,
    /// unchanged: whoever is about to delete it loses.
    async fn restore(
        &self,
        claim: Option<Stored<BlockAffinity>>,
        block: Stored<Block>,
    ) -> Result<bool, StoreError> {
        let Some(claim) = claim else { return Ok(true) };
        if claim.value.state != AffinityState::PendingDeletion {
            return Ok(true);
        }
        if self.touch_block(block).await?.is_none() {
            return Ok(false);
        }
        let value = BlockAffinity {
            state: AffinityState::Confirmed,
            ..claim.value
        };
        retry(
            self.write(Write::Update(Record::Affinity(value), claim.revision))
                .await,
        )
        .map(|revision| revision.is_some())
    }

    /// One write.
    pub(crate) async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        let key = write.key();
        let mut results = self.store.write(vec![write]).await;
        results.pop().unwrap_or(Err(StoreError::Missing(key)))
    }
}

/// `None` for a conflict.
fn retry<T>(result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_conflict() => Ok(None),
        Err(error) => Err(error),
    }
}

fn objection(block: &Block, must_be_empty: bool, expected: Option<u64>) -> Option<ReleaseError> {
    let cidr = block.cidr();
    if must_be_empty && !block.is_vacant() {
        let held = block.size() - block.free_count();
        return Some(ReleaseError::NotEmpty { block: cidr, held });
    }
    expected
        .is_some_and(|expected| expected != block.sequence())
        .then_some(ReleaseError::Changed { block: cidr })
}

fn given_up(block: &Stored<Block>, now: SystemTime) -> Write {
    if block.value.is_vacant() {
        return Write::Delete(RecordKey::Block(block.value.cidr()), block.revision.clone());
    }
    let mut left = block.value.clone();
    left.advance();
    left.set_owner(None, now);
    Write::Update(Record::Block(left), block.revision.clone())
}

fn new_block(
    owner: &Owner,
    cidr: Prefix,
    reserved: HostReserved,
    now: SystemTime,
) -> Option<Block> {
    let mut block = Block::new(cidr, owner.clone(), now).ok()?;
    let by = Allocation::new(HandleId::new(HostReserved::HANDLE), BTreeMap::new());
    let by = Arc::new(by);
    let size = block.size();
    let ends = (0..reserved.first).chain(size.saturating_sub(reserved.last)..size);
    for ordinal in ends {
        let _ = block.take(Ordinal::new(ordinal), &by);
    }
    Some(block)
}
