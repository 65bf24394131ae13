use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::{Direction, Piece};
use crate::State;
use crate::state::{
    EndpointId, HostEndpoint, HostRules, LinkKind, LinkName, Nat, Policy, PolicyId, ProfileId,
    Workload,
};

/// The parts of the last state, to recognise what is the same.
#[derive(Debug)]
pub(super) struct Seen {
    workloads: BTreeMap<LinkName, Arc<Workload>>,
    hosts: BTreeMap<EndpointId, Arc<HostEndpoint>>,
    policies: BTreeMap<PolicyId, Arc<Policy>>,
    profiles: BTreeMap<ProfileId, Arc<Policy>>,
    host: Arc<HostRules>,
    nat: Arc<Nat>,
    pub(super) tunnels: Vec<LinkName>,
}

/// The tunnel devices among the state's links.
pub(super) fn tunnels(state: &State) -> Vec<LinkName> {
    let links = state.links.iter();
    links
        .filter(|(_, link)| matches!(link.kind, LinkKind::Vxlan { .. } | LinkKind::Ipip))
        .map(|(name, _)| name.clone())
        .collect()
}

impl Seen {
    pub(super) fn nothing(state: &State) -> Self {
        Self {
            workloads: BTreeMap::new(),
            hosts: BTreeMap::new(),
            policies: BTreeMap::new(),
            profiles: BTreeMap::new(),
            host: state.host.clone(),
            nat: state.nat.clone(),
            tunnels: tunnels(state),
        }
    }

    /// Notes the pieces that have to be compiled for `state`, and remembers it.
    pub(super) fn follow<'a>(
        mut self,
        state: &State,
        tunnels: Vec<LinkName>,
        built: impl Iterator<Item = &'a Piece>,
        todo: &mut BTreeSet<Piece>,
    ) -> Self {
        let same_host = Arc::ptr_eq(&self.host, &state.host) || self.host == state.host;
        let same_nat = Arc::ptr_eq(&self.nat, &state.nat) || self.nat == state.nat;
        if !same_host {
            todo.extend(built.cloned());
        }
        if !same_nat || self.tunnels != tunnels {
            todo.insert(Piece::Base);
        }
        follow(&mut self.workloads, &state.workloads, |link| {
            todo.insert(Piece::Workload(link.clone()));
        });
        follow(&mut self.hosts, &state.hosts, |id| {
            todo.extend([Piece::Host(id.clone()), Piece::Base]);
        });
        let both = [Direction::In, Direction::Out];
        follow(&mut self.policies, &state.policies, |id| {
            todo.extend(both.map(|direction| Piece::Policy(id.clone(), direction)));
        });
        follow(&mut self.profiles, &state.profiles, |id| {
            todo.extend(both.map(|direction| Piece::Profile(id.clone(), direction)));
        });
        self.host = state.host.clone();
        self.nat = state.nat.clone();
        self.tunnels = tunnels;
        self
    }
}

/// Calls `changed` for each key whose value is not the one in `old`, and makes `old` like `new`.
fn follow<K: Ord + Clone, V: PartialEq>(
    old: &mut BTreeMap<K, Arc<V>>,
    new: &BTreeMap<K, Arc<V>>,
    mut changed: impl FnMut(&K),
) {
    let mut edits: Vec<(K, Option<Arc<V>>)> = Vec::new();
    let mut was = old.iter().peekable();
    for (key, value) in new {
        while let Some((gone, _)) = was.next_if(|(other, _)| *other < key) {
            changed(gone);
            edits.push((gone.clone(), None));
        }
        let same = was.next_if(|(other, _)| *other == key);
        if !same.is_some_and(|(_, other)| Arc::ptr_eq(other, value)) {
            if !same.is_some_and(|(_, other)| other == value) {
                changed(key);
            }
            edits.push((key.clone(), Some(value.clone())));
        }
    }
    for (gone, _) in was {
        changed(gone);
        edits.push((gone.clone(), None));
    }
    for (key, value) in edits {
        match value {
            Some(value) => drop(old.insert(key, value)),
            None => drop(old.remove(&key)),
        }
    }
}
