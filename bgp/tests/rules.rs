//! Rules as Calico's BGPFilter has them, and the kit that filters can be held to.

mod common;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Net, address, block};
use ocicat_bgp::testing::{FilterFault, filter_kit};
use ocicat_bgp::{
    AsNumber, Attributes, Community, Filter, FilterPeer, LargeCommunity, Learned, PeerConfig,
    Prefix, RuleSet, Rules, Verdict,
};

const NEXT_HOP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn set(json: &str) -> RuleSet {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// A rule that rejects, in front of nothing: whether it matches is whether it rejects.
fn rejects(rule: &str, peer: &FilterPeer, prefix: &str, attributes: &Attributes) -> bool {
    let list = if prefix.contains(':') { "V6" } else { "V4" };
    let json = format!("{{\"export{list}\": [{{{rule}, \"action\": \"Reject\"}}]}}");
    let rules = Rules::export([&set(&json)]).unwrap();
    rules.judge(peer, &prefix.parse().unwrap(), attributes) == Verdict::Reject
}

fn external() -> FilterPeer {
    FilterPeer::new([192, 0, 2, 9].into(), 64513, true)
}

#[test]
fn prefixes_are_compared_as_calico_compares_them() {
    let range = |operator: &str, bounds: &str| {
        format!("\"cidr\": \"10.0.0.0/8\", \"matchOperator\": \"{operator}\"{bounds}")
    };
    let bounds = ", \"prefixLength\": {\"min\": 16, \"max\": 24}";
    let (least, most) = (
        ", \"prefixLength\": {\"min\": 16}",
        ", \"prefixLength\": {\"max\": 8}",
    );
    // Operator, bounds, and whether the rule matches 10.0.0.0/8, 10.1.0.0/16, 10.1.2.0/26, 11.0.0.0/16, 0.0.0.0/0.
    let table = [
        ("Equal", "", [true, false, false, false, false]),
        ("NotEqual", "", [false, true, true, true, true]),
        ("In", "", [true, true, true, false, false]),
        ("NotIn", "", [false, false, false, true, true]),
        ("In", bounds, [false, true, false, false, false]),
        ("NotIn", bounds, [true, false, true, true, true]),
        ("In", least, [false, true, true, false, false]),
        ("In", most, [true, false, false, false, false]),
        ("Equal", least, [false, false, false, false, false]),
        ("NotEqual", least, [true, true, true, true, true]),
        ("Equal", most, [true, false, false, false, false]),
    ];
    let prefixes = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/26",
        "11.0.0.0/16",
        "0.0.0.0/0",
    ];
    for (operator, bounds, expected) in table {
        for (prefix, expected) in prefixes.into_iter().zip(expected) {
            let rule = range(operator, bounds);
            assert_eq!(
                rejects(&rule, &external(), prefix, &Attributes::local()),
                expected,
                "{rule} and {prefix}"
            );
        }
    }
    let v6 = "\"cidr\": \"fd00::/8\", \"matchOperator\": \"In\", \"prefixLength\": {\"min\": 122}";
    assert!(rejects(
        v6,
        &external(),
        "fd00:1::40/122",
        &Attributes::local()
    ));
    assert!(!rejects(
        v6,
        &external(),
        "fd00:1::/64",
        &Attributes::local()
    ));
}

/// A route with communities, a path and a priority of 512.
fn marked() -> Attributes {
    Attributes::builder()
        .community(Community(64512 << 16 | 100))
        .large_community(LargeCommunity(64512, 1, 2))
        .prepend(AsNumber(3), 1)
        .prepend(AsNumber(2), 1)
        .prepend(AsNumber(65546), 1)
        .local_pref(2_147_483_647 - 512)
        .build()
}

fn check(table: &[(&str, &FilterPeer, &Attributes, bool)]) {
    for (rule, peer, attributes, expected) in table {
        let found = rejects(rule, peer, "10.1.0.0/26", attributes);
        assert_eq!(found, *expected, "{rule} for {peer:?}");
    }
}

#[test]
fn conditions_on_peer_source_and_interface() {
    let mut local = external();
    local.learned = Learned::Local;
    let internal = FilterPeer::new([192, 0, 2, 9].into(), 64512, false);
    let over = |interface: &str| {
        let mut peer = external();
        peer.interface = Some(Arc::from(interface));
        peer
    };
    let plain = Attributes::local();
    let table: &[(&str, &FilterPeer, &Attributes, bool)] = &[
        ("\"source\": \"RemotePeers\"", &external(), &plain, true),
        ("\"source\": \"RemotePeers\"", &internal, &plain, true),
        ("\"source\": \"RemotePeers\"", &local, &plain, false),
        ("\"peerType\": \"eBGP\"", &external(), &plain, true),
        ("\"peerType\": \"eBGP\"", &internal, &plain, false),
        ("\"peerType\": \"iBGP\"", &internal, &plain, true),
        ("\"interface\": \"eth0\"", &over("eth0"), &plain, true),
        ("\"interface\": \"eth0\"", &over("eth01"), &plain, false),
        (
            "\"interface\": \"*.calico\"",
            &over("vxlan.calico"),
            &plain,
            true,
        ),
        (
            "\"interface\": \"*.calico\"",
            &over("vxlan.calico2"),
            &plain,
            false,
        ),
        ("\"interface\": \"e?h*\"", &over("eth12"), &plain, true),
        ("\"interface\": \"*a*b*\"", &over("xxaxxbxx"), &plain, true),
        ("\"interface\": \"*\"", &external(), &plain, false),
    ];
    check(table);
}

#[test]
fn conditions_on_attributes() {
    let (mut local, plain, marked) = (external(), Attributes::local(), marked());
    local.learned = Learned::Local;
    let table: &[(&str, &FilterPeer, &Attributes, bool)] = &[
        (
            "\"communities\": {\"values\": [\"64512:100\"]}",
            &local,
            &marked,
            true,
        ),
        (
            "\"communities\": {\"values\": [\"64512:101\"]}",
            &local,
            &marked,
            false,
        ),
        (
            "\"communities\": {\"values\": [\"64512:1:2\"]}",
            &local,
            &marked,
            true,
        ),
        (
            "\"communities\": {\"values\": [\"64512:1:3\"]}",
            &local,
            &marked,
            false,
        ),
        ("\"asPathPrefix\": [65546, 2]", &local, &marked, true),
        ("\"asPathPrefix\": [\"1.10\"]", &local, &marked, true),
        ("\"asPathPrefix\": [2]", &local, &marked, false),
        ("\"asPathPrefix\": [65546, 2, 3, 4]", &local, &marked, false),
        ("\"priority\": 512", &local, &marked, true),
        ("\"priority\": 1024", &local, &marked, false),
        ("\"priority\": 1024", &local, &plain, true),
    ];
    check(table);
    let all = "\"source\": \"RemotePeers\", \"peerType\": \"eBGP\", \"asPathPrefix\": [65546]";
    assert!(rejects(all, &external(), "10.1.0.0/26", &marked));
    assert!(
        !rejects(all, &local, "10.1.0.0/26", &marked),
        "every condition must hold"
    );
}

#[test]
fn operations_are_applied_in_order_and_the_first_match_decides() {
    let json = "{\"importV4\": [
        {\"cidr\": \"10.0.0.0/8\", \"matchOperator\": \"In\", \"action\": \"Accept\", \"operations\": [
            {\"addCommunity\": {\"value\": \"64512:7\"}}, {\"addCommunity\": {\"value\": \"1:2:3\"}},
            {\"prependASPath\": {\"prefix\": [65001, \"65002\"]}}, {\"setPriority\": {\"value\": 512}}]},
        {\"cidr\": \"10.1.0.0/16\", \"matchOperator\": \"In\", \"action\": \"Reject\"},
        {\"cidr\": \"11.0.0.0/8\", \"matchOperator\": \"In\", \"action\": \"Reject\"}]}";
    let rules = set(json);
    let again: RuleSet = serde_json::from_str(&serde_json::to_string(&rules).unwrap()).unwrap();
    assert_eq!(again, rules, "it survives the text");
    let filter = Rules::import([&rules]).unwrap();
    let came = Attributes::builder().prepend(AsNumber(64513), 1).build();
    let judge = |prefix: &str| filter.judge(&external(), &prefix.parse().unwrap(), &came);
    let Verdict::Replace(changed) = judge("10.1.0.0/24") else {
        panic!("{:?}", judge("10.1.0.0/24"))
    };
    assert_eq!(changed.as_path().to_string(), "65001 65002 64513");
    assert_eq!(changed.local_pref(), Some(2_147_483_135));
    assert!(changed.communities().eq([Community(64512 << 16 | 7)]));
    assert!(changed.large_communities().eq([LargeCommunity(1, 2, 3)]));
    assert_eq!(judge("11.1.0.0/24"), Verdict::Reject);
    assert_eq!(
        judge("12.0.0.0/24"),
        Verdict::Accept,
        "nothing matches, nothing behind"
    );
    assert_eq!(
        judge("fd00::/64"),
        Verdict::Accept,
        "rules are of one family"
    );
    struct Never;
    impl Filter for Never {
        fn judge(&self, _: &FilterPeer, _: &Prefix, _: &Attributes) -> Verdict {
            Verdict::Reject
        }
    }
    let filter = filter.or_else(Some(Arc::new(Never) as Arc<dyn Filter>));
    let judge = |prefix: &str| filter.judge(&external(), &prefix.parse().unwrap(), &came);
    assert_eq!(
        judge("12.0.0.0/24"),
        Verdict::Reject,
        "it is left to what is behind"
    );
    assert!(matches!(judge("10.0.0.0/24"), Verdict::Replace(_)));
}

#[test]
fn rules_that_cannot_be_followed_are_named() {
    let ok = "\"cidr\": \"10.0.0.0/8\", \"matchOperator\": \"In\"";
    let many = "{\"setPriority\": {\"value\": 1}},".repeat(11);
    let table = [
        (
            "exportV4",
            "\"cidr\": \"10.0.0.0/8\"".to_owned(),
            "exportV4[0]: matchOperator is missing",
        ),
        (
            "exportV4",
            "\"matchOperator\": \"In\"".to_owned(),
            "exportV4[0]: cidr is missing",
        ),
        (
            "importV6",
            ok.to_owned(),
            "importV6[0]: cidr 10.0.0.0/8 is of the other address family",
        ),
        (
            "exportV4",
            "\"prefixLength\": {\"min\": 8}".to_owned(),
            "cidr is missing",
        ),
        (
            "exportV4",
            format!("{ok}, \"prefixLength\": {{\"max\": 33}}"),
            "33 is more than 32",
        ),
        (
            "importV4",
            "\"source\": \"RemotePeers\"".to_owned(),
            "every imported route is from a peer",
        ),
        (
            "exportV4",
            "\"communities\": {\"values\": []}".to_owned(),
            "communities: 0 values",
        ),
        (
            "exportV4",
            "\"priority\": 0".to_owned(),
            "priority 0 is not in",
        ),
        (
            "exportV4",
            "\"operations\": [{\"setPriority\": {\"value\": 2}}]".to_owned(),
            "only a rule with action Accept",
        ),
        (
            "exportV4",
            format!("\"operations\": [{}]", many.trim_end_matches(',')),
            "operations: 11, at most 10",
        ),
    ];
    for (list, rule, expected) in table {
        let json = format!("{{\"{list}\": [{{{rule}, \"action\": \"Reject\"}}]}}");
        let error = set(&json).check().expect_err(&json).to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
}

#[test]
fn what_no_rule_can_be_is_no_rule() {
    for bad in [
        "{\"exportV5\": []}",
        "{\"exportV4\": [{\"action\": \"Perhaps\"}]}",
        "{\"exportV4\": [{\"action\": \"Accept\", \"cidr\": \"10.0.0.1/8\"}]}",
        "{\"exportV4\": [{\"action\": \"Accept\", \"cider\": \"10.0.0.0/8\"}]}",
        "{\"exportV4\": [{\"action\": \"Accept\", \"operations\": [{\"setPriority\": {\"value\": 1}, \"addCommunity\": {\"value\": \"1:2\"}}]}]}",
    ] {
        assert!(serde_json::from_str::<RuleSet>(bad).is_err(), "{bad}");
    }
}

/// Node 0 announces to node 1 (same AS), which announces to node 2 (another AS) what its export rules let pass.
fn passed_on(rules: &str, change: impl FnOnce(&mut Net)) -> Vec<Prefix> {
    let mut net = Net::new(1);
    let speaker = net.start(0, Net::config(0, 64512));
    let attributes = Attributes::builder().next_hop(NEXT_HOP).build();
    speaker.originate(block(0, 0), &attributes);
    speaker.originations_complete();
    let speaker = net.start(1, Net::config(1, 64512));
    speaker.originate(block(1, 0), &Attributes::local());
    speaker.originations_complete();
    net.start(2, Net::config(2, 64513)).originations_complete();
    net.peer(0, PeerConfig::new(address(1), 64512));
    net.peer(1, PeerConfig::new(address(0), 64512).interface("eth7"));
    let filter = Arc::new(Rules::export([&set(rules)]).unwrap()) as Arc<dyn Filter>;
    net.peer(1, PeerConfig::new(address(2), 64513).export(filter));
    net.peer(2, PeerConfig::new(address(1), 64512));
    net.run(Duration::from_secs(30));
    change(&mut net);
    net.run(Duration::from_secs(1));
    net.prefixes(2).into_iter().collect()
}

#[test]
fn a_speaker_knows_whence_routes_are_and_where_they_lead() {
    let (learned, own) = (block(0, 0), block(1, 0));
    let no_remote = "{\"exportV4\": [{\"source\": \"RemotePeers\", \"action\": \"Reject\"}]}";
    assert_eq!(passed_on(no_remote, |_| {}), [own]);
    let no_eth7 = "{\"exportV4\": [{\"interface\": \"eth7\", \"action\": \"Reject\"}]}";
    assert_eq!(passed_on(no_eth7, |_| {}), [own], "the peer's interface");
    let moved = |net: &mut Net| {
        let speaker = net.speaker(1);
        speaker.set_next_hop_interface(NEXT_HOP, Some("eth8"));
        net.drain(1);
    };
    assert_eq!(passed_on(no_eth7, moved), [learned, own], "the next hop's");
    let no_eth8 = "{\"exportV4\": [{\"interface\": \"eth8\", \"action\": \"Reject\"}]}";
    assert_eq!(passed_on(no_eth8, moved), [own], "it is withdrawn");
}

#[test]
fn rules_pass_the_kit() {
    for json in [
        "{}",
        "{\"exportV4\": [{\"cidr\": \"10.0.0.0/8\", \"matchOperator\": \"In\", \"action\": \"Reject\"}]}",
        "{\"exportV4\": [{\"source\": \"RemotePeers\", \"action\": \"Reject\"}], \"exportV6\": [{\"action\": \"Reject\"}]}",
        "{\"exportV4\": [{\"interface\": \"eth*\", \"action\": \"Accept\", \"operations\": [{\"prependASPath\": {\"prefix\": [1, 2]}}]}]}",
    ] {
        let rules = Rules::export([&set(json)]).unwrap();
        assert_eq!(filter_kit(&rules), Ok(()), "{json}");
    }
}

/// A filter made of a function, with what it says of itself.
struct Made<F>(F, bool, bool);

impl<F> Filter for Made<F>
where
    F: Fn(&FilterPeer, &Prefix, &Attributes) -> Verdict + Send + Sync,
{
    fn judge(&self, peer: &FilterPeer, prefix: &Prefix, attributes: &Attributes) -> Verdict {
        self.0(peer, prefix, attributes)
    }

    fn looks_at_prefix(&self) -> bool {
        self.1
    }

    fn looks_at_peer(&self) -> bool {
        self.2
    }
}

#[test]
fn the_kit_finds_filters_that_break_the_contract() {
    let verdict = |pass: bool| {
        if pass {
            Verdict::Accept
        } else {
            Verdict::Reject
        }
    };
    let asked = AtomicU32::new(0);
    let moody = Made(
        |_: &FilterPeer, _: &Prefix, _: &Attributes| {
            verdict(asked.fetch_add(1, Ordering::Relaxed) % 3 > 0)
        },
        true,
        true,
    );
    assert!(matches!(filter_kit(&moody), Err(FilterFault::Moody { .. })));
    let by_length = |_: &FilterPeer, prefix: &Prefix, _: &Attributes| verdict(prefix.length() < 25);
    let found = filter_kit(&Made(by_length, false, false));
    assert!(
        matches!(found, Err(FilterFault::Prefix { .. })),
        "{found:?}"
    );
    assert_eq!(filter_kit(&Made(by_length, true, false)), Ok(()));
    let by_peer = |peer: &FilterPeer, _: &Prefix, _: &Attributes| {
        verdict(peer.address != IpAddr::from([192, 0, 2, 2]))
    };
    let found = filter_kit(&Made(by_peer, false, false));
    assert!(matches!(found, Err(FilterFault::Peer { .. })), "{found:?}");
    assert_eq!(filter_kit(&Made(by_peer, false, true)), Ok(()));
    let anew = |_: &FilterPeer, _: &Prefix, _: &Attributes| Verdict::Replace(Attributes::local());
    let found = filter_kit(&Made(anew, false, false));
    assert!(matches!(found, Err(FilterFault::Path { .. })), "{found:?}");
}

/// A filter that looks at the peer is asked for each one, also where two peers share it.
#[test]
fn peers_of_a_filter_that_looks_at_them_share_nothing() {
    let mut net = Net::new(1);
    let speaker = net.start(0, Net::config(0, 64512));
    speaker.originate(block(0, 0), &Attributes::local());
    speaker.originations_complete();
    let only_two = |peer: &FilterPeer, _: &Prefix, _: &Attributes| {
        if peer.address == address(2) {
            Verdict::Accept
        } else {
            Verdict::Reject
        }
    };
    let filter = Arc::new(Made(only_two, false, true)) as Arc<dyn Filter>;
    for node in [1, 2] {
        net.start(node, Net::config(node, 64513))
            .originations_complete();
        net.peer(node, PeerConfig::new(address(0), 64512));
        net.peer(
            0,
            PeerConfig::new(address(node), 64513).export(Arc::clone(&filter)),
        );
    }
    net.run(Duration::from_secs(30));
    assert_eq!((net.prefixes(1).len(), net.prefixes(2).len()), (0, 1));
}
