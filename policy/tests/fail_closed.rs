//! What cannot be read never opens anything, and never stops the rest.

use ocicat_dataplane::State;
use ocicat_dataplane::state::{Action, PolicyId, Rule};
use ocicat_datastore::Object;
use ocicat_policy::{Effect, Graph, Update};
use serde_json::{Value, json};

fn update(value: Value) -> Update {
    Update::of(&Object::from_value(value).unwrap())
        .unwrap()
        .unwrap()
}

fn policy(spec: Value) -> Update {
    update(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "p"}, "spec": spec,
    }))
}

fn graph() -> Graph {
    let mut graph = Graph::new("n1");
    graph.update(update(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
        "metadata": {"namespace": "a", "name": "pod"},
        "spec": {"node": "n1", "orchestrator": "k8s", "interfaceName": "cali1", "ipNetworks": ["10.0.0.1/32"]},
    })));
    graph
}

/// The ingress rules in force, and what is done about the policy's faults.
fn enforced(graph: &mut Graph) -> (Option<Vec<Rule>>, Vec<Effect>) {
    let mut state = State::default();
    graph.distrust();
    graph.flush(&mut state);
    let id = PolicyId::new("gnp/default/p");
    let rules = state.policies.get(&id).map(|p| p.ingress.clone());
    (rules, graph.problems().map(|p| p.effect).collect())
}

/// Matches that cannot be read.
fn unreadable() -> Vec<Value> {
    vec![
        json!({"protocol": "TCPP"}),
        json!({"protocol": 0}),
        json!({"ipVersion": 5}),
        json!({"notProtocol": 256}),
        json!({"source": {"nets": ["10.0.0.0/8", "10.0.0/8"]}}),
        json!({"source": {"notNets": ["x"]}}),
        json!({"source": {"selector": "role ="}}),
        json!({"source": {"notSelector": "role ="}}),
        json!({"source": {"namespaceSelector": "global() || has(a)"}}),
        json!({"source": {"serviceAccounts": {"selector": "role ="}}}),
        json!({"source": {"serviceAccounts": {"names": ["a'\""]}}}),
        json!({"protocol": "TCP", "destination": {"ports": ["90:80"]}}),
        json!({"protocol": "TCP", "destination": {"ports": [70000]}}),
        json!({"protocol": "TCP", "destination": {"notPorts": ["a b"]}}),
        json!({"destination": {"ports": [80]}}),
        json!({"protocol": "ICMP", "destination": {"ports": ["http"]}}),
        json!({"icmp": {"type": 8}}),
        json!({"protocol": "ICMP", "icmp": {"code": 8}}),
        json!({"protocol": "ICMP", "icmp": {"type": 255}}),
        json!({"protocol": "ICMP", "notICMP": {"type": 8, "code": 256}}),
        json!({"destination": {"services": {"name": "s", "namespace": "a"}}}),
        json!({"source": {"services": {"name": "s"}}}),
        json!({"source": {"services": {"name": "s", "namespace": "a"}, "selector": "has(x)"}}),
        json!({"http": {"methods": ["GET"]}}),
        json!({"source": {"nets": 5}}),
    ]
}

#[test]
fn a_bad_rule_denies() {
    for mut bad in unreadable() {
        for (action, effect) in [
            ("Allow", Effect::RuleLeftOut),
            ("Log", Effect::RuleLeftOut),
            ("Deny", Effect::RuleDenies),
            ("Pass", Effect::RuleDenies),
        ] {
            bad["action"] = action.into();
            let mut graph = graph();
            graph.update(policy(json!({"ingress": [bad, {"action": "Allow"}]})));
            let (rules, effects) = enforced(&mut graph);
            let rules = rules.unwrap();
            assert!(
                !effects.is_empty() && effects.iter().all(|e| *e == effect),
                "{bad}: {effects:?}"
            );
            let allow = Rule::new(Action::Allow);
            if effect == Effect::RuleLeftOut {
                assert_eq!(rules, [allow], "{bad}");
            } else {
                assert_eq!(rules.len(), 2, "{bad}");
                assert_eq!(rules[0].action, Action::Deny, "{bad}");
                assert_eq!(rules[1], allow, "{bad}");
            }
        }
    }
}

/// A Deny with one range that cannot be read denies all ranges; with one exception that cannot be read, it goes
/// without that exception.
#[test]
fn a_bad_deny_denies_all_it_could_have_meant() {
    let first = |rule: Value| {
        let mut graph = graph();
        graph.update(policy(json!({"ingress": [rule]})));
        enforced(&mut graph).0.unwrap().remove(0)
    };
    let rule = first(
        json!({"action": "Deny", "protocol": "TCP", "source": {"nets": ["10.0.0.0/8", "x"]}}),
    );
    assert!(rule.source.nets.is_empty() && rule.protocol.is_some());
    let rule = first(json!({"action": "Deny", "source": {"notNets": ["10.0.0.0/8", "x"]}}));
    assert_eq!(rule.source.not_nets.len(), 1);
    let rule =
        first(json!({"action": "Deny", "protocol": "UDPP", "destination": {"ports": [53, "dns"]}}));
    assert_eq!(rule, Rule::new(Action::Deny));
    let rule = first(json!({"action": "Nonsense", "protocol": "TCP"}));
    assert_eq!((rule.action, rule.protocol.is_some()), (Action::Deny, true));
}

#[test]
fn a_policy_that_is_for_nobody_knows_whom_is_not_enforced() {
    for bad in [
        json!({"selector": "role ="}),
        json!({"namespaceSelector": "role ="}),
        json!({"serviceAccountSelector": "role ="}),
        json!({"types": ["Ingress", "Both"]}),
        json!({"tier": "none"}),
        json!({"doNotTrack": true, "applyOnForward": true}),
        json!({"preDNAT": true, "applyOnForward": true}),
    ] {
        let mut graph = graph();
        graph.update(policy(bad.clone()));
        assert_eq!(
            enforced(&mut graph),
            (None, vec![Effect::NotEnforced]),
            "{bad}"
        );
    }
}

#[test]
fn an_earlier_version_stays_in_force() {
    let good = json!({"ingress": [{"action": "Allow", "protocol": "TCP"}]});
    for bad in [
        json!({"selector": "role ="}),
        json!({"ingress": [{"action": "Allow", "protocol": "TCPP"}]}),
        json!({"types": ["Both"]}),
    ] {
        let mut graph = graph();
        graph.update(policy(good.clone()));
        let before = enforced(&mut graph);
        assert_eq!(before.1, []);
        graph.update(policy(bad.clone()));
        assert_eq!(
            enforced(&mut graph),
            (before.0.clone(), vec![Effect::KeptEarlier]),
            "{bad}"
        );
        // Well again: the problem is gone.
        graph.update(policy(json!({"ingress": [{"action": "Deny"}]})));
        assert_eq!(
            enforced(&mut graph),
            (Some(vec![Rule::new(Action::Deny)]), vec![])
        );
    }
    // Never good: each version counts, closed as it is.
    let mut graph = graph();
    graph.update(policy(
        json!({"ingress": [{"action": "Allow", "protocol": "TCPP"}]}),
    ));
    graph.update(policy(
        json!({"ingress": [{"action": "Deny", "protocol": "TCPP"}]}),
    ));
    assert_eq!(enforced(&mut graph).0.unwrap().len(), 1);
}

#[test]
fn a_tier_that_comes_late_brings_its_policies() {
    let mut graph = graph();
    graph.update(policy(
        json!({"tier": "late", "ingress": [{"action": "Deny"}]}),
    ));
    let mut state = State::default();
    let flushed = graph.flush(&mut state);
    assert_eq!(flushed.problems.len(), 1);
    assert!(state.policies.is_empty());
    let tier = |spec: Value| {
        update(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "late"}, "spec": spec,
        }))
    };
    graph.update(tier(json!({"order": 5})));
    assert!(graph.flush(&mut state).changed);
    assert!(state.policies.contains_key(&PolicyId::new("gnp/late/p")));
    assert_eq!(graph.problems().count(), 0);
    // A default action that is none: the tier stays as it was.
    graph.update(tier(json!({"order": 6, "defaultAction": "Maybe"})));
    assert!(!graph.flush(&mut state).changed);
    assert_eq!(
        graph.problems().next().map(|p| p.effect),
        Some(Effect::KeptEarlier)
    );
}

/// Who may label a pod cannot lend it the labels of a namespace.
#[test]
fn labels_that_pass_for_inherited_ones_do_not_count() {
    let mut graph = Graph::new("n1");
    let pod = |labels: Value| {
        update(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
            "metadata": {"namespace": "a", "name": "pod", "labels": labels},
            "spec": {"node": "n1", "interfaceName": "cali1", "ipNetworks": ["10.0.0.1/32"],
                     "orchestrator": "k8s", "profiles": ["kns.a"]},
        }))
    };
    graph.update(policy(json!({"namespaceSelector": "env == 'prod'"})));
    graph.update(pod(json!({"pcns.env": "prod"})));
    assert_eq!(enforced(&mut graph).0, None);
    graph.update(update(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "Profile",
        "metadata": {"name": "kns.a"}, "spec": {"labelsToApply": {"pcns.env": "prod"}},
    })));
    assert!(enforced(&mut graph).0.is_some());
    graph.update(policy(
        json!({"selector": "projectcalico.org/namespace == 'b'"}),
    ));
    graph.update(pod(json!({"projectcalico.org/namespace": "b"})));
    assert_eq!(enforced(&mut graph).0, None);
}

/// Without Kubernetes an endpoint has its namespace's labels itself: its writer is the runtime's, not a pod's author.
#[test]
fn without_kubernetes_an_endpoint_brings_its_namespaces_labels_along() {
    for (orchestrator, counts) in [("cni", true), ("k8s", false), ("", false)] {
        let endpoint = update(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
            "metadata": {"namespace": "a", "name": "pod",
                "labels": {"pcns.env": "prod", "pcsa.team": "x"}},
            "spec": {"node": "n1", "interfaceName": "cali1", "ipNetworks": ["10.0.0.1/32"],
                     "orchestrator": orchestrator, "profiles": []},
        }));
        let mut graph = Graph::new("n1");
        graph.update(endpoint.clone());
        graph.update(policy(json!({"namespaceSelector": "env == 'prod'"})));
        assert_eq!(enforced(&mut graph).0.is_some(), counts, "{orchestrator:?}");
        graph.update(policy(json!({"serviceAccountSelector": "team == 'x'"})));
        assert_eq!(enforced(&mut graph).0, None, "{orchestrator:?}");
    }
}
