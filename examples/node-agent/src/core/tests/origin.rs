//! Routes whose announcer has no claim to them.

use super::*;

fn cluster(validation: &str) -> Bench {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.put(
        "FelixConfiguration",
        "default",
        json!({"originValidation": validation}),
    );
    bench.put(
        "BlockAffinity",
        "host:node2:10-0-1-0-26",
        json!({"cidr": "10.0.1.0/26", "node": "node2", "state": "confirmed", "type": "host"}),
    );
    bench.sync();
    let from = |node: &str| vec![node.parse().unwrap()];
    for (prefix, hop) in [
        ("10.0.1.0/26", "192.168.10.12"),
        ("10.0.2.0/26", "192.168.10.12"),
        ("10.0.1.7/32", "192.168.10.12"),
        ("10.0.3.0/26", "192.168.10.99"),
    ] {
        bench.core.learn(prefix.parse().unwrap(), from(hop), false);
    }
    bench.core.advance();
    bench
}

#[test]
fn a_block_without_a_claim_is_reported_or_left_out() {
    for (validation, reported, installed) in [
        ("report", 2, true),
        ("enforce", 2, false),
        ("off", 0, true),
        ("sometimes", 2, false),
    ] {
        let bench = cluster(validation);
        assert_eq!(bench.core.astray.len(), reported, "{validation}");
        assert!(
            !bench.hops("10.0.1.0/26").is_empty(),
            "a claimed block is installed"
        );
        assert!(
            !bench.hops("10.0.3.0/26").is_empty(),
            "a hop that is no node's is not judged"
        );
        for astray in ["10.0.2.0/26", "10.0.1.7/32"] {
            assert_eq!(
                !bench.hops(astray).is_empty(),
                installed,
                "{validation} {astray}"
            );
        }
        let reasons = bench.core.status().reasons;
        let named = |word: &str| reasons.iter().any(|one| one.contains(word));
        assert_eq!(
            named("node node2, and claimed by nobody"),
            reported > 0,
            "{reasons:?}"
        );
    }
}

#[test]
fn a_claim_that_comes_later_is_followed() {
    let mut bench = cluster("enforce");
    bench.put(
        "BlockAffinity",
        "host:node2:10-0-2-0-26",
        json!({"cidr": "10.0.2.0/26", "node": "node2", "state": "confirmed", "type": "host"}),
    );
    bench.core.advance();
    assert!(!bench.hops("10.0.2.0/26").is_empty());
}
