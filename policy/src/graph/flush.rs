//! From the graph into the state.

use std::sync::Arc;

use ocicat_dataplane::State;
use ocicat_dataplane::state::{
    EndpointId, HostEndpoint, LinkName, Policy, PolicyId, Tier, Workload,
};
use ocicat_datastore::Key;

use super::endpoint::Target;
use super::tiers::Applied;
use super::{Flushed, Graph, kind_text, policy_id, profile_id};
use crate::compile::Compiled;

/// Which of an endpoint's tiers.
#[derive(Clone, Copy)]
enum Hook {
    Ingress,
    Egress,
    ForwardIngress,
    ForwardEgress,
}

impl Hook {
    const fn takes(self, policy: &Compiled) -> bool {
        match self {
            Self::Ingress => policy.ingress,
            Self::Egress => policy.egress,
            Self::ForwardIngress => policy.forward && policy.ingress,
            Self::ForwardEgress => policy.forward && policy.egress,
        }
    }
}

impl Graph {
    /// Brings the state's sets, policies, profiles, workloads and hosts up to date with all updates so far. Nothing
    /// else of the state is touched, and sets with other ids than the graph's own stay. Always call it with the same
    /// state; after the state was made anew, call [`distrust`](Self::distrust) first.
    pub fn flush(&mut self, state: &mut State) -> Flushed {
        let mut changed = self.sets.flush(state);
        for (id, key) in std::mem::take(&mut self.dirty.policies) {
            let wanted = self.policy_for(&id, &key);
            changed |= put(&mut state.policies, id, wanted);
        }
        for name in std::mem::take(&mut self.dirty.profiles) {
            let entry = self.profiles.get(&name).filter(|entry| entry.users > 0);
            let wanted = entry.map(|entry| match &entry.rules {
                Some(rules) => rules.policy.clone(),
                // Named and not there: it allows nothing.
                None => Arc::new(Policy::default()),
            });
            changed |= put(&mut state.profiles, profile_id(&name), wanted);
        }
        for link in std::mem::take(&mut self.dirty.links) {
            let wanted = self.workload_for(&link).map(Arc::new);
            changed |= put(&mut state.workloads, link, wanted);
        }
        for key in std::mem::take(&mut self.dirty.hosts) {
            let wanted = self.host_for(&key).map(Arc::new);
            changed |= put(&mut state.hosts, EndpointId::new(&key.name), wanted);
        }
        let new = std::mem::take(&mut self.dirty.problems);
        let problems = new.iter().filter_map(|key| self.problems.get(key));
        Flushed {
            changed,
            problems: problems.flatten().cloned().collect(),
        }
    }

    /// Forgets what the state has: the next flush works everything out again. For a state that was made anew; what
    /// it has beyond the graph's own is left alone.
    pub fn distrust(&mut self) {
        self.sets.distrust();
        self.dirty.links.extend(self.links.keys().cloned());
        for (key, entry) in &self.policies {
            if let Some(compiled) = &entry.compiled {
                let id = policy_id(key, &compiled.tier);
                self.dirty.policies.insert(id, key.clone());
            }
        }
        self.dirty.profiles.extend(self.profiles.keys().cloned());
        let hosts: Vec<Arc<Key>> = self.locals.keys().cloned().collect();
        for host in hosts {
            self.touch(&host);
        }
    }

    fn policy_for(&self, id: &PolicyId, key: &Arc<Key>) -> Option<Arc<Policy>> {
        let entry = self.policies.get(key).filter(|entry| entry.users > 0)?;
        let compiled = entry.compiled.as_ref().filter(|_| entry.indexed)?;
        (policy_id(key, &compiled.tier) == *id).then(|| compiled.rules.policy.clone())
    }

    fn workload_for(&self, link: &LinkName) -> Option<Workload> {
        // Two endpoints with one interface cannot be right; the first name wins, whichever came first.
        let key = self.links.get(link)?.first()?;
        let local = self.locals.get(key)?;
        let Target::Workload {
            addresses,
            allowed_sources,
            ..
        } = &local.target
        else {
            return None;
        };
        Some(Workload {
            addresses: addresses.clone(),
            allowed_sources: allowed_sources.clone(),
            ingress: self.tiers_for(key, Hook::Ingress),
            egress: self.tiers_for(key, Hook::Egress),
            profiles: local.profiles.iter().map(|p| profile_id(p)).collect(),
            up: true,
        })
    }

    fn host_for(&self, key: &Arc<Key>) -> Option<HostEndpoint> {
        let local = self.locals.get(key)?;
        let Target::Host { link } = &local.target else {
            return None;
        };
        Some(HostEndpoint {
            link: link.clone(),
            ingress: self.tiers_for(key, Hook::Ingress),
            egress: self.tiers_for(key, Hook::Egress),
            forward_ingress: self.tiers_for(key, Hook::ForwardIngress),
            forward_egress: self.tiers_for(key, Hook::ForwardEgress),
            profiles: local.profiles.iter().map(|p| profile_id(p)).collect(),
        })
    }

    fn tiers_for(&self, endpoint: &Arc<Key>, hook: Hook) -> Vec<Tier> {
        let applied = self.applies.queries_of(endpoint).filter_map(|key| {
            let compiled = self.policies.get(key)?.compiled.as_ref()?;
            let namespace = key.namespace.clone().unwrap_or_default();
            hook.takes(compiled).then(|| Applied {
                tier: compiled.tier.clone(),
                order: compiled.order,
                rank: (key.name.clone(), namespace, kind_text(key.kind)),
                id: policy_id(key, &compiled.tier),
            })
        });
        self.tiers.arrange(applied.collect())
    }
}

/// Puts a value in its place, or takes it away; true when that changed something.
fn put<K: Ord, V: PartialEq>(
    map: &mut std::collections::BTreeMap<K, V>,
    key: K,
    value: Option<V>,
) -> bool {
    match value {
        Some(value) if map.get(&key) == Some(&value) => false,
        Some(value) => {
            map.insert(key, value);
            true
        }
        None => map.remove(&key).is_some(),
    }
}
