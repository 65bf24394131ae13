use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use super::claim::Claimed;
use super::{Desk, Ipam};
use crate::{
    AffinityState, Block, BlockAffinity, HostReserved, IpamConfig, Owner, Pool, Prefix,
    ReleaseError, StoreError, Stored, View,
};

/// The settings that hold for one call.
pub(super) struct Settings {
    pub(super) config: IpamConfig,
    pub(super) reservations: Vec<Prefix>,
}

impl Ipam {
    pub(super) async fn settings(&self) -> Result<Settings, StoreError> {
        let config = self.store.config().await?;
        let mut reservations = self.store.reservations().await?;
        reservations.extend(self.in_use().keys().copied().map(Prefix::host));
        Ok(Settings {
            config,
            reservations,
        })
    }

    /// What is known about a host: remembered, or read.
    pub(super) async fn desk(
        &self,
        owner: &Owner,
        settings: &Settings,
        now: SystemTime,
    ) -> Result<Desk, StoreError> {
        let remembered = self.desks().remove(owner);
        if let Some(mut desk) = remembered {
            desk.begin(settings, now);
            return Ok(desk);
        }
        let Settings {
            config,
            reservations,
        } = settings;
        let mut desk = Desk {
            view: View::new(owner.clone(), config.clone(), reservations, now),
            revisions: HashMap::new(),
            touched: BTreeSet::new(),
            tidied: BTreeMap::new(),
        };
        let claims = self.store.affinities(Some(owner)).await?.records;
        let cidrs: Vec<_> = claims.iter().map(|claim| claim.value.block).collect();
        let blocks = self.store.blocks(&cidrs).await?;
        for (claim, block) in claims.into_iter().zip(blocks) {
            if let Some(block) = self.settle(claim, block, now).await? {
                desk.put(block);
            }
        }
        Ok(desk)
    }

    /// Keeps what is known about a host for the next call.
    pub(super) fn keep(&self, desk: Desk) {
        debug_assert!(
            desk.touched.is_empty(),
            "every change has been written or undone"
        );
        let owner = desk.view.owner().clone();
        self.desks().insert(owner, desk);
    }

    /// Makes a claim and its block agree: the block when it is the host's own, with the claim confirmed.
    ///
    /// A claim that somebody may be working on, with no block yet, is left alone: it stands for nothing.
    pub(super) async fn settle(
        &self,
        claim: Stored<BlockAffinity>,
        block: Option<Stored<Block>>,
        now: SystemTime,
    ) -> Result<Option<Stored<Block>>, StoreError> {
        let BlockAffinity {
            owner,
            block: cidr,
            state,
        } = &claim.value;
        let confirmed = *state == AffinityState::Confirmed;
        match block {
            Some(block) if block.value.owner() == Some(owner) && confirmed => Ok(Some(block)),
            Some(block) if block.value.owner() != Some(owner) => {
                self.drop_claim(&claim).await?;
                Ok(None)
            }
            None if !confirmed => Ok(None),
            _ => match self
                .claim_block(owner, *cidr, HostReserved::default(), now)
                .await
            {
                Ok(Claimed::Ours(block)) => Ok(Some(block)),
                Ok(Claimed::Lost(_)) | Err(ReleaseError::Contention { .. }) => Ok(None),
                Err(ReleaseError::Store(error)) => Err(error),
                Err(_) => Ok(None),
            },
        }
    }

    /// Learns about the blocks of everybody.
    pub(super) async fn survey(&self, desk: &mut Desk, now: SystemTime) -> Result<(), StoreError> {
        let listing = self.store.all_blocks().await?;
        for unreadable in listing.unreadable {
            unreadable
                .block
                .iter()
                .for_each(|cidr| desk.view.occupy(cidr));
        }
        let mut found = HashSet::new();
        for stored in listing.records {
            let cidr = stored.value.cidr();
            found.insert(cidr);
            if desk.touched.contains(&cidr) {
                continue;
            }
            let ours = stored.value.owner() == Some(desk.view.owner());
            if ours && desk.view.block(&cidr).is_none() {
                self.adopt(desk, cidr, now).await?;
            } else {
                desk.put(stored);
            }
        }
        let gone: Vec<_> = desk.view.blocks().map(Block::cidr).collect();
        for cidr in gone.into_iter().filter(|cidr| !found.contains(cidr)) {
            if !desk.touched.contains(&cidr) {
                desk.remove(&cidr);
            }
        }
        desk.view.set_surveyed();
        Ok(())
    }

    /// Takes over a block that names the host and was not among its claims.
    async fn adopt(
        &self,
        desk: &mut Desk,
        cidr: Prefix,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let owner = desk.view.owner().clone();
        match self
            .claim_block(&owner, cidr, HostReserved::default(), now)
            .await
        {
            Ok(Claimed::Ours(block) | Claimed::Lost(Some(block))) => desk.put(block),
            Err(ReleaseError::Store(error)) => return Err(error),
            Ok(Claimed::Lost(None)) | Err(_) => desk.view.occupy(&cidr),
        }
        Ok(())
    }

    /// Gives up empty blocks in pools that do not select the host any more; once for each change of the pools.
    pub(super) async fn tidy(
        &self,
        desk: &mut Desk,
        pools: &[Pool],
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let same = desk.tidied.len() == pools.len()
            && pools
                .iter()
                .all(|pool| desk.tidied.get(&pool.name) == Some(&pool.selects_owner));
        if same {
            return Ok(());
        }
        let owner = desk.view.owner().clone();
        let foreign = |cidr: &Prefix| {
            let pool = pools.iter().find(|pool| pool.cidr.covers(cidr));
            pool.is_some_and(|pool| !pool.selects_owner)
        };
        let idle: Vec<_> = desk
            .view
            .blocks()
            .filter(|block| block.owner() == Some(&owner) && block.is_empty())
            .map(Block::cidr)
            .filter(foreign)
            .collect();
        for cidr in idle {
            match self.release_block(&owner, cidr, true, None, now).await {
                Ok(()) => desk.remove(&cidr),
                Err(ReleaseError::Store(error)) => return Err(error),
                Err(_) => {}
            }
        }
        let seen = pools
            .iter()
            .map(|pool| (pool.name.clone(), pool.selects_owner));
        desk.tidied = seen.collect();
        Ok(())
    }
}

impl Desk {
    fn begin(&mut self, settings: &Settings, now: SystemTime) {
        self.view
            .begin(settings.config.clone(), &settings.reservations, now);
        let view = &self.view;
        self.revisions.retain(|cidr, _| view.block(cidr).is_some());
    }
}
