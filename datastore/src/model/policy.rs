//! Tiers, policies, profiles and sets of networks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kube_policy::{KubeEgressRule, KubeIngressRule, LabelSelector};
use super::metadata::{Condition, Metadata};
use super::rule::Rule;
use super::{Kind, Resource};

/// A group of policies with its place in the order and the verdict at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Tier {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: TierSpec,
    /// What the controller found; absent where none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<TierStatus>,
}

impl Resource for Tier {
    const KIND: Kind = Kind::Tier;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`Tier`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TierSpec {
    /// Lower comes first; a tier without comes last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<f64>,
    /// What happens to traffic that a policy of the tier selects and none decides: `Deny` (when absent) or `Pass`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<String>,
}

/// What was found out about a [`Tier`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TierStatus {
    /// Such as `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A policy for endpoints of the entire cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkPolicy {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: GlobalNetworkPolicySpec,
}

impl Resource for GlobalNetworkPolicy {
    const KIND: Kind = Kind::GlobalNetworkPolicy;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`GlobalNetworkPolicy`] and of its staged form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkPolicySpec {
    /// In staged policies only: `Set` (when absent), `Delete`, `Learn` or `Ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<String>,
    /// The tier's name; `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Lower comes first; a policy without comes last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<f64>,
    /// Which endpoints the policy is for; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Only endpoints in namespaces with such labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// Only endpoints whose service account has such labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_selector: Option<String>,
    /// `Ingress`, `Egress`; by the rules that are present when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Rules for traffic to the endpoint, in order.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::rule::rules"
    )]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint, in order.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::rule::rules"
    )]
    pub egress: Vec<Rule>,
    /// Applied before connection tracking; host endpoints only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub do_not_track: bool,
    /// Applied before destination NAT; host endpoints only.
    #[serde(rename = "preDNAT", skip_serializing_if = "std::ops::Not::not")]
    pub pre_dnat: bool,
    /// Applied to traffic that a host endpoint forwards, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub apply_on_forward: bool,
    /// `AssumeNeededOnEveryNode`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
}

/// A policy for the endpoints of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicy {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: NetworkPolicySpec,
}

impl Resource for NetworkPolicy {
    const KIND: Kind = Kind::NetworkPolicy;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`NetworkPolicy`] and of its staged form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// In staged policies only: `Set` (when absent), `Delete`, `Learn` or `Ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<String>,
    /// The tier's name; `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Lower comes first; a policy without comes last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<f64>,
    /// Which endpoints of the namespace the policy is for; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Only endpoints whose service account has such labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_selector: Option<String>,
    /// `Ingress`, `Egress`; by the rules that are present when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Rules for traffic to the endpoint, in order.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::rule::rules"
    )]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint, in order.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::rule::rules"
    )]
    pub egress: Vec<Rule>,
    /// `AssumeNeededOnEveryNode`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
}

/// A [`GlobalNetworkPolicy`] that is reported on and never enforced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StagedGlobalNetworkPolicy {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: GlobalNetworkPolicySpec,
}

impl Resource for StagedGlobalNetworkPolicy {
    const KIND: Kind = Kind::StagedGlobalNetworkPolicy;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// A [`NetworkPolicy`] that is reported on and never enforced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StagedNetworkPolicy {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: NetworkPolicySpec,
}

impl Resource for StagedNetworkPolicy {
    const KIND: Kind = Kind::StagedNetworkPolicy;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// A Kubernetes NetworkPolicy that is reported on and never enforced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicy {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: StagedKubernetesNetworkPolicySpec,
}

impl Resource for StagedKubernetesNetworkPolicy {
    const KIND: Kind = Kind::StagedKubernetesNetworkPolicy;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`StagedKubernetesNetworkPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicySpec {
    /// `Set` (when absent), `Delete`, `Learn` or `Ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<String>,
    /// Which pods of the namespace the policy is for.
    pub pod_selector: LabelSelector,
    /// `Ingress`, `Egress`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy_types: Vec<String>,
    /// Rules for traffic to the pods.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::kube_policy::ingress_rules"
    )]
    pub ingress: Vec<KubeIngressRule>,
    /// Rules for traffic from the pods.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::kube_policy::egress_rules"
    )]
    pub egress: Vec<KubeEgressRule>,
}

/// Labels and rules that endpoints which name the profile inherit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: ProfileSpec,
}

impl Resource for Profile {
    const KIND: Kind = Kind::Profile;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`Profile`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileSpec {
    /// Rules for traffic to the endpoint, where no policy decided.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::rule::rules"
    )]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint, where no policy decided.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::rule::rules"
    )]
    pub egress: Vec<Rule>,
    /// Labels that the endpoints inherit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels_to_apply: BTreeMap<String, String>,
}

/// Networks that policies select by labels, in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkSet {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: NetworkSetSpec,
}

impl Resource for NetworkSet {
    const KIND: Kind = Kind::NetworkSet;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`NetworkSet`] and of a [`GlobalNetworkSet`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkSetSpec {
    /// Ranges or single addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
}

/// Networks that policies select by labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkSet {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: NetworkSetSpec,
}

impl Resource for GlobalNetworkSet {
    const KIND: Kind = Kind::GlobalNetworkSet;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}
