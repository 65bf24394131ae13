//! Which selectors match which items, kept up to date as either changes.

mod anchors;
mod items;
mod slots;

use alloc::collections::BTreeSet;
use alloc::collections::btree_map::{BTreeMap, Entry};
use alloc::string::String;
use alloc::vec::Vec;

use crate::Selector;
use anchors::{Anchor, Anchors};
use items::{Changed, Items};
use slots::Slots;

/// An incremental index: items with labels on one side, selectors (queries) on the other, and a stream of matches
/// that started and stopped between them.
///
/// Items inherit labels from parents (a pod from its namespace): an item's own labels win, then the first parent that
/// has the label. Items, parents and queries come and go in any order; the state after is the same for every order.
///
/// The work of a change is in proportion to what can change by it: when labels of an item change, only selectors that
/// name a changed label are evaluated, and of those only the ones that the item matched, or that are filed under a
/// label value that it has. Items with the same labels and parents are one group: they are evaluated once, and their
/// labels are stored once. [`counters`](Self::counters) tells.
///
/// ```
/// use ocicat_selectors::{LabelIndex, MatchChange};
///
/// let mut index = LabelIndex::<&str, &str, &str>::new();
/// index.set_query("frontends", "role == 'web' && env == 'prod'".parse()?);
/// index.set_parent("namespace", [("env".to_owned(), "prod".to_owned())].into());
/// index.set_item("pod", [("role".to_owned(), "web".to_owned())].into(), vec!["namespace"]);
/// assert_eq!(index.poll_change(), Some(MatchChange::Started { item: "pod", query: "frontends" }));
/// index.remove_parent(&"namespace");
/// assert_eq!(index.poll_change(), Some(MatchChange::Stopped { item: "pod", query: "frontends" }));
/// # Ok::<(), ocicat_selectors::ParseError>(())
/// ```
#[derive(Debug)]
pub struct LabelIndex<Item, Query, Parent = String> {
    items: Items<Item, Parent>,
    queries: Slots<Query, QueryState>,
    anchors: Anchors,
    /// What happened and was not polled yet: true for started. Opposites cancel each other.
    pending: BTreeMap<(Query, Item), bool>,
    evaluations: u64,
    visits: u64,
    matches: usize,
}

/// A selector with what the index knows about it.
#[derive(Debug)]
struct QueryState {
    selector: Selector,
    anchor: Anchor,
    /// The labels that it names, in order.
    labels: Vec<crate::Label>,
    /// The groups of items that it matches.
    matched: BTreeSet<u32>,
}

/// A match that began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchChange<Item, Query> {
    /// The query now matches the item.
    Started {
        /// The item.
        item: Item,
        /// The query.
        query: Query,
    },
    /// The query no longer matches the item, or one of them is gone.
    Stopped {
        /// The item.
        item: Item,
        /// The query.
        query: Query,
    },
}

/// What an index holds and what it did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Items.
    pub items: usize,
    /// Queries.
    pub queries: usize,
    /// Pairs of an item and a query that matches it.
    pub matches: usize,
    /// Evaluations of a selector against labels, so far; one is for all items that have the same.
    pub evaluations: u64,
    /// Pairs of a query and a group of items with the same labels that were looked at, so far, to decide whether to
    /// evaluate.
    pub visits: u64,
}

impl<Item, Query, Parent> Default for LabelIndex<Item, Query, Parent>
where
    Item: Clone + Ord,
    Query: Clone + Ord,
    Parent: Clone + Ord,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<Item, Query, Parent> LabelIndex<Item, Query, Parent>
where
    Item: Clone + Ord,
    Query: Clone + Ord,
    Parent: Clone + Ord,
{
    /// An empty index.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            items: Items::new(),
            queries: Slots::new(),
            anchors: Anchors::new(),
            pending: BTreeMap::new(),
            evaluations: 0,
            visits: 0,
            matches: 0,
        }
    }

    /// Adds an item or replaces its labels and parents. Parents need not be known yet; unknown ones have no labels.
    pub fn set_item(&mut self, item: Item, labels: BTreeMap<String, String>, parents: Vec<Parent>) {
        let (group, changed) = self.items.group(&labels, parents);
        self.relabelled(group, &changed);
        let (slot, old) = self.items.join(item, group);
        if old == Some(group) {
            return;
        }
        let after: BTreeSet<u32> = self.items.matched(group).collect();
        let before = old.map(|old| self.items.matched(old).collect());
        let before: BTreeSet<u32> = before.unwrap_or_default();
        for query in before.difference(&after) {
            self.note(slot, *query, false);
        }
        for query in after.difference(&before) {
            self.note(slot, *query, true);
        }
        if let Some(old) = old {
            self.disband(old);
        }
    }

    /// Removes an item; its matches stop.
    pub fn remove_item(&mut self, item: &Item) {
        let (Some(slot), Some(group)) = (self.items.slot(item), self.items.group_of(item)) else {
            return;
        };
        let matched: Vec<u32> = self.items.matched(group).collect();
        for query in matched {
            self.note(slot, query, false);
        }
        self.items.remove(item);
        self.disband(group);
    }

    /// Gives a parent these labels; items that name it inherit them.
    pub fn set_parent(&mut self, parent: Parent, labels: BTreeMap<String, String>) {
        for (group, changed) in self.items.set_parent(parent, labels) {
            self.relabelled(group, &changed);
        }
    }

    /// Takes a parent's labels away. Items go on naming it and inherit again when it comes back.
    pub fn remove_parent(&mut self, parent: &Parent) {
        for (group, changed) in self.items.remove_parent(parent) {
            self.relabelled(group, &changed);
        }
    }

    /// Adds a query or replaces its selector.
    pub fn set_query(&mut self, query: Query, selector: Selector) {
        let known = self.queries.slot(&query);
        if let Some(state) = known.and_then(|slot| self.queries.at(slot)) {
            if state.selector == selector {
                return;
            }
        }
        let restrictions = selector.restrictions();
        let anchor = self.anchors.choose(&restrictions, &selector);
        let mut new = BTreeSet::new();
        for group in self.items.candidates(&restrictions) {
            self.visits += 1;
            self.evaluations += 1;
            if selector.matches(self.items.labels(group)) {
                new.insert(group);
            }
        }
        let state = QueryState {
            labels: anchors::labels_named(&selector),
            selector,
            anchor: anchor.clone(),
            matched: new.clone(),
        };
        let (slot, old) = self.queries.insert(query, state);
        let old_matched = old.map(|old| {
            self.anchors.remove(slot, &old.anchor);
            old.matched
        });
        let old_matched = old_matched.unwrap_or_default();
        self.anchors.insert(slot, anchor);
        for group in old_matched.difference(&new) {
            self.note_group(*group, slot, false);
        }
        for group in new.difference(&old_matched) {
            self.note_group(*group, slot, true);
        }
    }

    /// Removes a query; its matches stop.
    pub fn remove_query(&mut self, query: &Query) {
        let Some(slot) = self.queries.slot(query) else {
            return;
        };
        let matched = self
            .queries
            .at_mut(slot)
            .map(|q| core::mem::take(&mut q.matched));
        for group in matched.unwrap_or_default() {
            self.note_group(group, slot, false);
        }
        if let Some(state) = self.queries.remove(query) {
            self.anchors.remove(slot, &state.anchor);
        }
    }

    /// The next match that started or stopped since the last poll, ordered by query and item. A match that started and
    /// stopped between two polls is not reported.
    pub fn poll_change(&mut self) -> Option<MatchChange<Item, Query>> {
        let ((query, item), started) = self.pending.pop_first()?;
        Some(if started {
            MatchChange::Started { item, query }
        } else {
            MatchChange::Stopped { item, query }
        })
    }

    /// Whether the query matches the item now; false when either is unknown.
    #[must_use]
    pub fn is_match(&self, item: &Item, query: &Query) -> bool {
        let state = self
            .queries
            .slot(query)
            .and_then(|slot| self.queries.at(slot));
        match (self.items.group_of(item), state) {
            (Some(group), Some(state)) => state.matched.contains(&group),
            _ => false,
        }
    }

    /// The items that the query matches, in no particular order.
    pub fn matches(&self, query: &Query) -> impl Iterator<Item = &Item> {
        self.queries
            .slot(query)
            .and_then(|slot| self.queries.at(slot))
            .into_iter()
            .flat_map(|state| state.matched.iter())
            .flat_map(|group| self.items.members(*group))
            .filter_map(|slot| self.items.key(slot))
    }

    /// The queries that match the item, in no particular order.
    pub fn queries_of(&self, item: &Item) -> impl Iterator<Item = &Query> {
        self.items
            .group_of(item)
            .into_iter()
            .flat_map(|group| self.items.matched(group))
            .filter_map(|slot| self.queries.key(slot))
    }

    /// The labels of an item, its own and inherited ones; `None` when it is unknown.
    #[must_use]
    pub fn labels(&self, item: &Item) -> Option<&impl crate::Labels> {
        let group = self.items.group_of(item)?;
        Some(self.items.labels(group))
    }

    /// What the index holds and did.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            items: self.items.len(),
            queries: self.queries.len(),
            matches: self.matches,
            evaluations: self.evaluations,
            visits: self.visits,
        }
    }

    /// Evaluates what can start or stop to match a group after labels changed.
    fn relabelled(&mut self, group: u32, changed: &Changed) {
        if changed.is_nothing() {
            return;
        }
        let mut candidates: BTreeSet<u32> = self.items.matched(group).collect();
        for (label, value) in self.items.labels(group).iter() {
            self.anchors.filed_under(label, value, &mut candidates);
        }
        if changed.is_new {
            self.anchors.unfiled(&mut candidates);
        }
        for label in &changed.labels {
            self.anchors.unfiled_naming(label, &mut candidates);
        }
        for slot in candidates {
            self.visits += 1;
            let Some(query) = self.queries.at_mut(slot) else {
                continue;
            };
            if !changed.is_new && !query.names_any(&changed.labels) {
                continue;
            }
            self.evaluations += 1;
            let is = query.selector.matches(self.items.labels(group));
            let was = query.matched.contains(&group);
            if is && !was {
                query.matched.insert(group);
                self.note_group(group, slot, true);
            } else if was && !is {
                query.matched.remove(&group);
                self.note_group(group, slot, false);
            }
        }
    }

    /// Forgets a group that nothing is left in.
    fn disband(&mut self, group: u32) {
        for query in self.items.disband(group) {
            if let Some(state) = self.queries.at_mut(query) {
                state.matched.remove(&group);
            }
        }
    }

    /// Remembers that a match started or stopped, on the group's side and for the next poll.
    fn note_group(&mut self, group: u32, query: u32, started: bool) {
        self.items.set_matched(group, query, started);
        let members: Vec<u32> = self.items.members(group).collect();
        for item in members {
            self.note(item, query, started);
        }
    }

    /// Remembers that a match started or stopped, for the next poll.
    fn note(&mut self, item: u32, query: u32, started: bool) {
        if started {
            self.matches += 1;
        } else {
            self.matches -= 1;
        }
        let (Some(item), Some(query)) = (self.items.key(item), self.queries.key(query)) else {
            return;
        };
        match self.pending.entry((query.clone(), item.clone())) {
            Entry::Vacant(entry) => {
                entry.insert(started);
            }
            Entry::Occupied(entry) => {
                // Only the opposite can be pending: the two together are no change.
                entry.remove();
            }
        }
    }
}

impl QueryState {
    fn names_any(&self, labels: &[alloc::sync::Arc<str>]) -> bool {
        labels.iter().any(|changed| {
            self.labels
                .binary_search_by(|label| label.as_str().cmp(changed))
                .is_ok()
        })
    }
}
