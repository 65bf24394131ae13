//! Objects that no API would have let through: nothing panics, and the graph and the reference still agree on a pod
//! that is selected by all of them.

use std::net::IpAddr;

use ocicat_dataplane::State;
use ocicat_dataplane::state::LinkName;
use ocicat_dataplane::verdict::Packet;
use ocicat_datastore::Object;
use ocicat_policy::{Flow, Graph, Model, Update, reach};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Words that mean something somewhere.
const WORDS: &[&str] = &[
    "Allow",
    "Deny",
    "Pass",
    "Log",
    "TCP",
    "UDP",
    "ICMP",
    "SCTP",
    "Ingress",
    "Egress",
    "all()",
    "global()",
    "has(a)",
    "a == 'b'",
    "a in {",
    "10.0.0.0/8",
    "10.0.0.1",
    "fd00::/8",
    "80",
    "80:90",
    "http",
    "",
    " ",
    "default",
    "kube-admin",
    "Admin",
    "Accept",
    "In",
    "Exists",
    "'\"",
    "ü%",
];

/// Fields of rules.
const KEYS: &[&str] = &[
    "action",
    "protocol",
    "notProtocol",
    "source",
    "destination",
    "nets",
    "notNets",
    "selector",
    "notSelector",
    "namespaceSelector",
    "ports",
    "notPorts",
    "serviceAccounts",
    "names",
    "services",
    "name",
    "namespace",
    "icmp",
    "notICMP",
    "type",
    "code",
    "ipVersion",
    "http",
    "from",
    "to",
    "port",
    "endPort",
    "ipBlock",
    "cidr",
    "except",
    "podSelector",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "namespaces",
    "pods",
    "networks",
    "protocols",
    "tcp",
    "destinationPort",
    "number",
    "range",
    "start",
    "end",
    "destinationNamedPort",
];

/// Fields of specifications.
const FIELDS: &[&str] = &[
    "tier",
    "order",
    "selector",
    "namespaceSelector",
    "types",
    "policyTypes",
    "podSelector",
    "subject",
    "priority",
    "defaultAction",
    "labelsToApply",
    "nets",
    "node",
    "interfaceName",
    "expectedIPs",
    "profiles",
    "doNotTrack",
];

/// Versions and kinds.
const KINDS: &[(&str, &str)] = &[
    ("projectcalico.org/v3", "GlobalNetworkPolicy"),
    ("projectcalico.org/v3", "NetworkPolicy"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
    ("projectcalico.org/v3", "Tier"),
    ("projectcalico.org/v3", "Profile"),
    ("projectcalico.org/v3", "GlobalNetworkSet"),
    ("projectcalico.org/v3", "HostEndpoint"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
];

/// Any JSON, made of words that mean something somewhere.
fn value() -> impl Strategy<Value = Value> {
    let word = select(WORDS);
    let leaf = prop_oneof![
        6 => word.prop_map(Value::from),
        3 => select(vec![-1_i64, 0, 1, 4, 6, 8, 80, 255, 256, 65535, 65536, i64::MAX]).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    let key = select(KEYS);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let map = hash_map(key.clone().prop_map(str::to_owned), inner.clone(), 0..5);
        prop_oneof![
            2 => vec(inner, 0..4).prop_map(Value::from),
            3 => map.prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn object(n: usize) -> impl Strategy<Value = Value> {
    let kind = select(KINDS);
    let field = select(FIELDS);
    let spec = hash_map(field.prop_map(str::to_owned), value(), 0..3);
    let rules = || proptest::option::weighted(0.7, vec(value(), 0..3));
    (kind, spec, rules(), rules()).prop_map(move |((version, kind), spec, ingress, egress)| {
        let mut spec: Map<String, Value> = spec.into_iter().collect();
        for (direction, rules) in [("ingress", ingress), ("egress", egress)] {
            if let Some(rules) = rules {
                spec.insert(direction.into(), rules.into());
            }
        }
        let namespaced = matches!(kind, "NetworkPolicy" | "EndpointSlice").then_some("a");
        json!({
            "apiVersion": version, "kind": kind,
            "metadata": {"name": format!("o{n}"), "namespace": namespaced}, "spec": spec,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn strange_objects_are_read_alike(
        objects in (object(0), object(1), object(2)).prop_map(|(a, b, c)| [a, b, c]),
        labels in select(vec![json!({}), json!({"a": "b"})]),
    ) {
        let (mut graph, mut model) = (Graph::new("n1"), Model::new());
        let pod = json!({
            "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
            "metadata": {"namespace": "a", "name": "pod", "labels": labels},
            "spec": {"node": "n1", "orchestrator": "k8s", "interfaceName": "cali1", "profiles": ["o0"],
                     "ipNetworks": ["10.0.0.1/32"], "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
        });
        for object in objects.into_iter().chain([pod]) {
            let Ok(object) = Object::from_value(object) else { continue };
            match Update::of(&object) {
                Ok(Some(update)) => {
                    model.update(update.clone());
                    graph.update(update);
                }
                Ok(None) => {}
                Err(error) => graph.refuse(object.key(), String::new(), error.to_string()),
            }
        }
        let mut state = State::default();
        graph.flush(&mut state);
        for problem in graph.problems() {
            prop_assert!(!problem.to_string().is_empty());
        }
        let link = |name: &str| LinkName::new(name).unwrap();
        let inside = IpAddr::from([10, 0, 0, 1]);
        // A host endpoint would be asked too; the reference and the state are compared elsewhere.
        state.hosts.clear();
        for outside in [IpAddr::from([10, 0, 0, 9]), IpAddr::from([192, 0, 2, 1])] {
            for port in [80, 443] {
                let flow = Flow::tcp(outside, inside, port);
                let packet = Packet::tcp((link("eth0"), outside), (link("cali1"), inside), port);
                let decision = model.evaluate(&flow);
                let by_pod = decision.decisions().last().is_some_and(|d| d.endpoint.starts_with("Workload"));
                if by_pod {
                    let allowed = state.verdict(&packet).is_allowed();
                    prop_assert_eq!(allowed, decision.is_allowed(), "{}", decision);
                }
            }
        }
        let _ = reach(&model, &[IpAddr::from([192, 0, 2, 1])]).to_string();
    }
}
