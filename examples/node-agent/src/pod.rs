//! Who a CNI request is about, read from the request alone; and what is wished for it, from the request and the API.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ocicat_dataplane::state::MacAddr;
use ocicat_datastore::model::names::workload_endpoint_name;
use serde_json::Value;

mod wishes;

pub(crate) use wishes::NAMESPACE_PREFIX;
pub use wishes::{Known, PodError};

/// A container's attachment to a network, as a request describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `k8s` when the runtime named a pod and its namespace, else `cni`.
    pub orchestrator: &'static str,
    /// The pod's namespace; `default` without Kubernetes.
    pub namespace: String,
    /// The pod's name; the container's id without Kubernetes.
    pub name: String,
    /// The container's id.
    pub container: String,
    /// The interface inside the pod.
    pub interface: String,
    /// The network's name, from the configuration.
    pub network: String,
    /// What is wished for it. Only additions and checks read it: a removal goes by the names above.
    pub wishes: Wishes,
}

/// What the pod's author, the runtime and the network's configuration wish for an attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// The labels of its namespace, where no Kubernetes has one.
    pub namespace_labels: BTreeMap<String, String>,
    /// The pod's service account.
    pub service_account: Option<String>,
    /// The pod's named ports.
    pub ports: Vec<NamedPort>,
    /// Addresses that IPAM is to give, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Addresses that come from elsewhere: another IPAM plugin, or the annotation `ipAddrsNoIpam`. IPAM is not asked.
    pub delegated: Vec<IpAddr>,
    /// Whether the configuration names another IPAM plugin.
    pub foreign_ipam: bool,
    /// Whether the addresses are for another plugin, which makes the link.
    pub lent: bool,
    /// IPv4 pools to take addresses from, in order: names or ranges.
    pub pools_v4: Vec<String>,
    /// IPv6 pools, likewise.
    pub pools_v6: Vec<String>,
    /// Whether an IPv4 address is wanted; yes unless the configuration says `"assign_ipv4": "false"`.
    pub wants_v4: bool,
    /// Whether an IPv6 address is wanted; only when the configuration says `"assign_ipv6": "true"`.
    pub wants_v6: bool,
    /// Whether the IPv6 address is the first in the result.
    pub v6_first: bool,
    /// The hardware address of the pod's end.
    pub mac: Option<MacAddr>,
    /// Ranges that the pod may use as source though they are not its own.
    pub allowed_sources: Vec<String>,
    /// Whether pools and addresses that are named have to select the node and the namespace too.
    pub enforce_pool_selectors: bool,
    /// Whether the pod forwards packets between its own links.
    pub ip_forward: bool,
    /// The largest packet, in bytes; without, the node's.
    pub mtu: Option<u32>,
    /// How many queues each end of the link has; without, one.
    pub queues: Option<u32>,
    /// How many seconds the attachment waits for its policy.
    pub policy_timeout: Option<u64>,
}

/// A port that policies can name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp")]
    pub protocol: String,
}

fn tcp() -> String {
    "TCP".to_owned()
}

impl Pod {
    /// Whom a request is about. Cannot fail: a removal must work whatever else the request says.
    #[must_use]
    pub fn identify(
        config: &Value,
        arguments: &BTreeMap<String, String>,
        container: &str,
        interface: &str,
    ) -> Self {
        let argument = |name: &str| {
            arguments
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        let mut pod = Self {
            orchestrator: "cni",
            namespace: argument("K8S_POD_NAMESPACE").unwrap_or_else(|| "default".to_owned()),
            name: container.to_owned(),
            container: container.to_owned(),
            interface: interface.to_owned(),
            network: config["name"].as_str().unwrap_or_default().to_owned(),
            wishes: Wishes::default(),
        };
        if let (Some(_), Some(name)) = (argument("K8S_POD_NAMESPACE"), argument("K8S_POD_NAME")) {
            pod.orchestrator = "k8s";
            pod.name = name;
        }
        pod
    }

    /// Whether it is a pod of Kubernetes.
    #[must_use]
    pub fn is_kubernetes(&self) -> bool {
        self.orchestrator == "k8s"
    }

    /// The handle that the pod's addresses are held under; see [`handle`].
    #[must_use]
    pub fn handle(&self) -> String {
        handle(&self.network, &self.container, &self.interface)
    }

    /// The name of the pod's WorkloadEndpoint on a node: `<node>-<orchestrator>-<pod>-<interface>`, where dashes
    /// inside a part are doubled.
    #[must_use]
    pub fn endpoint_name(&self, node: &str) -> String {
        workload_endpoint_name(node, self.orchestrator, &self.name, &self.interface)
    }
}

/// The handle of a container's addresses in a network: Calico's `<network>.<container id>` for `eth0`, with the
/// interface behind it for any other, so that the attachments of one container are released one by one. Cut at a
/// carriage return, as Calico cuts it.
#[must_use]
pub fn handle(network: &str, container: &str, interface: &str) -> String {
    let mut handle = format!("{network}.{container}");
    if interface != "eth0" {
        handle.push('.');
        handle.push_str(interface);
    }
    handle.split('\r').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
