//! What the table should hold, kept from one state to the next, and what of it changed since the kernel was told.

mod dirty;
#[cfg(feature = "linux")]
mod refused;
mod seen;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub(crate) use dirty::Dirty;
use seen::{Seen, tunnels};

use super::rule::Style;
use super::{Census, Editions, Fixed, Needs, Output, Piece, Track, Variant, base, endpoint};
use crate::nft::Lacking;
use crate::nft::lacking::without;
use crate::nft::name::Name;
use crate::nft::ruleset::{Chain, Element, Family, Shape};
use crate::report::Fault;
use crate::state::{LinkName, Policy, PolicyId, Set, SetId, Tier};
use crate::{KernelError, State};

/// The desired objects, each with how many pieces want it.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    pub(crate) chains: HashMap<Name, (Arc<Chain>, usize)>,
    pub(crate) fixed: HashMap<Name, (Arc<Fixed>, usize)>,
    pub(crate) collected: HashMap<Name, Collected>,
    pub(crate) variants: HashMap<Name, (SetId, Variant, usize)>,
    outputs: BTreeMap<Piece, Output>,
    tracks: BTreeMap<SetId, Track>,
    jumps: BTreeMap<Piece, usize>,
    tiers: BTreeMap<Name, Tier>,
    /// Pieces whose number of jumps changed.
    touched: BTreeSet<Piece>,
    editions: Editions,
    /// Pieces that have to be compiled anew for another reason than the state.
    again: BTreeSet<Piece>,
    /// Pieces that deny, since the kernel refused them.
    refused: BTreeMap<Piece, Fault>,
    /// Sets that the kernel refused.
    refused_sets: BTreeMap<SetId, KernelError>,
    seen: Option<Seen>,
    lacking: Vec<Lacking>,
    dirty: Dirty,
}

/// A set that several pieces put elements into.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) shape: Shape,
    pub(crate) elements: BTreeMap<Element, usize>,
    wanted: usize,
}

impl Desired {
    /// Compiles what of `state` is not as it was at the last call.
    pub(crate) fn update(&mut self, state: &State) {
        let tunnels = tunnels(state);
        let mut todo = BTreeSet::new();
        let seen = self.seen.take().unwrap_or_else(|| {
            todo.insert(Piece::Base);
            Seen::nothing(state)
        });
        self.follow_sets(&state.sets, &mut todo);
        let seen = seen.follow(state, tunnels, self.outputs.keys(), &mut todo);
        #[cfg(feature = "linux")]
        self.forgive_changed(&todo);
        todo.append(&mut self.again);
        if todo.is_empty() {
            self.seen = Some(seen);
            return;
        }
        // Endpoints first: they say which tiers are wanted, and those which policies.
        let jumped_to = todo.split_off(&first_tier());
        for piece in &todo {
            self.replace(piece, state, &seen.tunnels);
        }
        let policies = first_policy();
        let is_tier = |piece: &Piece| *piece < policies;
        self.follow_jumps(state, &seen.tunnels, &jumped_to, is_tier);
        self.follow_jumps(state, &seen.tunnels, &jumped_to, |piece| !is_tier(piece));
        self.seen = Some(seen);
    }

    /// Compiles the pieces that are jumped to and new or in `todo`, and lets go of those that nothing jumps to.
    fn follow_jumps(
        &mut self,
        state: &State,
        tunnels: &[LinkName],
        todo: &BTreeSet<Piece>,
        which: impl Fn(&Piece) -> bool,
    ) {
        let touched = std::mem::take(&mut self.touched);
        let (now, later): (BTreeSet<Piece>, _) = touched.into_iter().partition(|p| which(p));
        self.touched = later;
        for piece in now.iter().chain(
            todo.iter()
                .filter(|piece| which(piece) && !now.contains(*piece)),
        ) {
            let count = self.jumps.get(piece).copied().unwrap_or(0);
            if count == 0 {
                self.jumps.remove(piece);
                if let Some(old) = self.outputs.remove(piece) {
                    self.release(piece, &old, None);
                }
                if let Piece::Tier(name, _) = piece {
                    self.tiers.remove(name);
                }
            } else if todo.contains(piece) || !self.outputs.contains_key(piece) {
                self.replace(piece, state, tunnels);
            }
        }
    }

    /// From now on does without something that the kernel lacks: the next [`update`](Self::update) compiles all
    /// anew. False when that was known.
    pub(crate) fn do_without(&mut self, lacking: Lacking) -> bool {
        let new = !self.lacking.contains(&lacking);
        if new {
            self.lacking.push(lacking);
            self.seen = None;
        }
        new
    }

    /// From now on a set of ranges goes by its other name: the next [`update`](Self::update) compiles what looks at it.
    pub(crate) fn rename(&mut self, id: &SetId, variant: Variant) {
        let key = (id.clone(), variant.version());
        if !self.editions.remove(&key) {
            self.editions.insert(key);
        }
        if let Some(track) = self.tracks.get(id) {
            self.again.extend(track.users.iter().cloned());
        }
    }

    /// Whether something else than the state asks for an [`update`](Self::update).
    #[cfg(feature = "linux")]
    pub(crate) fn is_outdated(&self) -> bool {
        self.seen.is_none() || !self.again.is_empty()
    }

    /// What the kernel was found to lack.
    pub(crate) fn lacking(&self) -> &[Lacking] {
        &self.lacking
    }

    /// The chains of policies and profiles.
    #[cfg(feature = "linux")]
    pub(crate) fn policies(&self) -> impl Iterator<Item = (&Piece, &Arc<Chain>)> {
        let outputs = self.outputs.iter();
        let rules =
            outputs.filter(|(piece, _)| matches!(piece, Piece::Policy(..) | Piece::Profile(..)));
        rules.filter_map(|(piece, output)| Some((piece, output.chains.first()?)))
    }

    /// What changed since the last call, now the caller's business.
    pub(crate) fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Whether the kernel has to be told anything.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Sets of the state that changed, and the pieces whose rules depend on how.
    fn follow_sets(&mut self, sets: &BTreeMap<SetId, Set>, todo: &mut BTreeSet<Piece>) {
        let none = Set::default();
        let mut changed = Vec::new();
        for (id, track) in &mut self.tracks {
            let set = sets.get(id).unwrap_or(&none);
            if set.moment() == track.moment {
                continue;
            }
            let before = track.census.variants();
            match set.changes_after(track.moment) {
                Some(changes) => track.census.follow(changes),
                None => track.census = Census::of(set),
            }
            track.moment = set.moment();
            changed.push(id.clone());
            let after = track.census.variants();
            if before != after {
                todo.extend(track.users.iter().cloned());
            }
            for variant in before.iter().chain(&after).flatten() {
                for variant in std::iter::once(*variant).chain(variant.other()) {
                    let name = variant.name(id);
                    if self.variants.contains_key(&name) {
                        self.dirty.sets.insert(name);
                    }
                }
            }
        }
        #[cfg(feature = "linux")]
        for id in &changed {
            self.forgive_set(id);
        }
    }

    fn replace(&mut self, piece: &Piece, state: &State, tunnels: &[LinkName]) {
        let mut output = self.compile(piece, state, tunnels);
        if let Some(output) = output.as_mut().filter(|_| !self.lacking.is_empty()) {
            for chain in &mut output.chains {
                let rules = chain.rules.iter();
                let rules = rules
                    .filter_map(|rule| without(rule, &self.lacking))
                    .collect();
                *chain = Arc::new(Chain {
                    name: chain.name.clone(),
                    hook: chain.hook,
                    rules,
                });
            }
            if self.lacking.contains(&Lacking::Arp) {
                let stays = |name: &Name| Family::of(name) != Family::Arp;
                output.chains.retain(|chain| stays(&chain.name));
                output.collections.retain(|(name, _)| stays(name));
                output.elements.retain(|(name, _)| stays(name));
            }
        }
        if let Some(output) = &output {
            self.add(piece, output, &state.sets);
        }
        if let Some(old) = self.outputs.remove(piece) {
            self.release(piece, &old, output.as_ref());
        }
        if let Some(output) = output {
            self.outputs.insert(piece.clone(), output);
        }
    }

    fn compile(&self, piece: &Piece, state: &State, tunnels: &[LinkName]) -> Option<Output> {
        if self.refused.contains_key(piece) {
            return endpoint::refused(piece, state);
        }
        let mut output = Output::default();
        let mut needs = Needs {
            censuses: &self.tracks,
            sets: &state.sets,
            editions: &self.editions,
            output: &mut output,
        };
        let style = Style {
            denied: state.host.denied,
            logging: &state.host.logging,
        };
        let nothing = Policy::default();
        let missing = endpoint::missing();
        let known = |name: &Name| self.tiers.contains_key(name);
        match piece {
            Piece::Base => {
                let base = base::Base {
                    host: &state.host,
                    nat: &state.nat,
                    endpoints: &state.hosts,
                    tunnels,
                };
                base::compile(&base, &mut needs);
            }
            Piece::Workload(link) => {
                let workload = state.workloads.get(link)?;
                return Some(endpoint::workload(link, workload, &state.host, &known));
            }
            Piece::Host(id) => {
                let host = state.hosts.get(id)?;
                return Some(endpoint::host(id.as_str(), host, &state.host, &known));
            }
            Piece::Tier(name, direction) => {
                let tier = self.tiers.get(name)?;
                return Some(endpoint::tier(name, tier, *direction, &state.host));
            }
            // A policy that is named and not there denies, until it is.
            Piece::Policy(id, _) => {
                let policy = state.policies.get(id).map_or(&missing, |policy| policy);
                endpoint::policy(piece, policy, style, &mut needs);
            }
            // A profile that is not there allows nothing.
            Piece::Profile(id, _) => {
                let policy = state.profiles.get(id).map_or(&nothing, |policy| policy);
                endpoint::policy(piece, policy, style, &mut needs);
            }
        }
        Some(output)
    }

    fn add(&mut self, piece: &Piece, output: &Output, sets: &BTreeMap<SetId, Set>) {
        for chain in &output.chains {
            let entry = self.chains.entry(chain.name.clone());
            let (content, count) = entry.or_insert_with(|| (chain.clone(), 0));
            content.clone_from(chain);
            *count += 1;
            self.dirty.chains.insert(chain.name.clone());
        }
        for set in &output.fixed {
            let entry = self.fixed.entry(set.name.clone());
            entry.or_insert_with(|| (set.clone(), 0)).1 += 1;
            self.dirty.sets.insert(set.name.clone());
        }
        for (name, shape) in &output.collections {
            let set = self
                .collected
                .entry(name.clone())
                .or_insert_with(|| Collected::new(shape));
            set.shape = shape.clone();
            set.wanted += 1;
            self.dirty.elements.entry(name.clone()).or_default();
        }
        for (name, element) in &output.elements {
            // The base piece says what the set is; whoever comes first makes room for it.
            let shape = || Collected::new(&Shape::dispatch());
            let set = self.collected.entry(name.clone()).or_insert_with(shape);
            *set.elements.entry(element.clone()).or_default() += 1;
            self.dirty
                .elements
                .entry(name.clone())
                .or_default()
                .insert(element.clone());
        }
        for id in &output.looks_at {
            let track = self.tracks.entry(id.clone()).or_insert_with(|| {
                let set = sets.get(id).cloned().unwrap_or_default();
                Track {
                    moment: set.moment(),
                    census: Census::of(&set),
                    users: BTreeSet::new(),
                }
            });
            track.users.insert(piece.clone());
        }
        for (id, variant) in &output.variants {
            let name = variant.name(id);
            let entry = self.variants.entry(name.clone());
            entry.or_insert_with(|| (id.clone(), *variant, 0)).2 += 1;
            self.dirty.sets.insert(name);
        }
        for piece in &output.jumps_to {
            *self.jumps.entry(piece.clone()).or_default() += 1;
            self.touched.insert(piece.clone());
        }
        for (name, tier) in &output.tiers {
            self.tiers
                .entry(name.clone())
                .or_insert_with(|| tier.clone());
        }
    }

    /// Takes back what `output` wanted; `kept` has been added in its place.
    fn release(&mut self, piece: &Piece, output: &Output, kept: Option<&Output>) {
        for chain in &output.chains {
            less(&mut self.chains, &chain.name, |(_, count)| count);
            self.dirty.chains.insert(chain.name.clone());
        }
        for set in &output.fixed {
            less(&mut self.fixed, &set.name, |(_, count)| count);
            self.dirty.sets.insert(set.name.clone());
        }
        for (name, element) in &output.elements {
            if let Some(set) = self.collected.get_mut(name) {
                if let Entry::Occupied(mut entry) = set.elements.entry(element.clone()) {
                    *entry.get_mut() -= 1;
                    if *entry.get() == 0 {
                        entry.remove();
                    }
                }
            }
            self.dirty
                .elements
                .entry(name.clone())
                .or_default()
                .insert(element.clone());
        }
        for (name, _) in &output.collections {
            if let Some(set) = self.collected.get_mut(name) {
                set.wanted -= 1;
            }
            self.dirty.elements.entry(name.clone()).or_default();
        }
        for id in &output.looks_at {
            if kept.is_some_and(|kept| kept.looks_at.contains(id)) {
                continue;
            }
            if let Some(track) = self.tracks.get_mut(id) {
                track.users.remove(piece);
                if track.users.is_empty() {
                    self.tracks.remove(id);
                }
            }
        }
        for (id, variant) in &output.variants {
            let name = variant.name(id);
            less(&mut self.variants, &name, |(_, _, count)| count);
            self.dirty.sets.insert(name);
        }
        for piece in &output.jumps_to {
            if let Some(count) = self.jumps.get_mut(piece) {
                *count = count.saturating_sub(1);
                self.touched.insert(piece.clone());
            }
        }
    }
}

impl Collected {
    fn new(shape: &Shape) -> Self {
        Self {
            shape: shape.clone(),
            elements: BTreeMap::new(),
            wanted: 0,
        }
    }

    /// Whether some piece declared it.
    pub(crate) const fn exists(&self) -> bool {
        self.wanted > 0
    }
}

/// One less; gone at zero.
fn less<V>(map: &mut HashMap<Name, V>, name: &Name, count: impl Fn(&mut V) -> &mut usize) {
    if let Some(value) = map.get_mut(name) {
        let count = count(value);
        *count -= 1;
        if *count == 0 {
            map.remove(name);
        }
    }
}

/// Pieces before this one, in order, are those that nothing jumps to.
fn first_tier() -> Piece {
    Piece::Tier("".into(), super::Direction::In)
}

/// Pieces from this one on, in order, are policies and profiles.
fn first_policy() -> Piece {
    Piece::Policy(PolicyId::new(""), super::Direction::In)
}
