//! Fifty nodes on a virtual clock: random requests, releases, deaths, crashes between any two writes, conflicts, lost
//! answers and partitions, in any interleaving of store calls. The invariants are looked at with every write, and the whole
//! store every 20th step. A failing seed is printed and replays with `OCICAT_IPAM_SEED=n cargo test -p ocicat-ipam --all-features --test simulation`.
//!
//! `OCICAT_IPAM_SEEDS` and `OCICAT_IPAM_STEPS` say how many runs and how long; without them 150 of 200 steps in a build
//! for debugging and 10,000 in an optimised one.

mod chaos;
mod ledger;
mod model;
mod world;

use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

fn run(seed: u64, steps: u64) {
    let result = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        for step in 0..steps {
            world.step();
            if step % 20 == 19 {
                world.check();
            }
        }
        world.finish();
    });
    if let Err(panic) = result {
        eprintln!("replay with OCICAT_IPAM_SEED={seed} OCICAT_IPAM_STEPS={steps}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn no_address_is_given_twice_and_none_is_lost() {
    let steps = number("OCICAT_IPAM_STEPS").unwrap_or(200);
    if let Some(seed) = number("OCICAT_IPAM_SEED") {
        return run(seed, steps);
    }
    let usual = if cfg!(debug_assertions) { 150 } else { 10_000 };
    for seed in 0..number("OCICAT_IPAM_SEEDS").unwrap_or(usual) {
        run(seed, steps);
    }
}

#[test]
fn long_runs() {
    let runs = if cfg!(debug_assertions) { 2 } else { 100 };
    for seed in 1_000_000..1_000_000 + runs {
        run(seed, 3_000);
    }
}
