use std::net::IpAddr;
use std::time::SystemTime;

use super::Ipam;
use super::claim::Claimed;
use crate::{Audience, Block, HandleId, HostReserved, Owner, Prefix, ReleaseError, StoreError};

/// What became of blocks that were to be claimed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Claims {
    /// The blocks that are the owner's now.
    pub claimed: Vec<Prefix>,
    /// The blocks that belong to others.
    pub failed: Vec<Prefix>,
}

impl Ipam {
    /// Claims every block in a range for an owner, beyond any limit of blocks.
    ///
    /// # Errors
    /// [`ReleaseError::NoBlocks`] when the range is in no enabled pool or smaller than its blocks; else when the
    /// store fails, with what was claimed so far.
    ///
    /// # Cancel safety
    /// A dropped call may leave one claim pending, which stands for nothing.
    pub async fn claim_affinity(
        &self,
        range: Prefix,
        owner: &Owner,
        now: SystemTime,
    ) -> Result<Claims, ReleaseError> {
        let audience = Audience::new(owner.clone(), None);
        let pools = self.store.pools(&audience).await?;
        let pool = pools
            .iter()
            .find(|pool| !pool.disabled && pool.cidr.covers(&range))
            .filter(|pool| range.length() <= pool.block_size)
            .ok_or(ReleaseError::NoBlocks(range))?;
        let span = 1_u128 << (pool.family().bits() - pool.block_size);
        let mut claims = Claims::default();
        let mut at = Some(range.first()).filter(|first| *first <= range.last());
        while let Some(first) = at {
            let address = pool.family().address(first);
            let Ok(cidr) = Prefix::containing(address, pool.block_size) else {
                break;
            };
            let reserved = HostReserved::default();
            match self.claim_block(owner, cidr, reserved, now).await? {
                Claimed::Ours(_) => claims.claimed.push(cidr),
                Claimed::Lost(_) => claims.failed.push(cidr),
            }
            at = first.checked_add(span).filter(|next| *next <= range.last());
        }
        self.forget(owner);
        Ok(claims)
    }

    /// Gives up one block of an owner; `must_be_empty` keeps it when it holds addresses, else they survive in a
    /// block without owner.
    ///
    /// # Errors
    /// [`ReleaseError::NotEmpty`], [`ReleaseError::NotOwner`], or when the store fails.
    ///
    /// # Cancel safety
    /// A dropped call may leave the claim on its way out; it can be repeated, and the owner's next use of the block
    /// confirms it again.
    pub async fn release_affinity(
        &self,
        block: Prefix,
        owner: &Owner,
        must_be_empty: bool,
        now: SystemTime,
    ) -> Result<(), ReleaseError> {
        self.release_block(owner, block, must_be_empty, None, now)
            .await
    }

    /// Gives up every block of an owner; those that must be empty and are not are kept and returned.
    ///
    /// # Errors
    /// When the store fails; what was given up stays given up.
    pub async fn release_host(
        &self,
        owner: &Owner,
        must_be_empty: bool,
        now: SystemTime,
    ) -> Result<Vec<Prefix>, ReleaseError> {
        let mut kept = Vec::new();
        for claim in self.store.affinities(Some(owner)).await?.records {
            let block = claim.value.block;
            match self
                .release_block(owner, block, must_be_empty, None, now)
                .await
            {
                Ok(()) | Err(ReleaseError::NotOwner { .. }) => {}
                Err(ReleaseError::NotEmpty { .. }) => kept.push(block),
                Err(error) => return Err(error),
            }
        }
        self.forget(owner);
        Ok(kept)
    }

    /// Gives up every block in a range, whosever it is; those that must be empty and are not are kept and returned.
    ///
    /// # Errors
    /// When the store fails; what was given up stays given up.
    pub async fn release_pool(
        &self,
        range: Prefix,
        must_be_empty: bool,
        now: SystemTime,
    ) -> Result<Vec<Prefix>, ReleaseError> {
        let mut kept = Vec::new();
        for claim in self.store.affinities(None).await?.records {
            let (owner, block) = (&claim.value.owner, claim.value.block);
            if !range.covers(&block) {
                continue;
            }
            match self
                .release_block(owner, block, must_be_empty, None, now)
                .await
            {
                Ok(()) | Err(ReleaseError::NotOwner { .. }) => {}
                Err(ReleaseError::NotEmpty { .. }) => kept.push(block),
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    }

    /// Removes a host that is gone: every address that was taken for it, in any block, and then its blocks. A block
    /// that holds addresses of other hosts stays, without owner, until the last of them is released.
    ///
    /// An address was taken for the host when its attribute `node` says so, as it does for every address that an
    /// allocator took. The host must really be gone: its pods would lose their addresses.
    ///
    /// # Errors
    /// When the store fails; the call can be repeated, and goes on where it ended.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn remove_host(
        &self,
        owner: &Owner,
        now: SystemTime,
    ) -> Result<Vec<IpAddr>, ReleaseError> {
        let name = owner.name().to_owned();
        let addresses = self
            .release_matching(&move |held| held.attributes.get("node") == Some(&name), now)
            .await?;
        self.release_host(owner, false, now).await?;
        Ok(addresses)
    }

    /// Confirms every block that names a host, and drops claims that stand for nothing. An agent calls it when it
    /// starts and when it sees a claim of its own that is not confirmed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn settle_host(
        &self,
        owner: &Owner,
        now: SystemTime,
    ) -> Result<Vec<Prefix>, StoreError> {
        self.forget(owner);
        let mut confirmed = Vec::new();
        for claim in self.store.affinities(Some(owner)).await?.records {
            let block = self.block(claim.value.block).await?;
            let (begun, nothing) = (claim.clone(), block.is_none());
            match self.settle(claim, block, now).await? {
                Some(block) => confirmed.push(block.value.cidr()),
                None if nothing => self.drop_claim(&begun).await?,
                None => {}
            }
        }
        Ok(confirmed)
    }

    /// The addresses of a handle.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn addresses_of(&self, handle: &HandleId) -> Result<Vec<IpAddr>, StoreError> {
        let blocks = self.blocks_of(handle).await?;
        let in_block = |block: &Block| -> Vec<IpAddr> {
            block
                .held_by(handle)
                .filter_map(|at| block.address(at))
                .collect()
        };
        Ok(blocks.iter().flat_map(in_block).collect())
    }
}
