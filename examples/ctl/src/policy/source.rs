//! A cluster out of a store.

use ocicat_datastore::{Kind, Scope, StoreError};

use super::Cluster;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::manifest::Manifest;

/// What policy depends on. Pods are there as their endpoints.
const KINDS: &[Kind] = &[
    Kind::WorkloadEndpoint,
    Kind::HostEndpoint,
    Kind::Profile,
    Kind::Tier,
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::NetworkSet,
    Kind::GlobalNetworkSet,
];

/// Kubernetes' own, which only its API keeps.
const KUBERNETES: &[Kind] = &[
    Kind::KubeNetworkPolicy,
    Kind::ClusterNetworkPolicy,
    Kind::EndpointSlice,
];

/// Reads everything that policy depends on.
///
/// # Errors
/// When the datastore fails.
pub(crate) async fn manifests(at: &Connection) -> Result<Vec<Manifest>, Failure> {
    let kubernetes = KUBERNETES.iter().filter(|_| at.kubernetes);
    let mut manifests = Vec::new();
    for kind in KINDS.iter().chain(kubernetes) {
        let listing = match at.store.backend().list(&Scope::all(*kind)).await {
            Err(StoreError::NoSuchKind { .. }) => continue,
            listing => listing?,
        };
        for object in listing.objects {
            manifests.push(Manifest::stored(object)?);
        }
    }
    Ok(manifests)
}

/// The cluster as it is stored now.
///
/// # Errors
/// When the datastore fails, or an object of it cannot be read.
pub(crate) async fn stored(at: &Connection) -> Result<Cluster, Failure> {
    Ok(Cluster::of(&manifests(at).await?)?)
}
