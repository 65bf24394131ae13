//! Calico's nodes, which are Kubernetes' with annotations.

use serde_json::{Map, Value, json};

use super::custom::members;
use crate::object::{Object, Revision};

/// Fields of a node and the annotations that hold them.
const FIELDS: &[(&str, &str)] = &[
    ("/spec/bgp/ipv4Address", "projectcalico.org/IPv4Address"),
    ("/spec/bgp/ipv6Address", "projectcalico.org/IPv6Address"),
    (
        "/spec/bgp/ipv4IPIPTunnelAddr",
        "projectcalico.org/IPv4IPIPTunnelAddr",
    ),
    ("/spec/bgp/asNumber", "projectcalico.org/ASNumber"),
    (
        "/spec/bgp/routeReflectorClusterID",
        "projectcalico.org/RouteReflectorClusterID",
    ),
    (
        "/spec/bgp/interfaceIPv4Address",
        "projectcalico.org/InterfaceIPv4Address",
    ),
    (
        "/spec/ipv4VXLANTunnelAddr",
        "projectcalico.org/IPv4VXLANTunnelAddr",
    ),
    (
        "/spec/ipv6VXLANTunnelAddr",
        "projectcalico.org/IPv6VXLANTunnelAddr",
    ),
    (
        "/spec/vxlanTunnelMACAddr",
        "projectcalico.org/VXLANTunnelMACAddr",
    ),
    (
        "/spec/vxlanTunnelMACAddrV6",
        "projectcalico.org/VXLANTunnelMACAddrV6",
    ),
    (
        "/spec/wireguard/interfaceIPv4Address",
        "projectcalico.org/IPv4WireguardInterfaceAddr",
    ),
    (
        "/spec/wireguard/interfaceIPv6Address",
        "projectcalico.org/IPv6WireguardInterfaceAddr",
    ),
    (
        "/status/wireguardPublicKey",
        "projectcalico.org/WireguardPublicKey",
    ),
    (
        "/status/wireguardPublicKeyV6",
        "projectcalico.org/WireguardPublicKeyV6",
    ),
];
/// Labels that the node has for Calico alone, as JSON.
const LABELS: &str = "projectcalico.org/labels";
/// Labels that Kubernetes' node had when Calico's was written last, as JSON.
const KUBE_LABELS: &str = "projectcalico.org/kube-labels";

fn texts(value: Option<&Value>) -> Map<String, Value> {
    value
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// The node that a node of Kubernetes is. Labels of Kubernetes win over those that Calico added.
pub(super) fn read(value: Value) -> Value {
    let metadata = value.get("metadata");
    let field = |name: &str| metadata.and_then(|metadata| metadata.get(name));
    let mut annotations = texts(field("annotations"));
    let mut node = json!({ "metadata": {}, "spec": {} });
    for (path, annotation) in FIELDS {
        let noted = annotations.remove(*annotation);
        if let Some(Value::String(text)) = noted.filter(|noted| noted != "") {
            put(&mut node, path, text);
        }
    }
    let added = annotations.remove(LABELS);
    let added = added.and_then(|text| serde_json::from_str(text.as_str()?).ok());
    annotations.remove(KUBE_LABELS);
    let mut labels = texts(added.as_ref());
    labels.extend(texts(field("labels")));

    let out = members(&mut node, "metadata");
    for name in ["name", "uid", "creationTimestamp", "deletionTimestamp"] {
        if let Some(member) = field(name) {
            out.insert(name.to_owned(), member.clone());
        }
    }
    out.insert("labels".to_owned(), Value::Object(labels));
    out.insert("annotations".to_owned(), Value::Object(annotations));
    let name = field("name").cloned().unwrap_or_default();
    let spec = members(&mut node, "spec");
    spec.insert(
        "orchRefs".to_owned(),
        json!([{ "orchestrator": "k8s", "nodeName": name }]),
    );
    let addresses = addresses(&value, spec);
    spec.insert("addresses".to_owned(), Value::Array(addresses));
    if let Some(ranges) = value.pointer("/spec/podCIDRs") {
        members(&mut node, "status").insert("podCIDRs".to_owned(), ranges.clone());
    }
    node
}

/// Calico's own addresses and Kubernetes'.
fn addresses(value: &Value, spec: &Map<String, Value>) -> Vec<Value> {
    let bgp = spec.get("bgp");
    let own = ["ipv4Address", "ipv6Address"]
        .into_iter()
        .filter_map(|family| {
            let address = bgp?.get(family)?;
            Some(json!({ "address": address, "type": "CalicoNodeIP" }))
        });
    let kubernetes = value.pointer("/status/addresses").and_then(Value::as_array);
    let kubernetes = kubernetes.into_iter().flatten().filter(|address| {
        let kind = address.get("type").and_then(Value::as_str);
        matches!(kind, Some("InternalIP" | "ExternalIP"))
    });
    own.chain(kubernetes.cloned()).collect()
}

/// Writes a text at a path; an AS number as a number where it is one.
fn put(node: &mut Value, path: &str, text: String) {
    let (parent, name) = path.rsplit_once('/').unwrap_or_default();
    let mut place = node;
    for part in parent.split('/').filter(|part| !part.is_empty()) {
        members(place, part);
        let Some(next) = place.get_mut(part) else {
            return;
        };
        place = next;
    }
    let number = text.parse::<u32>().ok().filter(|_| name == "asNumber");
    let value = number.map_or(Value::String(text), Value::from);
    if let Some(place) = place.as_object_mut() {
        place.insert(name.to_owned(), value);
    }
}

/// What is to be noted on Kubernetes' node for one of Calico's. A field that is absent loses its annotation.
pub(super) fn note(object: &Object, now: &Value, version: Revision) -> Value {
    let mut annotations = Map::new();
    for (path, annotation) in FIELDS {
        let noted = match object.value.pointer(path) {
            Some(Value::String(text)) if !text.is_empty() => Value::String(text.clone()),
            Some(Value::Number(number)) => Value::String(number.to_string()),
            _ => Value::Null,
        };
        annotations.insert((*annotation).to_owned(), noted);
    }
    let kubernetes = texts(now.pointer("/metadata/labels"));
    let labels = texts(object.value.pointer("/metadata/labels"));
    let added: Map<String, Value> = labels
        .into_iter()
        .filter(|(label, _)| !kubernetes.contains_key(label))
        .collect();
    let added = if added.is_empty() {
        Value::Null
    } else {
        Value::String(Value::Object(added).to_string())
    };
    annotations.insert(LABELS.to_owned(), added);
    for (name, value) in texts(object.value.pointer("/metadata/annotations")) {
        annotations.insert(name, value);
    }
    // One that is gone from ours goes from Kubernetes' too, where it was Calico's.
    for name in texts(now.pointer("/metadata/annotations")).keys() {
        if name.starts_with("projectcalico.org/") && name != KUBE_LABELS {
            annotations.entry(name.clone()).or_insert(Value::Null);
        }
    }
    patch(annotations, version)
}

/// What makes Kubernetes' node no node of Calico's.
pub(super) fn forget(version: Revision) -> Value {
    let names = FIELDS.iter().map(|(_, annotation)| *annotation);
    let annotations = names
        .chain([LABELS])
        .map(|name| (name.to_owned(), Value::Null));
    patch(annotations.collect(), version)
}

fn patch(annotations: Map<String, Value>, version: Revision) -> Value {
    let mut metadata = Map::new();
    metadata.insert("annotations".to_owned(), Value::Object(annotations));
    if version > Revision::NONE {
        metadata.insert("resourceVersion".to_owned(), version.to_string().into());
    }
    json!({ "metadata": metadata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Node};

    #[test]
    fn annotations_are_fields() {
        let kubernetes = json!({
            "metadata": {
                "name": "n1",
                "labels": { "zone": "a" },
                "annotations": {
                    "projectcalico.org/IPv4Address": "10.0.0.1/24",
                    "projectcalico.org/ASNumber": "64513",
                    "projectcalico.org/IPv4VXLANTunnelAddr": "10.10.0.1",
                    "projectcalico.org/labels": "{\"rack\":\"r1\",\"zone\":\"b\"}",
                    "other": "kept",
                },
            },
            "spec": { "podCIDRs": ["10.10.1.0/24"] },
            "status": { "addresses": [
                { "type": "InternalIP", "address": "10.0.0.1" }, { "type": "Hostname", "address": "n1" },
            ]},
        });
        let object = Object::from_value(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "Node",
            "metadata": read(kubernetes.clone())["metadata"], "spec": read(kubernetes.clone())["spec"],
            "status": read(kubernetes.clone())["status"],
        }));
        let object = object.expect("an object");
        assert_eq!(object.kind, Kind::Node);
        let node: Node = object.decode().expect("a node");
        let bgp = node.spec.bgp.as_ref().expect("BGP");
        assert_eq!(bgp.ipv4_address.as_deref(), Some("10.0.0.1/24"));
        assert_eq!(bgp.as_number.map(|number| number.0), Some(64513));
        assert_eq!(node.metadata.labels["zone"], "a");
        assert_eq!(node.metadata.labels["rack"], "r1");
        assert_eq!(node.metadata.annotations.len(), 1);
        assert_eq!(node.spec.addresses.len(), 2);

        // What is noted again is what was there.
        let note = note(&object, &kubernetes, Revision(3));
        let annotations = &note["metadata"]["annotations"];
        assert_eq!(note["metadata"]["resourceVersion"], "3");
        assert_eq!(annotations["projectcalico.org/ASNumber"], "64513");
        assert_eq!(annotations["projectcalico.org/labels"], "{\"rack\":\"r1\"}");
        assert!(annotations["projectcalico.org/IPv6Address"].is_null());
    }
}
