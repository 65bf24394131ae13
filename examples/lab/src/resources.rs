//! The objects that a scenario puts into the datastore before any agent starts.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use ocicat_datastore::{Object, StoreError};
use serde_json::{Value, json};

use crate::scenario::{Namespace, Node, Router, Scenario, ServiceAccount, Topology};

/// The AS of the underlay's router.
pub const ROUTER_AS: u32 = 64513;
/// The label of nodes that reflect routes, as Calico's documentation has it.
const REFLECTOR: &str = "route-reflector";
/// Their cluster id (RFC 4456).
const REFLECTORS: &str = "244.0.0.1";
/// How long the routes of a peer that went away without a word are kept, in keepalive times: 5 s unless the scenario says
/// otherwise.
const RESTART: u64 = 5;

/// The times of a session: between keepalives, and until a restarting peer's routes go.
fn times(scenario: &Scenario) -> (String, String) {
    let keepalive = scenario.keepalive;
    (format!("{keepalive}s"), format!("{}s", keepalive * RESTART))
}

/// Everything of a scenario but its pods and manifests, in an order that satisfies references.
///
/// # Errors
/// When the datastore's model refuses one: a fault of the lab.
pub fn all(scenario: &Scenario) -> Result<Vec<Object>> {
    let mut values = vec![
        cluster_information(),
        felix_configuration(),
        bgp_configuration(scenario),
    ];
    values.extend(
        scenario
            .pools
            .iter()
            .map(|pool| calico("IPPool", &pool.name, json!(pool))),
    );
    for node in &scenario.nodes {
        values.push(node_object(scenario, node)?);
        values.extend(router_peer(scenario, node));
    }
    if scenario.topology == Topology::Reflectors {
        values.push(reflectors_peer(scenario));
    }
    let mut objects = objects(values)?;
    objects.extend(identities(scenario)?);
    Ok(objects)
}

/// The objects of one node.
///
/// # Errors
/// When the datastore's model refuses one: a fault of the lab.
pub fn of_node(scenario: &Scenario, node: &Node) -> Result<Vec<Object>> {
    let own = [node_object(scenario, node)?];
    objects(own.into_iter().chain(router_peer(scenario, node)).collect())
}

/// The profiles of namespaces and service accounts, those included that only a pod names.
///
/// # Errors
/// When the datastore's model refuses one: a fault of the lab.
pub fn identities(scenario: &Scenario) -> Result<Vec<Object>> {
    let mut values: Vec<Value> = scenario.namespaces.iter().map(namespace).collect();
    let mut accounts: BTreeSet<(&str, &str)> = scenario
        .pods
        .iter()
        .map(|pod| (pod.namespace.as_str(), pod.service_account.as_str()))
        .collect();
    for account in &scenario.service_accounts {
        accounts.remove(&(account.namespace.as_str(), account.name.as_str()));
        values.push(service_account(account));
    }
    for (namespace, name) in accounts {
        let labels = std::collections::BTreeMap::new();
        values.push(service_account(&ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels,
        }));
    }
    objects(values)?
        .iter()
        .map(ocicatctl::native)
        .map(|native| native.context("converting an identity"))
        .collect()
}

fn objects(values: Vec<Value>) -> Result<Vec<Object>> {
    let made: Result<Vec<_>, StoreError> = values.into_iter().map(Object::from_value).collect();
    made.context("making the cluster's objects")
}

fn calico(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn cluster_information() -> Value {
    calico(
        "ClusterInformation",
        "default",
        json!({"clusterType": "ocicat-lab", "datastoreReady": true}),
    )
}

fn felix_configuration() -> Value {
    calico(
        "FelixConfiguration",
        "default",
        json!({"defaultEndpointToHostAction": "Accept"}),
    )
}

fn bgp_configuration(scenario: &Scenario) -> Value {
    let (keepalive, restart) = times(scenario);
    let spec = json!({
        "asNumber": scenario.as_number,
        "nodeToNodeMeshEnabled": scenario.topology == Topology::Mesh,
        "nodeMeshKeepaliveTime": keepalive,
        "nodeMeshMaxRestartTime": restart,
    });
    calico("BGPConfiguration", "default", spec)
}

fn node_object(scenario: &Scenario, node: &Node) -> Result<Value> {
    let rack = scenario
        .rack(&node.rack)
        .context("a checked scenario has every rack")?;
    let mut bgp = json!({});
    for address in &node.ip {
        let subnet = rack.subnet_of(*address).unwrap_or(rack.cidr);
        let key = if address.is_ipv4() {
            "ipv4Address"
        } else {
            "ipv6Address"
        };
        bgp[key] = format!("{address}/{}", subnet.length()).into();
    }
    let mut labels = node.labels.clone();
    if scenario.reflectors.contains(&node.name) {
        bgp["routeReflectorClusterID"] = REFLECTORS.into();
        labels.insert(REFLECTOR.to_owned(), String::new());
    }
    let mut value = calico("Node", &node.name, json!({ "bgp": bgp }));
    value["metadata"]["labels"] = json!(labels);
    Ok(value)
}

/// Every node has a session with each reflector, reflectors with each other included.
fn reflectors_peer(scenario: &Scenario) -> Value {
    let (keepalive, restart) = times(scenario);
    let spec = json!({
        "nodeSelector": "all()",
        "peerSelector": format!("has({REFLECTOR})"),
        "keepaliveTime": keepalive,
        "maxRestartTime": restart,
    });
    calico("BGPPeer", "reflectors", spec)
}

/// The session between a node and the router.
fn router_peer(scenario: &Scenario, node: &Node) -> Option<Value> {
    if scenario.router == Router::None {
        return None;
    }
    let address = scenario.rack(&node.rack)?.router()?;
    let (keepalive, restart) = times(scenario);
    let spec = json!({
        "node": node.name,
        "peerIP": address,
        "asNumber": ROUTER_AS,
        "keepaliveTime": keepalive,
        "maxRestartTime": restart,
        // A node passes on what it learned from the mesh; the router is to send to the node that has the pods.
        "nextHopMode": "Keep",
    });
    Some(calico("BGPPeer", &peer_name(&node.name), spec))
}

/// The name of the BGPPeer that makes a node peer with the router.
#[must_use]
pub fn peer_name(node: &str) -> String {
    format!("router-of-{node}")
}

fn namespace(namespace: &Namespace) -> Value {
    let mut labels = namespace.labels.clone();
    // Kubernetes sets it on every namespace, and policies rely on it.
    labels.insert(
        "kubernetes.io/metadata.name".to_owned(),
        namespace.name.clone(),
    );
    let metadata =
        json!({"name": namespace.name, "labels": labels, "annotations": namespace.annotations});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

fn service_account(account: &ServiceAccount) -> Value {
    let metadata =
        json!({"name": account.name, "namespace": account.namespace, "labels": account.labels});
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
}
