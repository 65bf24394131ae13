//! Beginning while the datastore is away, and what the datastore says when it is back.

use super::*;

/// What a run of an agent leaves on disk.
fn left() -> Snapshot {
    let mut before = bench(BTreeMap::new());
    before.cluster();
    before.affinity("confirmed");
    before.put("IPPool", "old", json!({"cidr": "10.9.0.0/16"}));
    before.sync();
    before.core.publish_snapshot();
    let kept = before.kept.borrow().clone().unwrap();
    (*kept).clone()
}

fn due(bench: &mut Bench) {
    let later = Instant::now() + Duration::from_secs(60);
    assert!(bench.core.restore.is_due(later));
    bench.core.restore_from_disk();
    bench.core.advance();
}

#[test]
fn the_snapshot_stands_in_for_the_datastore() {
    let mut bench = restarted(BTreeMap::new(), Some(left()));
    bench.core.advance();
    assert_eq!(
        bench.desired.borrow().generation,
        0,
        "the datastore is waited for"
    );
    due(&mut bench);
    assert_eq!(bench.hops("10.0.0.0/26"), [Hop::Blackhole], "its own block");
    assert!(bench.state().incomplete, "nothing is removed");
    bench.applied();
    let facts = bench.facts.borrow().clone();
    assert!(!facts.ready, "no pod is added");
    assert!(
        facts.reasons.iter().any(|one| one.contains("snapshot")),
        "{:?}",
        facts.reasons
    );
    // The datastore is back: what it does not have any more is gone, and then all is whole.
    bench.cluster();
    bench.affinity("confirmed");
    bench.sync();
    assert!(!bench.state().incomplete);
    assert!(!bench.core.world.pools.contains_key("old"));
    assert_eq!(bench.hops("10.0.0.0/26"), [Hop::Blackhole]);
    assert!(!bench.facts.borrow().ready, "not in the kernel yet");
    bench.applied();
    assert!(bench.facts.borrow().ready);
    let kept = bench.kept.borrow().clone();
    assert!(kept.is_none(), "not yet due");
    bench.core.publish_snapshot();
    let kept = bench.kept.borrow().clone().unwrap();
    assert_eq!(kept.objects.len(), left().objects.len() - 1);
}

#[test]
fn what_the_datastore_said_meanwhile_wins_over_the_snapshot() {
    let mut bench = restarted(BTreeMap::new(), Some(left()));
    bench.put("IPPool", "plain", json!({"cidr": "10.7.0.0/16"}));
    bench.core.listed(Kind::IpPool, Revision(bench.revision));
    due(&mut bench);
    let pools: Vec<&String> = bench.core.world.pools.keys().collect();
    assert_eq!(pools, ["plain"]);
    assert_eq!(
        bench.core.world.pools["plain"].range,
        "10.7.0.0/16".parse().unwrap()
    );
    assert!(
        bench.core.world.own_blocks.len() == 1,
        "of a kind that is still unknown"
    );
}

#[test]
fn a_datastore_that_answers_at_once_needs_no_snapshot() {
    let mut bench = restarted(BTreeMap::new(), Some(left()));
    bench.cluster();
    bench.sync();
    due(&mut bench);
    assert!(!bench.core.world.pools.contains_key("old"));
    assert!(!bench.state().incomplete);
}

#[test]
fn without_a_snapshot_the_datastore_is_waited_for() {
    let bench = restarted(BTreeMap::new(), None);
    assert_eq!(bench.core.restore.due(), None);
    assert!(!bench.core.may_act());
}

#[test]
fn passwords_are_kept_for_a_start_without_the_datastore() {
    let mut before = bench(BTreeMap::new());
    before.core.secrets = Arc::new(BTreeMap::from([("bgp/tor".to_owned(), "hush".to_owned())]));
    before.cluster();
    before.sync();
    before.core.publish_snapshot();
    let kept = before.kept.borrow().clone().unwrap();
    let mut after = restarted(BTreeMap::new(), Some((*kept).clone()));
    due(&mut after);
    assert_eq!(after.core.secrets["bgp/tor"], "hush");
}
