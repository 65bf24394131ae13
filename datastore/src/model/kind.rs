//! The kinds of objects.

use std::fmt;
use std::str::FromStr;

const CALICO: &str = "projectcalico.org/v3";

/// A kind of object.
///
/// `Display` and `FromStr` use the kind's name in its API, such as `IPPool`; the two that Calico and Kubernetes
/// call alike are `KubeNetworkPolicy` and `KubeNode` where Kubernetes' own are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// [`IpPool`](crate::model::IpPool), `IPPool` of `projectcalico.org/v3`.
    IpPool,
    /// [`IpReservation`](crate::model::IpReservation), `IPReservation` of `projectcalico.org/v3`.
    IpReservation,
    /// [`IpamConfig`](crate::model::IpamConfig), `IPAMConfig` of `projectcalico.org/v3`.
    IpamConfig,
    /// [`IpamBlock`](crate::model::IpamBlock), `IPAMBlock` of `projectcalico.org/v3`.
    IpamBlock,
    /// [`BlockAffinity`](crate::model::BlockAffinity), `BlockAffinity` of `projectcalico.org/v3`.
    BlockAffinity,
    /// [`IpamHandle`](crate::model::IpamHandle), `IPAMHandle` of `projectcalico.org/v3`.
    IpamHandle,
    /// [`Node`](crate::model::Node), `Node` of `projectcalico.org/v3`.
    Node,
    /// [`CalicoNodeStatus`](crate::model::CalicoNodeStatus), `CalicoNodeStatus` of `projectcalico.org/v3`.
    CalicoNodeStatus,
    /// [`BgpConfiguration`](crate::model::BgpConfiguration), `BGPConfiguration` of `projectcalico.org/v3`.
    BgpConfiguration,
    /// [`BgpPeer`](crate::model::BgpPeer), `BGPPeer` of `projectcalico.org/v3`.
    BgpPeer,
    /// [`BgpFilter`](crate::model::BgpFilter), `BGPFilter` of `projectcalico.org/v3`.
    BgpFilter,
    /// [`Tier`](crate::model::Tier), `Tier` of `projectcalico.org/v3`.
    Tier,
    /// [`NetworkPolicy`](crate::model::NetworkPolicy), `NetworkPolicy` of `projectcalico.org/v3`.
    NetworkPolicy,
    /// [`GlobalNetworkPolicy`](crate::model::GlobalNetworkPolicy), `GlobalNetworkPolicy` of `projectcalico.org/v3`.
    GlobalNetworkPolicy,
    /// [`StagedNetworkPolicy`](crate::model::StagedNetworkPolicy), `StagedNetworkPolicy` of `projectcalico.org/v3`.
    StagedNetworkPolicy,
    /// [`StagedGlobalNetworkPolicy`](crate::model::StagedGlobalNetworkPolicy), `StagedGlobalNetworkPolicy` of `projectcalico.org/v3`.
    StagedGlobalNetworkPolicy,
    /// [`StagedKubernetesNetworkPolicy`](crate::model::StagedKubernetesNetworkPolicy), `StagedKubernetesNetworkPolicy` of `projectcalico.org/v3`.
    StagedKubernetesNetworkPolicy,
    /// [`NetworkSet`](crate::model::NetworkSet), `NetworkSet` of `projectcalico.org/v3`.
    NetworkSet,
    /// [`GlobalNetworkSet`](crate::model::GlobalNetworkSet), `GlobalNetworkSet` of `projectcalico.org/v3`.
    GlobalNetworkSet,
    /// [`Profile`](crate::model::Profile), `Profile` of `projectcalico.org/v3`.
    Profile,
    /// [`HostEndpoint`](crate::model::HostEndpoint), `HostEndpoint` of `projectcalico.org/v3`.
    HostEndpoint,
    /// [`WorkloadEndpoint`](crate::model::WorkloadEndpoint), `WorkloadEndpoint` of `projectcalico.org/v3`.
    WorkloadEndpoint,
    /// [`FelixConfiguration`](crate::model::FelixConfiguration), `FelixConfiguration` of `projectcalico.org/v3`.
    FelixConfiguration,
    /// [`ClusterInformation`](crate::model::ClusterInformation), `ClusterInformation` of `projectcalico.org/v3`.
    ClusterInformation,
    /// [`KubeControllersConfiguration`](crate::model::KubeControllersConfiguration), `KubeControllersConfiguration` of `projectcalico.org/v3`.
    KubeControllersConfiguration,
    /// [`KubeNetworkPolicy`](crate::model::KubeNetworkPolicy), `NetworkPolicy` of `networking.k8s.io/v1`.
    KubeNetworkPolicy,
    /// [`ClusterNetworkPolicy`](crate::model::ClusterNetworkPolicy), `ClusterNetworkPolicy` of `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
    /// [`Namespace`](crate::model::Namespace), `Namespace` of `v1`.
    Namespace,
    /// [`ServiceAccount`](crate::model::ServiceAccount), `ServiceAccount` of `v1`.
    ServiceAccount,
    /// [`Pod`](crate::model::Pod), `Pod` of `v1`.
    Pod,
    /// [`Service`](crate::model::Service), `Service` of `v1`.
    Service,
    /// [`EndpointSlice`](crate::model::EndpointSlice), `EndpointSlice` of `discovery.k8s.io/v1`.
    EndpointSlice,
    /// [`KubeNode`](crate::model::KubeNode), `Node` of `v1`.
    KubeNode,
    /// [`Lease`](crate::model::Lease), `Lease` of `coordination.k8s.io/v1`.
    Lease,
    /// [`Secret`](crate::model::Secret), `Secret` of `v1`. Read by its name; nobody lists secrets.
    Secret,
    /// [`ConfigMap`](crate::model::ConfigMap), `ConfigMap` of `v1`. Read by its name.
    ConfigMap,
}

/// What is fixed about a kind.
struct Facts {
    kind: Kind,
    name: &'static str,
    api_version: &'static str,
    plural: &'static str,
    namespaced: bool,
}

const fn facts(
    kind: Kind,
    name: &'static str,
    api_version: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Facts {
    Facts {
        kind,
        name,
        api_version,
        plural,
        namespaced,
    }
}

/// In the order of the variants.
const FACTS: &[Facts] = &[
    facts(Kind::IpPool, "IPPool", CALICO, "ippools", false),
    facts(
        Kind::IpReservation,
        "IPReservation",
        CALICO,
        "ipreservations",
        false,
    ),
    facts(Kind::IpamConfig, "IPAMConfig", CALICO, "ipamconfigs", false),
    facts(Kind::IpamBlock, "IPAMBlock", CALICO, "ipamblocks", false),
    facts(
        Kind::BlockAffinity,
        "BlockAffinity",
        CALICO,
        "blockaffinities",
        false,
    ),
    facts(Kind::IpamHandle, "IPAMHandle", CALICO, "ipamhandles", false),
    facts(Kind::Node, "Node", CALICO, "nodes", false),
    facts(
        Kind::CalicoNodeStatus,
        "CalicoNodeStatus",
        CALICO,
        "caliconodestatuses",
        false,
    ),
    facts(
        Kind::BgpConfiguration,
        "BGPConfiguration",
        CALICO,
        "bgpconfigurations",
        false,
    ),
    facts(Kind::BgpPeer, "BGPPeer", CALICO, "bgppeers", false),
    facts(Kind::BgpFilter, "BGPFilter", CALICO, "bgpfilters", false),
    facts(Kind::Tier, "Tier", CALICO, "tiers", false),
    facts(
        Kind::NetworkPolicy,
        "NetworkPolicy",
        CALICO,
        "networkpolicies",
        true,
    ),
    facts(
        Kind::GlobalNetworkPolicy,
        "GlobalNetworkPolicy",
        CALICO,
        "globalnetworkpolicies",
        false,
    ),
    facts(
        Kind::StagedNetworkPolicy,
        "StagedNetworkPolicy",
        CALICO,
        "stagednetworkpolicies",
        true,
    ),
    facts(
        Kind::StagedGlobalNetworkPolicy,
        "StagedGlobalNetworkPolicy",
        CALICO,
        "stagedglobalnetworkpolicies",
        false,
    ),
    facts(
        Kind::StagedKubernetesNetworkPolicy,
        "StagedKubernetesNetworkPolicy",
        CALICO,
        "stagedkubernetesnetworkpolicies",
        true,
    ),
    facts(Kind::NetworkSet, "NetworkSet", CALICO, "networksets", true),
    facts(
        Kind::GlobalNetworkSet,
        "GlobalNetworkSet",
        CALICO,
        "globalnetworksets",
        false,
    ),
    facts(Kind::Profile, "Profile", CALICO, "profiles", false),
    facts(
        Kind::HostEndpoint,
        "HostEndpoint",
        CALICO,
        "hostendpoints",
        false,
    ),
    facts(
        Kind::WorkloadEndpoint,
        "WorkloadEndpoint",
        CALICO,
        "workloadendpoints",
        true,
    ),
    facts(
        Kind::FelixConfiguration,
        "FelixConfiguration",
        CALICO,
        "felixconfigurations",
        false,
    ),
    facts(
        Kind::ClusterInformation,
        "ClusterInformation",
        CALICO,
        "clusterinformations",
        false,
    ),
    facts(
        Kind::KubeControllersConfiguration,
        "KubeControllersConfiguration",
        CALICO,
        "kubecontrollersconfigurations",
        false,
    ),
    facts(
        Kind::KubeNetworkPolicy,
        "NetworkPolicy",
        "networking.k8s.io/v1",
        "networkpolicies",
        true,
    ),
    facts(
        Kind::ClusterNetworkPolicy,
        "ClusterNetworkPolicy",
        "policy.networking.k8s.io/v1alpha2",
        "clusternetworkpolicies",
        false,
    ),
    facts(Kind::Namespace, "Namespace", "v1", "namespaces", false),
    facts(
        Kind::ServiceAccount,
        "ServiceAccount",
        "v1",
        "serviceaccounts",
        true,
    ),
    facts(Kind::Pod, "Pod", "v1", "pods", true),
    facts(Kind::Service, "Service", "v1", "services", true),
    facts(
        Kind::EndpointSlice,
        "EndpointSlice",
        "discovery.k8s.io/v1",
        "endpointslices",
        true,
    ),
    facts(Kind::KubeNode, "Node", "v1", "nodes", false),
    facts(
        Kind::Lease,
        "Lease",
        "coordination.k8s.io/v1",
        "leases",
        true,
    ),
    facts(Kind::Secret, "Secret", "v1", "secrets", true),
    facts(Kind::ConfigMap, "ConfigMap", "v1", "configmaps", true),
];

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::IpPool,
        Self::IpReservation,
        Self::IpamConfig,
        Self::IpamBlock,
        Self::BlockAffinity,
        Self::IpamHandle,
        Self::Node,
        Self::CalicoNodeStatus,
        Self::BgpConfiguration,
        Self::BgpPeer,
        Self::BgpFilter,
        Self::Tier,
        Self::NetworkPolicy,
        Self::GlobalNetworkPolicy,
        Self::StagedNetworkPolicy,
        Self::StagedGlobalNetworkPolicy,
        Self::StagedKubernetesNetworkPolicy,
        Self::NetworkSet,
        Self::GlobalNetworkSet,
        Self::Profile,
        Self::HostEndpoint,
        Self::WorkloadEndpoint,
        Self::FelixConfiguration,
        Self::ClusterInformation,
        Self::KubeControllersConfiguration,
        Self::KubeNetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::Namespace,
        Self::ServiceAccount,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::KubeNode,
        Self::Lease,
        Self::Secret,
        Self::ConfigMap,
    ];

    const fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// The kind's name in its API, the `kind` of its JSON: `IPPool`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The group and version of the kind, the `apiVersion` of its JSON: `projectcalico.org/v3`, `v1`.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        self.facts().api_version
    }

    /// The kind's name in paths: `ippools`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.facts().plural
    }

    /// Whether objects of the kind live in namespaces.
    #[must_use]
    pub const fn is_namespaced(self) -> bool {
        self.facts().namespaced
    }

    /// Whether the kind is Kubernetes' own and not Calico's.
    #[must_use]
    pub fn is_kubernetes(self) -> bool {
        self.api_version() != CALICO
    }

    /// A name that no other kind has: [`Kind::name`], with `Kube` before it where Calico has a kind of that name.
    #[must_use]
    pub const fn unique_name(self) -> &'static str {
        match self {
            Self::KubeNetworkPolicy => "KubeNetworkPolicy",
            Self::KubeNode => "KubeNode",
            other => other.name(),
        }
    }

    /// The kind that an object's `apiVersion` and `kind` name.
    ///
    /// Calico's kinds are known in the groups `projectcalico.org` and `crd.projectcalico.org`, in any version; those
    /// of Kubernetes in any version of their group. The older name `IPAMConfiguration` is `IPAMConfig`.
    ///
    /// # Errors
    /// [`UnknownKind`] when there is none.
    pub fn from_api(api_version: &str, kind: &str) -> Result<Self, UnknownKind> {
        let group = |version: &str| match version.split_once('/') {
            Some((group, _)) => group.trim_start_matches("crd.").to_owned(),
            None => String::new(),
        };
        let wanted = group(api_version);
        let name = if kind == "IPAMConfiguration" {
            "IPAMConfig"
        } else {
            kind
        };
        FACTS
            .iter()
            .find(|facts| facts.name == name && group(facts.api_version) == wanted)
            .map(|facts| facts.kind)
            .ok_or_else(|| UnknownKind(format!("{api_version} {kind}")))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.unique_name())
    }
}

/// No [`Kind`] has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of object known here")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Reads [`Kind::unique_name`]; upper and lower case do not matter, and the plural will do.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let named = |kind: &&Self| kind.unique_name().eq_ignore_ascii_case(text);
        let plural = |kind: &&Self| kind.plural().eq_ignore_ascii_case(text);
        Self::ALL
            .iter()
            .find(named)
            .or_else(|| Self::ALL.iter().find(plural))
            .copied()
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

impl serde::Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.unique_name())
    }
}

impl<'de> serde::Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_in_the_order_of_the_variants() {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
            assert_eq!(FACTS[index].kind, *kind);
            assert_eq!(kind.to_string().parse(), Ok(*kind));
            assert_eq!(Kind::from_api(kind.api_version(), kind.name()), Ok(*kind));
        }
        assert_eq!(Kind::ALL.len(), FACTS.len());
    }

    #[test]
    fn calicos_groups_are_one() {
        let pool = Kind::from_api("crd.projectcalico.org/v1", "IPPool");
        assert_eq!(pool, Ok(Kind::IpPool));
        let policy = Kind::from_api("networking.k8s.io/v1", "NetworkPolicy");
        assert_eq!(policy, Ok(Kind::KubeNetworkPolicy));
        assert!(Kind::from_api("v1", "IPPool").is_err());
    }
}
