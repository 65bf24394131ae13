use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_datastore::model::{
    GlobalNetworkPolicy, GlobalNetworkPolicySpec, NetworkPolicy, NetworkPolicySpec,
};
use ocicat_datastore::{Key, Kind};

use super::{Model, put};
use crate::Update;

impl Model {
    /// The model as it would be with the staged policies in force: `Set` (or nothing stated) puts the policy in the
    /// place of the one of the same name, `Delete` takes that one away, `Learn` and `Ignore` change nothing.
    ///
    /// Evaluate it, or compare it with the model as it is; nothing staged is ever enforced.
    #[must_use]
    pub fn staged(&self) -> Self {
        let mut out = self.clone();
        for (key, policy) in &self.staged_namespaced {
            let enforced = Key {
                kind: Kind::NetworkPolicy,
                ..key.clone()
            };
            if let Some(present) = takes_effect(policy.spec.staged_action.as_deref()) {
                let policy = present.then(|| NetworkPolicy {
                    metadata: policy.metadata.clone(),
                    spec: NetworkPolicySpec {
                        staged_action: None,
                        ..policy.spec.clone()
                    },
                });
                put(&mut out.namespaced, enforced, policy.map(Arc::new));
            }
        }
        for (key, policy) in &self.staged_global {
            let enforced = Key {
                kind: Kind::GlobalNetworkPolicy,
                ..key.clone()
            };
            if let Some(present) = takes_effect(policy.spec.staged_action.as_deref()) {
                let policy = present.then(|| GlobalNetworkPolicy {
                    metadata: policy.metadata.clone(),
                    spec: GlobalNetworkPolicySpec {
                        staged_action: None,
                        ..policy.spec.clone()
                    },
                });
                put(&mut out.global, enforced, policy.map(Arc::new));
            }
        }
        out.staged_namespaced.clear();
        out.staged_global.clear();
        out
    }
}

impl Model {
    /// The model as updates, staged policies not among them.
    pub(crate) fn updates(&self) -> impl Iterator<Item = Update> {
        fn each<K: Clone, T>(
            map: &BTreeMap<K, Arc<T>>,
            of: impl Fn(K, Option<Arc<T>>) -> Update,
        ) -> impl Iterator<Item = Update> {
            map.iter()
                .map(move |(key, value)| of(key.clone(), Some(value.clone())))
        }
        let cluster = |kind| move |name: String| Key::cluster(kind, name);
        let (profile, tier) = (cluster(Kind::Profile), cluster(Kind::Tier));
        each(&self.endpoints, Update::WorkloadEndpoint)
            .chain(each(&self.hosts, Update::HostEndpoint))
            .chain(each(&self.namespaced, Update::NetworkPolicy))
            .chain(each(&self.global, Update::GlobalNetworkPolicy))
            .chain(each(&self.profiles, move |name, value| {
                Update::Profile(profile(name), value)
            }))
            .chain(each(&self.tiers, move |name, value| {
                Update::Tier(tier(name), value)
            }))
            .chain(each(&self.network_sets, Update::NetworkSet))
            .chain(each(&self.global_network_sets, Update::GlobalNetworkSet))
            .chain(each(&self.slices, Update::EndpointSlice))
    }

    /// The nodes that have pods, each as often as it has one.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.endpoints.values().map(|e| e.spec.node.as_str())
    }

    /// `namespace/name` of the endpoint that has the address.
    pub(crate) fn name_of(&self, address: std::net::IpAddr) -> Option<String> {
        let (key, _) = self.endpoint_of(address)?;
        let namespace = key.namespace.as_deref().unwrap_or_default();
        Some(format!("{namespace}/{}", key.name))
    }
}

/// Whether the policy would be there; `None` when staging changes nothing.
fn takes_effect(action: Option<&str>) -> Option<bool> {
    match action {
        None | Some("" | "Set") => Some(true),
        Some("Delete") => Some(false),
        Some(_) => None,
    }
}
