//! Kubernetes' own network policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::metadata::{Condition, Metadata};
use super::rule::Malformed;
use super::value::{IntOrString, lenient};
use super::{Kind, Resource};

/// A NetworkPolicy of `networking.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubeNetworkPolicy {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: KubeNetworkPolicySpec,
}

impl Resource for KubeNetworkPolicy {
    const KIND: Kind = Kind::KubeNetworkPolicy;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`KubeNetworkPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubeNetworkPolicySpec {
    /// Which pods of the namespace the policy is for; all when empty.
    pub pod_selector: LabelSelector,
    /// `Ingress`, `Egress`. When empty: Ingress, and Egress when there are egress rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy_types: Vec<String>,
    /// What may come in; a pod that is selected gets nothing else.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "ingress_rules"
    )]
    pub ingress: Vec<KubeIngressRule>,
    /// What may go out; a pod that is selected sends nothing else.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "egress_rules"
    )]
    pub egress: Vec<KubeEgressRule>,
}

/// A label selector of Kubernetes; everything matches an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels with these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One requirement of a [`LabelSelector`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelectorRequirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// For `In` and `NotIn`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Traffic that may come in: from any of the peers, on any of the ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubeIngressRule {
    /// Where it comes from; from everywhere when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<KubePeer>,
    /// On which ports; on all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<KubePolicyPort>,
    /// What is wrong where the rule could not be read; the rest is then empty.
    #[serde(skip_serializing_if = "Option::is_none", skip)]
    pub malformed: Option<Malformed>,
}

/// Traffic that may go out: to any of the peers, on any of the ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubeEgressRule {
    /// Where it goes; everywhere when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<KubePeer>,
    /// To which ports; to all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<KubePolicyPort>,
    /// What is wrong where the rule could not be read; the rest is then empty.
    #[serde(skip_serializing_if = "Option::is_none", skip)]
    pub malformed: Option<Malformed>,
}

/// The other side of traffic: a range, or pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubePeer {
    /// A range of addresses; excludes the selectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
    /// Pods in such namespaces; in the policy's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Such pods; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// A range with holes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpBlock {
    /// The range.
    pub cidr: String,
    /// Ranges inside of it that do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// A port of a [`KubeNetworkPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubePolicyPort {
    /// `TCP` (when absent), `UDP` or `SCTP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// A number or the name of a port of the pod; all ports when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<IntOrString>,
    /// The end of a range that `port` begins, included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i64>,
}

/// A policy of administrators, before or after those of namespaces (`policy.networking.k8s.io`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicy {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: ClusterNetworkPolicySpec,
    /// What implementations say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ClusterNetworkPolicyStatus>,
}

impl Resource for ClusterNetworkPolicy {
    const KIND: Kind = Kind::ClusterNetworkPolicy;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`ClusterNetworkPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` or `Baseline`.
    pub tier: String,
    /// 0..=1000; lower comes first.
    pub priority: i64,
    /// The pods that the policy is for.
    pub subject: ClusterSubject,
    /// Rules for traffic to the pods, in order.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "cluster_ingress_rules"
    )]
    pub ingress: Vec<ClusterIngressRule>,
    /// Rules for traffic from the pods, in order.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "cluster_egress_rules"
    )]
    pub egress: Vec<ClusterEgressRule>,
}

/// What implementations say about a [`ClusterNetworkPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicyStatus {
    /// The conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Pods; one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSubject {
    /// All pods of such namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Such pods of such namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
}

/// Pods by labels of their namespace and of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPods {
    /// The namespaces.
    pub namespace_selector: LabelSelector,
    /// The pods in them.
    pub pod_selector: LabelSelector,
}

/// A rule for traffic to pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterIngressRule {
    /// A name for reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// Where the traffic comes from.
    pub from: Vec<ClusterPeer>,
    /// Protocols and ports; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<ClusterProtocol>,
    /// What is wrong where the rule could not be read; only `action` is then kept, if it could be.
    #[serde(skip_serializing_if = "Option::is_none", skip)]
    pub malformed: Option<Malformed>,
}

/// A rule for traffic from pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterEgressRule {
    /// A name for reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// Where the traffic goes.
    pub to: Vec<ClusterPeer>,
    /// Protocols and ports; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<ClusterProtocol>,
    /// What is wrong where the rule could not be read; only `action` is then kept, if it could be.
    #[serde(skip_serializing_if = "Option::is_none", skip)]
    pub malformed: Option<Malformed>,
}

/// The other side of traffic; one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPeer {
    /// All pods of such namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Such pods of such namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
    /// Ranges; in egress rules only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

/// A protocol with its ports; one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterProtocol {
    /// TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ClusterPorts>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<ClusterPorts>,
    /// SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<ClusterPorts>,
    /// A named port of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_named_port: Option<String>,
}

/// Ports of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPorts {
    /// The ports; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<ClusterPort>,
}

/// A port or a range of ports; one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPort {
    /// A port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// A range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<ClusterPortRange>,
}

/// A range of ports, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPortRange {
    /// The first.
    pub start: i64,
    /// The last.
    pub end: i64,
}

pub(super) fn ingress_rules<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<KubeIngressRule>, D::Error> {
    lenient(deserializer, |malformed, _| KubeIngressRule {
        malformed: Some(malformed),
        ..KubeIngressRule::default()
    })
}

pub(super) fn egress_rules<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<KubeEgressRule>, D::Error> {
    lenient(deserializer, |malformed, _| KubeEgressRule {
        malformed: Some(malformed),
        ..KubeEgressRule::default()
    })
}

fn cluster_ingress_rules<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ClusterIngressRule>, D::Error> {
    lenient(deserializer, |malformed, action| ClusterIngressRule {
        action,
        malformed: Some(malformed),
        ..ClusterIngressRule::default()
    })
}

fn cluster_egress_rules<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ClusterEgressRule>, D::Error> {
    lenient(deserializer, |malformed, action| ClusterEgressRule {
        action,
        malformed: Some(malformed),
        ..ClusterEgressRule::default()
    })
}
