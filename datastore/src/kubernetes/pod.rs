//! Endpoints, which are pods: what Calico reads of them, and what it notes on them.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};

use crate::model::{Pod, WorkloadEndpoint, WorkloadEndpointSpec};
use crate::object::{Object, Revision};

const POD_IP: &str = "cni.projectcalico.org/podIP";
const POD_IPS: &str = "cni.projectcalico.org/podIPs";
const CONTAINER_ID: &str = "cni.projectcalico.org/containerID";
const SOURCE_PREFIXES: &str = "cni.projectcalico.org/allowedSourcePrefixes";

/// The parts of an endpoint's name that are complete: what stands before a single dash.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '-' && letters.peek() != Some(&'-') {
            parts.push(String::new());
            continue;
        }
        if letter == '-' {
            letters.next();
        }
        if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
    }
    parts
}

/// The pod that an endpoint's name is for; `None` when it is for none.
pub(super) fn pod_name(name: &str) -> Option<String> {
    match &parts(name)[..] {
        [_, orchestrator, pod, endpoint]
            if orchestrator == WorkloadEndpoint::KUBERNETES
                && endpoint == WorkloadEndpoint::POD_INTERFACE =>
        {
            Some(pod.clone())
        }
        _ => None,
    }
}

/// The node that all endpoints with names of this prefix are on.
pub(super) fn node_of_prefix(prefix: &str) -> Option<String> {
    match &parts(prefix)[..] {
        // A dash at the end may be half of two.
        [node, next, ..] if !next.is_empty() => Some(node.clone()),
        _ => None,
    }
}

/// The endpoint of a pod.
pub(super) fn endpoint(value: Value) -> Option<Value> {
    endpoint_of(&Pod::deserialize(value).ok()?)
}

/// The endpoint of a pod that has been read.
pub(super) fn endpoint_of(pod: &Pod) -> Option<Value> {
    let mut endpoint = WorkloadEndpoint::of_pod(pod)?;
    let metadata = &pod.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    endpoint.spec.interface_name = Some(host_link(namespace, &metadata.name));
    let prefixes = metadata.annotations.get(SOURCE_PREFIXES);
    let prefixes = prefixes.and_then(|text| serde_json::from_str(text).ok());
    endpoint.spec.allow_spoofed_source_prefixes = prefixes.unwrap_or_default();
    endpoint
        .metadata
        .generate_name
        .clone_from(&metadata.generate_name);
    endpoint.metadata.uid.clone_from(&metadata.uid);
    endpoint
        .metadata
        .creation_timestamp
        .clone_from(&metadata.creation_timestamp);
    endpoint
        .metadata
        .deletion_timestamp
        .clone_from(&metadata.deletion_timestamp);
    serde_json::to_value(endpoint).ok()
}

/// The name of a pod's interface on its node: `cali` and 11 hexadecimal digits of SHA-1.
fn host_link(namespace: &str, pod: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}.{pod}"));
    let hex: String = digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("cali{}", hex.get(..11).unwrap_or_default())
}

/// What is to be noted on the pod of an endpoint; `None` when it is the endpoint of no pod.
pub(super) fn note(object: &Object, version: Revision) -> Option<Value> {
    let spec = WorkloadEndpointSpec::deserialize(object.value.get("spec")?).ok()?;
    let first = spec
        .ip_networks
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let notes = json!({
        POD_IP: first,
        POD_IPS: spec.ip_networks.join(","),
        CONTAINER_ID: spec.container_id,
    });
    Some(patch(notes, version))
}

/// What is to be noted on a pod that has no endpoint any more.
pub(super) fn forget(version: Revision) -> Value {
    patch(
        json!({ POD_IP: "", POD_IPS: "", CONTAINER_ID: null }),
        version,
    )
}

fn patch(annotations: Value, version: Revision) -> Value {
    let mut metadata = Map::new();
    metadata.insert("annotations".to_owned(), annotations);
    if version > Revision::NONE {
        metadata.insert("resourceVersion".to_owned(), version.to_string().into());
    }
    json!({ "metadata": metadata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::workload_endpoint_name;

    #[test]
    fn names_go_back() {
        for (node, pod) in [("n", "web"), ("node-1", "web-7f-x"), ("a.b--c", "p")] {
            let name = workload_endpoint_name(node, "k8s", pod, "eth0");
            assert_eq!(pod_name(&name).as_deref(), Some(pod), "{name}");
            let prefix = name.strip_suffix("eth0").unwrap_or_default();
            assert_eq!(node_of_prefix(prefix).as_deref(), Some(node), "{prefix}");
        }
        for other in ["", "n-k8s-web", "n-cni-web-eth0", "n-k8s-web-net1"] {
            assert_eq!(pod_name(other), None, "{other}");
        }
        for open in ["", "node", "node-", "node--"] {
            assert_eq!(node_of_prefix(open), None, "{open}");
        }
    }

    #[test]
    fn links_are_calicos() {
        assert_eq!(host_link("default", "web"), "cali68caf03a5f4");
    }
}
