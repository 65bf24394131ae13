use std::net::IpAddr;

use ocicat_dataplane::names::pod_link;
use ocicat_datastore::Metadata;
use ocicat_datastore::model::{
    Container, IntOrString, Pod, WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec,
    names,
};

use crate::labels;

/// What started the pods.
const ORCHESTRATOR: &str = "k8s";
/// The interface inside a pod.
const INTERFACE: &str = "eth0";
/// The network plugin's own notes on a pod, there before the kubelet reports the addresses.
const POD_IPS: &str = "cni.projectcalico.org/podIPs";
const POD_IP: &str = "cni.projectcalico.org/podIP";
const CONTAINER_ID: &str = "cni.projectcalico.org/containerID";
/// The addresses of a pod that AWS' plugin connected.
const AWS_POD_IPS: &str = "vpc.amazonaws.com/pod-ips";

/// The endpoint of a pod; `None` where it has none: it is on no node yet, or uses the node's own network.
///
/// - Its name is `NODE-k8s-POD-eth0`, with the dashes inside the parts doubled; its interface is the node's `cali...`.
/// - Its addresses come from the first that says any: `status.podIPs`, `status.podIP`, and the annotations of Calico's
///   plugin (`podIPs`, `podIP`) and of AWS'. An address that cannot be read is kept as it is, and reported by
///   [`Graph`](crate::Graph).
/// - A pod that has ended (`Succeeded`, `Failed`, or being deleted with an empty `podIP` annotation) has no addresses:
///   they may be another's by now.
/// - Its named ports are those of its containers and sidecars; ports of another protocol than TCP, UDP and SCTP and
///   those with neither a name nor a port on the host are left out.
#[must_use]
pub fn workload_endpoint(pod: &Pod) -> Option<WorkloadEndpoint> {
    let metadata = &pod.metadata;
    let node = labels::stated(pod.spec.node_name.as_ref()).filter(|_| !pod.spec.host_network)?;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let account = labels::stated(pod.spec.service_account_name.as_ref());
    let ip_networks = if has_ended(pod) {
        Vec::new()
    } else {
        addresses(pod)
    };

    // The value of a label has at most 63 characters; a longer account has none.
    let labelled = account.filter(|account| account.len() < 63);
    let facts = [
        (labels::NAMESPACE, namespace),
        (labels::ORCHESTRATOR, ORCHESTRATOR),
    ];
    let facts = facts
        .into_iter()
        .chain(labelled.map(|account| (labels::SERVICE_ACCOUNT, account)));
    let mut own = metadata.labels.clone();
    own.extend(facts.map(|(label, value)| (label.to_owned(), value.to_owned())));

    let profiles = [names::namespace_profile(namespace)]
        .into_iter()
        .chain(account.map(|account| names::service_account_profile(namespace, account)));
    let name = names::workload_endpoint_name(node, ORCHESTRATOR, &metadata.name, INTERFACE);
    Some(WorkloadEndpoint {
        metadata: Metadata {
            labels: own,
            ..Metadata::namespaced(namespace, name)
        },
        spec: WorkloadEndpointSpec {
            orchestrator: ORCHESTRATOR.into(),
            node: node.to_owned(),
            container_id: labels::stated(metadata.annotations.get(CONTAINER_ID)).map(str::to_owned),
            pod: Some(metadata.name.clone()),
            endpoint: INTERFACE.into(),
            service_account_name: account.map(str::to_owned),
            ip_networks,
            profiles: profiles.collect(),
            interface_name: Some(pod_link(namespace, &metadata.name).to_string()),
            ports: ports(pod),
            ..WorkloadEndpointSpec::default()
        },
    })
}

/// Whether a pod has let go of its addresses.
fn has_ended(pod: &Pod) -> bool {
    let released = pod
        .metadata
        .annotations
        .get(POD_IP)
        .is_some_and(String::is_empty);
    let phase = pod.status.phase.as_deref();
    matches!(phase, Some("Succeeded" | "Failed"))
        || pod.metadata.deletion_timestamp.is_some() && released
}

/// The addresses from the first place that says any, as prefixes.
fn addresses(pod: &Pod) -> Vec<String> {
    let status = &pod.status;
    let annotation = |name| pod.metadata.annotations.get(name).map(String::as_str);
    let places: [Vec<&str>; 5] = [
        status.pod_ips.iter().map(|ip| ip.ip.as_str()).collect(),
        status.pod_ip.iter().map(String::as_str).collect(),
        annotation(POD_IPS).into_iter().collect(),
        annotation(POD_IP).into_iter().collect(),
        annotation(AWS_POD_IPS).into_iter().collect(),
    ];
    places
        .into_iter()
        .map(|place| {
            let texts = place.into_iter().flat_map(|text| text.split(','));
            let stated = texts.map(str::trim).filter(|text| !text.is_empty());
            stated.map(host_prefix).collect::<Vec<_>>()
        })
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// An address with its length; a text that has one, or is no address, as it is.
fn host_prefix(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => format!("{address}/32"),
        Ok(IpAddr::V6(address)) => format!("{address}/128"),
        Err(_) => text.to_owned(),
    }
}

fn ports(pod: &Pod) -> Vec<WorkloadEndpointPort> {
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = pod.spec.init_containers.iter().filter(sidecar);
    let containers = pod.spec.containers.iter().chain(sidecars);
    containers
        .flat_map(|container| &container.ports)
        .filter_map(|port| {
            let name = labels::stated(port.name.as_ref());
            let host_port = port.host_port.filter(|&number| number != 0);
            if name.is_none() && host_port.is_none() {
                return None;
            }
            let protocol = labels::stated(port.protocol.as_ref()).unwrap_or("TCP");
            matches!(protocol, "TCP" | "UDP" | "SCTP").then(|| WorkloadEndpointPort {
                name: name.map(str::to_owned),
                protocol: IntOrString::String(protocol.to_owned()),
                port: port.container_port,
                host_port,
                host_ip: port.host_ip.clone(),
            })
        })
        .collect()
}
