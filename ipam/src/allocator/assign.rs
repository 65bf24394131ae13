use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;
use std::time::SystemTime;

use super::claim::Claimed;
use super::commit::{self, Outcome};
use super::demand::Demand;
use super::load::Settings;
use super::qualify::qualify;
use super::{ATTEMPTS, Desk, Ipam};
use crate::{
    Allocation, Ask, AssignError, AssignRequest, Assigned, Assignment, Audience, Family, Owner,
    Pool, Prefix, Reason, ReleaseError, Step, StoreError,
};

/// How many steps a strategy may propose for one demand between two writes.
const STEPS: u32 = 10_000;

type Outcomes = Vec<Result<Assignment, AssignError>>;

impl Ipam {
    /// Serves requests of one host.
    pub(super) async fn serve(
        &self,
        owner: &Owner,
        requests: &[&AssignRequest],
        now: SystemTime,
    ) -> Outcomes {
        let mut outcomes: Outcomes = requests.iter().map(|_| Ok(Assignment::default())).collect();
        let opened = match self.settings().await {
            Ok(settings) => self
                .desk(owner, &settings, now)
                .await
                .map(|desk| (desk, settings)),
            Err(error) => Err(error),
        };
        let (mut desk, settings) = match opened {
            Ok(opened) => opened,
            Err(error) => return requests.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let mut demands = self.demands(&mut desk, requests, &mut outcomes, now).await;
        let whole = self.fill(&mut desk, &mut demands, &mut outcomes, now).await;
        if whole {
            self.keep(desk);
        }
        self.conclude(requests, demands, &mut outcomes, &settings, now)
            .await;
        outcomes
    }

    /// What is wanted, family by family, from pools that qualify.
    async fn demands<'a>(
        &self,
        desk: &mut Desk,
        requests: &[&'a AssignRequest],
        outcomes: &mut Outcomes,
        now: SystemTime,
    ) -> Vec<Demand<'a>> {
        let mut seen: BTreeMap<Option<&str>, Vec<Pool>> = BTreeMap::new();
        let mut demands = Vec::new();
        for (at, request) in requests.iter().copied().enumerate() {
            let namespace = request.namespace.as_deref();
            if let Entry::Vacant(unseen) = seen.entry(namespace) {
                match self.pools_for(desk, request, now).await {
                    Ok(pools) => drop(unseen.insert(pools)),
                    Err(error) => {
                        outcomes[at] = Err(error.into());
                        continue;
                    }
                }
            }
            let pools = seen.get(&namespace).map_or(&[][..], Vec::as_slice);
            match self.demands_of(desk, at, request, pools).await {
                Ok(of) => demands.extend(of),
                Err(error) => outcomes[at] = Err(error),
            }
        }
        demands
    }

    async fn pools_for(
        &self,
        desk: &mut Desk,
        request: &AssignRequest,
        now: SystemTime,
    ) -> Result<Vec<Pool>, StoreError> {
        let audience = Audience::new(request.owner.clone(), request.namespace.clone());
        let pools = self.store.pools(&audience).await?;
        self.tidy(desk, &pools, now).await?;
        Ok(pools)
    }

    async fn demands_of<'a>(
        &self,
        desk: &Desk,
        at: usize,
        request: &'a AssignRequest,
        pools: &[Pool],
    ) -> Result<Vec<Demand<'a>>, AssignError> {
        let record = Allocation::new(request.handle.clone(), request.attributes.clone());
        let record = Arc::new(record.of_host(&request.owner));
        let mut demands = Vec::new();
        for family in Family::ALL {
            let wanted = request.wanted(family);
            if wanted.count == 0 {
                continue;
            }
            let mut qualified = qualify(request, family, pools)?;
            if wanted.pools.is_empty() {
                self.strategy
                    .order_pools(request, &desk.view, &mut qualified);
                qualified.retain(|pool| pools.iter().any(|known| known == pool));
            }
            let got = match request.max_per_handle {
                Some(limit) => self.held_already(request, family, limit, pools).await?,
                None => Vec::new(),
            };
            let record = Arc::clone(&record);
            demands.push(Demand::new(at, request, family, qualified, record, got));
        }
        Ok(demands)
    }

    /// The addresses of a family that a handle has, when they are as many as it may have.
    async fn held_already(
        &self,
        request: &AssignRequest,
        family: Family,
        limit: u32,
        pools: &[Pool],
    ) -> Result<Vec<Assigned>, StoreError> {
        let held = self.blocks_of(&request.handle).await?;
        let held: Vec<_> = held
            .iter()
            .filter(|block| block.cidr().family() == family)
            .flat_map(|block| {
                let borrowed = block.owner() != Some(&request.owner);
                let addresses = block
                    .held_by(&request.handle)
                    .filter_map(|o| block.address(o));
                addresses.map(move |address| {
                    let pool = pool_of(pools, &block.cidr());
                    Assigned {
                        address,
                        block: block.cidr(),
                        pool,
                        borrowed,
                    }
                })
            })
            .collect();
        let enough = u32::try_from(held.len()).is_ok_and(|count| count >= limit);
        Ok(if enough && limit > 0 {
            held
        } else {
            Vec::new()
        })
    }

    /// Plans and writes until nothing is missing or nothing can be done; false when the desk may be wrong.
    async fn fill(
        &self,
        desk: &mut Desk,
        demands: &mut [Demand<'_>],
        outcomes: &mut Outcomes,
        now: SystemTime,
    ) -> bool {
        let mut whole = true;
        for _ in 0..ATTEMPTS {
            let mut entries = Vec::new();
            for (demand, state) in demands.iter_mut().enumerate() {
                if outcomes[state.at].is_err() {
                    continue;
                }
                let first = entries.len();
                if let Err(error) = self.plan(desk, demand, state, &mut entries, now).await {
                    for entry in entries.drain(first..).rev() {
                        entry.undo(&mut desk.view);
                    }
                    outcomes[state.at] = Err(error.into());
                    whole = false;
                }
            }
            if entries.is_empty() {
                desk.touched.clear();
                return whole;
            }
            let results = self.commit(desk, &entries).await;
            for (entry, outcome) in entries.into_iter().zip(results) {
                let state = &mut demands[entry.demand];
                match outcome {
                    Outcome::Written => state.accept(desk, entry),
                    Outcome::Lost => state.again(&entry),
                    Outcome::Failed(error) => {
                        outcomes[state.at] = Err(error);
                        whole = false;
                    }
                }
            }
        }
        for state in demands
            .iter()
            .filter(|state| state.missing > 0 && state.stop.is_none())
        {
            outcomes[state.at] = Err(AssignError::Contention { attempts: ATTEMPTS });
        }
        whole
    }

    /// Lets the strategy serve one demand in the view, as far as it goes.
    async fn plan(
        &self,
        desk: &mut Desk,
        demand: usize,
        state: &mut Demand<'_>,
        entries: &mut Vec<commit::Entry>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        self.take_kept(desk, demand, state, entries, now).await?;
        let mut steps = 0;
        while state.missing > 0 && state.stop.is_none() {
            let ask = Ask {
                request: state.request,
                family: state.family,
                pools: &state.pools,
                missing: state.missing,
            };
            let step = self.strategy.next(&ask, &desk.view);
            if let Err(refusal) = desk.view.check(&ask, &step) {
                state.stop = Some(Reason::Refused(refusal));
                break;
            }
            match step {
                Step::Take { block, ordinals } | Step::Borrow { block, ordinals } => {
                    entries.push(state.take(desk, demand, block, ordinals));
                }
                Step::Survey => self.survey(desk, now).await?,
                Step::Claim { block } => self.claim(desk, state.request, block, now).await?,
                Step::Reclaim { block } => self.reclaim(desk, state.request, block, now).await?,
                Step::Stop(reason) => state.stop = Some(reason),
            }
            steps += 1;
            if steps > STEPS {
                state.stop = Some(Reason::Restless);
            }
        }
        Ok(())
    }

    async fn claim(
        &self,
        desk: &mut Desk,
        request: &AssignRequest,
        cidr: Prefix,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        match self
            .claim_block(&request.owner, cidr, request.host_reserved, now)
            .await
        {
            Ok(Claimed::Ours(block) | Claimed::Lost(Some(block))) => desk.put(block),
            Err(ReleaseError::Store(error)) => return Err(error),
            Ok(Claimed::Lost(None)) | Err(_) => desk.view.occupy(&cidr),
        }
        Ok(())
    }

    /// Takes an empty block from its owner, guarded by the number of its last write.
    async fn reclaim(
        &self,
        desk: &mut Desk,
        request: &AssignRequest,
        cidr: Prefix,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let Some(block) = desk.view.block(&cidr) else {
            return Ok(());
        };
        let (from, seen) = (block.owner().cloned(), block.sequence());
        desk.remove(&cidr);
        let given_up = match &from {
            Some(from) => self.release_block(from, cidr, true, Some(seen), now).await,
            None => self.delete_vacant(cidr, now).await,
        };
        match given_up {
            Ok(()) => self.claim(desk, request, cidr, now).await,
            Err(ReleaseError::Store(error)) => Err(error),
            Err(_) => {
                let found = self.block(cidr).await?;
                if let Some(found) = found.filter(|found| !found.value.is_empty()) {
                    desk.put(found);
                }
                Ok(())
            }
        }
    }

    /// Turns what was found into answers, and releases what a request that is not served must not keep.
    async fn conclude(
        &self,
        requests: &[&AssignRequest],
        demands: Vec<Demand<'_>>,
        outcomes: &mut Outcomes,
        settings: &Settings,
        now: SystemTime,
    ) {
        let mut fresh: Vec<Vec<Assigned>> = requests.iter().map(|_| Vec::new()).collect();
        for demand in demands {
            if !demand.held_before {
                fresh[demand.at].extend(demand.got.iter().cloned());
            }
            if let Ok(assignment) = &mut outcomes[demand.at] {
                assignment.shortfalls.extend(demand.shortfall());
                assignment.addresses.extend(demand.got);
            }
        }
        for (at, request) in requests.iter().enumerate() {
            if let Ok(Assignment { shortfalls, .. }) = &mut outcomes[at] {
                if request.partial || shortfalls.is_empty() {
                    continue;
                }
                outcomes[at] = Err(AssignError::Short(std::mem::take(shortfalls)));
            }
            if !fresh[at].is_empty() {
                // What cannot be released now is found by a release of the handle.
                let _ = self.undo(&request.handle, &fresh[at], settings, now).await;
            }
        }
    }
}

/// The name of the pool that a block lies in.
pub(super) fn pool_of(pools: &[Pool], block: &Prefix) -> String {
    let pool = pools.iter().find(|pool| pool.cidr.covers(block));
    pool.map_or_else(String::new, |pool| pool.name.clone())
}
