use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::{Label, Restriction, Restrictions, Selector, Value};

/// Where a query is filed: what an item must have so that the query can match it.
#[derive(Clone, Debug)]
pub(super) enum Anchor {
    /// One of these values of the label.
    Values(Label, Vec<Value>),
    /// The label.
    Label(Label),
    /// It matches nothing.
    Never,
    /// No such thing; the labels are those that the selector names.
    Unfiled(Vec<Label>),
}

/// The queries by their anchors.
#[derive(Debug)]
pub(super) struct Anchors {
    values: BTreeMap<Label, BTreeMap<Value, BTreeSet<u32>>>,
    labels: BTreeMap<Label, BTreeSet<u32>>,
    unfiled: BTreeSet<u32>,
    /// The unfiled queries by the labels that they name.
    naming: BTreeMap<Label, BTreeSet<u32>>,
}

/// The labels that a selector names, in order, once each.
pub(super) fn labels_named(selector: &Selector) -> Vec<Label> {
    let mut labels = BTreeSet::new();
    selector.expr().visit_labels(&mut |label| {
        labels.insert(label.clone());
    });
    labels.into_iter().collect()
}

impl Anchors {
    pub(super) const fn new() -> Self {
        Self {
            values: BTreeMap::new(),
            labels: BTreeMap::new(),
            unfiled: BTreeSet::new(),
            naming: BTreeMap::new(),
        }
    }

    /// The most selective place: values before a mere label, and the place with the fewest queries so far.
    pub(super) fn choose(&self, restrictions: &Restrictions, selector: &Selector) -> Anchor {
        if restrictions.is_unsatisfiable() {
            return Anchor::Never;
        }
        let best = restrictions
            .iter()
            .filter_map(|(label, restriction)| {
                let cost = self.cost(label, restriction)?;
                Some((cost, label, restriction))
            })
            .min_by_key(|(cost, _, _)| *cost);
        match best {
            Some((_, label, Restriction::OneOf(values))) => {
                Anchor::Values(label.clone(), values.iter().cloned().collect())
            }
            Some((_, label, _)) => Anchor::Label(label.clone()),
            None => Anchor::Unfiled(labels_named(selector)),
        }
    }

    pub(super) fn insert(&mut self, query: u32, anchor: Anchor) {
        match anchor {
            Anchor::Values(label, values) => {
                let by_value = self.values.entry(label).or_default();
                for value in values {
                    by_value.entry(value).or_default().insert(query);
                }
            }
            Anchor::Label(label) => {
                self.labels.entry(label).or_default().insert(query);
            }
            Anchor::Never => {}
            Anchor::Unfiled(labels) => {
                self.unfiled.insert(query);
                for label in labels {
                    self.naming.entry(label).or_default().insert(query);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, query: u32, anchor: &Anchor) {
        match anchor {
            Anchor::Values(label, values) => {
                let Some(by_value) = self.values.get_mut(label) else {
                    return;
                };
                for value in values {
                    take_out(by_value, value, query);
                }
                if by_value.is_empty() {
                    self.values.remove(label);
                }
            }
            Anchor::Label(label) => take_out(&mut self.labels, label, query),
            Anchor::Never => {}
            Anchor::Unfiled(labels) => {
                self.unfiled.remove(&query);
                for label in labels {
                    take_out(&mut self.naming, label, query);
                }
            }
        }
    }

    /// Adds the queries that an item with this label can match.
    pub(super) fn filed_under(&self, label: &str, value: &str, into: &mut BTreeSet<u32>) {
        into.extend(self.labels.get(label).into_iter().flatten());
        let by_value = self.values.get(label);
        into.extend(by_value.and_then(|v| v.get(value)).into_iter().flatten());
    }

    /// Adds the queries that any item can match.
    pub(super) fn unfiled(&self, into: &mut BTreeSet<u32>) {
        into.extend(&self.unfiled);
    }

    /// Adds the queries that any item can match and that name the label.
    pub(super) fn unfiled_naming(&self, label: &str, into: &mut BTreeSet<u32>) {
        into.extend(self.naming.get(label).into_iter().flatten());
    }

    fn cost(&self, label: &Label, restriction: &Restriction) -> Option<(bool, usize)> {
        match restriction {
            Restriction::OneOf(values) => {
                let by_value = self.values.get(label);
                let queries = |value| by_value.and_then(|v| v.get(value)).map_or(0, BTreeSet::len);
                let others: usize = values.iter().map(queries).sum();
                Some((false, others + values.len()))
            }
            Restriction::Present => Some((true, self.labels.get(label).map_or(0, BTreeSet::len))),
            Restriction::Absent => None,
        }
    }
}

fn take_out<K: Ord>(map: &mut BTreeMap<K, BTreeSet<u32>>, key: &K, query: u32) {
    if let Some(queries) = map.get_mut(key) {
        queries.remove(&query);
        if queries.is_empty() {
            map.remove(key);
        }
    }
}
