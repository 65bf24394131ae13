use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::slots::Slots;
use crate::{Labels, Restriction, Restrictions};

/// Labels in order of their names. The strings are shared between groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sorted(Vec<(Arc<str>, Arc<str>)>);

impl Sorted {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(label, value)| (label, value))
    }

    fn pair(&self, label: &str) -> Option<&(Arc<str>, Arc<str>)> {
        let place = self
            .0
            .binary_search_by(|(one, _)| (**one).cmp(label))
            .ok()?;
        self.0.get(place)
    }
}

impl Labels for Sorted {
    fn get(&self, key: &str) -> Option<&str> {
        self.pair(key).map(|(_, value)| &**value)
    }
}

/// The items, in groups of those that have the same labels and parents: most clusters have many pods and few kinds of
/// them. What is known of labels and matches is known once for a group.
#[derive(Debug)]
pub(super) struct Items<Item, Parent> {
    /// The group of each.
    items: Slots<Item, u32>,
    groups: Slots<Arc<Identity<Parent>>, Group>,
    parents: BTreeMap<Parent, Family>,
    /// The groups by their labels.
    by_label: BTreeMap<Arc<str>, BTreeMap<Arc<str>, BTreeSet<u32>>>,
    nothing: Sorted,
}

/// What the items of a group have in common.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity<Parent> {
    own: Sorted,
    parents: Vec<Parent>,
}

#[derive(Debug, Default)]
struct Group {
    /// Own labels and inherited ones.
    effective: Sorted,
    /// The queries that match.
    matched: BTreeSet<u32>,
    members: BTreeSet<u32>,
}

/// A parent's labels, and the groups that name it: either can be there first.
#[derive(Debug, Default)]
struct Family {
    labels: BTreeMap<String, String>,
    children: BTreeSet<u32>,
}

/// What a change did to one group's labels.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// The group was not there before.
    pub(super) is_new: bool,
    /// The labels that came, went or have another value.
    pub(super) labels: Vec<Arc<str>>,
}

impl Changed {
    pub(super) fn is_nothing(&self) -> bool {
        !self.is_new && self.labels.is_empty()
    }
}

impl<Item: Clone + Ord, Parent: Clone + Ord> Items<Item, Parent> {
    pub(super) const fn new() -> Self {
        Self {
            items: Slots::new(),
            groups: Slots::new(),
            parents: BTreeMap::new(),
            by_label: BTreeMap::new(),
            nothing: Sorted(Vec::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn slot(&self, item: &Item) -> Option<u32> {
        self.items.slot(item)
    }

    pub(super) fn key(&self, slot: u32) -> Option<&Item> {
        self.items.key(slot)
    }

    /// The group of an item.
    pub(super) fn group_of(&self, item: &Item) -> Option<u32> {
        let slot = self.items.slot(item)?;
        self.items.at(slot).copied()
    }

    /// The items of a group.
    pub(super) fn members(&self, group: u32) -> impl Iterator<Item = u32> {
        let group = self.groups.at(group);
        group.into_iter().flat_map(|g| g.members.iter().copied())
    }

    pub(super) fn labels(&self, group: u32) -> &Sorted {
        self.groups
            .at(group)
            .map_or(&self.nothing, |group| &group.effective)
    }

    /// The queries that match a group.
    pub(super) fn matched(&self, group: u32) -> impl Iterator<Item = u32> {
        let group = self.groups.at(group);
        group.into_iter().flat_map(|g| g.matched.iter().copied())
    }

    pub(super) fn set_matched(&mut self, group: u32, query: u32, matched: bool) {
        let Some(group) = self.groups.at_mut(group) else {
            return;
        };
        if matched {
            group.matched.insert(query);
        } else {
            group.matched.remove(&query);
        }
    }

    /// The group with these labels and parents, made where there is none yet; then, what is new.
    pub(super) fn group(
        &mut self,
        own: &BTreeMap<String, String>,
        parents: Vec<Parent>,
    ) -> (u32, Changed) {
        let own = own.iter();
        let own = Sorted(own.map(|(l, v)| shared(&self.by_label, l, v)).collect());
        let identity = Arc::new(Identity { own, parents });
        if let Some(known) = self.groups.slot(&identity) {
            return (known, Changed::default());
        }
        let (group, _) = self.groups.insert(identity.clone(), Group::default());
        for parent in &identity.parents {
            let family = self.parents.entry(parent.clone()).or_default();
            family.children.insert(group);
        }
        let mut changed = self.inherit(group);
        changed.is_new = true;
        (group, changed)
    }

    /// Puts an item into a group: its number, and the group that it was in before.
    pub(super) fn join(&mut self, item: Item, group: u32) -> (u32, Option<u32>) {
        let (slot, old) = self.items.insert(item, group);
        if let Some(old) = old.and_then(|old| self.groups.at_mut(old)) {
            old.members.remove(&slot);
        }
        if let Some(group) = self.groups.at_mut(group) {
            group.members.insert(slot);
        }
        (slot, old)
    }

    /// Takes an item out of its group.
    pub(super) fn remove(&mut self, item: &Item) {
        let slot = self.items.slot(item);
        let group = self.items.remove(item);
        if let (Some(slot), Some(group)) = (slot, group.and_then(|g| self.groups.at_mut(g))) {
            group.members.remove(&slot);
        }
    }

    /// Forgets a group without members: the queries that matched it.
    pub(super) fn disband(&mut self, group: u32) -> BTreeSet<u32> {
        let state = self.groups.at(group).filter(|g| g.members.is_empty());
        let identity = state.and_then(|_| self.groups.key(group).cloned());
        let Some(identity) = identity else {
            return BTreeSet::new();
        };
        let Some(state) = self.groups.remove(&identity) else {
            return BTreeSet::new();
        };
        self.leave(group, &identity.parents);
        for (label, value) in state.effective.iter() {
            self.unlist(group, label, value);
        }
        state.matched
    }

    pub(super) fn set_parent(
        &mut self,
        parent: Parent,
        labels: BTreeMap<String, String>,
    ) -> Vec<(u32, Changed)> {
        let family = self.parents.entry(parent).or_default();
        family.labels = labels;
        let children: Vec<u32> = family.children.iter().copied().collect();
        self.inherit_each(children)
    }

    pub(super) fn remove_parent(&mut self, parent: &Parent) -> Vec<(u32, Changed)> {
        let Some(family) = self.parents.get_mut(parent) else {
            return Vec::new();
        };
        family.labels = BTreeMap::new();
        let children: Vec<u32> = family.children.iter().copied().collect();
        if children.is_empty() {
            self.parents.remove(parent);
        }
        self.inherit_each(children)
    }

    /// The smallest list of groups that has every one which meets the restrictions.
    pub(super) fn candidates(&self, restrictions: &Restrictions) -> Vec<u32> {
        if restrictions.is_unsatisfiable() {
            return Vec::new();
        }
        let scans = restrictions.iter().filter_map(|(label, restriction)| {
            let values = self.by_label.get(label.as_str());
            let groups: Vec<&BTreeSet<u32>> = match restriction {
                Restriction::Absent => return None,
                Restriction::Present => values.into_iter().flat_map(|v| v.values()).collect(),
                Restriction::OneOf(wanted) => {
                    let of = |value: &crate::Value| values.and_then(|v| v.get(value.as_str()));
                    wanted.iter().filter_map(of).collect()
                }
            };
            Some((groups.iter().map(|i| i.len()).sum::<usize>(), groups))
        });
        match scans.min_by_key(|(cost, _)| *cost) {
            Some((_, groups)) => groups.into_iter().flatten().copied().collect(),
            None => self.groups.slots().collect(),
        }
    }

    fn inherit_each(&mut self, groups: Vec<u32>) -> Vec<(u32, Changed)> {
        groups
            .into_iter()
            .map(|group| (group, self.inherit(group)))
            .collect()
    }

    /// Works the group's labels out again.
    fn inherit(&mut self, slot: u32) -> Changed {
        let Some(identity) = self.groups.key(slot).cloned() else {
            return Changed::default();
        };
        let Some(old) = self.groups.at_mut(slot) else {
            return Changed::default();
        };
        let old = core::mem::take(&mut old.effective);
        let mut merged: BTreeMap<&str, &str> = BTreeMap::new();
        for (label, value) in identity.own.iter() {
            merged.insert(label, value);
        }
        let families = identity.parents.iter().filter_map(|p| self.parents.get(p));
        for (label, value) in families.flat_map(|family| &family.labels) {
            merged.entry(label).or_insert(value);
        }
        let mut changed = Vec::new();
        let mut listed = Vec::new();
        let mut effective = Vec::with_capacity(merged.len());
        for (label, value) in merged {
            if let Some(same) = old.pair(label).filter(|(_, v)| **v == *value) {
                effective.push(same.clone());
                continue;
            }
            let pair = shared(&self.by_label, label, value);
            changed.push(pair.0.clone());
            listed.push(pair.clone());
            effective.push(pair);
        }
        let effective = Sorted(effective);
        for (label, value) in old.iter() {
            match effective.get(label) {
                Some(now) if *now == **value => {}
                Some(_) => self.unlist(slot, label, value),
                None => {
                    self.unlist(slot, label, value);
                    changed.push(label.clone());
                }
            }
        }
        if let Some(group) = self.groups.at_mut(slot) {
            group.effective = effective;
        }
        for (label, value) in listed {
            let values = self.by_label.entry(label).or_default();
            values.entry(value).or_default().insert(slot);
        }
        Changed {
            is_new: false,
            labels: changed,
        }
    }

    fn unlist(&mut self, group: u32, label: &Arc<str>, value: &Arc<str>) {
        let Some(values) = self.by_label.get_mut(label) else {
            return;
        };
        if let Some(groups) = values.get_mut(value) {
            groups.remove(&group);
            if groups.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.by_label.remove(label);
        }
    }

    fn leave(&mut self, group: u32, parents: &[Parent]) {
        for parent in parents {
            if let Some(family) = self.parents.get_mut(parent) {
                family.children.remove(&group);
                if family.children.is_empty() && family.labels.is_empty() {
                    self.parents.remove(parent);
                }
            }
        }
    }
}

/// The label and value as the index already has them, or new ones.
fn shared(
    by_label: &BTreeMap<Arc<str>, BTreeMap<Arc<str>, BTreeSet<u32>>>,
    label: &str,
    value: &str,
) -> (Arc<str>, Arc<str>) {
    let Some((label, values)) = by_label.get_key_value(label) else {
        return (label.into(), value.into());
    };
    let known = values.get_key_value(value).map(|(known, _)| known.clone());
    (label.clone(), known.unwrap_or_else(|| value.into()))
}
