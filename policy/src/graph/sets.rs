//! The sets that rules of this node name, and what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ocicat_dataplane::state::{Member, Protocol, Set, SetId, State};
use ocicat_datastore::Key;
use ocicat_selectors::{LabelIndex, MatchChange};

use super::contents::Contents;
use super::facts::{Facts, Table};
use crate::compile::SetSpec;

/// A backend of a service.
pub(super) type Backend = (IpAddr, Vec<(Protocol, u16)>);

/// The service of a slice, and the backends that the slice has of it.
type Slice = (ServiceName, Vec<Backend>);
type ServiceName = (String, String);

#[derive(Debug)]
struct Active {
    spec: SetSpec,
    /// How many policies and profiles name it.
    users: usize,
    contents: Contents,
}

/// All sets in use.
#[derive(Debug)]
pub(super) struct Sets {
    /// Everything that has labels and addresses, and the selectors of the sets.
    members: LabelIndex<u32, SetId, Arc<str>>,
    facts: Table,
    slices: BTreeMap<Key, Slice>,
    active: BTreeMap<SetId, Active>,
    /// The sets that the state has; false when what it has is not what the deltas start from.
    published: BTreeMap<SetId, bool>,
}

impl Sets {
    pub(super) const fn new() -> Self {
        Self {
            members: LabelIndex::new(),
            facts: Table::new(),
            slices: BTreeMap::new(),
            active: BTreeMap::new(),
            published: BTreeMap::new(),
        }
    }

    /// An object came or changed.
    pub(super) fn set_item(
        &mut self,
        key: &Key,
        labels: BTreeMap<String, String>,
        parents: Vec<Arc<str>>,
        facts: Facts,
    ) {
        let (number, old) = self.facts.set(key, facts.clone());
        if let Some(old) = old.filter(|old| *old != facts) {
            let ids: Vec<SetId> = self.members.queries_of(&number).cloned().collect();
            for id in ids {
                // First what is new, so that a range that stays is not withdrawn in between.
                self.contribute(&id, &facts, true);
                self.contribute(&id, &old, false);
            }
        }
        self.members.set_item(number, labels, parents);
        self.follow();
    }

    /// An object is gone.
    pub(super) fn remove_item(&mut self, key: &Key) {
        let Some(number) = self.facts.number(key) else {
            return;
        };
        self.members.remove_item(&number);
        self.follow();
        self.facts.remove(key);
    }

    pub(super) fn set_parent(&mut self, parent: Arc<str>, labels: BTreeMap<String, String>) {
        self.members.set_parent(parent, labels);
        self.follow();
    }

    pub(super) fn remove_parent(&mut self, parent: &Arc<str>) {
        self.members.remove_parent(parent);
        self.follow();
    }

    /// A slice of a service came, changed or went.
    pub(super) fn set_slice(&mut self, key: &Key, slice: Option<Slice>) {
        let old = match &slice {
            Some(new) => self.slices.insert(key.clone(), new.clone()),
            None => self.slices.remove(key),
        };
        for (slice, added) in [(&slice, true), (&old, false)] {
            let Some((service, backends)) = slice else {
                continue;
            };
            for ports in [true, false] {
                let spec = service_spec(service, ports);
                if let Some(active) = self.active.get_mut(&spec.id()) {
                    active.change_backends(backends, added);
                }
            }
        }
    }

    /// One more user of each of the sets.
    pub(super) fn acquire(&mut self, sets: &BTreeMap<SetId, SetSpec>) {
        for (id, spec) in sets {
            if let Some(active) = self.active.get_mut(id) {
                active.users += 1;
                continue;
            }
            let mut active = Active {
                spec: spec.clone(),
                users: 1,
                contents: Contents::default(),
            };
            let selector = match spec {
                SetSpec::Addresses(selector) | SetSpec::NamedPort { selector, .. } => selector,
                SetSpec::Service {
                    namespace, name, ..
                } => {
                    for ((in_namespace, of), backends) in self.slices.values() {
                        if in_namespace == namespace && of == name {
                            active.change_backends(backends, true);
                        }
                    }
                    self.active.insert(id.clone(), active);
                    continue;
                }
            };
            self.active.insert(id.clone(), active);
            self.members.set_query(id.clone(), selector.clone());
            self.follow();
        }
    }

    /// One user less of each of the sets; those without any go.
    pub(super) fn release(&mut self, sets: &BTreeMap<SetId, SetSpec>) {
        for id in sets.keys() {
            let Some(active) = self.active.get_mut(id) else {
                continue;
            };
            active.users -= 1;
            if active.users == 0 {
                self.active.remove(id);
                if let Some(current) = self.published.get_mut(id) {
                    *current = false;
                }
                self.members.remove_query(id);
                self.follow();
            }
        }
    }

    /// What the index of members holds and did.
    pub(super) fn counters(&self) -> ocicat_selectors::Counters {
        self.members.counters()
    }

    /// Forgets what the state has: the next flush compares whole sets.
    pub(super) fn distrust(&mut self) {
        for current in self.published.values_mut() {
            *current = false;
        }
    }

    /// Brings the state's sets up to date; true when something changed.
    pub(super) fn flush(&mut self, state: &mut State) -> bool {
        let mut changed = false;
        let active = &self.active;
        self.published.retain(|id, _| {
            let keep = active.contains_key(id);
            if !keep {
                changed |= state.sets.remove(id).is_some();
            }
            keep
        });
        for (id, active) in &mut self.active {
            let current = self.published.insert(id.clone(), true) == Some(true);
            match state.sets.get_mut(id) {
                Some(set) if current => {
                    for (member, added) in active.contents.take_delta() {
                        changed |= if added {
                            set.insert(member)
                        } else {
                            set.remove(&member)
                        };
                    }
                }
                Some(set) => {
                    active.contents.take_delta();
                    changed |= make_equal(set, &active.contents);
                }
                None => {
                    active.contents.take_delta();
                    changed = true;
                    let set = Set::new(active.contents.members());
                    state.sets.insert(id.clone(), set);
                }
            }
        }
        changed
    }

    /// Takes what the index found out into the sets.
    fn follow(&mut self) {
        while let Some(change) = self.members.poll_change() {
            let (item, id, added) = match change {
                MatchChange::Started { item, query } => (item, query, true),
                MatchChange::Stopped { item, query } => (item, query, false),
            };
            if let (Some(active), Some(facts)) = (self.active.get_mut(&id), self.facts.at(item)) {
                active.change(facts, added);
            }
        }
    }

    fn contribute(&mut self, id: &SetId, facts: &Facts, added: bool) {
        if let Some(active) = self.active.get_mut(id) {
            active.change(facts, added);
        }
    }
}

impl Active {
    fn change(&mut self, facts: &Facts, added: bool) {
        match &self.spec {
            SetSpec::Addresses(_) => {
                for net in facts.nets.as_slice() {
                    self.contents.change(Member::Net(*net), added);
                }
            }
            SetSpec::NamedPort { name, protocol, .. } => {
                for (_, _, port) in facts
                    .ports()
                    .iter()
                    .filter(|(n, p, _)| n == name && p == protocol)
                {
                    let nets = facts.nets.as_slice().iter();
                    for net in nets.filter(|net| net.is_host()) {
                        let member = Member::Port(net.address(), *protocol, *port);
                        self.contents.change(member, added);
                    }
                }
            }
            SetSpec::Service { .. } => {}
        }
    }

    fn change_backends(&mut self, backends: &[Backend], added: bool) {
        let SetSpec::Service { ports, .. } = self.spec else {
            return;
        };
        for (address, numbers) in backends {
            if !ports {
                let member = super::contents::host(*address);
                self.contents.change(member, added);
                continue;
            }
            for (protocol, number) in numbers {
                let member = Member::Port(*address, *protocol, *number);
                self.contents.change(member, added);
            }
        }
    }
}

impl Contents {
    fn change(&mut self, member: Member, added: bool) {
        if added {
            self.add(member);
        } else {
            self.remove(member);
        }
    }
}

/// Gives the set these members, one change at a time, so that its followers need not compare it.
fn make_equal(set: &mut Set, contents: &Contents) -> bool {
    let wanted: BTreeSet<Member> = contents.members().collect();
    let old: Vec<Member> = set.members().difference(&wanted).copied().collect();
    let mut changed = !old.is_empty();
    for member in old {
        set.remove(&member);
    }
    for member in wanted {
        changed |= set.insert(member);
    }
    changed
}

fn service_spec((namespace, name): &ServiceName, ports: bool) -> SetSpec {
    SetSpec::Service {
        namespace: namespace.clone(),
        name: name.clone(),
        ports,
    }
}
