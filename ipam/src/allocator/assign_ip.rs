use std::sync::Arc;
use std::time::SystemTime;

use super::claim::Claimed;
use super::commit::{Entry, Outcome};
use super::{ATTEMPTS, Desk, Ipam};
use crate::{
    Allocation, AssignError, AssignIp, Assigned, Audience, HostReserved, Ordinal, Pool, Prefix,
    ReleaseError, StoreError,
};

impl Ipam {
    /// Takes an address that the caller chose, from any enabled pool, also one that requests must name.
    ///
    /// A reserved address is refused. A block that does not exist is claimed for the host; in a block of another
    /// host the address is borrowed, unless affinity is strict.
    ///
    /// # Errors
    /// See [`AssignError`]; [`AssignError::Taken`] names the handle that has the address.
    ///
    /// # Cancel safety
    /// A dropped call may leave the address held; a release of the handle finds it.
    pub async fn assign_ip(
        &self,
        request: &AssignIp,
        now: SystemTime,
    ) -> Result<Assigned, AssignError> {
        let settings = self.settings().await?;
        let audience = Audience::new(request.owner.clone(), None);
        let pools = self.store.pools(&audience).await?;
        let (pool, cidr) = place(request, &pools)?;
        let mut desk = self.desk(&request.owner, &settings, now).await?;
        if desk.view.is_reserved(request.address) {
            self.keep(desk);
            return Err(AssignError::Reserved(request.address));
        }
        let record = record(request, pool);
        for _ in 0..ATTEMPTS {
            let ordinal = match self.prepare(&mut desk, request, cidr, now).await {
                Ok(Some(ordinal)) => ordinal,
                Ok(None) => continue,
                Err(error) => {
                    desk.touched.clear();
                    self.keep(desk);
                    return Err(error);
                }
            };
            desk.touch(&cidr);
            let workload = request.workload.as_deref().unwrap_or_default();
            let kept = desk.view.take_kept(&cidr, ordinal, workload, &record);
            let kept = kept.map(|(_, kept)| kept);
            if kept.is_none() {
                desk.view.take(&cidr, &[ordinal], &record);
            }
            let entry = Entry {
                demand: 0,
                handle: request.handle.clone(),
                block: cidr,
                ordinals: vec![ordinal],
                addresses: vec![request.address],
                kept,
            };
            match self.commit(&mut desk, &[entry]).await.pop() {
                Some(Outcome::Written) => {
                    let block = desk.view.block(&cidr);
                    let borrowed = block.and_then(|b| b.owner()) != Some(&request.owner);
                    self.keep(desk);
                    let pool = pool.name.clone();
                    let address = request.address;
                    return Ok(Assigned {
                        address,
                        block: cidr,
                        pool,
                        borrowed,
                    });
                }
                Some(Outcome::Failed(error)) => return Err(error),
                Some(Outcome::Lost) | None => {}
            }
        }
        Err(AssignError::Contention { attempts: ATTEMPTS })
    }

    /// Brings the block to the desk and looks whether the address can be taken. `None`: try again.
    async fn prepare(
        &self,
        desk: &mut Desk,
        request: &AssignIp,
        cidr: Prefix,
        now: SystemTime,
    ) -> Result<Option<Ordinal>, AssignError> {
        let AssignIp { address, owner, .. } = request;
        let own = desk
            .view
            .block(&cidr)
            .is_some_and(|block| block.owner() == Some(owner));
        if !own || !free(desk, cidr, request) {
            match self.block(cidr).await? {
                Some(block) => desk.put(block),
                None if !desk.view.config().auto_allocate_blocks => {
                    return Err(AssignError::NoBlock { block: cidr });
                }
                None => self.claim_for(desk, request, cidr, now).await?,
            }
        }
        let Some(block) = desk.view.block(&cidr) else {
            return Ok(None);
        };
        if block.owner() != Some(owner) && desk.view.config().strict_affinity {
            return Err(AssignError::ForeignBlock {
                address: *address,
                block: cidr,
            });
        }
        let Some(ordinal) = block.ordinal(*address) else {
            return Err(AssignError::OutsidePools(*address));
        };
        match block.allocation(ordinal) {
            None => Ok(Some(ordinal)),
            Some(held) => {
                if let Some(kept) = held.kept.clone() {
                    let address = *address;
                    let theirs = request.workload.as_ref() == Some(&kept.workload);
                    return match theirs {
                        true => Ok(Some(ordinal)),
                        false => Err(AssignError::Kept { address, kept }),
                    };
                }
                let handle = held.handle.clone().filter(|_| !held.rests());
                Err(AssignError::Taken {
                    address: *address,
                    handle,
                })
            }
        }
    }

    async fn claim_for(
        &self,
        desk: &mut Desk,
        request: &AssignIp,
        cidr: Prefix,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let reserved = HostReserved::default();
        match self.claim_block(&request.owner, cidr, reserved, now).await {
            Ok(Claimed::Ours(block) | Claimed::Lost(Some(block))) => desk.put(block),
            Err(ReleaseError::Store(error)) => return Err(error),
            Ok(Claimed::Lost(None)) | Err(_) => desk.remove(&cidr),
        }
        Ok(())
    }
}

fn record(request: &AssignIp, pool: &Pool) -> Arc<Allocation> {
    let record = Allocation::new(request.handle.clone(), request.attributes.clone());
    let record = record.of_host(&request.owner);
    Arc::new(match (&request.workload, pool.lease) {
        (Some(workload), Some(lease)) if pool.keeps() => record.with_lease(workload, lease),
        _ => record,
    })
}

fn free(desk: &Desk, cidr: Prefix, request: &AssignIp) -> bool {
    let block = desk.view.block(&cidr);
    block.is_some_and(|block| {
        block
            .ordinal(request.address)
            .is_some_and(|at| block.is_free(at))
    })
}

/// The enabled pool that an address is in, and the block there.
fn place<'a>(request: &AssignIp, pools: &'a [Pool]) -> Result<(&'a Pool, Prefix), AssignError> {
    let address = request.address;
    let pool = pools
        .iter()
        .find(|pool| !pool.disabled && pool.cidr.contains(address))
        .ok_or(AssignError::OutsidePools(address))?;
    if let Some(intended_use) = request.intended_use {
        if !pool.uses.contains(&intended_use) {
            let (owner, family) = (request.owner.clone(), pool.family());
            return Err(AssignError::NoQualifiedPool {
                owner,
                family,
                intended_use,
            });
        }
    }
    let block = Prefix::containing(address, pool.block_size);
    Ok((pool, block.map_err(|_| AssignError::OutsidePools(address))?))
}
