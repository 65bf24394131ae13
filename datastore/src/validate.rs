//! What is wrong with objects before they are stored (feature `validate`).
//!
//! Every problem names the field by its path, `spec.ingress[0].source.nets[1]`, and says what would be right. The
//! rules are Calico's and Kubernetes' own. A node agent does not need any of this: it lives with what is stored.

mod bgp;
mod cluster;
mod endpoint;
mod kube;
mod policy;
mod pool;
mod rule;
mod value;

use std::fmt;

use crate::error::StoreError;
use crate::model::{Kind, Resource};
use crate::object::{Key, Object};
use value::Cidr;

/// What is wrong with one field of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{field}: {reason}")]
#[non_exhaustive]
pub struct Problem {
    /// The path of the field, such as `spec.ingress[0].source.nets[1]`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// Collects problems.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, reason: impl fmt::Display) {
        self.0.push(Problem {
            field: field.into(),
            reason: reason.to_string(),
        });
    }

    /// A problem unless it holds.
    fn check(&mut self, holds: bool, field: &str, reason: impl fmt::Display) {
        if !holds {
            self.add(field, reason);
        }
    }
}

/// What is wrong with an object; empty when nothing is.
///
/// Only the object itself is looked at: for what it must not have in common with others see [`objects`].
#[must_use]
pub fn object(object: &Object) -> Vec<Problem> {
    let mut problems = Problems::default();
    if let Err(StoreError::Invalid { field, reason, .. }) = object.key().check() {
        problems.add(field, reason);
    }
    value::metadata(&mut problems, object);
    match object.kind {
        Kind::IpPool => with(&mut problems, object, pool::pool),
        Kind::IpReservation => with(&mut problems, object, pool::reservation),
        Kind::IpamConfig => with(&mut problems, object, pool::config),
        Kind::BgpConfiguration => with(&mut problems, object, bgp::configuration),
        Kind::BgpPeer => with(&mut problems, object, bgp::peer),
        Kind::BgpFilter => with(&mut problems, object, bgp::filter),
        Kind::Node => with(&mut problems, object, cluster::node),
        Kind::FelixConfiguration => with(&mut problems, object, cluster::felix),
        Kind::ClusterInformation => with(&mut problems, object, cluster::information),
        Kind::Tier => with(&mut problems, object, policy::tier),
        Kind::NetworkPolicy => with(&mut problems, object, policy::namespaced),
        Kind::StagedNetworkPolicy => with(&mut problems, object, policy::staged_namespaced),
        Kind::GlobalNetworkPolicy => with(&mut problems, object, policy::global),
        Kind::StagedGlobalNetworkPolicy => with(&mut problems, object, policy::staged_global),
        Kind::StagedKubernetesNetworkPolicy => with(&mut problems, object, kube::staged),
        Kind::Profile => with(&mut problems, object, policy::profile),
        Kind::NetworkSet => with(&mut problems, object, policy::network_set),
        Kind::GlobalNetworkSet => with(&mut problems, object, policy::global_network_set),
        Kind::HostEndpoint => with(&mut problems, object, endpoint::host),
        Kind::WorkloadEndpoint => with(&mut problems, object, endpoint::workload),
        Kind::KubeNetworkPolicy => with(&mut problems, object, kube::network_policy),
        Kind::ClusterNetworkPolicy => with(&mut problems, object, kube::cluster_policy),
        Kind::IpamBlock => with::<crate::model::IpamBlock>(&mut problems, object, |_, _| {}),
        Kind::BlockAffinity => {
            with::<crate::model::BlockAffinity>(&mut problems, object, |_, _| {});
        }
        Kind::IpamHandle => with::<crate::model::IpamHandle>(&mut problems, object, |_, _| {}),
        // Of Kubernetes' own objects its API server takes care.
        _ => {}
    }
    problems.0
}

/// What is wrong with objects, and with what they have in common: pools that overlap.
///
/// Give it all pools that there will be; of other kinds the ones that are new are enough.
#[must_use]
pub fn objects(objects: &[Object]) -> Vec<(Key, Problem)> {
    let mut found = Vec::new();
    for one in objects {
        found.extend(object(one).into_iter().map(|problem| (one.key(), problem)));
    }
    let pools: Vec<(&Object, Cidr)> = objects
        .iter()
        .filter(|object| object.kind == Kind::IpPool)
        .filter_map(|pool| {
            let cidr = pool.value.pointer("/spec/cidr")?.as_str()?;
            Some((pool, Cidr::parse(cidr).ok()?))
        })
        .collect();
    for (index, (pool, cidr)) in pools.iter().enumerate() {
        let mut earlier = pools.iter().take(index);
        if let Some((other, theirs)) = earlier.find(|(_, other)| other.overlaps(cidr)) {
            let reason = format!("{cidr} overlaps {theirs} of the pool {}", other.name);
            found.push((
                pool.key(),
                Problem {
                    field: "spec.cidr".to_owned(),
                    reason,
                },
            ));
        }
    }
    found
}

/// Checks an object as a resource; that it is none is a problem of the field that cannot be read.
fn with<R: Resource>(problems: &mut Problems, object: &Object, check: fn(&mut Problems, &R)) {
    match object.decode::<R>() {
        Ok(resource) => check(problems, &resource),
        Err(StoreError::Malformed { field, reason, .. }) => problems.add(field, reason),
        Err(error) => problems.add("", error),
    }
}

#[cfg(test)]
mod tests;
