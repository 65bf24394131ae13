//! How fast addresses are found and taken: `cargo bench -p ocicat-ipam --features testing`.
//!
//! Prints one line of JSON for each figure, and fails where a figure misses its aim by more than half, so that a change
//! of order of magnitude is noticed on a busy machine too. Give `--strict` for the aims themselves.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ocicat_ipam::testing::{FaultyStore, Mishap, block_on};
use ocicat_ipam::{
    Allocation, Ask, AssignRequest, Block, BlockAffine, Family, HandleId, Ipam, IpamConfig,
    IpamStore, MemoryStore, Owner, Pool, Prefix, Step, Strategy, View,
};

fn main() {
    let strict = std::env::args().any(|argument| argument == "--strict");
    let mut figures = Figures {
        strict,
        missed: Vec::new(),
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        r#"{{"name":"machine","cores":{cores},"load":"{}"}}"#,
        load.trim()
    );
    pure(&mut figures);
    memory(&mut figures);
    operations(&mut figures);
    let missed = figures.missed;
    assert!(missed.is_empty(), "missed: {missed:?}");
}

struct Figures {
    strict: bool,
    missed: Vec<String>,
}

impl Figures {
    fn at_least(&mut self, name: &str, value: f64, aim: f64) {
        println!(r#"{{"name":"{name}","value":{value:.0},"aim":{aim:.0}}}"#);
        let least = if self.strict { aim } else { aim / 2.0 };
        if value < least {
            self.missed.push(format!("{name}: {value:.0} < {least:.0}"));
        }
    }

    fn exactly(&mut self, name: &str, value: u64, aim: u64) {
        println!(r#"{{"name":"{name}","value":{value},"aim":{aim}}}"#);
        if value > aim {
            self.missed.push(format!("{name}: {value} > {aim}"));
        }
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn pool(cidr: &str) -> Pool {
    Pool::new("p", cidr.parse().unwrap())
}

/// So many times in a second, measured over half of one.
fn rate(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < Duration::from_millis(500) {
        for _ in 0..100 {
            work();
        }
        count += 100;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// The strategy's step, the check and the block in place; and the search for a block.
fn pure(figures: &mut Figures) {
    for (cidr, family) in [
        ("10.0.0.0/24", Family::V4),
        ("10.0.0.0/16", Family::V4),
        ("10.0.0.0/8", Family::V4),
        ("fd00::/48", Family::V6),
    ] {
        let existing = if cidr.ends_with("/24") {
            vec![1, 3]
        } else {
            vec![1, 500]
        };
        let more = if cidr.ends_with("/8") || cidr.ends_with("/48") {
            vec![5000]
        } else {
            vec![]
        };
        for blocks in existing.into_iter().chain(more) {
            let pools = [pool(cidr)];
            let mut view = crowd(&pools[0], blocks);
            let request = match family {
                Family::V4 => AssignRequest::new("own", "h").v4(1),
                Family::V6 => AssignRequest::new("own", "h").v6(1),
            };
            let ask = Ask {
                request: &request,
                family,
                pools: &pools,
                missing: 1,
            };
            let found = rate(|| {
                black_box(view.unclaimed_in(&pools[0], 0));
            });
            figures.at_least(
                &format!("find a block, {cidr}, {blocks} blocks"),
                found,
                1e6,
            );
            view.claim(&view.unclaimed_in(&pools[0], 7).unwrap());
            let by = Allocation::new(request.handle.clone(), request.attributes.clone()).into();
            let taken = rate(|| {
                let step = BlockAffine.next(&ask, &view);
                view.check(&ask, &step).unwrap();
                if let Step::Take { block, ordinals } = &step {
                    black_box(view.take(block, ordinals, &by));
                    view.put_back(block, ordinals);
                }
            });
            figures.at_least(
                &format!("take an address, {cidr}, {blocks} blocks"),
                taken,
                1e6,
            );
        }
    }
}

/// A surveyed view with so many blocks of others in a row, all full.
fn crowd(pool: &Pool, blocks: u32) -> View {
    let mut view = View::new(Owner::host("own"), IpamConfig::default(), &[], now());
    let by: Arc<Allocation> = Allocation::default().into();
    for index in 0..blocks {
        let cidr = pool.block_at(index.into()).unwrap();
        let owner = Owner::host(&format!("other{}", index % 100));
        let mut block = Block::new(cidr, owner, now()).unwrap();
        let all: Vec<_> = block.free().collect();
        all.into_iter()
            .for_each(|ordinal| assert!(block.take(ordinal, &by)));
        view.put(block);
    }
    view.set_surveyed();
    view
}

/// Assignments through the allocator and a store in memory.
fn memory(figures: &mut Figures) {
    for (cidr, blocks) in [("10.0.0.0/24", 1), ("10.0.0.0/8", 1), ("10.0.0.0/8", 5000)] {
        let store = Arc::new(MemoryStore::with_pools([pool(cidr)]));
        let ipam = Ipam::new(
            Arc::clone(&store) as Arc<dyn IpamStore>,
            Box::new(BlockAffine),
        );
        for index in 0..blocks {
            let range: Prefix = pool(cidr).block_at(index).unwrap();
            let owner = Owner::host(&format!("other{}", index % 100));
            block_on(ipam.claim_affinity(range, &owner, now())).unwrap();
        }
        let handle = HandleId::new("h");
        let one = AssignRequest::new("own", &handle)
            .v4(1)
            .attribute("pod", "web");
        let single = rate(|| {
            black_box(block_on(ipam.assign(&one, now())).unwrap());
            block_on(ipam.release_handle(&handle, now())).unwrap();
        });
        println!(
            r#"{{"name":"assign and release one, {cidr}, {blocks} blocks","value":{single:.0}}}"#
        );
        let ones: Vec<_> = (0..40)
            .map(|n| AssignRequest::new("own", format!("one{n}")).v4(1))
            .collect();
        let mut take = || {
            ones.iter().for_each(|one| {
                black_box(block_on(ipam.assign(one, now())).unwrap());
            });
            ones.len()
        };
        let mut give = || {
            ones.iter().for_each(|one| {
                block_on(ipam.release_handle(&one.handle, now())).unwrap();
            });
        };
        let name = format!("assign one by one, {cidr}, {blocks} blocks");
        figures.at_least(&name, rate_of(&mut take, &mut give), 1e5);
        let hundred: Vec<_> = (0..100)
            .map(|n| AssignRequest::new("own", format!("h{n}")).v4(1))
            .collect();
        let mut take = || {
            let results = block_on(ipam.assign_many(&hundred, now()));
            assert!(results.iter().all(Result::is_ok));
            results.len()
        };
        let mut give = || {
            for request in &hundred {
                block_on(ipam.release_handle(&request.handle, now())).unwrap();
            }
        };
        let batched = rate_of(&mut take, &mut give);
        let name = format!("assign in batches of 100, {cidr}, {blocks} blocks");
        figures.at_least(&name, batched, 1e5);
    }
}

/// How much of something is taken in a second; what is between one time and the next is not counted.
fn rate_of(take: &mut dyn FnMut() -> usize, give: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    let (mut spent, mut count) = (Duration::ZERO, 0.0);
    while start.elapsed() < Duration::from_millis(500) {
        let begin = Instant::now();
        let taken = take();
        spent += begin.elapsed();
        count += f64::from(u32::try_from(taken).unwrap_or(u32::MAX));
        give();
    }
    count / spent.as_secs_f64()
}

/// Calls of the store: what an allocation costs where a call is a round trip.
fn operations(figures: &mut Figures) {
    let store = Arc::new(MemoryStore::with_pools([pool("10.0.0.0/8")]));
    let counted = || {
        let inner = Arc::clone(&store) as Arc<dyn IpamStore>;
        Arc::new(FaultyStore::new(inner, |_| Mishap::None))
    };
    let calls = counted();
    let ipam = Ipam::new(
        Arc::clone(&calls) as Arc<dyn IpamStore>,
        Box::new(BlockAffine),
    );
    block_on(ipam.assign(&AssignRequest::new("own", "first").v4(1), now())).unwrap();
    let before = calls.calls();
    block_on(ipam.assign(&AssignRequest::new("own", "second").v4(1), now())).unwrap();
    // Settings, reservations and pools are three; the handle and the block are written.
    figures.exactly("store calls for an assignment", calls.calls() - before, 5);
    let before = calls.calls();
    let hundred: Vec<_> = (0..50)
        .map(|n| AssignRequest::new("own", format!("h{n}")).v4(1))
        .collect();
    block_on(ipam.assign_many(&hundred, now()));
    figures.exactly(
        "store calls for fifty assignments at once",
        calls.calls() - before,
        5,
    );
    let start = Instant::now();
    let mut total = 0;
    for n in 0..1000 {
        let calls = counted();
        let ipam = Ipam::new(
            Arc::clone(&calls) as Arc<dyn IpamStore>,
            Box::new(BlockAffine),
        );
        let node = format!("node{n}");
        block_on(ipam.assign(
            &AssignRequest::new(node.as_str(), node.as_str()).v4(1),
            now(),
        ))
        .unwrap();
        total += calls.calls();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(r#"{{"name":"1000 nodes start","seconds":{seconds:.3}}}"#);
    // Settings, reservations, claims, their blocks, pools, a survey; claim, block, confirmation; handle and block.
    figures.exactly(
        "store calls for the first address of each of 1000 nodes",
        total,
        11 * 1000,
    );
}
