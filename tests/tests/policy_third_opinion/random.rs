//! Random pods and policies, of what ours and the analyzer read alike.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

pub(crate) const PODS: usize = 5;
/// Ports in and about those of the rules.
pub(crate) const PORTS: [u16; 10] = [1, 79, 80, 81, 90, 95, 100, 101, 8080, 8081];

/// Those of requirements; the analyzer reads only the first two alike in other namespaces.
const OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist"];

const TYPES: &[&[&str]] = &[&["Ingress"], &["Egress"], &["Ingress", "Egress"]];

pub(crate) fn address(pod: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(pod).unwrap() + 1)
}

fn namespace(pod: usize) -> &'static str {
    if pod.is_multiple_of(2) { "a" } else { "b" }
}

pub(crate) fn party(pod: usize) -> String {
    format!("{}/pod{pod}", namespace(pod))
}

pub(crate) type Labels = BTreeMap<&'static str, &'static str>;

fn labels() -> impl Strategy<Value = Labels> {
    let values = || prop::option::weighted(0.7, select(&["x", "y", "xy"][..]));
    (values(), values()).prop_map(|(app, role)| {
        let pairs = [("app", app), ("role", role)].into_iter();
        pairs
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    })
}

/// The pods' labels, and where their port `http` is.
pub(crate) fn pods() -> impl Strategy<Value = Vec<(Labels, Option<u16>)>> {
    let http = prop::option::weighted(0.7, select(&[80_u16, 8080][..]));
    vec((labels(), http), PODS)
}

pub(crate) fn topology(pods: &[(Labels, Option<u16>)]) -> Vec<Value> {
    let team = |name| match name {
        "a" => json!({"team": "x"}),
        _ => json!({"team": "y", "stage": "x"}),
    };
    let mut objects: Vec<Value> = ["a", "b"]
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": team(name)}}))
        .into();
    for (i, (labels, http)) in pods.iter().enumerate() {
        let mut labels = json!(labels);
        // The analyzer looks at two pods of a kind at most.
        labels["pod"] = json!(i.to_string());
        let ports: Vec<Value> = http
            .iter()
            .map(|port| json!({"name": "http", "containerPort": port}))
            .collect();
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("pod{i}"), "namespace": namespace(i), "labels": labels},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": ports}]},
            "status": {"podIP": address(i).to_string()},
        }));
    }
    objects
}

/// One of Kubernetes' label selectors, over labels of pods or of namespaces.
fn label_selector(
    keys: &'static [&'static str],
    operators: &'static [&'static str],
) -> impl Strategy<Value = Value> {
    let labels = || prop::collection::btree_map(select(keys), select(&["x", "y"][..]), 0..2);
    let values = subsequence(&["x", "y", "xy"][..], 1..3);
    let requirement =
        (select(keys), select(operators), values).prop_map(|(key, operator, values)| {
            if operator.ends_with("In") {
                json!({"key": key, "operator": operator, "values": values})
            } else {
                json!({"key": key, "operator": operator})
            }
        });
    (labels(), vec(requirement, 0..2)).prop_map(|(labels, requirements)| {
        let mut selector = Map::new();
        if !labels.is_empty() {
            selector.insert("matchLabels".into(), json!(labels));
        }
        if !requirements.is_empty() {
            selector.insert("matchExpressions".into(), requirements.into());
        }
        Value::Object(selector)
    })
}

fn kubernetes_peer() -> impl Strategy<Value = Value> {
    let elsewhere = || label_selector(&["app", "role"], &OPERATORS[..2]);
    let pods = || label_selector(&["app", "role"], OPERATORS);
    let namespaces = || label_selector(&["team", "stage"], OPERATORS);
    let block = select(&["192.0.2.0/24", "192.0.2.8/29", "198.51.100.0/24"][..]);
    prop_oneof![
        pods().prop_map(|pods| json!({"podSelector": pods})),
        namespaces().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (elsewhere(), namespaces()).prop_map(
            |(pods, namespaces)| json!({"podSelector": pods, "namespaceSelector": namespaces})
        ),
        block.prop_map(|cidr| json!({"ipBlock": {"cidr": cidr}})),
        Just(json!({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}})),
    ]
}

fn kubernetes_port() -> impl Strategy<Value = Value> {
    let protocol = prop::option::of(select(&["TCP", "UDP", "SCTP"][..]));
    let port = prop_oneof![
        Just(json!({})),
        select(&PORTS[..]).prop_map(|port| json!({"port": port})),
        Just(json!({"port": 80, "endPort": 90})),
        Just(json!({"port": 100, "endPort": 8080})),
        Just(json!({"port": "http"})),
    ];
    (port, protocol).prop_map(|(mut port, protocol)| {
        if let (Some(protocol), false) = (protocol, port["port"] == "http") {
            port["protocol"] = json!(protocol);
        }
        port
    })
}

pub(crate) fn kubernetes_policy() -> impl Strategy<Value = Value> {
    let rule = |peers: &'static str| {
        (vec(kubernetes_peer(), 0..3), vec(kubernetes_port(), 0..3)).prop_map(
            move |(from, ports)| {
                let mut rule = Map::new();
                if !from.is_empty() {
                    rule.insert(peers.into(), from.into());
                }
                if !ports.is_empty() {
                    rule.insert("ports".into(), ports.into());
                }
                Value::Object(rule)
            },
        )
    };
    let pods = label_selector(&["app", "role"], OPERATORS);
    let types = select(TYPES);
    let (ingress, egress) = (vec(rule("from"), 0..3), vec(rule("to"), 0..3));
    (select(&["a", "b"][..]), pods, types, ingress, egress).prop_map(
        |(namespace, pods, types, ingress, egress)| {
            let mut spec = json!({"podSelector": pods, "policyTypes": types});
            if types.contains(&"Ingress") {
                spec["ingress"] = ingress.into();
            }
            if types.contains(&"Egress") {
                spec["egress"] = egress.into();
            }
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": namespace}, "spec": spec,
            })
        },
    )
}

/// A selector of Calico's over these labels.
fn selector(keys: &'static [&'static str]) -> impl Strategy<Value = String> {
    let value = || select(&["x", "y", "xy"][..]);
    let atom = prop_oneof![
        3 => (select(keys), value()).prop_map(|(key, value)| format!("{key} == '{value}'")),
        2 => (select(keys), value()).prop_map(|(key, value)| format!("{key} != '{value}'")),
        1 => select(keys).prop_map(|key| format!("has({key})")),
        1 => (select(keys), value()).prop_map(|(key, value)| format!("{key} in {{'{value}', 'x'}}")),
        1 => (select(keys), value()).prop_map(|(key, value)| format!("{key} not in {{'{value}', 'x'}}")),
        1 => (select(keys), select(&["contains", "starts with", "ends with"][..]))
            .prop_map(|(key, operator)| format!("{key} {operator} 'y'")),
        1 => Just("all()".to_owned()),
    ];
    atom.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|of| format!("!({of})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) || ({b})")),
        ]
    })
}

fn calico_ports() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        select(&PORTS[..]).prop_map(|port| json!(port)),
        Just(json!("80:90")),
        Just(json!("100:8080")),
    ];
    vec(port, 1..3).prop_map(Value::from)
}

/// A side of a rule, without its ports.
fn calico_side() -> impl Strategy<Value = Value> {
    let pods = || selector(&["app", "role"]);
    let net = select(&["192.0.2.0/24", "192.0.2.8/29", "198.51.100.0/24"][..]);
    prop_oneof![
        2 => Just(json!({})),
        2 => pods().prop_map(|pods| json!({"selector": pods})),
        1 => pods().prop_map(|pods| json!({"selector": "all()", "notSelector": pods})),
        1 => selector(&["team", "stage"]).prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        1 => (pods(), selector(&["team", "stage"]))
            .prop_map(|(pods, namespaces)| json!({"selector": pods, "namespaceSelector": namespaces})),
        1 => net.prop_map(|net| json!({"nets": [net]})),
    ]
}

fn calico_rule() -> impl Strategy<Value = Value> {
    let ported = (
        select(&["TCP", "UDP", "SCTP"][..]),
        prop::option::of(calico_ports()),
        prop::option::of(calico_ports()),
        prop::option::weighted(0.2, Just(json!([1000, "2000:3000"]))),
    );
    let what = prop_oneof![
        1 => Just((json!({}), json!({}), json!({}))),
        3 => ported.prop_map(|(protocol, ports, not_ports, source_ports)| {
            let mut destination = json!({});
            if let Some(ports) = ports {
                destination["ports"] = ports;
            } else if let Some(ports) = not_ports {
                destination["notPorts"] = ports;
            }
            let source = source_ports.map_or_else(|| json!({}), |ports| json!({"ports": ports}));
            (json!({"protocol": protocol}), source, destination)
        }),
        1 => select(&["ICMP", "TCP", "UDP"][..])
            .prop_map(|protocol| (json!({"notProtocol": protocol}), json!({}), json!({}))),
        1 => prop_oneof![Just(json!("ICMP")), Just(json!(47))]
            .prop_map(|protocol| (json!({"protocol": protocol}), json!({}), json!({}))),
    ];
    let action = select(&["Allow", "Allow", "Deny", "Pass"][..]);
    (action, what, calico_side(), calico_side()).prop_map(|(action, what, source, destination)| {
        let (mut rule, from, to) = what;
        rule["action"] = json!(action);
        for (field, one, other) in [("source", source, from), ("destination", destination, to)] {
            let mut side = one.as_object().cloned().unwrap_or_default();
            side.extend(other.as_object().cloned().unwrap_or_default());
            if !side.is_empty() {
                rule[field] = side.into();
            }
        }
        rule
    })
}

pub(crate) fn calico_policy() -> impl Strategy<Value = Value> {
    let namespace = prop::option::of(select(&["a", "b"][..]));
    let types = select(TYPES);
    let rules = || vec(calico_rule(), 0..4);
    (namespace, selector(&["app", "role"]), types, rules(), rules()).prop_map(
        |(namespace, selector, types, ingress, egress)| {
            let mut spec = json!({"selector": selector, "types": types});
            if types.contains(&"Ingress") {
                spec["ingress"] = ingress.into();
            }
            if types.contains(&"Egress") {
                spec["egress"] = egress.into();
            }
            let (kind, metadata) = match namespace {
                Some(namespace) => ("NetworkPolicy", json!({"namespace": namespace})),
                None => ("GlobalNetworkPolicy", json!({})),
            };
            json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec})
        },
    )
}
