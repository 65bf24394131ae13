use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use super::Release;
use crate::allocator::{ATTEMPTS, Ipam};
use crate::{
    Allocation, Block, Handle, HandleId, IpamConfig, Ordinal, Prefix, Record, RecordKey,
    ReleaseError, StoreError, Stored, Write,
};

/// Which addresses of a block to release.
pub(super) enum Pick<'a> {
    /// All that a handle holds.
    Handle(&'a HandleId),
    /// These, if they are as the caller believes.
    Listed(&'a [Release]),
    /// All whose record says so.
    Matching(&'a (dyn Fn(&Allocation) -> bool + Send + Sync)),
}

/// What was freed in a block.
#[derive(Default)]
pub(super) struct Freed {
    addresses: Vec<IpAddr>,
    /// How many of them each handle held.
    handles: BTreeMap<HandleId, u32>,
}

impl Ipam {
    /// Frees what has cooled down in a block; nothing is written when nothing has.
    pub(crate) async fn release_cooled(
        &self,
        cidr: Prefix,
        now: SystemTime,
    ) -> Result<(), ReleaseError> {
        let Some(Stored {
            mut value,
            revision,
        }) = self.block(cidr).await?
        else {
            return Ok(());
        };
        if value.cooling == 0 {
            return Ok(());
        }
        let config = self.store.config().await?;
        if value.thaw(now, config.cooldown) == 0 {
            return Ok(());
        }
        match self.write_released(value, revision).await {
            // Whoever was faster has seen to it.
            Err(error) if !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Writes a block unchanged, so that nobody who read it before can write it; `None` when there is none.
    pub(crate) async fn outdate(&self, cidr: Prefix) -> Result<Option<Block>, ReleaseError> {
        for _ in 0..ATTEMPTS {
            let Some(Stored {
                mut value,
                revision,
            }) = self.block(cidr).await?
            else {
                return Ok(None);
            };
            value.advance();
            match self
                .write(Write::Update(Record::Block(value.clone()), revision))
                .await
            {
                Ok(_) => return Ok(Some(value)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReleaseError::Contention { attempts: ATTEMPTS })
    }

    /// Releases addresses of one block: one write, tried again when somebody else was faster. A block that nobody
    /// owns is deleted with its last address. Handles are counted out, but for one that is released as a whole.
    pub(super) async fn release_in(
        &self,
        cidr: Prefix,
        pick: &Pick<'_>,
        config: &IpamConfig,
        now: SystemTime,
    ) -> Result<Vec<IpAddr>, ReleaseError> {
        let mut remembered = self.recall(&cidr);
        for _ in 0..ATTEMPTS {
            let from_memory = remembered.is_some();
            let found = match remembered.take() {
                Some(stored) => Some(stored),
                None => self.block(cidr).await?,
            };
            let Some(Stored {
                value: mut block,
                revision,
            }) = found
            else {
                self.remember(&cidr, None);
                return Ok(Vec::new());
            };
            block.thaw(now, config.cooldown);
            let freed = match pick.free(&mut block, config, now) {
                // What is remembered may be old: only the store can say that there is nothing.
                Err(_) if from_memory => continue,
                Ok(freed) if freed.addresses.is_empty() && from_memory => continue,
                Ok(freed) if freed.addresses.is_empty() => return Ok(Vec::new()),
                other => other?,
            };
            let before = self.handles_before(pick, &freed).await?;
            match self.write_released(block, revision).await {
                Ok(()) => {
                    self.count_out(before, cidr, &freed.handles).await?;
                    return Ok(freed.addresses);
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    self.remember(&cidr, None);
                    return Err(error.into());
                }
            }
        }
        Err(ReleaseError::Contention { attempts: ATTEMPTS })
    }

    async fn handles_before(
        &self,
        pick: &Pick<'_>,
        freed: &Freed,
    ) -> Result<Vec<Stored<Handle>>, StoreError> {
        if matches!(pick, Pick::Handle(_)) || freed.handles.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = freed.handles.keys().cloned().collect();
        Ok(self
            .store
            .handles(&ids)
            .await?
            .into_iter()
            .flatten()
            .collect())
    }

    async fn write_released(
        &self,
        mut block: Block,
        revision: crate::Revision,
    ) -> Result<(), StoreError> {
        let cidr = block.cidr();
        block.advance();
        if block.owner().is_none() && block.is_empty() {
            self.write(Write::Delete(RecordKey::Block(cidr), revision))
                .await?;
            self.remember(&cidr, None);
            return Ok(());
        }
        let revision = self
            .write(Write::Update(Record::Block(block.clone()), revision))
            .await?;
        self.remember(
            &cidr,
            Some(&Stored {
                value: block,
                revision,
            }),
        );
        Ok(())
    }
}

impl Pick<'_> {
    /// Frees what is picked in a block; nothing when a belief about any of it is wrong.
    fn free(
        &self,
        block: &mut Block,
        config: &IpamConfig,
        now: SystemTime,
    ) -> Result<Freed, ReleaseError> {
        let picked: Vec<(Ordinal, bool)> = match self {
            Self::Handle(handle) => block.held_by(handle).map(|at| (at, false)).collect(),
            Self::Matching(condition) => block
                .held()
                .filter(|(_, held)| condition(held))
                .map(|(at, _)| (at, false))
                .collect(),
            Self::Listed(listed) => listed
                .iter()
                .filter_map(|release| believed(block, release).transpose())
                .collect::<Result<_, _>>()?,
        };
        let mut freed = Freed::default();
        for (ordinal, entirely) in picked {
            let handle = block
                .allocation(ordinal)
                .and_then(|held| held.handle.clone());
            let done = match entirely {
                true => block.discard(ordinal),
                false => block.release(ordinal, now, config.cooldown),
            };
            if done {
                freed.addresses.extend(block.address(ordinal));
                if let Some(handle) = handle {
                    *freed.handles.entry(handle).or_default() += 1;
                }
            }
        }
        Ok(freed)
    }
}

/// The place of an address that is held as the caller believes, or kept for a workload when the caller believes nothing,
/// and whether it is freed entirely; `None` when nobody has it.
fn believed(block: &Block, release: &Release) -> Result<Option<(Ordinal, bool)>, ReleaseError> {
    let address = release.address;
    let found = block
        .ordinal(address)
        .and_then(|at| Some((at, block.allocation(at)?)));
    let Some((ordinal, held)) = found else {
        return Ok(None);
    };
    if held.rests() {
        let anybody = release.handle.is_none() && release.sequence.is_none();
        return Ok((anybody && held.kept.is_some()).then_some((ordinal, true)));
    }
    if release.handle.is_some() && release.handle != held.handle {
        return Err(ReleaseError::BadHandle {
            address,
            held_by: held.handle.clone(),
        });
    }
    match (release.sequence, block.sequence_of(ordinal)) {
        (Some(expected), Some(found)) if expected != found => Err(ReleaseError::BadSequence {
            address,
            expected,
            found,
        }),
        _ => Ok(Some((ordinal, release.entirely))),
    }
}
