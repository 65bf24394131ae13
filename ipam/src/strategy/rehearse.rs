use std::net::IpAddr;
use std::sync::Arc;

use super::{Ask, Step, Strategy};
use crate::{Allocation, AssignRequest, Block, Family, Pool, Prefix, Reason, View};

/// How a request went in plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rehearsal {
    /// The addresses that were taken, in their order.
    pub addresses: Vec<IpAddr>,
    /// Every step that was done.
    pub steps: Vec<Step>,
    /// Why there were not more addresses.
    pub stop: Option<Reason>,
}

/// Lets a strategy serve one family of a request in a view, as though no other host did anything meanwhile: what the
/// allocator does, without a store. For unit tests of strategies, and to ask what would happen.
///
/// Put everybody's blocks into the view; the strategy sees those of others after its survey, as it would.
pub fn rehearse(
    strategy: &dyn Strategy,
    view: &mut View,
    request: &AssignRequest,
    family: Family,
    pools: &[Pool],
) -> Rehearsal {
    let others = if view.surveyed() {
        Vec::new()
    } else {
        hide_others(view)
    };
    let mut others = Some(others);
    let mut order = pools.to_vec();
    if request.wanted(family).pools.is_empty() {
        strategy.order_pools(request, view, &mut order);
        order.retain(|pool| pools.contains(pool));
    }
    let record = Allocation::new(request.handle.clone(), request.attributes.clone());
    let record = Arc::new(record.of_host(&request.owner));
    let mut missing = request.wanted(family).count;
    let mut rehearsal = Rehearsal::default();
    while missing > 0 {
        let ask = Ask {
            request,
            family,
            pools: &order,
            missing,
        };
        let step = strategy.next(&ask, view);
        if let Err(refusal) = view.check(&ask, &step) {
            rehearsal.stop = Some(Reason::Refused(refusal));
            break;
        }
        if rehearsal.steps.len() == 10_000 {
            rehearsal.stop = Some(Reason::Restless);
            break;
        }
        match &step {
            Step::Take { block, ordinals } | Step::Borrow { block, ordinals } => {
                missing -= u32::try_from(ordinals.len()).unwrap_or(missing);
                rehearsal
                    .addresses
                    .extend(view.take(block, ordinals, &record));
            }
            Step::Survey => {
                others
                    .take()
                    .into_iter()
                    .flatten()
                    .for_each(|block| view.put(block));
                view.set_surveyed();
            }
            Step::Claim { block } | Step::Reclaim { block } => view.claim(block),
            Step::Stop(reason) => {
                rehearsal.stop = Some(reason.clone());
                break;
            }
        }
        rehearsal.steps.push(step);
    }
    rehearsal
}

/// Takes other owners' blocks out of a view, as before a survey.
fn hide_others(view: &mut View) -> Vec<Block> {
    let others: Vec<_> = view
        .blocks()
        .filter(|block| block.owner() != Some(view.owner()))
        .cloned()
        .collect();
    let (config, now) = (view.config().clone(), view.now());
    let reservations = view.reservations().to_vec();
    view.set_surveyed();
    view.begin(config, &reservations, now);
    others
}

impl View {
    /// Makes a block the host's own, new and empty, as a claim that succeeds does.
    pub fn claim(&mut self, cidr: &Prefix) {
        if let Ok(block) = Block::new(*cidr, self.owner().clone(), self.now()) {
            self.put(block);
        }
    }
}
