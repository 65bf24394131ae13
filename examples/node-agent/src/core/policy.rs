//! Policy: resources into the graph, the graph's result into the desired state.

use ocicat_datastore::{Key, Object, StoreError};
use ocicat_policy::Update;

use super::Core;

impl Core {
    /// Gives an object to the graph, if policy cares about its kind.
    pub(super) fn put_policy(&mut self, object: &Object) -> Result<(), StoreError> {
        match Update::of(object) {
            Ok(Some(update)) => {
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
        if let Some(update) = Update::gone(key) {
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
