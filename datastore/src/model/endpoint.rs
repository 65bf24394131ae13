//! Endpoints: interfaces of workloads and of hosts.

use serde::{Deserialize, Serialize};

use super::metadata::Metadata;
use super::value::IntOrString;
use super::{Kind, Resource};

/// The interface of a pod or virtual machine.
///
/// For a pod its name is made by [`workload_endpoint_name`](super::names::workload_endpoint_name).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpoint {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What is known about it.
    pub spec: WorkloadEndpointSpec,
}

impl Resource for WorkloadEndpoint {
    const KIND: Kind = Kind::WorkloadEndpoint;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`WorkloadEndpoint`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpointSpec {
    /// What started the workload: `k8s`, `cni`, ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub orchestrator: String,
    /// The workload's name where it is no pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The node that it runs on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The container id of the CNI call that made it.
    #[serde(rename = "containerID", skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The pod's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The name of the interface inside the workload.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The pod's service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Its addresses, each as /32 or /128.
    #[serde(rename = "ipNetworks", skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<String>,
    /// Floating addresses.
    #[serde(rename = "ipNATs", skip_serializing_if = "Vec::is_empty")]
    pub ip_nats: Vec<IpNat>,
    /// The gateway inside the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_gateway: Option<String>,
    /// The IPv6 gateway inside the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_gateway: Option<String>,
    /// The profiles that it inherits from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// The interface on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// The MAC address inside the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its named ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadEndpointPort>,
    /// Ranges that it may use as source though they are not its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<String>,
    /// Limits of bandwidth, packets and connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_controls: Option<QosControls>,
}

/// A floating address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpNat {
    /// The endpoint's address.
    #[serde(rename = "internalIP")]
    pub internal_ip: String,
    /// The address that is translated to it.
    #[serde(rename = "externalIP")]
    pub external_ip: String,
}

/// A named port of a [`WorkloadEndpoint`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpointPort {
    /// The name that policies use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP`, `UDP`, `SCTP` or a number.
    pub protocol: IntOrString,
    /// The number.
    pub port: u16,
    /// The port on the host that is forwarded to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// The address on the host that is forwarded to it.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
}

/// Limits of an endpoint; 0 or absent is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct QosControls {
    /// Bits a second to the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_bandwidth: Option<i64>,
    /// Bits a second from the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_bandwidth: Option<i64>,
    /// Bits above the bandwidth to the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_burst: Option<i64>,
    /// Bits above the bandwidth from the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_burst: Option<i64>,
    /// The highest rate of a burst to the endpoint, bits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_peakrate: Option<i64>,
    /// The highest rate of a burst from the endpoint, bits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_peakrate: Option<i64>,
    /// The smallest burst at peak rate to the endpoint, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_minburst: Option<i64>,
    /// The smallest burst at peak rate from the endpoint, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_minburst: Option<i64>,
    /// Packets a second to the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_packet_rate: Option<i64>,
    /// Packets a second from the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_packet_rate: Option<i64>,
    /// Packets above the rate to the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_packet_burst: Option<i64>,
    /// Packets above the rate from the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_packet_burst: Option<i64>,
    /// Connections to the endpoint at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_max_connections: Option<i64>,
    /// Connections from the endpoint at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_max_connections: Option<i64>,
    /// The DSCP of what it sends, a number or a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dscp: Option<IntOrString>,
}

/// An interface of a node that policies are applied to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpoint {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: HostEndpointSpec,
}

impl Resource for HostEndpoint {
    const KIND: Kind = Kind::HostEndpoint;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`HostEndpoint`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointSpec {
    /// The node's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The interface; `*` for all; by `expected_ips` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// Addresses of the interface.
    #[serde(rename = "expectedIPs", skip_serializing_if = "Vec::is_empty")]
    pub expected_ips: Vec<String>,
    /// The profiles that it inherits from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Its named ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<HostEndpointPort>,
}

/// A named port of a [`HostEndpoint`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointPort {
    /// The name that policies use.
    pub name: String,
    /// `TCP`, `UDP`, `SCTP` or a number.
    pub protocol: IntOrString,
    /// The number.
    pub port: u16,
}
