//! Policy: resources into the graph, the graph's result into the desired state.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_datastore::model::WorkloadEndpoint;
use ocicat_datastore::{Key, Object, StoreError};
use ocicat_policy::Update;

use super::Core;

/// Endpoints on this node that may send from others' addresses, if the cluster allows that at all: an annotation of the
/// pod's author must not be enough, whichever way it came into the datastore.
#[derive(Debug, Default)]
pub(super) struct Spoofers {
    allowed: bool,
    endpoints: BTreeMap<Key, Arc<WorkloadEndpoint>>,
}

impl Spoofers {
    /// Remembers an endpoint as it is, and takes the ranges out of it unless they are allowed.
    fn see(&mut self, update: &mut Update, node: &str) {
        let Update::WorkloadEndpoint(key, endpoint) = update else {
            return;
        };
        let asks = |one: &&mut Arc<WorkloadEndpoint>| {
            one.spec.node == node && !one.spec.allow_spoofed_source_prefixes.is_empty()
        };
        let Some(endpoint) = endpoint.as_mut().filter(asks) else {
            self.endpoints.remove(key);
            return;
        };
        self.endpoints.insert(key.clone(), Arc::clone(endpoint));
        if !self.allowed {
            let spec = &mut Arc::make_mut(endpoint).spec;
            spec.allow_spoofed_source_prefixes.clear();
        }
    }

    /// The endpoints to give to the graph anew, when the setting has changed.
    fn allow(&mut self, allowed: bool) -> Vec<Update> {
        if std::mem::replace(&mut self.allowed, allowed) == allowed {
            return Vec::new();
        }
        let all = self.endpoints.iter();
        all.map(|(key, one)| Update::WorkloadEndpoint(key.clone(), Some(Arc::clone(one))))
            .collect()
    }
}

impl Core {
    /// Gives an object to the graph, if policy cares about its kind.
    pub(super) fn put_policy(&mut self, object: &Object) -> Result<(), StoreError> {
        match Update::of(object) {
            Ok(Some(mut update)) => {
                self.spoofers.see(&mut update, &self.fixed.node);
                self.graph.update(update);
                self.policy_touched = true;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                if let StoreError::Malformed { field, reason, .. } = &error {
                    self.graph
                        .refuse(object.key(), field.clone(), reason.clone());
                }
                Err(error)
            }
        }
    }

    /// Tells the graph that an object is gone.
    pub(super) fn delete_policy(&mut self, key: &Key) {
        if let Some(mut update) = Update::gone(key) {
            self.spoofers.see(&mut update, &self.fixed.node);
            self.graph.update(update);
            self.policy_touched = true;
        }
    }

    /// Whether pods may send from addresses that are not theirs, where they ask for it.
    pub(super) fn allows_spoofing(&self) -> bool {
        self.felix("workloadSourceSpoofing")
            .is_some_and(|value| value.eq_ignore_ascii_case("any"))
    }

    /// Brings endpoints in line with `workloadSourceSpoofing`.
    pub(super) fn follow_spoofing(&mut self) {
        for mut update in self.spoofers.allow(self.allows_spoofing()) {
            self.spoofers.see(&mut update, &self.fixed.node);
            self.graph.update(update);
            self.policy_touched = true;
        }
    }

    /// Computes policy anew; true when the state changed.
    pub(super) fn flush_policy(&mut self) -> bool {
        let flushed = self.graph.flush(&mut self.state);
        for problem in &flushed.problems {
            tracing::warn!(%problem, "a policy cannot be followed as it is written");
        }
        flushed.changed
    }
}
