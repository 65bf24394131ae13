//! Which pods' policy is in the kernel, for who waits for files.

use std::sync::Arc;

use super::Core;
use crate::endpoint_status::Statuses;

impl Core {
    /// Says which endpoint-status files there should be, once the kernel has what was computed last: a pod that is new since then
    /// has its file after the next apply.
    pub(super) fn tell_statuses(&self) {
        let prefix = self.felix("endpointStatusPathPrefix");
        let wanted = match prefix.filter(|prefix| !prefix.is_empty()) {
            None => None,
            Some(_) if !self.is_ready() || self.waiting.is_some() => return,
            Some(prefix) => {
                let mut statuses = Statuses::under(&prefix);
                let pods = self.world.local_pods.values();
                let up = pods.filter(|pod| self.state.workloads.contains_key(&pod.link));
                statuses.files.extend(up.map(|pod| pod.status_file.clone()));
                Some(Arc::new(statuses))
            }
        };
        self.ports.statuses.send_if_modified(|old| {
            let changed = *old != wanted;
            if changed {
                *old = wanted;
            }
            changed
        });
    }
}
