//! Kubernetes' objects as Calico's.

use std::collections::BTreeMap;

use ocicat_datastore::model::{KubeNetworkPolicy, Namespace, NetworkPolicy, Rule, ServiceAccount};
use ocicat_datastore::{Key, Kind, Object};
use ocicat_policy::{Update, kubernetes};
use serde_json::{Value, json};

fn convert(spec: Value) -> kubernetes::Converted<NetworkPolicy> {
    let value = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec});
    let policy: KubeNetworkPolicy = serde_json::from_value(value).unwrap();
    kubernetes::network_policy(&policy)
}

/// A rule without its action and its empty fields.
fn brief(rule: &Rule) -> Value {
    assert_eq!(rule.action, "Allow");
    let mut value = serde_json::to_value(rule).unwrap();
    value.as_object_mut().unwrap().remove("action");
    value
}

fn ingress(rules: Value) -> Vec<Value> {
    let converted = convert(json!({"podSelector": {}, "ingress": rules}));
    assert_eq!(converted.problems, Vec::new());
    converted.value.spec.ingress.iter().map(brief).collect()
}

fn egress(rules: Value) -> Vec<Value> {
    let converted = convert(json!({"podSelector": {}, "egress": rules}));
    assert_eq!(converted.problems, Vec::new());
    converted.value.spec.egress.iter().map(brief).collect()
}

const K8S: &str = "projectcalico.org/orchestrator == 'k8s'";

#[test]
fn the_policy_itself() {
    let converted = convert(json!({"podSelector": {"matchLabels": {"b": "2", "a": "1"}}}));
    let policy = converted.value;
    assert_eq!(policy.metadata.name, "knp.default.p");
    assert_eq!(policy.metadata.namespace.as_deref(), Some("ns"));
    assert_eq!(policy.spec.order, Some(1000.0));
    assert_eq!(policy.spec.tier, None);
    let selector = format!("{K8S} && (a == \"1\" && b == \"2\")");
    assert_eq!(policy.spec.selector, Some(selector));
    assert_eq!(policy.spec.types, ["Ingress"]);
    let all = convert(json!({"podSelector": {}}));
    assert_eq!(all.value.spec.selector.as_deref(), Some(K8S));
}

#[test]
fn types_when_they_are_not_stated() {
    let types = |spec| convert(spec).value.spec.types;
    assert_eq!(types(json!({})), ["Ingress"]);
    assert_eq!(types(json!({"egress": [{}]})), ["Ingress", "Egress"]);
    assert_eq!(
        types(json!({"egress": [{}], "policyTypes": ["Egress"]})),
        ["Egress"]
    );
}

#[test]
fn peers() {
    assert_eq!(ingress(json!([])), Vec::<Value>::new());
    assert_eq!(ingress(json!([{}])), [json!({})]);
    assert_eq!(ingress(json!([{"from": []}])), [json!({})]);
    let source = |entity: Value| vec![json!({ "source": entity })];
    // An absent selector of namespaces is the policy's own; an empty one is all.
    assert_eq!(
        ingress(json!([{"from": [{"podSelector": {}}]}])),
        source(json!({"selector": K8S}))
    );
    assert_eq!(
        ingress(json!([{"from": [{"namespaceSelector": {}}]}])),
        source(json!({"selector": K8S, "namespaceSelector": "all()"}))
    );
    assert_eq!(
        ingress(json!([{"from": [{
            "namespaceSelector": {"matchLabels": {"env": "x"}},
            "podSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]},
        }]}])),
        source(json!({
            "selector": format!("{K8S} && a not in {{\"1\"}}"),
            "namespaceSelector": "env == \"x\"",
        }))
    );
    assert_eq!(
        egress(
            json!([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.1/16"]}}]}])
        ),
        [
            json!({"destination": {"nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16", "10.2.0.0/16"]}})
        ]
    );
}

#[test]
fn ports() {
    let tcp = |ports: Value| json!({"protocol": "TCP", "destination": {"ports": ports}});
    let of = |ports: Value| ingress(json!([{ "ports": ports }]));
    assert_eq!(of(json!([])), [json!({})]);
    assert_eq!(of(json!([{"port": 80}])), [tcp(json!([80]))]);
    assert_eq!(of(json!([{"port": "http"}])), [tcp(json!(["http"]))]);
    assert_eq!(
        of(json!([{"port": 80, "endPort": 90}])),
        [tcp(json!(["80:90"]))]
    );
    assert_eq!(of(json!([{"port": 80, "endPort": 80}])), [tcp(json!([80]))]);
    // Adjacent ports and ranges become one.
    assert_eq!(
        of(
            json!([{"port": 82}, {"port": 80}, {"port": 81}, {"port": 90, "endPort": 95}, {"port": 92}])
        ),
        [tcp(json!(["80:82", "90:95"]))]
    );
    // An entry without a port is all ports of its protocol, whatever else is listed.
    assert_eq!(
        of(json!([{"protocol": "UDP"}])),
        [json!({"protocol": "UDP"})]
    );
    assert_eq!(of(json!([{"port": 80}, {}])), [json!({"protocol": "TCP"})]);
    // One rule for each protocol, and each peer.
    let rules = ingress(json!([{
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}, {"port": 7, "protocol": "SCTP"}],
        "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"podSelector": {}}],
    }]));
    let protocols: Vec<_> = rules
        .iter()
        .map(|r| r["protocol"].as_str().unwrap())
        .collect();
    assert_eq!(protocols, ["TCP", "TCP", "UDP", "UDP", "SCTP", "SCTP"]);
    // Ports are always the destination's.
    let rules = egress(json!([{"ports": [{"port": 53}], "to": [{"podSelector": {}}]}]));
    assert_eq!(
        rules,
        [json!({"protocol": "TCP", "destination": {"selector": K8S, "ports": [53]}})]
    );
}

/// What cannot be read is one rule that lets nothing through; the rules beside it stay.
#[test]
fn what_cannot_be_read() {
    for (rule, field) in [
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0/8"}}]}),
            "from[0].ipBlock.cidr",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}}]}),
            "from[0].ipBlock.except[0]",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}),
            "from[0].ipBlock",
        ),
        (json!({"from": [{}]}), "from[0]."),
        (
            json!({"from": [{"podSelector": {"matchLabels": {"a b": "c"}}}]}),
            "from[0].podSelector",
        ),
        (
            json!({"from": [{"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}]}),
            "from[0].namespaceSelector",
        ),
        (json!({"ports": [{"port": 0}]}), "ports[0].port"),
        (json!({"ports": [{"port": 70000}]}), "ports[0].port"),
        (
            json!({"ports": [{"port": 80, "endPort": 79}]}),
            "ports[0].endPort",
        ),
        (
            json!({"ports": [{"port": "http", "endPort": 80}]}),
            "ports[0].endPort",
        ),
        (json!({"ports": [{"endPort": 80}]}), "ports[0].endPort"),
        (json!({"ports": [{"port": "-"}]}), "ports[0].port"),
        (
            json!({"ports": [{"protocol": "ICMP"}]}),
            "ports[0].protocol",
        ),
        (json!({"ports": 5}), ""),
    ] {
        let converted =
            convert(json!({"podSelector": {}, "ingress": [rule, {"ports": [{"port": 1}]}]}));
        let fields: Vec<_> = converted.problems.iter().map(|(f, _)| f.as_str()).collect();
        let dot = if field.is_empty() { "" } else { "." };
        assert_eq!(fields, [format!("ingress[0]{dot}{field}")], "{rule}");
        let rules = &converted.value.spec.ingress;
        assert_eq!(rules.len(), 2, "{rule}");
        assert!(
            rules[0].malformed.is_some() && rules[1].malformed.is_none(),
            "{rule}"
        );
    }
    let bad = json!({"podSelector": {"matchLabels": {"a' || 'b": "c"}}});
    let selector = convert(bad).value.spec.selector.unwrap();
    assert!(
        selector.parse::<ocicat_selectors::Selector>().is_err(),
        "{selector}"
    );
}

#[test]
fn namespaces_and_service_accounts() {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {
        "name": "shop", "labels": {"env": "prod"}, "annotations": {"cni.projectcalico.org/ipv4pools": "[]"},
    }}))
    .unwrap();
    let profile = kubernetes::namespace(&namespace);
    assert_eq!(profile.metadata.name, "kns.shop");
    assert_eq!(profile.metadata.annotations, namespace.metadata.annotations);
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    };
    assert_eq!(
        profile.spec.labels_to_apply,
        labels(&[
            ("pcns.env", "prod"),
            ("pcns.projectcalico.org/name", "shop")
        ])
    );
    assert_eq!(profile.spec.ingress.len(), 1);
    assert_eq!(profile.spec.egress.len(), 1);
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {
        "name": "till", "namespace": "shop", "labels": {"role": "cash"},
    }}))
    .unwrap();
    let profile = kubernetes::service_account(&account);
    assert_eq!(profile.metadata.name, "ksa.shop.till");
    assert_eq!(
        profile.spec.labels_to_apply,
        labels(&[
            ("pcsa.role", "cash"),
            ("pcsa.projectcalico.org/name", "till")
        ])
    );
    assert!(profile.spec.ingress.is_empty() && profile.spec.egress.is_empty());
}

#[test]
fn stored_objects_and_their_deletion_have_one_key() {
    for (kind, namespace, name, converted) in [
        (
            Kind::KubeNetworkPolicy,
            Some("ns"),
            "p",
            "NetworkPolicy/ns/knp.default.p",
        ),
        (Kind::Namespace, None, "ns", "Profile/kns.ns"),
        (Kind::ServiceAccount, Some("ns"), "sa", "Profile/ksa.ns.sa"),
        (Kind::Pod, Some("ns"), "web", "Pod/ns/web"),
        (Kind::Tier, None, "t", "Tier/t"),
    ] {
        let key = Key {
            kind,
            namespace: namespace.map(Into::into),
            name: name.into(),
        };
        let object = Object {
            kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            value: json!({"metadata": {"name": name, "namespace": namespace}, "spec": {}}),
            revision: Default::default(),
        };
        let update = Update::of(&object).unwrap().unwrap();
        assert_eq!(update.key().to_string(), converted);
        assert_eq!(Update::gone(&key).unwrap().key(), update.key());
    }
    assert!(Update::gone(&Key::cluster(Kind::IpPool, "p")).is_none());
}
