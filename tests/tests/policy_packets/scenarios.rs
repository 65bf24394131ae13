//! Policies together: tiers, orders, actions, Kubernetes' own kinds, what is not enforced.

use std::sync::Arc;

use ocicat_dataplane::state::{Denied, HostRules, Logging};
use serde_json::{Value, json};

use crate::lab::node;
use crate::world::World;

fn tier(name: &str, order: u32, default: &str) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name},
           "spec": {"order": order, "defaultAction": default}})
}

fn global(name: &str, spec: Value) -> Value {
    let tier = name.split_once('.').map_or("default", |(tier, _)| tier);
    let mut spec = spec;
    spec["tier"] = json!(tier);
    json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
           "metadata": {"name": name}, "spec": spec})
}

fn kubernetes(name: &str, namespace: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn namespaced(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
           "metadata": {"name": format!("default.{name}"), "namespace": "shop"}, "spec": spec})
}

/// A name, policies, and packets with what has to become of them.
type Scenario = (
    &'static str,
    Vec<Value>,
    &'static [(&'static str, &'static str, &'static str, bool)],
);

#[expect(clippy::too_many_lines, reason = "a table")]
fn calico() -> Vec<Scenario> {
    let all = || json!([{"action": "Allow"}]);
    let deny = || json!([{"action": "Deny"}]);
    let to_a = |order: u32, rules: Value| json!({"order": order, "selector": "pod == 'a'", "types": ["Ingress"], "ingress": rules});
    let tcp80 = |action: &str| json!([{"action": action, "protocol": "TCP", "destination": {"ports": [80]}}]);
    vec![
        (
            "nothing",
            vec![],
            &[
                ("a", "b", "tcp/80", true),
                ("outside", "a", "udp/53", true),
                ("c", "outside", "ping", true),
            ],
        ),
        (
            "a policy without rules",
            vec![global("default.p", to_a(1, json!([])))],
            &[("b", "a", "tcp/80", false), ("a", "b", "tcp/80", true)],
        ),
        (
            "the lower order first",
            vec![
                global("default.p", to_a(2, deny())),
                global("default.q", to_a(1, tcp80("Allow"))),
            ],
            &[("b", "a", "tcp/80", true), ("b", "a", "tcp/81", false)],
        ),
        (
            "the lower order denies",
            vec![
                global("default.p", to_a(2, all())),
                global("default.q", to_a(1, tcp80("Deny"))),
            ],
            &[("b", "a", "tcp/80", false), ("b", "a", "tcp/81", true)],
        ),
        (
            "equal orders by name",
            vec![
                global("default.b", to_a(1, all())),
                global("default.a", to_a(1, deny())),
            ],
            &[("b", "a", "tcp/80", false)],
        ),
        (
            "a tier that denies at its end",
            vec![
                tier("t", 1, "Deny"),
                global("t.p", to_a(1, tcp80("Allow"))),
                global("default.q", to_a(1, all())),
            ],
            &[
                ("b", "a", "tcp/80", true),
                ("b", "a", "udp/53", false),
                ("a", "b", "udp/53", true),
            ],
        ),
        (
            "a tier that passes at its end",
            vec![
                tier("t", 1, "Pass"),
                global("t.p", to_a(1, tcp80("Deny"))),
                global("default.q", to_a(1, all())),
            ],
            &[("b", "a", "tcp/80", false), ("b", "a", "udp/53", true)],
        ),
        (
            "Pass leaves the tier",
            vec![
                tier("t", 1, "Deny"),
                global(
                    "t.p",
                    to_a(
                        1,
                        json!([{"action": "Pass", "protocol": "UDP"}, {"action": "Deny"}]),
                    ),
                ),
                global("default.q", to_a(1, all())),
            ],
            &[("b", "a", "udp/53", true), ("b", "a", "tcp/80", false)],
        ),
        (
            "Pass from the last tier to the profile",
            vec![global("default.p", to_a(1, json!([{"action": "Pass"}])))],
            &[("b", "a", "tcp/80", true)],
        ),
        (
            "two tiers agree",
            vec![
                tier("t", 1, "Deny"),
                tier("u", 2, "Deny"),
                global(
                    "t.p",
                    to_a(1, json!([{"action": "Pass", "protocol": "TCP"}])),
                ),
                global("u.q", to_a(1, tcp80("Allow"))),
            ],
            &[
                ("b", "a", "tcp/80", true),
                ("b", "a", "tcp/81", false),
                ("b", "a", "udp/80", false),
            ],
        ),
        (
            "the tiers' order decides",
            vec![
                tier("t", 2, "Deny"),
                tier("u", 1, "Deny"),
                global("t.p", to_a(1, deny())),
                global("u.q", to_a(1, tcp80("Allow"))),
            ],
            &[("b", "a", "tcp/80", true)],
        ),
        (
            "a log, and on",
            vec![global(
                "default.p",
                to_a(
                    1,
                    json!([{"action": "Log"}, {"action": "Allow", "protocol": "UDP"}, {"action": "Log"}]),
                ),
            )],
            &[("b", "a", "udp/53", true), ("b", "a", "tcp/80", false)],
        ),
        (
            "a namespaced policy sees its namespace",
            vec![namespaced(
                "p",
                json!({"selector": "app == 'web'", "types": ["Ingress"], "ingress": [{"action": "Allow", "source": {"selector": "has(app)"}}]}),
            )],
            &[
                ("b", "a", "tcp/80", true),
                ("c", "a", "tcp/80", false),
                ("a", "c", "tcp/80", true),
            ],
        ),
        (
            "both directions",
            vec![global(
                "default.p",
                json!({"order": 1, "selector": "pod == 'a'", "types": ["Ingress", "Egress"], "ingress": tcp80("Allow"), "egress": [{"action": "Allow", "protocol": "UDP"}]}),
            )],
            &[
                ("b", "a", "tcp/80", true),
                ("a", "b", "tcp/80", false),
                ("a", "b", "udp/53", true),
                ("b", "a", "udp/53", false),
            ],
        ),
        (
            "egress alone",
            vec![global(
                "default.p",
                json!({"order": 1, "selector": "all()", "types": ["Egress"], "egress": [{"action": "Allow", "destination": {"nets": ["10.65.0.0/24"]}}]}),
            )],
            &[
                ("a", "b", "tcp/80", true),
                ("a", "outside", "tcp/80", false),
                ("outside", "a", "tcp/80", true),
            ],
        ),
        (
            "staged is not enforced",
            vec![
                json!({"apiVersion": "projectcalico.org/v3", "kind": "StagedGlobalNetworkPolicy", "metadata": {"name": "default.s"}, "spec": {"tier": "default", "selector": "all()", "types": ["Ingress"]}}),
            ],
            &[("b", "a", "tcp/80", true)],
        ),
        (
            "endpoints of a Service",
            vec![
                json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s-1", "namespace": "other", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": [{"addresses": ["10.65.0.4"]}]}),
                global(
                    "default.p",
                    json!({"order": 1, "selector": "pod == 'a'", "types": ["Egress"], "egress": [{"action": "Allow", "destination": {"services": {"name": "s", "namespace": "other"}}}]}),
                ),
            ],
            &[
                ("a", "c", "tcp/8080", true),
                ("a", "c", "tcp/80", false),
                ("a", "b", "tcp/8080", false),
            ],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn of_kubernetes() -> Vec<Scenario> {
    let web = || json!({"matchLabels": {"app": "web"}});
    vec![
        (
            "default deny",
            vec![kubernetes("p", "shop", json!({"podSelector": {}}))],
            &[
                ("c", "a", "tcp/80", false),
                ("b", "a", "tcp/80", false),
                ("a", "c", "tcp/80", true),
            ],
        ),
        (
            "default deny of egress",
            vec![kubernetes(
                "p",
                "shop",
                json!({"podSelector": {}, "policyTypes": ["Egress"]}),
            )],
            &[("a", "c", "tcp/80", false), ("c", "a", "tcp/80", true)],
        ),
        (
            "allow all",
            vec![kubernetes(
                "p",
                "shop",
                json!({"podSelector": {}, "ingress": [{}]}),
            )],
            &[("outside", "a", "udp/53", true)],
        ),
        (
            "pods of the namespace",
            vec![kubernetes(
                "p",
                "shop",
                json!({"podSelector": web(), "ingress": [{"from": [{"podSelector": {}}]}]}),
            )],
            &[("b", "a", "tcp/80", true), ("c", "a", "tcp/80", false)],
        ),
        (
            "pods of other namespaces",
            vec![kubernetes(
                "p",
                "shop",
                json!({"podSelector": web(), "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "y"}}, "podSelector": web()}]}]}),
            )],
            &[("c", "a", "udp/80", true), ("b", "a", "udp/80", false)],
        ),
        (
            "a block with an exception",
            vec![kubernetes(
                "p",
                "shop",
                json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.65.0.0/24", "except": ["10.65.0.4/31"]}}]}]}),
            )],
            &[("b", "a", "tcp/80", true), ("c", "a", "tcp/80", false)],
        ),
        (
            "ports and peers",
            vec![kubernetes(
                "p",
                "shop",
                json!({"podSelector": web(), "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}, {"port": 50, "endPort": 60, "protocol": "UDP"}]}]}),
            )],
            &[
                ("b", "a", "tcp/80", true),
                ("b", "a", "udp/53", true),
                ("b", "a", "tcp/81", false),
                ("c", "a", "tcp/80", false),
            ],
        ),
        (
            "a named port",
            vec![kubernetes(
                "p",
                "shop",
                json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}),
            )],
            &[
                ("c", "a", "tcp/80", true),
                ("c", "b", "tcp/81", true),
                ("c", "b", "tcp/80", false),
            ],
        ),
        (
            "policies add up",
            vec![
                kubernetes(
                    "p",
                    "shop",
                    json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}),
                ),
                kubernetes(
                    "q",
                    "shop",
                    json!({"podSelector": web(), "ingress": [{"ports": [{"port": 443}]}]}),
                ),
            ],
            &[
                ("c", "a", "tcp/443", true),
                ("c", "b", "tcp/443", false),
                ("c", "b", "tcp/80", true),
            ],
        ),
        (
            "both ends have a say",
            vec![
                kubernetes(
                    "p",
                    "shop",
                    json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 80}]}]}),
                ),
                kubernetes(
                    "q",
                    "other",
                    json!({"podSelector": {}, "ingress": [{"ports": [{"port": 81}, {"port": 80}]}]}),
                ),
            ],
            &[
                ("a", "c", "tcp/80", true),
                ("a", "c", "tcp/81", false),
                ("outside", "c", "tcp/81", true),
            ],
        ),
    ]
}

fn in_force(scenarios: fn() -> Vec<Scenario>, host: HostRules) {
    node(move || {
        let mut world = World::new();
        for (name, policies, probes) in scenarios() {
            world.apply(&policies, &host);
            for (from, to, kind, expected) in probes {
                assert_eq!(
                    world.says(from, to, kind, true),
                    *expected,
                    "{name}: {from} to {to} {kind}"
                );
            }
            world.agree(name);
        }
    });
}

#[test]
fn calicos_policies() {
    in_force(calico, HostRules::default());
}

#[test]
fn kubernetes_policies() {
    in_force(of_kubernetes, HostRules::default());
}

/// Refusing instead of dropping, and logging with a limit to a group, let the same packets through.
#[test]
fn refusals_and_logs_change_no_verdict() {
    let host = HostRules {
        denied: Denied::Reject,
        logging: Logging {
            prefix: "ocicat".into(),
            per_minute: Some(10),
            group: Some(5),
        },
        ..HostRules::default()
    };
    in_force(calico, host);
}

/// Policies that come before address translation, or without connection tracking, are refused by name.
#[test]
fn what_cannot_be_done_is_named() {
    for field in ["preDNAT", "doNotTrack"] {
        let mut spec = json!({"order": 1, "selector": "all()", "types": ["Ingress"], "applyOnForward": true, "ingress": [{"action": "Deny"}]});
        spec[field] = json!(true);
        let object = ocicat_datastore::Object::from_value(global("default.early", spec)).unwrap();
        let mut graph = ocicat_policy::Graph::new("n1");
        graph.update(ocicat_policy::Update::of(&object).unwrap().unwrap());
        let mut state = ocicat_dataplane::State::default();
        graph.flush(&mut state);
        let problems: Vec<String> = graph.problems().map(ToString::to_string).collect();
        let named = |problem: &String| problem.contains("early") && problem.contains(field);
        assert!(problems.iter().any(named), "{field}: {problems:?}");
        assert!(
            state.policies.is_empty(),
            "{field}: {:?}",
            Arc::new(&state.policies)
        );
    }
}
