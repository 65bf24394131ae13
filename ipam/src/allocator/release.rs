use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use super::handles::replace;
use super::load::Settings;
use super::{ATTEMPTS, Ipam};
use crate::{
    Allocation, Assigned, Audience, Block, Handle, HandleId, IpamConfig, Owner, Pool, Prefix,
    ReleaseError, StoreError, Stored,
};

mod block;

use self::block::Pick;

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
    /// It is free for anybody at once: it does not cool down, and is not kept for its workload.
    pub entirely: bool,
}

impl Release {
    /// Releases the address, whoever holds it; also one that is kept for a workload.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        Self {
            address,
            handle: None,
            sequence: None,
            entirely: false,
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

impl Release {
    /// Free for anybody at once, without cool-down and lease.
    #[must_use]
    pub const fn entirely(mut self) -> Self {
        self.entirely = true;
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
        self.in_use().retain(|_, holder| holder != handle);
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
                addresses.extend(self.empty_of(cidr, handle, count, &config, now).await?);
            }
            match self.write(replace(counted, revision)).await {
                Ok(_) => return Ok(addresses),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReleaseError::Contention { attempts: ATTEMPTS })
    }

    /// Releases what a handle holds in a block, and makes sure that nothing is on its way into it: where fewer
    /// addresses are found than counted, somebody may be about to write one, and is made to lose.
    async fn empty_of(
        &self,
        cidr: Prefix,
        handle: &HandleId,
        counted: u32,
        config: &IpamConfig,
        now: SystemTime,
    ) -> Result<Vec<IpAddr>, ReleaseError> {
        let mut addresses = Vec::new();
        for _ in 0..ATTEMPTS {
            let pick = Pick::Handle(handle);
            addresses.extend(self.release_in(cidr, &pick, config, now).await?);
            if addresses.len() >= counted as usize {
                return Ok(addresses);
            }
            let outdated = self.outdate(cidr).await?;
            // What was written just before is released now.
            if outdated.is_none_or(|block| block.held_by(handle).next().is_none()) {
                return Ok(addresses);
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
            // Nobody has used the addresses: they need no rest.
            let release = Release::new(one.address).held_by(handle).entirely();
            blocks.entry(one.block).or_default().push(release);
        }
        for (cidr, listed) in blocks {
            self.release_in(cidr, &Pick::Listed(&listed), &settings.config, now)
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
}
