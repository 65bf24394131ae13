use serde_json::{Value, json};

use super::*;

fn made(kind: Kind, namespace: Option<&str>, name: &str, spec: Value) -> Object {
    let value = json!({
        "apiVersion": kind.api_version(), "kind": kind.name(),
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    });
    Object::from_value(value).expect("an object")
}

/// The fields that are wrong.
fn fields(kind: Kind, name: &str, spec: Value) -> Vec<String> {
    let namespace = kind.is_namespaced().then_some("shop");
    let problems = object(&made(kind, namespace, name, spec));
    problems.into_iter().map(|problem| problem.field).collect()
}

fn pool(spec: Value) -> Vec<String> {
    fields(Kind::IpPool, "p", spec)
}

const BAD_POOLS: &[(&str, &str)] = &[
    (r"{}", "spec.cidr"),
    (r#"{"cidr": "10.0.0.1/16"}"#, "spec.cidr"),
    (r#"{"cidr": "10.0.0.0/33"}"#, "spec.cidr"),
    (r#"{"cidr": "169.254.1.0/24"}"#, "spec.cidr"),
    (r#"{"cidr": "10.0.0.0/27"}"#, "spec.cidr"),
    (
        r#"{"cidr": "10.0.0.0/16", "blockSize": 19}"#,
        "spec.blockSize",
    ),
    (
        r#"{"cidr": "fd00::/64", "blockSize": 64}"#,
        "spec.blockSize",
    ),
    (
        r#"{"cidr": "10.0.0.0/16", "blockSize": "x"}"#,
        "spec.blockSize",
    ),
    (
        r#"{"cidr": "fd00::/64", "ipipMode": "Always"}"#,
        "spec.ipipMode",
    ),
    (
        r#"{"cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Always"}"#,
        "spec.ipipMode",
    ),
    (
        r#"{"cidr": "10.0.0.0/16", "vxlanMode": "Sometimes"}"#,
        "spec.vxlanMode",
    ),
    (
        r#"{"cidr": "10.0.0.0/16", "nodeSelector": "rack =="}"#,
        "spec.nodeSelector",
    ),
    (
        r#"{"cidr": "10.0.0.0/16", "namespaceSelector": "global()"}"#,
        "spec.namespaceSelector",
    ),
    (
        r#"{"cidr": "10.0.0.0/16", "allowedUses": ["Fun"]}"#,
        "spec.allowedUses[0]",
    ),
    (
        r#"{"cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer", "Workload"]}"#,
        "spec.allowedUses",
    ),
    (
        r#"{"cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer"], "nodeSelector": "has(a)"}"#,
        "spec.nodeSelector",
    ),
    (
        r#"{"cidr": "10.0.0.0/16", "assignmentMode": "Never"}"#,
        "spec.assignmentMode",
    ),
];

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn pools() {
    let good =
        r#"{"cidr": "10.0.0.0/16", "vxlanMode": "CrossSubnet", "nodeSelector": "rack == 'a'"}"#;
    assert_eq!(pool(json(good)), [""; 0]);
    for (spec, field) in BAD_POOLS {
        assert_eq!(pool(json(spec)), [*field], "{spec}");
    }
    assert_eq!(
        pool(json!({ "cidr": "10.0.0.0/27", "disabled": true })),
        [""; 0]
    );
}

#[test]
fn the_lease_of_a_pool_is_a_number_of_seconds() {
    for (text, expected) in [("3600", 0), ("0", 0), ("1h", 1), ("-1", 1), ("", 1)] {
        let mut pool = made(Kind::IpPool, None, "p", json!({ "cidr": "10.0.0.0/16" }));
        pool.value["metadata"]["annotations"][crate::LEASE_ANNOTATION] = text.into();
        let problems = object(&pool);
        assert_eq!(problems.len(), expected, "{text:?}: {problems:?}");
    }
}

#[test]
fn pools_that_overlap() {
    let pools = ["10.0.0.0/16", "fd00::/64", "10.1.0.0/16", "10.0.128.0/17"];
    let pools: Vec<Object> = pools
        .iter()
        .enumerate()
        .map(|(index, cidr)| {
            made(
                Kind::IpPool,
                None,
                &format!("p{index}"),
                json!({ "cidr": cidr }),
            )
        })
        .collect();
    let found = objects(&pools);
    let texts: Vec<String> = found
        .iter()
        .map(|(key, problem)| format!("{key}: {problem}"))
        .collect();
    assert_eq!(
        texts,
        ["IPPool/p3: spec.cidr: 10.0.128.0/17 overlaps 10.0.0.0/16 of the pool p0"]
    );
}

fn rule(rule: Value) -> Vec<String> {
    let spec = json!({ "ingress": [{ "action": "Allow" }, rule] });
    let found = fields(Kind::NetworkPolicy, "p", spec);
    found
        .iter()
        .map(|field| field.replace("spec.ingress[1].", ""))
        .collect()
}

const GOOD_RULES: &[&str] = &[
    r#"{"action": "Allow", "protocol": "tcp", "destination": {"ports": [80, "1:2", "http"]}}"#,
    r#"{"action": "Deny", "destination": {"ports": ["http"]}}"#,
    r#"{"action": "Pass", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}}"#,
    r#"{"action": "Allow", "source": {"namespaceSelector": "global()", "nets": ["10.0.0.1"]}}"#,
    r#"{"action": "Allow", "source": {"services": {"name": "web"}}}"#,
];

/// What is wrong in rules, beside `"action": "Allow"` where no other is stated.
const BAD_RULES: &[(&str, &str)] = &[
    (r#"{"action": ""}"#, "action"),
    (r#"{"action": "allow"}"#, "action"),
    (r#"{"protocol": "TCPP"}"#, "protocol"),
    (r#"{"ipVersion": 5}"#, "ipVersion"),
    (
        r#"{"source": {"nets": ["10.0.0.0/8", "x"]}}"#,
        "source.nets[1]",
    ),
    (
        r#"{"source": {"nets": ["10.0.0.0/8", "fd00::/8"]}}"#,
        "source.nets[1]",
    ),
    (
        r#"{"source": {"notNets": ["0.0.0.0/0"]}}"#,
        "source.notNets[0]",
    ),
    (r#"{"source": {"selector": "a ="}}"#, "source.selector"),
    (r#"{"source": {"selector": "global()"}}"#, "source.selector"),
    (
        r#"{"source": {"namespaceSelector": "global() || has(a)"}}"#,
        "source.namespaceSelector",
    ),
    (r#"{"destination": {"ports": [80]}}"#, "destination.ports"),
    (
        r#"{"protocol": "ICMP", "destination": {"ports": [80]}}"#,
        "destination.ports",
    ),
    (
        r#"{"protocol": "TCP", "destination": {"ports": ["2:1"]}}"#,
        "destination.ports[0]",
    ),
    (
        r#"{"protocol": "TCP", "destination": {"ports": 80}}"#,
        "destination.ports",
    ),
    (r#"{"icmp": {"type": 8}}"#, "icmp"),
    (
        r#"{"protocol": "ICMP", "icmp": {"type": 255}}"#,
        "icmp.type",
    ),
    (r#"{"protocol": "ICMP", "icmp": {"code": 1}}"#, "icmp.code"),
    (
        r#"{"destination": {"services": {"name": "web"}}}"#,
        "destination.services",
    ),
    (
        r#"{"source": {"services": {"name": "w"}, "nets": ["10.0.0.0/8"]}}"#,
        "source.services",
    ),
    (
        r#"{"action": "Deny", "http": {"methods": ["GET"]}}"#,
        "http",
    ),
];

#[test]
fn rules() {
    for good in GOOD_RULES {
        assert_eq!(rule(json(good)), [""; 0], "{good}");
    }
    for (bad, field) in BAD_RULES {
        let mut value = json(bad);
        let members = value.as_object_mut().expect("an object");
        members.entry("action").or_insert_with(|| "Allow".into());
        assert_eq!(rule(value), [*field], "{bad}");
    }
}

#[test]
fn policies() {
    let global = |spec| fields(Kind::GlobalNetworkPolicy, "p", spec);
    assert_eq!(
        global(json!({ "selector": "all()", "order": 1.5, "types": ["Ingress"] })),
        [""; 0]
    );
    for (spec, field) in [
        (json!({ "selector": "a ==" }), "spec.selector"),
        (json!({ "order": "first" }), "spec.order"),
        (json!({ "types": ["Ingress", "Both"] }), "spec.types[1]"),
        (json!({ "types": ["Ingress", "Ingress"] }), "spec.types[1]"),
        (json!({ "tier": "Big Tier" }), "spec.tier"),
        (json!({ "doNotTrack": true }), "spec.doNotTrack"),
        (
            json!({ "preDNAT": true, "applyOnForward": true, "types": ["Egress"] }),
            "spec.preDNAT",
        ),
        (json!({ "stagedAction": "Set" }), "spec.stagedAction"),
        (
            json!({ "egress": [{ "action": "Allow", "destination": { "services": { "name": "w" } } }] }),
            "spec.egress[0].destination.services.namespace",
        ),
    ] {
        assert_eq!(global(spec.clone()), [field], "{spec}");
    }
    let tier = |name, spec| fields(Kind::Tier, name, spec);
    assert_eq!(
        tier("default", json!({ "defaultAction": "Pass" })),
        ["spec.defaultAction"]
    );
    assert_eq!(
        tier("security", json!({ "defaultAction": "Pass", "order": 5 })),
        [""; 0]
    );
    assert_eq!(
        fields(Kind::NetworkSet, "s", json!({ "nets": ["1.2.3.4", "x"] })),
        ["spec.nets[1]"]
    );
}

#[test]
fn kubernetes_policies() {
    let policy = |spec| fields(Kind::KubeNetworkPolicy, "p", spec);
    let good = json!({
        "podSelector": { "matchExpressions": [{ "key": "a", "operator": "In", "values": ["b"] }] },
        "ingress": [{
            "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"] } }, { "podSelector": {} }],
            "ports": [{ "port": 80, "endPort": 90 }, { "port": "http", "protocol": "UDP" }],
        }],
    });
    assert_eq!(policy(good), [""; 0]);
    for (rule, field) in [
        (json!({ "from": [{}] }), "from[0]"),
        (
            json!({ "from": [{ "ipBlock": { "cidr": "10.0.0.0" } }] }),
            "from[0].ipBlock.cidr",
        ),
        (
            json!({ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"] } }] }),
            "from[0].ipBlock.except[0]",
        ),
        (
            json!({ "ports": [{ "port": 80, "protocol": "ICMP" }] }),
            "ports[0].protocol",
        ),
        (
            json!({ "ports": [{ "port": "http", "endPort": 90 }] }),
            "ports[0].endPort",
        ),
        (json!({ "ports": [{ "port": 70000 }] }), "ports[0].port"),
        (json!({ "ports": 80 }), "ports"),
    ] {
        let found = policy(json!({ "podSelector": {}, "ingress": [rule.clone()] }));
        assert_eq!(found, [format!("spec.ingress[0].{field}")], "{rule}");
    }
}

#[test]
fn bgp() {
    let peer = |spec| fields(Kind::BgpPeer, "p", spec);
    assert_eq!(
        peer(json!({ "peerIP": "10.0.0.1:166", "asNumber": 64512 })),
        [""; 0]
    );
    assert_eq!(
        peer(json!({ "peerSelector": "has(a)", "nodeSelector": "all()" })),
        [""; 0]
    );
    for (spec, field) in [
        (json!({}), "spec.peerIP"),
        (
            json!({ "peerIP": "10.0.0.1", "peerSelector": "all()" }),
            "spec.peerIP",
        ),
        (json!({ "peerIP": "10.0.0.256" }), "spec.peerIP"),
        (
            json!({ "peerIP": "10.0.0.1", "asNumber": 0 }),
            "spec.asNumber",
        ),
        (
            json!({ "peerIP": "10.0.0.1", "node": "a", "nodeSelector": "all()" }),
            "spec.nodeSelector",
        ),
        (
            json!({ "peerIP": "10.0.0.1", "keepaliveTime": "1" }),
            "spec.keepaliveTime",
        ),
        (
            json!({ "peerIP": "10.0.0.1", "reachableBy": "fd00::1" }),
            "spec.reachableBy",
        ),
        (
            json!({ "peerIP": "10.0.0.1", "nextHopMode": "self" }),
            "spec.nextHopMode",
        ),
    ] {
        assert_eq!(peer(spec.clone()), [field], "{spec}");
    }
    let configuration = |name, spec| fields(Kind::BgpConfiguration, name, spec);
    assert_eq!(configuration("other", json!({})), ["metadata.name"]);
    let advertised = json!({
        "communities": [{ "name": "c", "value": "1:2" }],
        "prefixAdvertisements": [{ "cidr": "10.0.0.0/8", "communities": ["c", "3:4:5", "d"] }],
    });
    assert_eq!(
        configuration("default", advertised),
        ["spec.prefixAdvertisements[0].communities[2]"]
    );
    let filter = |rule| fields(Kind::BgpFilter, "f", json!({ "importV4": [rule] }));
    let cidr = json!({ "action": "Accept", "cidr": "fd00::/8", "matchOperator": "In" });
    assert_eq!(filter(cidr), ["spec.importV4[0].cidr"]);
    let lonely = json!({ "action": "Accept", "matchOperator": "In" });
    assert_eq!(filter(lonely), ["spec.importV4[0].matchOperator"]);
}

#[test]
fn endpoints_nodes_and_settings() {
    let endpoint = json!({
        "node": "n", "orchestrator": "k8s", "endpoint": "eth0", "interfaceName": "cali0123456789a",
        "ipNetworks": ["10.0.0.1/32", "10.0.0.0/31"], "mac": "ee:ee:ee:ee:ee",
        "ports": [{ "name": "http", "port": 80, "protocol": "ICMP" }],
    });
    let expected = ["spec.ipNetworks[1]", "spec.mac", "spec.ports[0].protocol"];
    assert_eq!(
        fields(Kind::WorkloadEndpoint, "n-k8s-web-eth0", endpoint),
        expected
    );
    assert_eq!(
        fields(Kind::HostEndpoint, "h", json!({ "node": "n" })),
        ["spec.interfaceName"]
    );
    let node = json!({ "bgp": { "ipv4Address": "fd00::1/64", "asNumber": "1.1" } });
    assert_eq!(fields(Kind::Node, "n", node), ["spec.bgp.ipv4Address"]);
    let felix = json!({ "defaultEndpointToHostAction": "accept", "vxlanPort": 0, "future": [1] });
    let expected = ["spec.defaultEndpointToHostAction", "spec.vxlanPort"];
    assert_eq!(fields(Kind::FelixConfiguration, "default", felix), expected);
    assert_eq!(
        fields(Kind::NetworkSet, "Upper", json!({})),
        ["metadata.name"]
    );
}
