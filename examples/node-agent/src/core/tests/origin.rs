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

#[test]
fn ranges_of_services_that_come_back_are_not_followed() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.put(
        "BGPConfiguration",
        "default",
        json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}], "serviceLoadBalancerIPs": [{"cidr": "192.0.2.0/24"}]}),
    );
    bench.sync();
    let back = ["10.96.0.0/12", "10.96.0.10/32", "192.0.2.7/32"];
    let other = ["0.0.0.0/0", "10.0.0.0/8", "198.51.100.0/24"];
    for prefix in back.iter().chain(&other) {
        let hop = vec!["192.168.10.1".parse().unwrap()];
        bench.core.learn(prefix.parse().unwrap(), hop, true);
    }
    bench.core.advance();
    for prefix in back {
        assert_eq!(bench.hops(prefix), [], "{prefix}");
    }
    for prefix in other {
        assert!(!bench.hops(prefix).is_empty(), "{prefix}");
    }
}

#[test]
fn a_peers_link_is_known_to_filters() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.put(
        "WorkloadEndpoint",
        "node1-k8s-web-eth0",
        json!({"node": "node1", "orchestrator": "k8s", "pod": "web", "endpoint": "eth0",
            "interfaceName": "cali1", "ipNetworks": ["10.0.0.5/32"]}),
    );
    bench.sync();
    let far = "203.0.113.9".parse().unwrap();
    let way = Hop::Via {
        gateway: "192.168.10.1".parse().unwrap(),
        link: Some(LinkName::new("bond0").unwrap()),
        onlink: false,
    };
    bench.core.resolved(BTreeMap::from([(far, way)]));
    for (address, link) in [
        ("192.168.10.12", Some("eth0")),
        ("10.0.0.5", Some("cali1")),
        ("203.0.113.9", Some("bond0")),
        ("203.0.113.10", None),
    ] {
        let found = bench.core.link_to(address.parse().unwrap());
        assert_eq!(found.as_deref(), link, "{address}");
    }
}

#[test]
fn ipv4_over_an_ipv6_next_hop_is_a_route() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.put(
        "Node",
        "node1",
        json!({"bgp": {"ipv4Address": "192.168.10.11/24", "ipv6Address": "2001:db8::11/64"}}),
    );
    bench.sync();
    let hop: IpAddr = "2001:db8::1".parse().unwrap();
    bench
        .core
        .learn("198.51.100.0/24".parse().unwrap(), vec![hop], true);
    bench.core.advance();
    assert_eq!(
        bench.hops("198.51.100.0/24"),
        [Hop::Via {
            gateway: hop,
            link: bench.core.fixed.uplink.as_ref().map(|one| one.name.clone()),
            onlink: false,
        }]
    );
}
