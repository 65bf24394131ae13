//! The kit passes what is right and fails what is wrong.

use std::sync::atomic::{AtomicBool, Ordering};

use ocicat_ipam::testing::{Fault, KitOptions, strategy_kit, strategy_kit_with};
use ocicat_ipam::{
    Ask, AssignRequest, BlockAffine, Family, Ordinal, Pool, Reason, Refusal, Step, Strategy, View,
};

/// The default strategy with one step changed.
struct Mutant<F>(F);

impl<F: Fn(&Ask<'_>, &View, Step) -> Step + Send + Sync> Strategy for Mutant<F> {
    fn next(&self, ask: &Ask<'_>, view: &View) -> Step {
        self.0(ask, view, BlockAffine.next(ask, view))
    }
}

fn fault(change: impl Fn(&Ask<'_>, &View, Step) -> Step + Send + Sync) -> Fault {
    strategy_kit(&Mutant(change))
        .expect_err("a mutant lives")
        .fault
}

fn refusal(change: impl Fn(&Ask<'_>, &View, Step) -> Step + Send + Sync) -> Refusal {
    match fault(change) {
        Fault::Refused(_, refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[test]
fn the_default_strategy_passes() {
    strategy_kit(&BlockAffine).unwrap();
}

#[test]
fn mutants_that_take_what_they_must_not() {
    let any_ordinal = |_: &Ask<'_>, _: &View, step| match step {
        Step::Take { block, .. } => Step::Take {
            block,
            ordinals: vec![Ordinal::new(0)],
        },
        other => other,
    };
    assert!(matches!(
        refusal(any_ordinal),
        Refusal::NotFree { .. } | Refusal::Reserved { .. }
    ));
    let reserved = |_: &Ask<'_>, view: &View, step| match step {
        Step::Take { block, .. } => {
            let first = view.block(&block).and_then(|block| block.free().next());
            Step::Take {
                block,
                ordinals: first.into_iter().collect(),
            }
        }
        other => other,
    };
    assert!(matches!(refusal(reserved), Refusal::Reserved { .. }));
    let twice = |_: &Ask<'_>, _: &View, step| match step {
        Step::Take { block, ordinals } if ordinals.len() > 1 => Step::Take {
            block,
            ordinals: vec![ordinals[0]; 2],
        },
        other => other,
    };
    assert!(matches!(refusal(twice), Refusal::NotFree { .. }));
    let greedy = |ask: &Ask<'_>, view: &View, step| match step {
        Step::Take { block, .. } => {
            let count = ask.missing as usize + 1;
            Step::Take {
                block,
                ordinals: view.usable(&block).take(count).collect(),
            }
        }
        other => other,
    };
    assert!(matches!(refusal(greedy), Refusal::Count { .. }));
    let nothing = |_: &Ask<'_>, _: &View, step| match step {
        Step::Take { block, .. } => Step::Take {
            block,
            ordinals: Vec::new(),
        },
        other => other,
    };
    assert!(matches!(refusal(nothing), Refusal::Count { .. }));
    let beyond = |_: &Ask<'_>, _: &View, step| match step {
        Step::Take { block, .. } => Step::Take {
            block,
            ordinals: vec![Ordinal::new(4095)],
        },
        other => other,
    };
    assert!(matches!(refusal(beyond), Refusal::NotFree { .. }));
}

#[test]
fn mutants_that_reach_for_other_blocks() {
    let taken = |_: &Ask<'_>, _: &View, step| match step {
        Step::Borrow { block, ordinals } => Step::Take { block, ordinals },
        other => other,
    };
    assert!(matches!(refusal(taken), Refusal::Foreign(_)));
    let own = |_: &Ask<'_>, view: &View, step| match step {
        Step::Take { block, ordinals } if !view.config().strict_affinity => {
            Step::Borrow { block, ordinals }
        }
        other => other,
    };
    assert!(matches!(refusal(own), Refusal::Own(_)));
    let lax = |ask: &Ask<'_>, view: &View, step| match step {
        Step::Stop(Reason::StrictAffinity) if view.surveyed() => {
            let lender = ask
                .pools
                .iter()
                .find_map(|pool| view.borrowable_in(pool, 0));
            match lender {
                Some(block) => Step::Borrow {
                    block: block.cidr(),
                    ordinals: view.usable(&block.cidr()).take(1).collect(),
                },
                None => step,
            }
        }
        other => other,
    };
    assert_eq!(refusal(lax), Refusal::StrictAffinity);
    let robber = |ask: &Ask<'_>, view: &View, step| match step {
        Step::Borrow { .. } if view.owned(ask.family) < view.block_limit(ask) => {
            let used = view.blocks().find(|block| {
                block.owner() != Some(view.owner())
                    && ask.pools.iter().any(|pool| pool.has_block(&block.cidr()))
            });
            used.map_or(step, |used| Step::Reclaim { block: used.cidr() })
        }
        other => other,
    };
    assert!(matches!(
        refusal(robber),
        Refusal::InUse(_) | Refusal::NoAutoAllocation
    ));
}

#[test]
fn mutants_that_claim_what_they_must_not() {
    let outside = |_: &Ask<'_>, _: &View, step| match step {
        Step::Claim { .. } => Step::Claim {
            block: "192.168.0.0/26".parse().unwrap(),
        },
        other => other,
    };
    assert!(matches!(refusal(outside), Refusal::OutsidePools(_)));
    let existing = |_: &Ask<'_>, view: &View, step| match step {
        Step::Claim { block } => view
            .blocks()
            .find(|found| found.cidr().length() == block.length())
            .map_or(Step::Claim { block }, |found| Step::Claim {
                block: found.cidr(),
            }),
        other => other,
    };
    assert!(matches!(
        refusal(existing),
        Refusal::Exists(_) | Refusal::OutsidePools(_)
    ));
}

#[test]
fn mutants_that_ignore_limits_and_order() {
    let hoarder = |ask: &Ask<'_>, view: &View, step| match step {
        Step::Stop(Reason::BlockLimit { .. }) if !view.surveyed() => Step::Survey,
        Step::Stop(Reason::BlockLimit { .. }) => ask
            .pools
            .iter()
            .find_map(|pool| view.unclaimed_in(pool, 0))
            .map_or(step, |block| Step::Claim { block }),
        other => other,
    };
    assert!(matches!(refusal(hoarder), Refusal::BlockLimit { .. }));
    let blind = |ask: &Ask<'_>, view: &View, step| match step {
        Step::Survey => ask
            .pools
            .iter()
            .find_map(|pool| view.unclaimed_in(pool, 0))
            .map_or(step, |block| Step::Claim { block }),
        other => other,
    };
    assert!(matches!(
        refusal(blind),
        Refusal::Survey | Refusal::NoAutoAllocation
    ));
    assert_eq!(refusal(|_, _, _| Step::Survey), Refusal::Survey);
}

#[test]
fn mutants_that_give_up_or_never_end_or_change_their_mind() {
    let lazy = |_: &Ask<'_>, _: &View, step| match step {
        Step::Take { .. } => Step::Stop(Reason::Other("tired".to_owned())),
        other => other,
    };
    assert!(matches!(fault(lazy), Fault::StoppedWithFreeAddresses(_)));
    strategy_kit_with(&Mutant(lazy), KitOptions::default().may_refuse()).unwrap();
    let timid = |_: &Ask<'_>, _: &View, step| match step {
        Step::Claim { .. } => Step::Stop(Reason::Other("tired".to_owned())),
        other => other,
    };
    assert!(matches!(fault(timid), Fault::StoppedWithFreeBlocks(_)));
    let turn = AtomicBool::new(false);
    let fickle = move |_: &Ask<'_>, view: &View, step| match step {
        Step::Take { block, .. } if turn.fetch_not(Ordering::Relaxed) => Step::Take {
            block,
            ordinals: view.usable(&block).skip(1).take(1).collect(),
        },
        other => other,
    };
    assert!(matches!(fault(fickle), Fault::Fickle(..)));
}

#[test]
fn a_strategy_that_invents_pools() {
    struct Inventor;
    impl Strategy for Inventor {
        fn order_pools(&self, _: &AssignRequest, _: &View, pools: &mut Vec<Pool>) {
            pools.push(Pool::new("mine", "10.99.0.0/24".parse().unwrap()));
        }
        fn next(&self, ask: &Ask<'_>, view: &View) -> Step {
            assert!(matches!(ask.family, Family::V4 | Family::V6));
            BlockAffine.next(ask, view)
        }
    }
    let fault = strategy_kit(&Inventor).unwrap_err().fault;
    assert!(matches!(fault, Fault::StrangePools(_)));
}
