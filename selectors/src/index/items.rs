use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::slots::Slots;
use crate::{Restriction, Restrictions};

/// An item's labels, its own and the inherited ones. The strings are shared between items.
pub(super) type Effective = BTreeMap<Arc<str>, Arc<str>>;

/// The items, their parents, and which items have which label.
#[derive(Debug)]
pub(super) struct Items<Item, Parent> {
    items: Slots<Item, State<Parent>>,
    parents: BTreeMap<Parent, Family>,
    by_label: BTreeMap<Arc<str>, BTreeMap<Arc<str>, BTreeSet<u32>>>,
    nothing: Effective,
}

#[derive(Debug)]
struct State<Parent> {
    own: BTreeMap<String, String>,
    parents: Vec<Parent>,
    effective: Effective,
    matched: BTreeSet<u32>,
}

/// A parent's labels, and the items that name it: either can be there first.
#[derive(Debug, Default)]
struct Family {
    labels: BTreeMap<String, String>,
    children: BTreeSet<u32>,
}

/// What a change did to one item's labels.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// The item was not there before.
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
            parents: BTreeMap::new(),
            by_label: BTreeMap::new(),
            nothing: BTreeMap::new(),
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

    pub(super) fn labels(&self, slot: u32) -> &Effective {
        self.items
            .at(slot)
            .map_or(&self.nothing, |state| &state.effective)
    }

    /// The queries that match the item.
    pub(super) fn matched(&self, slot: u32) -> impl Iterator<Item = u32> {
        let state = self.items.at(slot);
        state.into_iter().flat_map(|s| s.matched.iter().copied())
    }

    pub(super) fn set_matched(&mut self, slot: u32, query: u32, matched: bool) {
        let Some(state) = self.items.at_mut(slot) else {
            return;
        };
        if matched {
            state.matched.insert(query);
        } else {
            state.matched.remove(&query);
        }
    }

    pub(super) fn set(
        &mut self,
        item: Item,
        own: BTreeMap<String, String>,
        parents: Vec<Parent>,
    ) -> (u32, Changed) {
        let known = self.items.slot(&item);
        let slot = match known.and_then(|slot| Some((slot, self.items.at_mut(slot)?))) {
            Some((slot, state)) => {
                state.own = own;
                let old = core::mem::replace(&mut state.parents, parents.clone());
                self.leave(slot, &old);
                slot
            }
            None => {
                let state = State {
                    own,
                    parents: parents.clone(),
                    effective: BTreeMap::new(),
                    matched: BTreeSet::new(),
                };
                self.items.insert(item, state).0
            }
        };
        for parent in parents {
            self.parents
                .entry(parent)
                .or_default()
                .children
                .insert(slot);
        }
        let mut changed = self.inherit(slot);
        changed.is_new = known.is_none();
        (slot, changed)
    }

    pub(super) fn remove(&mut self, item: &Item) {
        let Some(slot) = self.items.slot(item) else {
            return;
        };
        if let Some(state) = self.items.remove(item) {
            self.leave(slot, &state.parents);
            for (label, value) in &state.effective {
                self.unlist(slot, label, value);
            }
        }
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

    /// The smallest list of items that has every item which meets the restrictions.
    pub(super) fn candidates(&self, restrictions: &Restrictions) -> Vec<u32> {
        if restrictions.is_unsatisfiable() {
            return Vec::new();
        }
        let scans = restrictions.iter().filter_map(|(label, restriction)| {
            let values = self.by_label.get(label.as_str());
            let items: Vec<&BTreeSet<u32>> = match restriction {
                Restriction::Absent => return None,
                Restriction::Present => values.into_iter().flat_map(|v| v.values()).collect(),
                Restriction::OneOf(wanted) => {
                    let of = |value: &crate::Value| values.and_then(|v| v.get(value.as_str()));
                    wanted.iter().filter_map(of).collect()
                }
            };
            Some((items.iter().map(|i| i.len()).sum::<usize>(), items))
        });
        match scans.min_by_key(|(cost, _)| *cost) {
            Some((_, items)) => items.into_iter().flatten().copied().collect(),
            None => self.items.slots().collect(),
        }
    }

    fn inherit_each(&mut self, slots: Vec<u32>) -> Vec<(u32, Changed)> {
        slots
            .into_iter()
            .map(|slot| (slot, self.inherit(slot)))
            .collect()
    }

    /// Works the item's labels out again.
    fn inherit(&mut self, slot: u32) -> Changed {
        let Some(state) = self.items.at_mut(slot) else {
            return Changed::default();
        };
        let old = core::mem::take(&mut state.effective);
        let mut merged: BTreeMap<&str, &str> = BTreeMap::new();
        let families = state.parents.iter().filter_map(|p| self.parents.get(p));
        for labels in core::iter::once(&state.own).chain(families.map(|f| &f.labels)) {
            for (label, value) in labels {
                merged.entry(label).or_insert(value);
            }
        }
        let mut changed = Vec::new();
        let mut listed = Vec::new();
        let mut effective = Effective::new();
        for (label, value) in merged {
            if let Some((label, same)) = old.get_key_value(label).filter(|(_, v)| ***v == *value) {
                effective.insert(label.clone(), same.clone());
                continue;
            }
            let (label, value) = shared(&self.by_label, label, value);
            changed.push(label.clone());
            listed.push((label.clone(), value.clone()));
            effective.insert(label, value);
        }
        state.effective = effective;
        for (label, value) in old {
            match self.labels(slot).get(&label) {
                Some(now) if *now == value => {}
                Some(_) => self.unlist(slot, &label, &value),
                None => {
                    self.unlist(slot, &label, &value);
                    changed.push(label);
                }
            }
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

    fn unlist(&mut self, slot: u32, label: &Arc<str>, value: &Arc<str>) {
        let Some(values) = self.by_label.get_mut(label) else {
            return;
        };
        if let Some(items) = values.get_mut(value) {
            items.remove(&slot);
            if items.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.by_label.remove(label);
        }
    }

    fn leave(&mut self, slot: u32, parents: &[Parent]) {
        for parent in parents {
            if let Some(family) = self.parents.get_mut(parent) {
                family.children.remove(&slot);
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
