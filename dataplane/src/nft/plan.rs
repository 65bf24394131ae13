//! From what the kernel holds to what it should hold: which messages, in which order, in how many transactions.
//!
//! Each transaction leaves the table consistent. New objects come first: nothing leads to them yet. Then, in one
//! transaction where it fits, everything that changes what live packets meet. Deletions come last. A set that is
//! filled in a transaction can be seen empty for a moment when a rule switches to it in the same one; therefore a
//! new set that has elements makes a transaction of its own, and so does deleting one. The other way round, a packet
//! that began under the old rules can meet a new element already: it would find the chain that the element leads to
//! without rules, if that were made in the same transaction, and pass.

mod groups;
pub(crate) mod ranges;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::compile::{Desired, Dirty, Variant};
use super::known::{Content, Known, KnownChain, KnownSet};
use super::name::Name;
use super::ruleset::{Chain, Element, Family, Hook, Shape};
use crate::KernelError;
use crate::state::{Set, SetChange, SetId};

/// One message, or a few of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    DelTable(Family),
    NewTable(Family),
    NewChain(Name, Option<Hook>),
    NewSet(Name, Shape),
    NewElements(Name, Vec<Element>),
    DelElements(Name, Vec<Element>),
    /// The chain's rule of that index, before the rule with the handle or at the end.
    NewRule {
        chain: Arc<Chain>,
        rule: usize,
        before: Option<u64>,
    },
    DelRule {
        chain: Name,
        handle: u64,
    },
    /// Deletes all rules of the chain.
    Flush(Name),
    DelChain(Name),
    DelSet(Name),
}

/// Operations by phase.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Objects that nothing leads to yet.
    pub(crate) new: Vec<Op>,
    /// What live packets notice.
    pub(crate) switch: Vec<Op>,
    /// Objects that nothing leads to any more.
    pub(crate) old: Vec<Op>,
    /// The table is made anew, in one transaction, for the sake of this set.
    pub(crate) anew: Option<Name>,
}

/// What has to be read before a plan can be made.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    pub(crate) chains: Vec<Name>,
    pub(crate) sets: Vec<Name>,
}

/// The desired side of a comparison.
pub(crate) struct Goal<'a> {
    pub(crate) desired: &'a Desired,
    pub(crate) sets: &'a BTreeMap<SetId, Set>,
    pub(crate) dirty: &'a Dirty,
    /// Nothing is removed, and chains that were there before us stay as they are: it is not known yet what will be
    /// wanted.
    pub(crate) keep: bool,
    /// The chains that we have written ourselves.
    pub(crate) written: &'a BTreeSet<Name>,
    /// What the kernel does not let go.
    pub(crate) stuck: &'a BTreeMap<Name, KernelError>,
}

impl Goal<'_> {
    /// Whether a chain that differs is left alone. Its rules may look at sets that are not known whole yet.
    pub(crate) fn leaves(&self, want: &Chain, have: &KnownChain) -> bool {
        let found = !self.written.contains(&want.name);
        self.keep && found && have.hook == want.hook && !have.closed && !have.rules.is_empty()
    }

    /// Whether something that is not desired has to go.
    fn removes(&self, name: &Name) -> bool {
        !self.keep && !self.stuck.contains_key(name)
    }
}

/// A goal's names for everything that is desired or known.
pub(crate) fn everything(desired: &Desired, known: &Known) -> Dirty {
    let mut dirty = Dirty::default();
    dirty
        .chains
        .extend(desired.chains.keys().chain(known.chains.keys()).cloned());
    dirty.sets.extend(known.sets.keys().cloned());
    dirty
        .sets
        .extend(desired.fixed.keys().chain(desired.variants.keys()).cloned());
    for (name, set) in &desired.collected {
        dirty.sets.remove(name);
        let mut elements: BTreeSet<Element> = set.elements.keys().cloned().collect();
        if let Some(Content::Elements(there)) = known.sets.get(name).map(|set| &set.content) {
            elements.extend(there.iter().cloned());
        }
        dirty.elements.insert(name.clone(), elements);
    }
    dirty
}

/// What must be read from the kernel before [`plan`].
pub(crate) fn missing(goal: &Goal<'_>, known: &Known) -> Missing {
    let mut missing = Missing::default();
    for name in &goal.dirty.chains {
        if let (Some((want, _)), Some(have)) =
            (goal.desired.chains.get(name), known.chains.get(name))
        {
            let changes = !goal.leaves(want, have) && rules::needs_handles(have, want);
            if have.handles.is_none() && changes {
                missing.chains.push(name.clone());
            }
        }
    }
    for name in &goal.dirty.sets {
        let Some(have) = known.sets.get(name) else {
            continue;
        };
        let Some((id, variant, _)) = goal.desired.variants.get(name) else {
            continue;
        };
        let lost = match have.content {
            Content::Elements(_) => false,
            Content::Unknown => true,
            Content::At(moment) => {
                !variant.is_plain() || set(goal, id).changes_after(moment).is_none()
            }
        };
        if lost {
            missing.sets.push(name.clone());
        }
    }
    missing
}

/// Live sets of ranges that cannot take their change: they need another name.
pub(crate) fn uncut(goal: &Goal<'_>, known: &Known) -> Vec<(SetId, Variant)> {
    let names = goal.dirty.sets.iter();
    let cut = names.filter_map(|name| {
        let (id, variant, _) = goal.desired.variants.get(name)?;
        let Content::Elements(there) = &known.sets.get(name)?.content else {
            return None;
        };
        let wanted = || variant.elements(set(goal, id));
        (!goal.keep && !variant.is_plain() && ranges::change(there, &wanted()).is_none())
            .then(|| (id.clone(), *variant))
    });
    cut.collect()
}

/// A set that the kernel has with another shape than is wanted.
pub(crate) fn mangled(goal: &Goal<'_>, known: &Known) -> Option<Name> {
    let names = goal.dirty.sets.iter().chain(goal.dirty.elements.keys());
    let mut known = names.filter_map(|name| Some((name, known.sets.get(name)?)));
    let wrong = known.find(|(name, have)| {
        let want = shape(goal.desired, name);
        want.is_some() && want != have.shape
    });
    wrong.map(|(name, _)| name.clone())
}

fn shape(desired: &Desired, name: &Name) -> Option<Shape> {
    if let Some((fixed, _)) = desired.fixed.get(name) {
        return Some(fixed.shape.clone());
    }
    if let Some((_, variant, _)) = desired.variants.get(name) {
        return Some(variant.shape());
    }
    let collected = desired.collected.get(name).filter(|set| set.exists())?;
    Some(collected.shape.clone())
}

/// The way from `known` to `goal`.
pub(crate) fn plan(goal: &Goal<'_>, known: &Known) -> Plan {
    let mut plan = Plan::default();
    for family in Family::BOTH {
        let wanted = || {
            goal.desired
                .chains
                .keys()
                .any(|name| Family::of(name) == family)
        };
        if !known.tables.contains(&family) && wanted() {
            plan.new.push(Op::NewTable(family));
        }
    }
    let mut rules = Vec::new();
    let mut hooks = Vec::new();
    for name in &goal.dirty.chains {
        match (goal.desired.chains.get(name), known.chains.get(name)) {
            (Some((want, _)), None) => {
                plan.new.push(Op::NewChain(name.clone(), want.hook));
                let target = if want.hook.is_some() {
                    &mut hooks
                } else {
                    &mut rules
                };
                rules::append_all(want, target);
            }
            (Some((want, _)), Some(have)) if goal.leaves(want, have) => {}
            (Some((want, _)), Some(have)) => change_chain(&mut plan, want, have, &mut hooks),
            (None, Some(_)) if goal.removes(name) => {
                plan.old.push(Op::Flush(name.clone()));
            }
            (None, _) => {}
        }
    }
    let mut elements = Vec::new();
    for (name, touched) in &goal.dirty.elements {
        collected(&mut plan, goal, known, name, touched, &mut elements);
    }
    for name in &goal.dirty.sets {
        one_set(&mut plan, goal, known, name, &mut elements);
    }
    // Maps lead to chains, rules look into sets: both are there by then.
    plan.new.extend(elements);
    plan.new.extend(rules);
    plan.switch.extend(hooks);
    // Rules are gone before chains, chains before the sets that they looked into.
    let gone = |name: &&Name| !goal.desired.chains.contains_key(*name) && goal.removes(name);
    let chains = goal.dirty.chains.iter().filter(gone);
    let chains = chains.filter(|name| known.chains.contains_key(*name));
    plan.old.extend(chains.cloned().map(Op::DelChain));
    for name in goal.dirty.sets.iter().chain(goal.dirty.elements.keys()) {
        let unwanted = !wants_set(goal.desired, name) && goal.removes(name);
        if let Some(have) = known.sets.get(name).filter(|_| unwanted) {
            plan.switch.extend(drain(name, have));
            plan.old.push(Op::DelSet(name.clone()));
        }
    }
    plan
}

/// The end of what leads from a map to chains. The kernel lets no chain go that an element leads to, not even when the
/// map goes in the same transaction; it is empty before, behind the rules that no longer look into it.
fn drain(name: &Name, have: &KnownSet) -> Option<Op> {
    let Content::Elements(there) = &have.content else {
        return None;
    };
    let leads = there.iter().any(|element| element.verdict.is_some());
    leads.then(|| Op::DelElements(name.clone(), there.iter().cloned().collect()))
}

pub(crate) fn wants_set(desired: &Desired, name: &Name) -> bool {
    desired.fixed.contains_key(name)
        || desired.variants.contains_key(name)
        || desired
            .collected
            .get(name)
            .is_some_and(super::compile::Collected::exists)
}

fn change_chain(plan: &mut Plan, want: &Arc<Chain>, have: &KnownChain, hooks: &mut Vec<Op>) {
    let target = if want.hook.is_some() {
        hooks
    } else {
        &mut plan.switch
    };
    if have.closed && want.hook == have.hook {
        // Making it again sets the policy.
        target.push(Op::NewChain(want.name.clone(), want.hook));
    }
    if want.hook == have.hook {
        rules::change(want, have, target);
    } else {
        // Somebody made another chain of that name.
        target.push(Op::Flush(want.name.clone()));
        target.push(Op::DelChain(want.name.clone()));
        target.push(Op::NewChain(want.name.clone(), want.hook));
        rules::append_all(want, target);
    }
}

/// A set that pieces put elements into: only the touched elements are looked at.
fn collected(
    plan: &mut Plan,
    goal: &Goal<'_>,
    known: &Known,
    name: &Name,
    touched: &BTreeSet<Element>,
    filling: &mut Vec<Op>,
) {
    let Some(want) = goal.desired.collected.get(name).filter(|set| set.exists()) else {
        return;
    };
    let Some(have) = known.sets.get(name) else {
        plan.new.push(Op::NewSet(name.clone(), want.shape.clone()));
        let all: Vec<Element> = want.elements.keys().cloned().collect();
        if !all.is_empty() {
            filling.push(Op::NewElements(name.clone(), all));
        }
        return;
    };
    let empty = BTreeSet::new();
    let there = match &have.content {
        Content::Elements(there) => there,
        _ => &empty,
    };
    let mut gone = Vec::new();
    let mut new = Vec::new();
    for element in touched {
        match (want.elements.contains_key(element), there.contains(element)) {
            (true, false) => new.push(element.clone()),
            (false, true) if !goal.keep => gone.push(element.clone()),
            _ => {}
        }
    }
    change_elements(plan, name, gone, new);
}

/// A fixed set, or a variant of one of the state's.
fn one_set(plan: &mut Plan, goal: &Goal<'_>, known: &Known, name: &Name, filling: &mut Vec<Op>) {
    let have = known.sets.get(name);
    if let Some((fixed, _)) = goal.desired.fixed.get(name) {
        match have {
            None => fill(plan, filling, name, &fixed.shape, || fixed.elements.clone()),
            Some(have) => compare(plan, goal, name, have, &fixed.elements),
        }
    } else if let Some((id, variant, _)) = goal.desired.variants.get(name) {
        let set = set(goal, id);
        match have.map(|have| (have, &have.content)) {
            None => fill(plan, filling, name, &variant.shape(), || {
                variant.elements(set)
            }),
            Some((_, Content::At(moment))) if variant.is_plain() => {
                let (mut gone, mut new) = (BTreeSet::new(), BTreeSet::new());
                for change in set.changes_after(*moment).unwrap_or_default() {
                    let (member, to, from) = match change {
                        SetChange::Added(member) => (member, &mut new, &mut gone),
                        SetChange::Removed(member) => (member, &mut gone, &mut new),
                    };
                    if let Some(element) = variant.element(member) {
                        // Away and back again is no change.
                        if !from.remove(&element) {
                            to.insert(element);
                        }
                    }
                }
                let gone = gone.into_iter().filter(|_| !goal.keep).collect();
                change_elements(plan, name, gone, new.into_iter().collect());
            }
            Some((_, Content::Elements(there))) if goal.keep && !variant.is_plain() => {
                let new = ranges::growth(there, &variant.elements(set));
                change_elements(plan, name, Vec::new(), new.into_iter().collect());
            }
            Some((have, Content::Elements(there))) if !variant.is_plain() => {
                let want = variant.elements(set);
                match ranges::change(there, &want) {
                    Some((gone, new)) => {
                        let (gone, new) = (gone.into_iter().collect(), new.into_iter().collect());
                        change_elements(plan, name, gone, new);
                    }
                    None => compare(plan, goal, name, have, &want),
                }
            }
            Some((have, _)) => compare(plan, goal, name, have, &variant.elements(set)),
        }
    }
}

fn fill(
    plan: &mut Plan,
    filling: &mut Vec<Op>,
    name: &Name,
    shape: &Shape,
    elements: impl FnOnce() -> BTreeSet<Element>,
) {
    plan.new.push(Op::NewSet(name.clone(), shape.clone()));
    let elements: Vec<Element> = elements().into_iter().collect();
    if !elements.is_empty() {
        filling.push(Op::NewElements(name.clone(), elements));
    }
}

fn compare(
    plan: &mut Plan,
    goal: &Goal<'_>,
    name: &Name,
    have: &KnownSet,
    want: &BTreeSet<Element>,
) {
    let empty = BTreeSet::new();
    let there = match &have.content {
        Content::Elements(there) => there,
        _ => &empty,
    };
    let gone = there.difference(want).filter(|_| !goal.keep);
    let gone = gone.cloned().collect();
    let new = want.difference(there).cloned().collect();
    change_elements(plan, name, gone, new);
}

fn change_elements(plan: &mut Plan, name: &Name, gone: Vec<Element>, new: Vec<Element>) {
    if !gone.is_empty() {
        plan.switch.push(Op::DelElements(name.clone(), gone));
    }
    if !new.is_empty() {
        plan.switch.push(Op::NewElements(name.clone(), new));
    }
}

fn set<'a>(goal: &Goal<'a>, id: &SetId) -> &'a Set {
    static NONE: std::sync::OnceLock<Set> = std::sync::OnceLock::new();
    goal.sets
        .get(id)
        .unwrap_or_else(|| NONE.get_or_init(Set::default))
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DelTable(family) => write!(f, "the end of the table of family {}", family.word()),
            Self::NewTable(family) => write!(f, "the table of family {}", family.word()),
            Self::NewChain(name, _) => write!(f, "chain {name}"),
            Self::NewSet(name, _) => write!(f, "set {name}"),
            Self::NewElements(name, all) => write!(f, "{} new elements of set {name}", all.len()),
            Self::DelElements(name, all) => write!(f, "{} old elements of set {name}", all.len()),
            Self::NewRule { chain, rule, .. } => match chain.rules.get(*rule) {
                Some(text) => write!(f, "rule `{text}` of chain {}", chain.name),
                None => write!(f, "a rule of chain {}", chain.name),
            },
            Self::DelRule { chain, .. } => write!(f, "an old rule of chain {chain}"),
            Self::Flush(name) => write!(f, "all old rules of chain {name}"),
            Self::DelChain(name) => write!(f, "the end of chain {name}"),
            Self::DelSet(name) => write!(f, "the end of set {name}"),
        }
    }
}
