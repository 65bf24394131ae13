//! What is configured about BGP.

use serde::{Deserialize, Serialize};

use super::metadata::Metadata;
use super::value::AsNumber;
use super::{Kind, Resource};

/// BGP settings: of the cluster when named `default`, of one node when named `node.NODE`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpConfiguration {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: BgpConfigurationSpec,
}

impl Resource for BgpConfiguration {
    const KIND: Kind = Kind::BgpConfiguration;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`BgpConfiguration`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpConfigurationSpec {
    /// The level of the BGP log; `Info` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// Every node peers with every other; true when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// The AS of nodes that state none; 64512 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// The TCP port that nodes listen on; 179 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// `None` (all addresses, when absent) or `NodeIP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<String>,
    /// Names for community values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
    /// Communities to attach to announced ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// Ranges of cluster addresses of services to announce.
    #[serde(rename = "serviceClusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_cluster_ips: Vec<ServiceRange>,
    /// Ranges of external addresses of services to announce.
    #[serde(rename = "serviceExternalIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_external_ips: Vec<ServiceRange>,
    /// Ranges of load balancer addresses of services to announce.
    #[serde(
        rename = "serviceLoadBalancerIPs",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_load_balancer_ips: Vec<ServiceRange>,
    /// `Enabled` (when absent) or `Disabled`: whether ranges are announced whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<String>,
    /// The MD5 password of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<BgpPassword>,
    /// Graceful restart time of the mesh, a duration such as `120s` (when absent).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<String>,
    /// Keepalive interval of the mesh, a duration; the hold time is three times as long. Not in Calico.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_keepalive_time: Option<String>,
    /// Patterns of interfaces whose routes are not announced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored_interfaces: Vec<String>,
    /// The address at which local workloads find the node's speaker.
    #[serde(
        rename = "localWorkloadPeeringIPV4",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_workload_peering_ip_v4: Option<String>,
    /// The IPv6 address at which local workloads find the node's speaker.
    #[serde(
        rename = "localWorkloadPeeringIPV6",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_workload_peering_ip_v6: Option<String>,
    /// Which routes of the cluster the BGP speaker programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<String>,
    /// The metric of IPv4 routes; 1024 when absent.
    #[serde(
        rename = "ipv4NormalRoutePriority",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv4_normal_route_priority: Option<u32>,
    /// The metric of IPv6 routes; 1024 when absent.
    #[serde(
        rename = "ipv6NormalRoutePriority",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv6_normal_route_priority: Option<u32>,
}

/// A name for a community value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Community {
    /// The name.
    pub name: String,
    /// `aa:nn`, or `aa:nn:mm` for a large one.
    pub value: String,
}

/// Communities to attach to what is announced inside a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PrefixAdvertisement {
    /// The range.
    pub cidr: String,
    /// Names or values of communities.
    pub communities: Vec<String>,
}

/// A range of service addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceRange {
    /// The range.
    pub cidr: String,
}

/// Where a password is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPassword {
    /// A key of a Kubernetes Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key of a Kubernetes Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SecretKeyRef {
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
    /// A missing secret is no error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A BGP session of some nodes with a peer outside or inside of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeer {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: BgpPeerSpec,
}

impl Resource for BgpPeer {
    const KIND: Kind = Kind::BgpPeer;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`BgpPeer`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerSpec {
    /// The node that peers; excludes `node_selector`. All nodes when both are absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The nodes that peer, by their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// The peer's address, with `:port` (`[v6]:port`) when it is not 179.
    #[serde(rename = "peerIP", skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    /// The peer's AS, with `peer_ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// The peers are nodes, by their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_selector: Option<String>,
    /// The peers are local workloads, by their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_workload_selector: Option<String>,
    /// The AS that the node shows to this peer.
    #[serde(rename = "localASNumber", skip_serializing_if = "Option::is_none")]
    pub local_as_number: Option<AsNumber>,
    /// How often the own AS may be in a path; 0 when absent.
    #[serde(
        rename = "numAllowedLocalASNumbers",
        skip_serializing_if = "Option::is_none"
    )]
    pub num_allowed_local_as_numbers: Option<u8>,
    /// The MD5 password of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<BgpPassword>,
    /// `UseNodeIP` (when absent) or `None`: whether the source address is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<String>,
    /// `Auto` (when absent), `Self` or `Keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<String>,
    /// The older form of `next_hop_mode` `Keep`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_original_next_hop: bool,
    /// Graceful restart time, a duration; `120s` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<String>,
    /// Keepalive interval, a duration; the hold time is three times as long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<String>,
    /// How many hops away the peer is at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    /// The gateway through which the peer is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable_by: Option<String>,
    /// Names of [`BgpFilter`]s, in the order in which they are asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// `Auto` or `Manual`: whether the nodes that `peer_selector` names peer back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<String>,
}

/// Rules for routes that are sent to or taken from peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilter {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: BgpFilterSpec,
}

impl Resource for BgpFilter {
    const KIND: Kind = Kind::BgpFilter;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`BgpFilter`]. In each list the first rule that matches decides; with none, the default does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilterSpec {
    /// For IPv4 routes that are sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub export_v4: Vec<BgpFilterRule>,
    /// For IPv4 routes that are received.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub import_v4: Vec<BgpFilterRule>,
    /// For IPv6 routes that are sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub export_v6: Vec<BgpFilterRule>,
    /// For IPv6 routes that are received.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub import_v6: Vec<BgpFilterRule>,
}

/// A rule: a route that has everything that is stated matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilterRule {
    /// `Accept` or `Reject`.
    pub action: String,
    /// A range that is compared with the route as `match_operator` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// `Equal`, `NotEqual`, `In` or `NotIn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<String>,
    /// Bounds of the route's prefix length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLengthRange>,
    /// `RemotePeers`: routes that were learned from peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A pattern of the route's interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// `eBGP` or `iBGP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<String>,
    /// Communities that the route has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,
    /// How the AS path begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub as_path_prefix: Vec<AsNumber>,
    /// The route's metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// What is changed in an accepted route, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<BgpFilterOperation>,
}

/// Bounds of a prefix length, both included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PrefixLengthRange {
    /// The lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u8>,
    /// The highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u8>,
}

/// Communities, of which a route has one at least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CommunityMatch {
    /// The communities.
    pub values: Vec<String>,
}

/// A change of an accepted route; one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilterOperation {
    /// Adds a community.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    /// Puts AS numbers before the path.
    #[serde(rename = "prependASPath", skip_serializing_if = "Option::is_none")]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Sets the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_priority: Option<SetPriority>,
}

/// The community to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AddCommunity {
    /// `aa:nn`, or `aa:nn:mm` for a large one.
    pub value: String,
}

/// The AS numbers to put before the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PrependAsPath {
    /// In the order in which they will stand.
    pub prefix: Vec<AsNumber>,
}

/// The metric to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SetPriority {
    /// The metric.
    pub value: u32,
}
