//! Kubernetes' ClusterNetworkPolicy as Calico's policy.

use ocicat_datastore::Object;
use ocicat_datastore::model::{ClusterNetworkPolicy, GlobalNetworkPolicy, Rule};
use ocicat_policy::{Flow, Model, Update, Verdict, kubernetes};
use serde_json::{Value, json};

fn convert(spec: Value) -> kubernetes::Converted<GlobalNetworkPolicy> {
    let value = json!({"metadata": {"name": "p"}, "spec": spec});
    let policy: ClusterNetworkPolicy = serde_json::from_value(value).unwrap();
    kubernetes::cluster_network_policy(&policy)
}

fn spec(ingress: Value, egress: Value) -> Value {
    json!({"tier": "Admin", "priority": 7, "subject": {"namespaces": {}}, "ingress": ingress, "egress": egress})
}

fn brief(rules: &[Rule]) -> Value {
    serde_json::to_value(rules).unwrap()
}

const K8S: &str = "projectcalico.org/orchestrator == 'k8s'";

#[test]
fn the_policy_itself() {
    let policy = convert(json!({
        "tier": "Baseline", "priority": 30,
        "subject": {"pods": {"namespaceSelector": {"matchLabels": {"env": "x"}}, "podSelector": {"matchLabels": {"a": "1"}}}},
        "egress": [{"action": "Accept", "to": [{"namespaces": {}}]}],
    }));
    assert_eq!(policy.problems, []);
    let spec = policy.value.spec;
    assert_eq!(policy.value.metadata.name, "kcnp.p");
    assert_eq!(spec.tier.as_deref(), Some("kube-baseline"));
    assert_eq!(spec.order, Some(30.0));
    assert_eq!(spec.selector, Some(format!("{K8S} && a == \"1\"")));
    assert_eq!(spec.namespace_selector.as_deref(), Some("env == \"x\""));
    assert_eq!(spec.types, ["Egress"]);
}

#[test]
fn rules() {
    let all = json!([{"namespaces": {}}]);
    let from = json!({"selector": K8S, "namespaceSelector": "all()"});
    let converted = convert(spec(
        json!([
            {"action": "Accept", "from": all, "protocols": [{"tcp": {"destinationPort": {"number": 80}}}]},
            {"action": "Deny", "from": all, "protocols": [{"udp": {}}, {"sctp": {"destinationPort": {"range": {"start": 5, "end": 9}}}}]},
            {"action": "Pass", "from": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "1"}}}}]},
        ]),
        json!([
            {"action": "Deny", "to": [{"networks": ["10.0.0.0/8", "fd00::/8"]}]},
            {"action": "Deny", "to": all, "protocols": [{"destinationNamedPort": "http"}]},
        ]),
    ));
    assert_eq!(converted.problems, []);
    assert_eq!(
        brief(&converted.value.spec.ingress),
        json!([
            {"action": "Allow", "protocol": "TCP", "source": from, "destination": {"ports": [80]}},
            {"action": "Deny", "protocol": "UDP", "source": from},
            {"action": "Deny", "protocol": "SCTP", "source": from, "destination": {"ports": ["5:9"]}},
            {"action": "Pass", "source": {"selector": format!("{K8S} && a == \"1\""), "namespaceSelector": "all()"}},
        ])
    );
    let to = json!({"selector": K8S, "namespaceSelector": "all()", "ports": ["http"]});
    assert_eq!(
        brief(&converted.value.spec.egress),
        json!([
            {"action": "Deny", "destination": {"nets": ["10.0.0.0/8", "fd00::/8"]}},
            {"action": "Deny", "protocol": "TCP", "destination": to},
            {"action": "Deny", "protocol": "UDP", "destination": to},
            {"action": "Deny", "protocol": "SCTP", "destination": to},
        ])
    );
}

#[test]
fn what_cannot_be_read() {
    let all = json!([{"namespaces": {}}]);
    for (rule, field) in [
        (json!({"from": []}), ".from"),
        (json!({"from": [{}]}), ".from[0]"),
        (json!({"from": [{"networks": ["10.0.0.0/8"]}]}), ".from[0]"),
        (
            json!({"from": [{"namespaces": {}, "pods": {}}]}),
            ".from[0]",
        ),
        (
            json!({"from": [{"namespaces": {"matchLabels": {"a b": "c"}}}]}),
            ".from[0].namespaces",
        ),
        (json!({"from": all, "protocols": [{}]}), ".protocols[0]"),
        (
            json!({"from": all, "protocols": [{"tcp": {}, "udp": {}}]}),
            ".protocols[0]",
        ),
        (
            json!({"from": all, "protocols": [{"tcp": {"destinationPort": {"number": 0}}}]}),
            ".protocols[0].tcp.destinationPort",
        ),
        (
            json!({"from": all, "protocols": [{"tcp": {"destinationPort": {"range": {"start": 9, "end": 8}}}}]}),
            ".protocols[0].tcp.destinationPort",
        ),
        (
            json!({"from": all, "protocols": [{"destinationNamedPort": "80"}]}),
            ".protocols[0].destinationNamedPort",
        ),
        (json!({"from": 5}), ""),
    ] {
        for (action, kept) in [("Accept", "Allow"), ("Deny", "Deny"), ("Pass", "Pass")] {
            let mut rule = rule.clone();
            rule["action"] = action.into();
            let converted = convert(spec(json!([rule]), json!([])));
            assert_eq!(converted.problems.len(), 1, "{rule}");
            assert_eq!(
                converted.problems[0].0,
                format!("ingress[0]{field}"),
                "{rule}"
            );
            let rules = &converted.value.spec.ingress;
            assert_eq!(rules.len(), 1, "{rule}");
            assert!(
                rules[0].malformed.is_some() && rules[0].action == kept,
                "{rule}"
            );
        }
    }
    let converted = convert(spec(json!([{"action": "Allow", "from": all}]), json!([])));
    assert_eq!(converted.value.spec.ingress[0].action, "Deny");
    for bad in [
        json!({"tier": "default", "subject": {"namespaces": {}}}),
        json!({"tier": "Admin", "subject": {}}),
        json!({"tier": "Admin", "subject": {"namespaces": {}, "pods": {}}}),
    ] {
        assert_eq!(convert(bad.clone()).problems.len(), 1, "{bad}");
    }
}

fn pod(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
        "metadata": {"namespace": "a", "name": name, "labels": {"name": name}},
        "spec": {"node": "n1", "orchestrator": "k8s", "interfaceName": "cali1", "ipNetworks": [address],
                 "profiles": ["kns.a"]},
    })
}

fn policy(name: &str, tier: &str, rule: Value) -> Value {
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {"tier": tier, "priority": 1, "subject": {"namespaces": {}}, "ingress": [rule]},
    })
}

fn tell(model: &mut Model, value: Value) {
    let object = Object::from_value(value).unwrap();
    model.update(Update::of(&object).unwrap().unwrap());
}

fn verdict(model: &Model, port: u16) -> Verdict {
    let (web, db) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    model.evaluate(&Flow::tcp(web, db, port)).verdict()
}

/// Admin before namespaces' own policies before the baseline, as the API wants it.
#[test]
fn the_three_tiers_in_order() {
    let from = json!([{"namespaces": {}}]);
    let port = |n: u16| json!([{"tcp": {"destinationPort": {"number": n}}}]);
    let mut model = Model::new();
    for value in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}),
        pod("web", "10.0.0.1/32"),
        pod("db", "10.0.0.2/32"),
        policy(
            "deny",
            "Admin",
            json!({"action": "Deny", "from": from, "protocols": port(22)}),
        ),
        policy(
            "accept",
            "Admin",
            json!({"action": "Accept", "from": from, "protocols": port(9100)}),
        ),
        policy("base", "Baseline", json!({"action": "Deny", "from": from})),
    ] {
        tell(&mut model, value);
    }
    assert_eq!(verdict(&model, 22), Verdict::Deny);
    assert_eq!(verdict(&model, 9100), Verdict::Allow);
    assert_eq!(verdict(&model, 80), Verdict::Deny, "the baseline");
    let own = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "a", "name": "own"},
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}, {"port": 22}]}]},
    });
    tell(&mut model, own);
    assert_eq!(
        verdict(&model, 22),
        Verdict::Deny,
        "the administrator's word"
    );
    assert_eq!(verdict(&model, 9100), Verdict::Allow);
    assert_eq!(verdict(&model, 80), Verdict::Allow);
    assert_eq!(verdict(&model, 81), Verdict::Deny);
}
