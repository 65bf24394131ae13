use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use super::handles::replace;
use super::load::Settings;
use super::{ATTEMPTS, Ipam};
use crate::{
    Allocation, Assigned, Audience, Block, Handle, HandleId, IpamConfig, Ordinal, Owner, Pool,
    Prefix, Record, RecordKey, ReleaseError, StoreError, Stored, Write,
};

/// An address to release, with what the caller believes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// The address.
    pub address: IpAddr,
    /// It must be held by this handle.
    pub handle: Option<HandleId>,
    /// It must have been taken by the write of this number: then it has not been released and taken again since.
    pub sequence: Option<u64>,
}

impl Release {
    /// Releases the address, whoever holds it.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        Self {
            address,
            handle: None,
            sequence: None,
        }
    }

    /// Only when this handle holds it.
    #[must_use]
    pub fn held_by(mut self, handle: impl Into<HandleId>) -> Self {
        self.handle = Some(handle.into());
        self
    }

    /// Only when it was taken by the write of this number.
    #[must_use]
    pub const fn taken_by(mut self, sequence: u64) -> Self {
        self.sequence = Some(sequence);
        self
    }
}

/// What became of addresses that were to be released.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Released {
    /// The addresses that were released.
    pub addresses: Vec<IpAddr>,
    /// The addresses that were not held, which is no error.
    pub unallocated: Vec<IpAddr>,
    /// The blocks of which nothing was released, and why.
    pub failed: Vec<(Prefix, ReleaseError)>,
}

/// Which addresses of a block to release.
enum Pick<'a> {
    /// All that a handle holds.
    Handle(&'a HandleId),
    /// These, if they are as the caller believes.
    Listed(&'a [Release]),
    /// All whose record says so.
    Matching(&'a (dyn Fn(&Allocation) -> bool + Send + Sync)),
}

/// What was freed in a block.
#[derive(Default)]
struct Freed {
    addresses: Vec<IpAddr>,
    /// How many of them each handle held.
    handles: BTreeMap<HandleId, u32>,
}

impl Ipam {
    /// Releases every address of a handle, and the handle. Nothing held is a success with no addresses.
    ///
    /// # Errors
    /// When the store fails. What was released before stays released, and the call can be repeated.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn release_handle(
        &self,
        handle: &HandleId,
        now: SystemTime,
    ) -> Result<Vec<IpAddr>, ReleaseError> {
        let config = self.store.config().await?;
        let mut addresses = Vec::new();
        for _ in 0..ATTEMPTS {
            let found = self
                .store
                .handles(std::slice::from_ref(handle))
                .await?
                .pop()
                .flatten();
            let Some(Stored {
                value: mut counted,
                revision,
            }) = found
            else {
                return Ok(addresses);
            };
            for (cidr, count) in std::mem::take(&mut counted.blocks) {
                let freed = self
                    .release_in(cidr, &Pick::Handle(handle), &config, now)
                    .await?;
                if freed.len() < count as usize {
                    // Somebody may be about to write an address that is counted already: let them lose.
                    self.outdate(cidr).await?;
                }
                addresses.extend(freed);
            }
            match self.write(replace(counted, revision)).await {
                Ok(_) => return Ok(addresses),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReleaseError::Contention { attempts: ATTEMPTS })
    }

    /// Releases addresses, block by block. A wrong belief about one address leaves its whole block as it is.
    ///
    /// # Errors
    /// When the pools cannot be read. A block that fails is listed in the result and does not stop the others.
    pub async fn release_ips(
        &self,
        addresses: &[Release],
        now: SystemTime,
    ) -> Result<Released, ReleaseError> {
        let config = self.store.config().await?;
        let nobody = Audience::new(Owner::host(""), None);
        let pools = self.store.pools(&nobody).await?;
        let mut blocks: BTreeMap<Prefix, Vec<Release>> = BTreeMap::new();
        let mut released = Released::default();
        for release in addresses {
            match self.block_of(release.address, &pools).await? {
                Some(block) => blocks.entry(block).or_default().push(release.clone()),
                None => released.unallocated.push(release.address),
            }
        }
        for (cidr, mut listed) in blocks {
            listed.sort_by_key(|release| release.address);
            listed.dedup();
            match self
                .release_in(cidr, &Pick::Listed(&listed), &config, now)
                .await
            {
                Ok(freed) => {
                    let all = listed.iter().map(|release| release.address);
                    released
                        .unallocated
                        .extend(all.filter(|address| !freed.contains(address)));
                    released.addresses.extend(freed);
                }
                Err(error) => released.failed.push((cidr, error)),
            }
        }
        Ok(released)
    }

    /// Releases every address whose record satisfies a condition, in every block.
    pub(super) async fn release_matching(
        &self,
        condition: &(dyn Fn(&Allocation) -> bool + Send + Sync),
        now: SystemTime,
    ) -> Result<Vec<IpAddr>, ReleaseError> {
        let config = self.store.config().await?;
        let mut addresses = Vec::new();
        for stored in self.store.all_blocks().await?.records {
            if !stored.value.held().any(|(_, held)| condition(held)) {
                continue;
            }
            let cidr = stored.value.cidr();
            let pick = Pick::Matching(condition);
            addresses.extend(self.release_in(cidr, &pick, &config, now).await?);
        }
        Ok(addresses)
    }

    /// Takes back what was assigned for a request that failed as a whole.
    pub(super) async fn undo(
        &self,
        handle: &HandleId,
        assigned: &[Assigned],
        settings: &Settings,
        now: SystemTime,
    ) -> Result<(), ReleaseError> {
        let mut blocks: BTreeMap<Prefix, Vec<Release>> = BTreeMap::new();
        for one in assigned {
            let release = Release::new(one.address).held_by(handle);
            blocks.entry(one.block).or_default().push(release);
        }
        // Nobody has used the addresses: they need no rest.
        let config = IpamConfig {
            cooldown: std::time::Duration::ZERO,
            ..settings.config.clone()
        };
        for (cidr, listed) in blocks {
            self.release_in(cidr, &Pick::Listed(&listed), &config, now)
                .await?;
        }
        Ok(())
    }

    /// The blocks in which a handle is counted.
    pub(crate) async fn blocks_of(&self, handle: &HandleId) -> Result<Vec<Block>, StoreError> {
        let found = self
            .store
            .handles(std::slice::from_ref(handle))
            .await?
            .pop()
            .flatten();
        let Some(Stored {
            value: Handle { blocks, .. },
            ..
        }) = found
        else {
            return Ok(Vec::new());
        };
        let cidrs: Vec<_> = blocks.into_keys().collect();
        let blocks = self.store.blocks(&cidrs).await?;
        Ok(blocks
            .into_iter()
            .flatten()
            .map(|stored| stored.value)
            .collect())
    }

    /// The range of the block that an address is in: by its pool, or else by looking at every block.
    pub(super) async fn block_of(
        &self,
        address: IpAddr,
        pools: &[Pool],
    ) -> Result<Option<Prefix>, StoreError> {
        let mut pools = pools.iter().filter(|pool| pool.cidr.contains(address));
        if let Some(pool) = pools.next() {
            return Ok(Prefix::containing(address, pool.block_size).ok());
        }
        let blocks = self.store.all_blocks().await?.records;
        let mut cidrs = blocks.into_iter().map(|stored| stored.value.cidr());
        Ok(cidrs.find(|cidr| cidr.contains(address)))
    }

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
    async fn release_in(
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
        let picked: Vec<Ordinal> = match self {
            Self::Handle(handle) => block.held_by(handle).collect(),
            Self::Matching(condition) => block
                .held()
                .filter(|(_, held)| condition(held))
                .map(|(at, _)| at)
                .collect(),
            Self::Listed(listed) => listed
                .iter()
                .filter_map(|release| believed(block, release).transpose())
                .collect::<Result<_, _>>()?,
        };
        let mut freed = Freed::default();
        for ordinal in picked {
            let handle = block
                .allocation(ordinal)
                .and_then(|held| held.handle.clone());
            if block.release(ordinal, now, config.cooldown) {
                freed.addresses.extend(block.address(ordinal));
                if let Some(handle) = handle {
                    *freed.handles.entry(handle).or_default() += 1;
                }
            }
        }
        Ok(freed)
    }
}

/// The place of an address that is held as the caller believes; `None` when it is not held at all.
fn believed(block: &Block, release: &Release) -> Result<Option<Ordinal>, ReleaseError> {
    let address = release.address;
    let Some(ordinal) = block.ordinal(address) else {
        return Ok(None);
    };
    let Some(held) = block
        .allocation(ordinal)
        .filter(|held| held.released_at.is_none())
    else {
        return Ok(None);
    };
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
        _ => Ok(Some(ordinal)),
    }
}
