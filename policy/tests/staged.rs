//! Staged policies say what would be, and change nothing.

use ocicat_dataplane::State;
use ocicat_datastore::Object;
use ocicat_policy::{Flow, Graph, Model, Update};
use serde_json::{Value, json};

fn update(value: Value) -> Update {
    Update::of(&Object::from_value(value).unwrap())
        .unwrap()
        .unwrap()
}

fn policy(kind: &str, spec: Value) -> Update {
    let namespace = (!kind.contains("Global")).then_some("a");
    update(json!({
        "apiVersion": "projectcalico.org/v3", "kind": kind,
        "metadata": {"name": "p", "namespace": namespace}, "spec": spec,
    }))
}

fn pods() -> Vec<Update> {
    ["10.0.0.1/32", "10.0.0.2/32"]
        .iter()
        .enumerate()
        .map(|(i, address)| {
            update(json!({
                "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
                "metadata": {"namespace": "a", "name": format!("pod{i}")},
                "spec": {"node": "n1", "orchestrator": "k8s", "interfaceName": format!("cali{i}"),
                         "ipNetworks": [address], "profiles": ["kns.a"]},
            }))
        })
        .chain([update(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}),
        )])
        .collect()
}

/// What is enforced, what is staged, whether the flow gets through now, and then.
type Case = (Option<Update>, Update, bool, bool);

fn cases() -> Vec<Case> {
    let deny = json!({"ingress": [{"action": "Deny"}]});
    let with = |action: &str| {
        let mut spec = deny.clone();
        spec["stagedAction"] = action.into();
        spec
    };
    vec![
        (
            None,
            policy("StagedGlobalNetworkPolicy", deny.clone()),
            true,
            false,
        ),
        (
            None,
            policy("StagedNetworkPolicy", with("Set")),
            true,
            false,
        ),
        (
            None,
            policy("StagedNetworkPolicy", with("Ignore")),
            true,
            true,
        ),
        (
            None,
            policy("StagedNetworkPolicy", with("Learn")),
            true,
            true,
        ),
        (
            Some(policy("NetworkPolicy", deny.clone())),
            policy("StagedNetworkPolicy", json!({"stagedAction": "Delete"})),
            false,
            true,
        ),
        (
            Some(policy("GlobalNetworkPolicy", deny.clone())),
            policy(
                "StagedGlobalNetworkPolicy",
                json!({"ingress": [{"action": "Allow"}]}),
            ),
            false,
            true,
        ),
        (
            None,
            policy("StagedKubernetesNetworkPolicy", json!({"podSelector": {}})),
            true,
            false,
        ),
    ]
}

#[test]
fn staged_policies_are_for_reports() {
    for (enforced, staged, now, then) in cases() {
        let (mut model, mut graph) = (Model::new(), Graph::new("n1"));
        for update in pods().into_iter().chain(enforced) {
            model.update(update.clone());
            graph.update(update);
        }
        let mut state = State::default();
        graph.flush(&mut state);
        model.update(staged.clone());
        graph.update(staged.clone());
        assert!(!graph.flush(&mut state).changed, "{staged:?}");
        let flow = Flow::tcp("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), 80);
        assert_eq!(model.evaluate(&flow).is_allowed(), now, "{staged:?}");
        assert_eq!(
            model.staged().evaluate(&flow).is_allowed(),
            then,
            "{staged:?}"
        );
        model.update(Update::gone(staged.key()).unwrap());
        assert_eq!(model.staged().evaluate(&flow).is_allowed(), now);
    }
}
