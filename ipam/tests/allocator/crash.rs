//! A crash, a conflict or a lost answer at every single call of every operation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ocicat_ipam::testing::{FaultyStore, Mishap, block_on};
use ocicat_ipam::{
    AssignIp, AssignRequest, Attached, BlockAffine, HandleId, Ipam, IpamStore, MemoryStore, Owner,
    Pool,
};

use crate::world::{at, audit, ip, pool, prefix, store};

/// The addresses that an operation says it took, and for which handles.
type Taken = Vec<(std::net::IpAddr, HandleId)>;
type Work<'a> = Pin<Box<dyn Future<Output = Taken> + Send + 'a>>;

struct Operation {
    name: &'static str,
    prepare: fn(&Ipam),
    run: for<'a> fn(&'a Ipam) -> Work<'a>,
}

async fn assign(ipam: &Ipam, requests: Vec<AssignRequest>, seconds: u64) -> Taken {
    let results = ipam.assign_many(&requests, at(seconds)).await;
    let mut taken = Vec::new();
    for (request, result) in requests.iter().zip(results) {
        let addresses = result
            .map(|assignment| assignment.addresses)
            .unwrap_or_default();
        taken.extend(
            addresses
                .into_iter()
                .map(|one| (one.address, request.handle.clone())),
        );
    }
    taken
}

fn request(node: &str, handle: &str, count: u32) -> AssignRequest {
    AssignRequest::new(node, handle).v4(count)
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "the first address of a host",
        prepare: |_| {},
        run: |ipam| Box::pin(assign(ipam, vec![request("a", "new", 1)], 0)),
    },
    Operation {
        name: "many pods, two blocks",
        prepare: |_| {},
        run: |ipam| {
            let requests = (0..6)
                .map(|n| request("a", &format!("new{n}"), 1))
                .collect();
            Box::pin(assign(ipam, requests, 0))
        },
    },
    Operation {
        name: "an address of a block in use",
        prepare: |ipam| drop(block_on(ipam.assign(&request("a", "old", 2), at(0))).unwrap()),
        run: |ipam| Box::pin(assign(ipam, vec![request("a", "new", 1)], 1)),
    },
    Operation {
        name: "more than there is, rolled back",
        prepare: |ipam| drop(block_on(ipam.assign(&request("b", "old", 9), at(0))).unwrap()),
        run: |ipam| Box::pin(assign(ipam, vec![request("a", "new", 9)], 1)),
    },
    Operation {
        name: "a block reclaimed from another host",
        prepare: |ipam| {
            block_on(ipam.assign(&request("b", "gone", 16), at(0))).unwrap();
            block_on(ipam.release_handle(&HandleId::new("gone"), at(0))).unwrap();
        },
        run: |ipam| Box::pin(assign(ipam, vec![request("a", "new", 1)], 100)),
    },
    Operation {
        name: "an address borrowed from another host",
        prepare: |ipam| drop(block_on(ipam.assign(&request("b", "old", 15), at(0))).unwrap()),
        run: |ipam| Box::pin(assign(ipam, vec![request("a", "new", 1)], 1)),
    },
    Operation {
        name: "a chosen address",
        prepare: |_| {},
        run: |ipam| {
            Box::pin(async {
                let chosen = AssignIp::new(ip("10.0.0.9"), "a", "new");
                let got = ipam.assign_ip(&chosen, at(0)).await;
                got.into_iter()
                    .map(|one| (one.address, HandleId::new("new")))
                    .collect()
            })
        },
    },
    Operation {
        name: "the release of a handle",
        prepare: |ipam| {
            block_on(ipam.assign(&request("a", "old", 6), at(0))).unwrap();
            block_on(ipam.assign(&request("a", "stays", 1), at(0))).unwrap();
        },
        run: |ipam| {
            Box::pin(async {
                drop(ipam.release_handle(&HandleId::new("old"), at(1)).await);
                Vec::new()
            })
        },
    },
    Operation {
        name: "an address kept for its workload, on another host",
        prepare: |ipam| {
            let first = request("b", "old", 1).workload("w");
            block_on(ipam.assign(&first, at(0))).unwrap();
            block_on(ipam.release_handle(&HandleId::new("old"), at(0))).unwrap();
        },
        run: |ipam| {
            let again = request("a", "new", 2).workload("w");
            Box::pin(assign(ipam, vec![again], 0))
        },
    },
    Operation {
        name: "addresses that the store does not know to be in use",
        prepare: |ipam| drop(block_on(ipam.assign(&request("b", "old", 3), at(0))).unwrap()),
        run: |ipam| {
            Box::pin(async {
                let all = (0..6).map(|n| ip(&format!("10.0.0.{}", n * 3)));
                let all = all.map(|address| Attached::new(address, "a", "new"));
                let all: Vec<_> = all.collect();
                let upheld = ipam.uphold(&all, at(1)).await.unwrap_or_default();
                let upheld = upheld.taken.into_iter().chain(upheld.held);
                upheld.map(|one| (one, HandleId::new("new"))).collect()
            })
        },
    },
    Operation {
        name: "the end of a host",
        prepare: |ipam| {
            block_on(ipam.assign(&request("a", "old", 6), at(0))).unwrap();
            block_on(ipam.assign(&request("b", "stays", 10), at(0))).unwrap();
        },
        run: |ipam| {
            Box::pin(async {
                drop(ipam.remove_host(&Owner::host("a"), at(1)).await);
                Vec::new()
            })
        },
    },
];

fn pools() -> Vec<Pool> {
    vec![pool("p", "10.0.0.0/28", 30).with_lease(Duration::from_secs(1))]
}

fn ipam_over(store: Arc<dyn IpamStore>) -> Ipam {
    Ipam::new(store, Box::new(BlockAffine))
}

/// Runs an operation until its end, or until it waits for an answer that never comes.
fn run(operation: &Operation, ipam: &Ipam) -> Option<Taken> {
    let mut work = (operation.run)(ipam);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(taken) => Some(taken),
        Poll::Pending => None,
    }
}

/// After a mishap: whatever the operation says it took it has, the host can go on, and everything can be released.
fn aftermath(store: &Arc<MemoryStore>, taken: &Taken, context: &str) {
    let held = audit(&**store);
    for (address, handle) in taken {
        assert_eq!(
            held.get(address),
            Some(handle),
            "{context}: {address} is not held"
        );
    }
    let fresh = ipam_over(Arc::clone(store) as Arc<dyn IpamStore>);
    for host in ["a", "b"] {
        block_on(fresh.settle_host(&Owner::host(host), at(200))).unwrap();
        let more = block_on(fresh.assign(&request(host, "after", 3).partial(), at(200))).unwrap();
        for one in &more.addresses {
            assert!(
                !held.contains_key(&one.address),
                "{context}: {} twice",
                one.address
            );
        }
    }
    let before: Vec<HandleId> = held.into_values().collect();
    for (_, handle) in audit(&**store) {
        block_on(fresh.release_handle(&handle, at(201))).unwrap();
    }
    for handle in block_on(store.all_handles()).unwrap().records {
        block_on(fresh.release_handle(&handle.value.id, at(201))).unwrap();
    }
    assert!(
        audit(&**store).is_empty(),
        "{context}: not released: {before:?}"
    );
    assert!(
        block_on(store.all_handles()).unwrap().records.is_empty(),
        "{context}"
    );
    for host in ["a", "b"] {
        let kept = block_on(fresh.release_host(&Owner::host(host), true, at(202))).unwrap();
        assert!(kept.is_empty(), "{context}: {kept:?}");
    }
    assert!(
        block_on(store.affinities(None)).unwrap().records.is_empty(),
        "{context}"
    );
    assert!(
        block_on(store.all_blocks()).unwrap().records.is_empty(),
        "{context}"
    );
    let all = block_on(fresh.assign(&request("c", "all", 16), at(300))).unwrap();
    assert_eq!(all.addresses.len(), 16, "{context}: addresses are lost");
}

#[test]
fn no_mishap_at_any_call_gives_an_address_twice_or_loses_one() {
    let mut tried = 0;
    for operation in OPERATIONS {
        let mishaps = [Mishap::Conflict, Mishap::Refuse, Mishap::LoseReply]
            .into_iter()
            .chain((0..8).map(Mishap::CrashAfter));
        for mishap in mishaps {
            for number in 0.. {
                let store = store(&pools());
                (operation.prepare)(&ipam_over(Arc::clone(&store) as Arc<dyn IpamStore>));
                let happened = Arc::new(AtomicBool::new(false));
                let seen = Arc::clone(&happened);
                let plan = move |call: &ocicat_ipam::testing::Call| {
                    let fits = match mishap {
                        // A crash between two writes of a batch needs as many.
                        Mishap::CrashAfter(done) => done <= call.writes.len(),
                        Mishap::Conflict => !call.writes.is_empty(),
                        _ => true,
                    };
                    if call.number != number {
                        return Mishap::None;
                    }
                    seen.store(true, Ordering::Relaxed);
                    if fits { mishap } else { Mishap::None }
                };
                let faulty = FaultyStore::new(Arc::clone(&store) as Arc<dyn IpamStore>, plan);
                let ipam = ipam_over(Arc::new(faulty));
                let taken = run(operation, &ipam).unwrap_or_default();
                let context = format!("{}, {mishap:?} at call {number}", operation.name);
                aftermath(&store, &taken, &context);
                if !happened.load(Ordering::Relaxed) {
                    break;
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried} mishaps tried");
}

#[test]
fn a_claim_that_is_interrupted_never_looks_confirmed() {
    for number in 0..8 {
        let store = store(&pools());
        let plan = move |call: &ocicat_ipam::testing::Call| match call.number == number {
            true => Mishap::CrashAfter(call.writes.len()),
            false => Mishap::None,
        };
        let faulty = FaultyStore::new(Arc::clone(&store) as Arc<dyn IpamStore>, plan);
        let ipam = ipam_over(Arc::new(faulty));
        let owner = Owner::host("a");
        let mut work = Box::pin(ipam.claim_affinity(prefix("10.0.0.0/30"), &owner, at(0)));
        let _ = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        audit(&*store);
    }
}
