use super::*;

fn lock(bench: &mut Bench, ready: Value) {
    bench.put("ClusterInformation", "default", ready);
    bench.core.advance();
}

/// A kernel that does what it is told.
fn obey(bench: &mut Bench) {
    let generation = bench.desired.borrow().generation;
    let outcome = Ok(Report::default());
    bench.core.applied(Applied {
        generation,
        outcome,
    });
}

#[test]
fn a_lock_is_followed_and_takes_nothing_away() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.affinity("confirmed");
    bench.sync();
    obey(&mut bench);
    let seen = |bench: &Bench| {
        let facts = bench.facts.borrow().clone();
        let tunnels = facts.tunnel_pools.is_some();
        let ready = bench.core.health().ready;
        assert_eq!(facts.may_write(), ready);
        (facts.ready, ready, tunnels)
    };
    assert_eq!(seen(&bench), (true, true, true), "a cluster without one");
    let state = bench.state();
    for (spec, open) in [
        (json!({}), true),
        (json!({"datastoreReady": false}), false),
        // What cannot be read leaves the last word in force.
        (json!({"datastoreReady": "yes"}), false),
        (json!({"datastoreReady": true}), true),
    ] {
        lock(&mut bench, spec.clone());
        assert_eq!(seen(&bench), (true, open, open), "{spec}");
        let reasons = bench.core.health().reasons;
        let says = |text| reasons.iter().any(|one| one.contains(text));
        assert_eq!(says("ocicatctl datastore migrate unlock"), !open, "{spec}");
        assert_eq!(bench.state(), state, "what is programmed stays");
    }
    bench.put(
        "ClusterInformation",
        "other",
        json!({"datastoreReady": false}),
    );
    assert!(bench.core.is_open(), "another object says nothing");
    lock(&mut bench, json!({"datastoreReady": false}));
    // Changes are followed meanwhile.
    let node = json!({"bgp": {"ipv4Address": "192.168.10.13/24"}});
    bench.put("Node", "node3", node);
    bench.core.advance();
    assert_ne!(bench.state(), state);
    let key = Key::cluster(Kind::ClusterInformation, "default");
    bench.core.delete(&key, Revision(bench.revision));
    bench.core.advance();
    assert!(bench.core.is_open(), "a cluster without one again");
}

#[test]
fn nobody_registers_before_the_lock_is_known() {
    let mut bench = bench(BTreeMap::new());
    let census = bench.core.ports.census.subscribe();
    for kind in KINDS
        .into_iter()
        .filter(|kind| *kind != Kind::ClusterInformation)
    {
        bench.core.listed(kind, Revision(1));
    }
    bench.core.advance();
    assert_eq!(*census.borrow(), None);
    lock(&mut bench, json!({"datastoreReady": false}));
    bench.core.listed(Kind::ClusterInformation, Revision(1));
    bench.core.advance();
    assert!(census.borrow().as_ref().is_some_and(|census| census.locked));
}
