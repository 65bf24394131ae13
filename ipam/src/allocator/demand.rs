use std::sync::Arc;
use std::time::Duration;

use super::Desk;
use super::assign::pool_of;
use super::commit;
use crate::{
    Allocation, AssignRequest, Assigned, Family, Ordinal, Pool, Prefix, Reason, Shortfall,
};

/// One family of one request.
pub(super) struct Demand<'a> {
    pub(super) at: usize,
    pub(super) request: &'a AssignRequest,
    pub(super) family: Family,
    pub(super) pools: Vec<Pool>,
    pub(super) missing: u32,
    pub(super) got: Vec<Assigned>,
    /// Whether the handle had these addresses before the request.
    pub(super) held_before: bool,
    pub(super) stop: Option<Reason>,
    /// Whether addresses that are kept for the workload are still to be looked for.
    pub(super) recalls: bool,
    record: Arc<Allocation>,
    /// The record for pools with a lease.
    leased: Vec<(Duration, Arc<Allocation>)>,
}

impl<'a> Demand<'a> {
    /// What is wanted of a family; nothing when the handle has `got` already.
    pub(super) fn new(
        at: usize,
        request: &'a AssignRequest,
        family: Family,
        pools: Vec<Pool>,
        record: Arc<Allocation>,
        got: Vec<Assigned>,
    ) -> Self {
        let held_before = !got.is_empty();
        let recalls = request.workload.is_some() && pools.iter().any(Pool::keeps);
        Self {
            at,
            request,
            family,
            missing: if held_before {
                0
            } else {
                request.wanted(family).count
            },
            recalls,
            pools,
            got,
            held_before,
            stop: None,
            record,
            leased: Vec::new(),
        }
    }

    pub(super) fn take(
        &mut self,
        desk: &mut Desk,
        demand: usize,
        block: Prefix,
        ordinals: Vec<Ordinal>,
    ) -> commit::Entry {
        desk.touch(&block);
        let record = self.record_in(&block);
        let addresses = desk.view.take(&block, &ordinals, &record);
        self.missing -= u32::try_from(ordinals.len())
            .unwrap_or(self.missing)
            .min(self.missing);
        let handle = self.request.handle.clone();
        commit::Entry {
            demand,
            handle,
            block,
            ordinals,
            addresses,
            kept: None,
        }
    }

    /// Takes an address that is kept for the request's workload.
    pub(super) fn take_kept(
        &mut self,
        desk: &mut Desk,
        demand: usize,
        block: Prefix,
        ordinal: Ordinal,
    ) -> Option<commit::Entry> {
        let workload = self.request.workload.as_deref()?;
        desk.touch(&block);
        let record = self.record_in(&block);
        let (address, kept) = desk.view.take_kept(&block, ordinal, workload, &record)?;
        self.missing = self.missing.saturating_sub(1);
        Some(commit::Entry {
            demand,
            handle: self.request.handle.clone(),
            block,
            ordinals: vec![ordinal],
            addresses: vec![address],
            kept: Some(kept),
        })
    }

    /// What is stored with an address of a block: in a pool with a lease also for whom it will be kept.
    fn record_in(&mut self, block: &Prefix) -> Arc<Allocation> {
        let pool = self.pools.iter().find(|pool| pool.has_block(block));
        let lease = pool.filter(|pool| pool.keeps()).and_then(|pool| pool.lease);
        let (Some(lease), Some(workload)) = (lease, self.request.workload.as_deref()) else {
            return Arc::clone(&self.record);
        };
        if let Some((_, known)) = self.leased.iter().find(|(of, _)| *of == lease) {
            return Arc::clone(known);
        }
        let leased = Allocation::clone(&self.record).with_lease(workload, lease);
        let leased = Arc::new(leased);
        self.leased.push((lease, Arc::clone(&leased)));
        leased
    }

    pub(super) fn accept(&mut self, desk: &Desk, entry: commit::Entry) {
        let pool = pool_of(&self.pools, &entry.block);
        let owner = desk
            .view
            .block(&entry.block)
            .and_then(|block| block.owner());
        let borrowed = owner != Some(&self.request.owner);
        self.got
            .extend(entry.addresses.into_iter().map(|address| Assigned {
                address,
                block: entry.block,
                pool: pool.clone(),
                borrowed,
            }));
    }

    pub(super) fn again(&mut self, entry: &commit::Entry) {
        self.missing += u32::try_from(entry.ordinals.len()).unwrap_or(0);
        self.recalls |= entry.kept.is_some();
        self.stop = None;
    }

    pub(super) fn shortfall(&self) -> Option<Shortfall> {
        let reason = self.stop.clone()?;
        let wanted = self.request.wanted(self.family).count;
        let found = wanted - self.missing.min(wanted);
        (self.missing > 0).then_some(Shortfall {
            family: self.family,
            wanted,
            found,
            reason,
        })
    }
}
