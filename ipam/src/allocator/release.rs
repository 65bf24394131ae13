use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use super::handles::Counts;
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

type Freed = Vec<(IpAddr, Option<HandleId>)>;

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
        let Some(stored) = self
            .store
            .handles(std::slice::from_ref(handle))
            .await?
            .pop()
            .flatten()
        else {
            return Ok(Vec::new());
        };
        let config = self.store.config().await?;
        let mut addresses = Vec::new();
        for (cidr, counted) in &stored.value.blocks {
            let freed = self
                .release_in(*cidr, &Pick::Handle(handle), &config, now)
                .await?;
            if freed.len() < *counted as usize {
                // Somebody may be about to write an address that is counted already: let them lose.
                self.outdate(*cidr).await?;
            }
            addresses.extend(freed.into_iter().map(|(address, _)| address));
        }
        let counts = Counts::from([(handle.clone(), stored.value.blocks.clone())]);
        self.count_out_from(stored, &counts).await?;
        Ok(addresses)
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
                    let held = |address| freed.iter().any(|(freed, _)| *freed == address);
                    let all = listed.iter().map(|release| release.address);
                    released
                        .unallocated
                        .extend(all.filter(|address| !held(*address)));
                    released
                        .addresses
                        .extend(freed.iter().map(|(address, _)| *address));
                    self.count_freed(cidr, &freed).await?;
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
            let freed = self
                .release_in(cidr, &Pick::Matching(condition), &config, now)
                .await?;
            self.count_freed(cidr, &freed).await?;
            addresses.extend(freed.into_iter().map(|(address, _)| address));
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
            let freed = self
                .release_in(cidr, &Pick::Listed(&listed), &config, now)
                .await?;
            self.count_freed(cidr, &freed).await?;
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

    async fn count_freed(&self, block: Prefix, freed: &Freed) -> Result<(), StoreError> {
        let mut counts = Counts::new();
        for handle in freed.iter().filter_map(|(_, handle)| handle.as_ref()) {
            *counts
                .entry(handle.clone())
                .or_default()
                .entry(block)
                .or_default() += 1;
        }
        if counts.is_empty() {
            Ok(())
        } else {
            self.count_out(&counts).await
        }
    }

    /// Writes a block unchanged, so that nobody who read it before can write it.
    async fn outdate(&self, cidr: Prefix) -> Result<(), ReleaseError> {
        for _ in 0..ATTEMPTS {
            let Some(mut block) = self.block(cidr).await? else {
                return Ok(());
            };
            block.value.advance();
            match self
                .write(Write::Update(Record::Block(block.value), block.revision))
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReleaseError::Contention { attempts: ATTEMPTS })
    }

    /// Releases addresses of one block: one write, tried again when somebody else was faster. A block that nobody
    /// owns is deleted with its last address.
    async fn release_in(
        &self,
        cidr: Prefix,
        pick: &Pick<'_>,
        config: &IpamConfig,
        now: SystemTime,
    ) -> Result<Freed, ReleaseError> {
        let mut remembered = self.recall(&cidr);
        for _ in 0..ATTEMPTS {
            let from_memory = remembered.is_some();
            let stored = match remembered.take() {
                Some(stored) => stored,
                None => match self.block(cidr).await? {
                    Some(stored) => stored,
                    None => {
                        self.remember(&cidr, None);
                        return Ok(Vec::new());
                    }
                },
            };
            let Stored {
                value: mut block,
                revision,
            } = stored;
            block.thaw(now, config.cooldown);
            let freed = match pick.free(&mut block, config, now) {
                // What is remembered may be old: only the store can say that there is nothing.
                Err(_) if from_memory => continue,
                Ok(freed) if freed.is_empty() && from_memory => continue,
                Ok(freed) if freed.is_empty() => return Ok(freed),
                other => other?,
            };
            block.advance();
            let unused = block.owner().is_none() && block.is_empty();
            let write = if unused {
                Write::Delete(RecordKey::Block(cidr), revision)
            } else {
                Write::Update(Record::Block(block.clone()), revision)
            };
            match self.write(write).await {
                Ok(revision) => {
                    let now_is = Stored {
                        value: block,
                        revision,
                    };
                    self.remember(&cidr, (!unused).then_some(&now_is));
                    return Ok(freed);
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
        let mut freed = Vec::with_capacity(picked.len());
        for ordinal in picked {
            let handle = block
                .allocation(ordinal)
                .and_then(|held| held.handle.clone());
            if block.release(ordinal, now, config.cooldown) {
                freed.extend(block.address(ordinal).map(|address| (address, handle)));
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
