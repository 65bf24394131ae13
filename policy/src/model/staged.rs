use std::sync::Arc;

use ocicat_datastore::model::{
    GlobalNetworkPolicy, GlobalNetworkPolicySpec, NetworkPolicy, NetworkPolicySpec,
};
use ocicat_datastore::{Key, Kind};

use super::{Model, put};

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

/// Whether the policy would be there; `None` when staging changes nothing.
fn takes_effect(action: Option<&str>) -> Option<bool> {
    match action {
        None | Some("" | "Set") => Some(true),
        Some("Delete") => Some(false),
        Some(_) => None,
    }
}
