//! Every inconsistency, made on purpose, found, and put right.

use ocicat_ipam::testing::block_on;
use ocicat_ipam::{
    AffinityState, AssignRequest, Block, BlockAffinity, Census, Finding, Handle, HandleId, InUse,
    Ipam, IpamStore, MemoryStore, Owner, Record, RecordKey, Stored, Write,
};

use crate::world::{at, audit, ip, ipam, pool, prefix, store};

fn write(store: &MemoryStore, write: Write) {
    block_on(store.write(vec![write])).remove(0).unwrap();
}

fn block(store: &MemoryStore, cidr: &str) -> Stored<Block> {
    block_on(store.blocks(&[prefix(cidr)]))
        .unwrap()
        .remove(0)
        .unwrap()
}

fn census(in_use: &[(&str, &str)]) -> Census {
    let in_use = in_use
        .iter()
        .map(|(address, by)| InUse::new(ip(address), *by))
        .collect();
    Census::new(in_use, ["a", "b"].map(str::to_owned))
}

fn findings(ipam: &Ipam, census: &Census) -> Vec<String> {
    let report = block_on(ipam.check(census)).unwrap();
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn addresses_and_their_users() {
    let store = store(&[pool("p", "10.0.0.0/26", 26)]);
    let ipam = ipam(&store);
    block_on(ipam.assign(
        &AssignRequest::new("a", "h").v4(3).attribute("pod", "web"),
        at(0),
    ))
    .unwrap();
    block_on(ipam.assign(&AssignRequest::new("gone", "h2").v4(1), at(0))).unwrap();
    let wrong = InUse::new(ip("10.0.0.1"), "pod db").held_by("other");
    let mut census = census(&[
        ("10.0.0.0", "pod web"),
        ("10.0.0.9", "pod new"),
        ("10.9.0.1", "pod host"),
        ("10.0.0.0", "pod shadow"),
    ]);
    census.in_use.push(wrong);
    assert_eq!(
        findings(&ipam, &census),
        [
            "10.0.0.0: used by pod web and pod shadow",
            "10.0.0.9: used by pod new and not allocated",
            "10.9.0.1: used by pod host and in no pool",
            "10.0.0.1 (h, pod web, node a): allocated and not in use",
            "10.0.0.2 (h, pod web, node a): allocated and not in use",
            "10.0.0.3 (h2, node gone): allocated and not in use; its node does not exist",
        ]
    );
    let report = block_on(ipam.check(&census)).unwrap();
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(
        serde_json::from_str::<ocicat_ipam::CheckReport>(&json).unwrap(),
        report
    );
    assert!(json.contains(r#""kind":"notUsed""#), "{json}");
    // One of them is released and taken again before the report is used.
    block_on(ipam.release_handle(&HandleId::new("h2"), at(1))).unwrap();
    block_on(ipam.assign_ip(
        &ocicat_ipam::AssignIp::new(ip("10.0.0.3"), "a", "h2"),
        at(2),
    ))
    .unwrap();
    let done = block_on(ipam.release_leaks(&report, at(3))).unwrap();
    assert_eq!(done.released, [ip("10.0.0.1"), ip("10.0.0.2")]);
    assert_eq!(done.failed.len(), 1);
    assert_eq!(audit(&*store).len(), 2);
}

#[test]
fn handles_that_miscount() {
    let store = store(&[pool("p", "10.0.0.0/26", 26)]);
    let ipam = ipam(&store);
    for handle in ["few", "many", "none"] {
        block_on(ipam.assign(&AssignRequest::new("a", handle).v4(2), at(0))).unwrap();
    }
    let cidr = prefix("10.0.0.0/26");
    let of = |id: &str| {
        block_on(store.handles(&[HandleId::new(id)]))
            .unwrap()
            .remove(0)
            .unwrap()
    };
    let Stored {
        mut value,
        revision,
    } = of("few");
    value.decrement(cidr, 1);
    write(&store, Write::Update(Record::Handle(value), revision));
    let Stored {
        mut value,
        revision,
    } = of("many");
    value.increment(cidr, 3);
    value.increment(prefix("10.0.0.64/26"), 1);
    write(&store, Write::Update(Record::Handle(value), revision));
    write(
        &store,
        Write::Delete(RecordKey::Handle("none".into()), of("none").revision),
    );
    write(&store, Write::Create(Record::Handle(Handle::new("empty"))));
    let everything: Vec<_> = (0..6).map(|n| format!("10.0.0.{n}")).collect();
    let everything: Vec<_> = everything.iter().map(|a| (a.as_str(), "pod")).collect();
    let census = census(&everything);
    assert_eq!(
        findings(&ipam, &census),
        [
            "handle empty: has no addresses",
            "handle few: counts 1 addresses in 10.0.0.0/26, holds 2",
            "handle many: counts 5 addresses in 10.0.0.0/26, holds 2",
            "handle many: counts 1 addresses in 10.0.0.64/26, holds 0",
            "handle none: counts 0 addresses in 10.0.0.0/26, holds 2",
        ]
    );
    let report = block_on(ipam.check(&census)).unwrap();
    let done = block_on(ipam.repair(&report, at(1)));
    assert_eq!((done.repaired.len(), done.failed.len()), (5, 0));
    assert!(findings(&ipam, &census).is_empty());
    assert_eq!(audit(&*store).len(), 6);
}

/// Claims blocks for two owners, then spoils claims and blocks.
fn disagree(store: &MemoryStore, ipam: &Ipam, a: &Owner, b: &Owner) {
    for (range, owner) in [("10.0.0.0/25", a), ("10.0.0.128/26", b)] {
        block_on(ipam.claim_affinity(prefix(range), owner, at(0))).unwrap();
    }
    let claim = |owner: &Owner, block: &str, state| {
        Record::Affinity(BlockAffinity {
            owner: owner.clone(),
            block: prefix(block),
            state,
        })
    };
    let revision = |owner: &Owner, block: &str| {
        block_on(store.affinity(owner, prefix(block)))
            .unwrap()
            .unwrap()
            .revision
    };
    let pending = claim(a, "10.0.0.0/26", AffinityState::Pending);
    write(store, Write::Update(pending, revision(a, "10.0.0.0/26")));
    let key = RecordKey::Affinity(a.clone(), prefix("10.0.0.64/26"));
    write(store, Write::Delete(key, revision(a, "10.0.0.64/26")));
    write(
        store,
        Write::Create(claim(a, "10.0.0.128/26", AffinityState::Confirmed)),
    );
    write(
        store,
        Write::Create(claim(b, "10.0.0.192/26", AffinityState::Pending)),
    );
    let big = Block::new(prefix("10.0.0.0/25"), a.clone(), at(0)).unwrap();
    write(store, Write::Create(Record::Block(big)));
    let mut outside = Block::new(prefix("10.1.0.0/26"), a.clone(), at(0)).unwrap();
    outside.set_owner(None, at(0));
    write(store, Write::Create(Record::Block(outside)));
}

#[test]
fn claims_and_blocks_that_disagree() {
    let store = store(&[pool("p", "10.0.0.0/24", 26)]);
    let ipam = ipam(&store);
    let (a, b) = (Owner::host("a"), Owner::host("b"));
    disagree(&store, &ipam, &a, &b);
    let mut census = census(&[]);
    census.nodes.remove("b");
    let mut expected = vec![
        "block 10.0.0.0/25: its owner host:a does not claim it",
        "block 10.0.0.0/25: its pool has blocks of /26",
        "block 10.0.0.0/26: lies in block 10.0.0.0/25",
        "block 10.0.0.0/26: the claim of its owner host:a is pending",
        "block 10.0.0.128/26: claimed for host:b, which does not exist",
        "block 10.0.0.128/26: confirmed claim of host:a, belongs to host:b",
        "block 10.0.0.192/26: claimed for host:b, which does not exist",
        "block 10.0.0.192/26: unconfirmed claim of host:b, belongs to nobody",
        "block 10.0.0.64/26: its owner host:a does not claim it",
        "block 10.0.0.64/26: lies in block 10.0.0.0/25",
        "block 10.1.0.0/26: is empty and nobody's",
        "block 10.1.0.0/26: is in no pool",
    ];
    let mut found = findings(&ipam, &census);
    found.sort();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let report = block_on(ipam.check(&census)).unwrap();
    let done = block_on(ipam.repair(&report, at(1)));
    assert!(done.failed.is_empty(), "{done:?}");
    let left = block_on(ipam.check(&census)).unwrap();
    let hopeless = |finding: &&Finding| {
        !matches!(
            finding,
            Finding::NodeGone { .. } | Finding::Overlap { .. } | Finding::BlockSize { .. }
        )
    };
    assert_eq!(left.findings.iter().find(hopeless), None);
    assert_eq!(block(&store, "10.0.0.128/26").value.owner(), Some(&b));
}

#[test]
fn defects_of_a_block_are_reported_and_written_away() {
    let store = store(&[pool("p", "10.0.0.0/30", 30)]);
    let ipam = ipam(&store);
    block_on(ipam.assign(&AssignRequest::new("a", "h").v4(2), at(0))).unwrap();
    let Stored { value, revision } = block(&store, "10.0.0.0/30");
    let mut record = value.to_record();
    record.unallocated = vec![0, 2];
    record.allocations[1] = Some(7);
    let bad = Block::from_record(record).unwrap();
    write(&store, Write::Update(Record::Block(bad), revision));
    let census = census(&[("10.0.0.0", "pod"), ("10.0.0.1", "pod")]);
    assert_eq!(
        findings(&ipam, &census),
        [
            "handle h: counts 2 addresses in 10.0.0.0/30, holds 1",
            "block 10.0.0.0/30: ordinal 1 names an attribute that does not exist",
            "block 10.0.0.0/30: ordinal 0 is both free and allocated",
            "block 10.0.0.0/30: ordinal 3 is neither free nor allocated",
        ]
    );
}
