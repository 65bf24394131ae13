//! What Kubernetes' own objects are in Calico's terms.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{
    Container, IntOrString, Metadata, Namespace, Pod, Profile, ProfileSpec, Rule, ServiceAccount,
    WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec, names,
};

const NAMESPACE: &str = "projectcalico.org/namespace";
const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// The network plugin's own notes on a pod, there before the kubelet reports the addresses.
const POD_IPS: &str = "cni.projectcalico.org/podIPs";
const POD_IP: &str = "cni.projectcalico.org/podIP";
const CONTAINER_ID: &str = "cni.projectcalico.org/containerID";
/// The addresses of a pod that AWS' plugin connected.
const AWS_POD_IPS: &str = "vpc.amazonaws.com/pod-ips";

/// A text that says something: not absent and not blank.
fn stated(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|t| !t.trim().is_empty())
}

impl WorkloadEndpoint {
    /// What started the pods: the `orchestrator` of their endpoints.
    pub const KUBERNETES: &str = "k8s";
    /// The interface inside a pod: the `endpoint` of its endpoint.
    pub const POD_INTERFACE: &str = "eth0";

    /// The endpoint of a pod, but for the name of its interface on the node; `None` where it has none: it is on no
    /// node yet, or uses the node's own network.
    ///
    /// - Its name is `NODE-k8s-POD-eth0`, with the dashes inside the parts doubled.
    /// - Its addresses come from the first that says any: `status.podIPs`, `status.podIP`, and the annotations of Calico's
    ///   plugin (`podIPs`, `podIP`) and of AWS'. An address that cannot be read is kept as it is.
    /// - A pod that has ended (`Succeeded`, `Failed`, or being deleted with an empty `podIP` annotation) has no addresses:
    ///   they may be another's by now.
    /// - Its named ports are those of its containers and sidecars; ports of another protocol than TCP, UDP and SCTP and
    ///   those with neither a name nor a port on the host are left out.
    #[must_use]
    pub fn of_pod(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let node = stated(pod.spec.node_name.as_ref()).filter(|_| !pod.spec.host_network)?;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let account = stated(pod.spec.service_account_name.as_ref());
        let ip_networks = if has_ended(pod) {
            Vec::new()
        } else {
            addresses(pod)
        };

        // The value of a label has at most 63 characters; a longer account has none.
        let labelled = account.filter(|account| account.len() < 63);
        let facts = [(NAMESPACE, namespace), (ORCHESTRATOR, Self::KUBERNETES)];
        let facts = facts
            .into_iter()
            .chain(labelled.map(|account| (SERVICE_ACCOUNT, account)));
        let mut own = metadata.labels.clone();
        own.extend(facts.map(|(label, value)| (label.to_owned(), value.to_owned())));

        let profiles = [names::namespace_profile(namespace)]
            .into_iter()
            .chain(account.map(|account| names::service_account_profile(namespace, account)));
        let name = names::workload_endpoint_name(
            node,
            Self::KUBERNETES,
            &metadata.name,
            Self::POD_INTERFACE,
        );
        Some(Self {
            metadata: Metadata {
                labels: own,
                ..Metadata::namespaced(namespace, name)
            },
            spec: WorkloadEndpointSpec {
                orchestrator: Self::KUBERNETES.into(),
                node: node.to_owned(),
                container_id: stated(metadata.annotations.get(CONTAINER_ID)).map(str::to_owned),
                pod: Some(metadata.name.clone()),
                endpoint: Self::POD_INTERFACE.into(),
                service_account_name: account.map(str::to_owned),
                ip_networks,
                profiles: profiles.collect(),
                ports: ports(pod),
                ..WorkloadEndpointSpec::default()
            },
        })
    }
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
            let name = stated(port.name.as_ref());
            let host_port = port.host_port.filter(|&number| number != 0);
            if name.is_none() && host_port.is_none() {
                return None;
            }
            let protocol = stated(port.protocol.as_ref()).unwrap_or("TCP");
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

impl Profile {
    /// The profile of a namespace, `kns.NAME`: its pods inherit the namespace's labels, and where no policy selects
    /// them everything is allowed both ways. The annotations are the namespace's.
    #[must_use]
    pub fn of_namespace(namespace: &Namespace) -> Self {
        let metadata = &namespace.metadata;
        let allow = || {
            vec![Rule {
                action: "Allow".into(),
                ..Rule::default()
            }]
        };
        Self {
            metadata: Metadata {
                annotations: metadata.annotations.clone(),
                ..Metadata::named(names::namespace_profile(&metadata.name))
            },
            spec: ProfileSpec {
                ingress: allow(),
                egress: allow(),
                labels_to_apply: inherited("pcns.", metadata),
            },
        }
    }

    /// The profile of a service account, `ksa.NAMESPACE.NAME`: its pods inherit the account's labels. It has no rules.
    #[must_use]
    pub fn of_service_account(account: &ServiceAccount) -> Self {
        let metadata = &account.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = names::service_account_profile(namespace, &metadata.name);
        Self {
            metadata: Metadata::named(name),
            spec: ProfileSpec {
                labels_to_apply: inherited("pcsa.", metadata),
                ..ProfileSpec::default()
            },
        }
    }
}

/// An object's labels and its name, with a prefix.
fn inherited(prefix: &str, metadata: &Metadata) -> BTreeMap<String, String> {
    let own = metadata.labels.iter();
    let mut out: BTreeMap<String, String> = own
        .map(|(label, value)| (format!("{prefix}{label}"), value.clone()))
        .collect();
    out.insert(
        format!("{prefix}projectcalico.org/name"),
        metadata.name.clone(),
    );
    out
}
