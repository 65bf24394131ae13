//! Kubernetes' own kinds, in the double as in a real API server.

use serde_json::{Value, json};

use crate::same::{Asked, merge};

/// Pods and nodes, as far as the store writes them.
const NODES: &str = "/api/v1/nodes";

pub(crate) async fn ask(asked: &mut Asked) {
    nodes(asked).await;
    pods(asked).await;
    leases(asked).await;
}

async fn nodes(asked: &mut Asked) {
    let nodes = NODES;
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "same-node" }, "spec": {} });
    let made = asked.ask("POST", nodes, node.clone()).await;
    asked.ask("POST", nodes, node).await;
    let status = format!("{nodes}/same-node/status");
    let note = json!({ "metadata": { "annotations": { "projectcalico.org/IPv4Address": "10.0.0.1/24", "x": null } } });
    asked.ask("PATCH", &status, note).await;
    let stale = json!({ "metadata": { "resourceVersion": made["metadata"]["resourceVersion"], "annotations": { "a": "b" } } });
    asked.ask("PATCH", &status, stale).await;
    let mut now = asked
        .ask("GET", &format!("{nodes}/same-node"), Value::Null)
        .await;
    merge(
        &mut now,
        &json!({ "metadata": { "labels": { "same": "yes" } }, "spec": { "unschedulable": true } }),
    );
    let written = asked.ask("PUT", &status, now).await;
    asked.answers.push((
        "the spec is not the status".to_owned(),
        written["spec"]["unschedulable"].clone(),
    ));
}

async fn pods(asked: &mut Asked) {
    let pods = "/api/v1/namespaces/kit-a/pods";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "same-pod" },
        "spec": { "nodeName": "same-node", "containers": [{ "name": "c", "image": "i" }] },
    });
    asked.ask("POST", pods, pod.clone()).await;
    asked
        .ask("POST", &pods.replace("kit-a", "same-nowhere"), pod)
        .await;
    let notes =
        json!({ "metadata": { "annotations": { "cni.projectcalico.org/podIP": "10.0.0.7/32" } } });
    asked
        .ask("PATCH", &format!("{pods}/same-pod/status"), notes)
        .await;
    for query in [
        "spec.nodeName%3Dsame-node",
        "spec.nodeName%3Dother",
        "spec.restartPolicyy%3DAlways",
    ] {
        asked
            .ask("GET", &format!("{pods}?fieldSelector={query}"), Value::Null)
            .await;
    }
    asked
        .ask("DELETE", &format!("{pods}/same-pod"), Value::Null)
        .await;
    asked
        .ask("GET", &format!("{pods}/same-pod"), Value::Null)
        .await;
    asked
        .ask(
            "DELETE",
            &format!("{pods}/same-pod"),
            json!({ "gracePeriodSeconds": 0 }),
        )
        .await;
    asked
        .ask("GET", &format!("{pods}/same-pod"), Value::Null)
        .await;
    asked
        .ask("DELETE", &format!("{NODES}/same-node"), Value::Null)
        .await;
}

async fn leases(asked: &mut Asked) {
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kit-a/leases";
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "same-lease" },
        "spec": { "holderIdentity": "a" },
    });
    let made = asked.ask("POST", leases, lease.clone()).await;
    let path = format!("{leases}/same-lease");
    asked.ask("PUT", &path, lease.clone()).await;
    let mut stale = lease;
    merge(
        &mut stale,
        &json!({ "metadata": { "resourceVersion": "1" }, "spec": { "holderIdentity": "b" } }),
    );
    asked.ask("PUT", &path, stale.clone()).await;
    merge(
        &mut stale,
        &json!({ "metadata": { "resourceVersion": made["metadata"]["resourceVersion"] } }),
    );
    asked.ask("PUT", &path, stale).await;
    asked.ask("DELETE", &path, Value::Null).await;
}
