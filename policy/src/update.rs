use std::sync::Arc;

use ocicat_datastore::model::{
    EndpointSlice, GlobalNetworkPolicy, GlobalNetworkSet, HostEndpoint, NetworkPolicy, NetworkSet,
    Profile, StagedGlobalNetworkPolicy, StagedNetworkPolicy, Tier, WorkloadEndpoint,
};
use ocicat_datastore::{Key, Kind, Object, StoreError};

use crate::kubernetes;

/// A change of one object: its new version, or `None` when it is gone.
///
/// [`Update::of`] makes one of a stored object, Kubernetes' own kinds included.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Update {
    /// A pod's interface.
    WorkloadEndpoint(Key, Option<Arc<WorkloadEndpoint>>),
    /// A node's interface.
    HostEndpoint(Key, Option<Arc<HostEndpoint>>),
    /// A policy of a namespace.
    NetworkPolicy(Key, Option<Arc<NetworkPolicy>>),
    /// A policy of the cluster.
    GlobalNetworkPolicy(Key, Option<Arc<GlobalNetworkPolicy>>),
    /// A policy of a namespace that is only reported on.
    StagedNetworkPolicy(Key, Option<Arc<StagedNetworkPolicy>>),
    /// A policy of the cluster that is only reported on.
    StagedGlobalNetworkPolicy(Key, Option<Arc<StagedGlobalNetworkPolicy>>),
    /// A profile, such as a namespace's.
    Profile(Key, Option<Arc<Profile>>),
    /// A tier.
    Tier(Key, Option<Arc<Tier>>),
    /// Ranges with labels, in a namespace.
    NetworkSet(Key, Option<Arc<NetworkSet>>),
    /// Ranges with labels.
    GlobalNetworkSet(Key, Option<Arc<GlobalNetworkSet>>),
    /// Backends of a service.
    EndpointSlice(Key, Option<Arc<EndpointSlice>>),
}

impl Update {
    /// The update that a stored object means; `None` when policy does not care about its kind.
    ///
    /// Kubernetes' NetworkPolicy, ClusterNetworkPolicy, Namespace, ServiceAccount and Pod become what Calico makes of
    /// them. A pod's endpoint keeps the pod's key, since the pod's deletion does not say on which node it was; a pod
    /// that has no endpoint is an endpoint that is gone. Give a pod or its stored WorkloadEndpoint, not both.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the object cannot be read. Then tell [`Graph::refuse`](crate::Graph::refuse):
    /// the version before stays in force.
    pub fn of(object: &Object) -> Result<Option<Self>, StoreError> {
        let key = converted_key(&object.key());
        Ok(Some(match object.kind {
            Kind::WorkloadEndpoint => Self::WorkloadEndpoint(key, some(object.decode()?)),
            Kind::HostEndpoint => Self::HostEndpoint(key, some(object.decode()?)),
            Kind::NetworkPolicy => Self::NetworkPolicy(key, some(object.decode()?)),
            Kind::GlobalNetworkPolicy => Self::GlobalNetworkPolicy(key, some(object.decode()?)),
            Kind::StagedNetworkPolicy => Self::StagedNetworkPolicy(key, some(object.decode()?)),
            Kind::StagedGlobalNetworkPolicy => {
                Self::StagedGlobalNetworkPolicy(key, some(object.decode()?))
            }
            Kind::Profile => Self::Profile(key, some(object.decode()?)),
            Kind::Tier => Self::Tier(key, some(object.decode()?)),
            Kind::NetworkSet => Self::NetworkSet(key, some(object.decode()?)),
            Kind::GlobalNetworkSet => Self::GlobalNetworkSet(key, some(object.decode()?)),
            Kind::EndpointSlice => Self::EndpointSlice(key, some(object.decode()?)),
            Kind::KubeNetworkPolicy => {
                let policy = kubernetes::network_policy(&object.decode()?);
                Self::NetworkPolicy(key, some(policy.value))
            }
            Kind::StagedKubernetesNetworkPolicy => {
                let policy = kubernetes::staged_network_policy(&object.decode()?);
                Self::StagedNetworkPolicy(key, some(policy.value))
            }
            Kind::ClusterNetworkPolicy => {
                let policy = kubernetes::cluster_network_policy(&object.decode()?);
                Self::GlobalNetworkPolicy(key, some(policy.value))
            }
            Kind::Namespace => Self::Profile(key, some(kubernetes::namespace(&object.decode()?))),
            Kind::ServiceAccount => {
                Self::Profile(key, some(kubernetes::service_account(&object.decode()?)))
            }
            Kind::Pod => {
                let endpoint = kubernetes::workload_endpoint(&object.decode()?);
                Self::WorkloadEndpoint(key, endpoint.map(Arc::new))
            }
            _ => return Ok(None),
        }))
    }

    /// The update that says that an object is gone; `None` when policy does not care about its kind.
    #[must_use]
    pub fn gone(key: &Key) -> Option<Self> {
        let converted = converted_key(key);
        Some(match converted.kind {
            Kind::WorkloadEndpoint | Kind::Pod => Self::WorkloadEndpoint(converted, None),
            Kind::HostEndpoint => Self::HostEndpoint(converted, None),
            Kind::NetworkPolicy => Self::NetworkPolicy(converted, None),
            Kind::GlobalNetworkPolicy => Self::GlobalNetworkPolicy(converted, None),
            Kind::StagedNetworkPolicy => Self::StagedNetworkPolicy(converted, None),
            Kind::StagedGlobalNetworkPolicy => Self::StagedGlobalNetworkPolicy(converted, None),
            Kind::Profile => Self::Profile(converted, None),
            Kind::Tier => Self::Tier(converted, None),
            Kind::NetworkSet => Self::NetworkSet(converted, None),
            Kind::GlobalNetworkSet => Self::GlobalNetworkSet(converted, None),
            Kind::EndpointSlice => Self::EndpointSlice(converted, None),
            _ => return None,
        })
    }

    /// The object that changed; for Kubernetes' kinds but the Pod, the Calico object that it is converted to.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::WorkloadEndpoint(key, _)
            | Self::HostEndpoint(key, _)
            | Self::NetworkPolicy(key, _)
            | Self::GlobalNetworkPolicy(key, _)
            | Self::StagedNetworkPolicy(key, _)
            | Self::StagedGlobalNetworkPolicy(key, _)
            | Self::Profile(key, _)
            | Self::Tier(key, _)
            | Self::NetworkSet(key, _)
            | Self::GlobalNetworkSet(key, _)
            | Self::EndpointSlice(key, _) => key,
        }
    }
}

fn some<T>(value: T) -> Option<Arc<T>> {
    Some(Arc::new(value))
}

/// The key of what a Kubernetes object is converted to; other keys as they are.
fn converted_key(key: &Key) -> Key {
    let namespace = key.namespace.as_deref().unwrap_or_default();
    match key.kind {
        Kind::KubeNetworkPolicy => Key::namespaced(
            Kind::NetworkPolicy,
            namespace,
            kubernetes::policy_name(&key.name),
        ),
        Kind::StagedKubernetesNetworkPolicy => Key::namespaced(
            Kind::StagedNetworkPolicy,
            namespace,
            kubernetes::policy_name(&key.name),
        ),
        Kind::ClusterNetworkPolicy => Key::cluster(
            Kind::GlobalNetworkPolicy,
            kubernetes::cluster_policy_name(&key.name),
        ),
        Kind::Namespace => Key::cluster(
            Kind::Profile,
            ocicat_datastore::model::names::namespace_profile(&key.name),
        ),
        Kind::ServiceAccount => Key::cluster(
            Kind::Profile,
            ocicat_datastore::model::names::service_account_profile(namespace, &key.name),
        ),
        _ => key.clone(),
    }
}
