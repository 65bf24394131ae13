//! From resources to the policy half of a node's desired state.

mod contents;
mod endpoint;
mod facts;
mod flush;
mod sets;
mod tiers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ocicat_dataplane::state::{EndTier, LinkName, PolicyId, ProfileId};
use ocicat_datastore::model::{Profile, Tier};
use ocicat_datastore::{Key, Kind};
use ocicat_selectors::{LabelIndex, MatchChange};

use crate::compile::{self, Compiled, Fault, Rules, Source};
use crate::{Effect, Problem, Reason, Update};
use endpoint::{Local, Sought};
use sets::Sets;
use tiers::{Place, Tiers};

/// The policy half of one node's desired state, worked out from resources as they come and go.
///
/// Call [`update`](Self::update) for every object that came, changed or went, in any order, and
/// [`flush`](Self::flush) when it is time to act on it. What is in the state depends on the objects alone, not on
/// the order in which they came; the one exception is by design: an object whose new version cannot be read stays
/// in force in its earlier one.
///
/// Only what concerns this node is in the state: policies and profiles that apply to one of its endpoints, and the
/// sets that their rules name.
#[derive(Debug)]
pub struct Graph {
    node: Box<str>,
    tiers: Tiers,
    policies: BTreeMap<Arc<Key>, PolicyEntry>,
    profiles: BTreeMap<Arc<str>, ProfileEntry>,
    locals: BTreeMap<Arc<Key>, Local>,
    /// Which policies apply to which endpoints of this node.
    applies: LabelIndex<Arc<Key>, Arc<Key>, Arc<str>>,
    sets: Sets,
    links: BTreeMap<LinkName, BTreeSet<Arc<Key>>>,
    /// The node's own interfaces and their addresses.
    interfaces: BTreeMap<LinkName, BTreeSet<IpAddr>>,
    /// Host endpoints of this node whose interface is found by its addresses.
    sought: BTreeMap<Arc<Key>, Sought>,
    problems: BTreeMap<Key, Vec<Problem>>,
    dirty: Dirty,
}

/// What a flush did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flushed {
    /// The state is not what it was.
    pub changed: bool,
    /// Problems that came up since the last flush; [`Graph::problems`] has all that there are.
    pub problems: Vec<Problem>,
}

/// What a graph holds, and what it did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Selectors in use: of policies, and of the sets that rules of this node name.
    pub selectors: usize,
    /// How often a selector was evaluated against labels; once for all endpoints that have the same.
    pub evaluations: u64,
}

/// What the next flush has to look at.
#[derive(Debug, Default)]
struct Dirty {
    links: BTreeSet<LinkName>,
    hosts: BTreeSet<Arc<Key>>,
    policies: BTreeMap<PolicyId, Arc<Key>>,
    profiles: BTreeSet<Arc<str>>,
    problems: BTreeSet<Key>,
}

#[derive(Debug, Default)]
struct PolicyEntry {
    /// The version in force.
    compiled: Option<Arc<Compiled>>,
    /// It could be read without a fault.
    good: bool,
    /// Its selector is in the index: it has a tier.
    indexed: bool,
    /// How many endpoints of this node it applies to.
    users: usize,
}

#[derive(Debug, Default)]
struct ProfileEntry {
    rules: Option<Rules>,
    good: bool,
    /// How many endpoints of this node name it.
    users: usize,
}

impl Graph {
    /// A graph for the node of this name, without any resources but the built-in tiers.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self {
            node: node.into(),
            tiers: Tiers::new(),
            policies: BTreeMap::new(),
            profiles: BTreeMap::new(),
            locals: BTreeMap::new(),
            applies: LabelIndex::new(),
            sets: Sets::new(),
            links: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            sought: BTreeMap::new(),
            problems: BTreeMap::new(),
            dirty: Dirty::default(),
        }
    }

    /// Takes in one change.
    pub fn update(&mut self, update: Update) {
        match update {
            Update::WorkloadEndpoint(key, value) => self.workload(key, value.as_deref()),
            Update::HostEndpoint(key, value) => self.host(key, value.as_deref()),
            Update::NetworkPolicy(key, value) => {
                let namespace = key.namespace.clone().unwrap_or_default();
                let source = value
                    .as_ref()
                    .map(|policy| Source::namespaced(&namespace, &policy.spec));
                self.policy(key, source.as_ref());
            }
            Update::GlobalNetworkPolicy(key, value) => {
                let source = value.as_ref().map(|policy| Source::global(&policy.spec));
                self.policy(key, source.as_ref());
            }
            // They are for reports (`Model::staged`); nothing of them is enforced.
            Update::StagedNetworkPolicy(..) | Update::StagedGlobalNetworkPolicy(..) => {}
            Update::Profile(key, value) => self.profile(&key, value.as_deref()),
            Update::Tier(key, value) => self.tier(&key, value.as_deref()),
            Update::NetworkSet(key, value) => {
                self.network_set(key, value.as_ref().map(|set| (&set.metadata, &set.spec)));
            }
            Update::GlobalNetworkSet(key, value) => {
                self.network_set(key, value.as_ref().map(|set| (&set.metadata, &set.spec)));
            }
            Update::EndpointSlice(key, value) => self.slice(&key, value.as_deref()),
        }
    }

    /// Says which addresses an interface of the node has; none when it is gone. Host endpoints that name no interface
    /// are for the first one, by name, that has one of their `expectedIPs`.
    pub fn set_interface(&mut self, link: LinkName, addresses: BTreeSet<IpAddr>) {
        let old = if addresses.is_empty() {
            self.interfaces.remove(&link)
        } else {
            self.interfaces.insert(link.clone(), addresses)
        };
        if old.as_ref() != self.interfaces.get(&link) {
            self.seek();
        }
    }

    /// Says that an object's new version could not be read at all. The one before stays in force.
    pub fn refuse(&mut self, key: Key, field: String, reason: String) {
        let fault = Fault {
            field,
            reason: Reason::Unreadable(reason),
            effect: Effect::KeptEarlier,
        };
        self.report(key, vec![fault]);
    }

    /// What the graph holds and did.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let (applies, members) = (self.applies.counters(), self.sets.counters());
        Counters {
            selectors: applies.queries + members.queries,
            evaluations: applies.evaluations + members.evaluations,
        }
    }

    /// What cannot be done as it is written, by object.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flatten()
    }

    fn report(&mut self, key: Key, faults: Vec<Fault>) {
        let problem = |fault: Fault| Problem {
            key: key.clone(),
            field: fault.field,
            reason: fault.reason,
            effect: fault.effect,
        };
        let problems: Vec<Problem> = faults.into_iter().map(problem).collect();
        if problems.is_empty() {
            self.problems.remove(&key);
        } else if self.problems.get(&key) != Some(&problems) {
            self.dirty.problems.insert(key.clone());
            self.problems.insert(key, problems);
        }
    }

    fn policy(&mut self, key: Key, source: Option<&Source<'_>>) {
        let id = Arc::new(key);
        let Some(source) = source else {
            self.report((*id).clone(), Vec::new());
            self.enforce(&id, None);
            self.policies.remove(&id);
            return;
        };
        let (compiled, mut faults) = source.compile();
        let entry = self.policies.entry(id.clone()).or_default();
        let good = faults.is_empty();
        if !good && entry.good {
            for fault in &mut faults {
                fault.effect = Effect::KeptEarlier;
            }
            self.report((*id).clone(), faults);
            return;
        }
        entry.good = good;
        let compiled = compiled.map(Arc::new);
        let tier = compiled.as_ref().map(|c| c.tier.clone());
        if let Some(tier) = tier.filter(|tier| !self.tiers.has(tier)) {
            faults.push(Fault {
                field: "tier".into(),
                reason: Reason::NoTier(tier.to_string()),
                effect: Effect::NotEnforced,
            });
        }
        self.report((*id).clone(), faults);
        self.enforce(&id, compiled);
    }

    /// Puts a version of a policy in force.
    fn enforce(&mut self, id: &Arc<Key>, compiled: Option<Arc<Compiled>>) {
        let Some(entry) = self.policies.get_mut(id) else {
            return;
        };
        let has_tier = compiled.as_ref().is_some_and(|c| self.tiers.has(&c.tier));
        let users = entry.users;
        let old = std::mem::replace(&mut entry.compiled, compiled.clone());
        entry.indexed = has_tier;
        if users > 0 {
            if let Some(new) = &compiled {
                self.sets.acquire(&new.rules.sets);
            }
            if let Some(old) = &old {
                self.sets.release(&old.rules.sets);
            }
            let matched: Vec<Arc<Key>> = self.applies.matches(id).cloned().collect();
            for endpoint in &matched {
                self.touch(endpoint);
            }
        }
        for version in [&old, &compiled].into_iter().flatten() {
            self.dirty
                .policies
                .insert(policy_id(id, &version.tier), id.clone());
        }
        match compiled {
            Some(compiled) if has_tier => {
                self.applies
                    .set_query(id.clone(), compiled.selector.clone());
            }
            _ => self.applies.remove_query(id),
        }
        self.follow();
    }

    /// Takes in which policies began or ceased to apply to which endpoints.
    fn follow(&mut self) {
        while let Some(change) = self.applies.poll_change() {
            let (endpoint, policy, started) = match change {
                MatchChange::Started { item, query } => (item, query, true),
                MatchChange::Stopped { item, query } => (item, query, false),
            };
            self.touch(&endpoint);
            let Some(entry) = self.policies.get_mut(&policy) else {
                continue;
            };
            let before = entry.users;
            if started {
                entry.users += 1;
            } else {
                entry.users -= 1;
            }
            let Some(compiled) = &entry.compiled else {
                continue;
            };
            let id = policy_id(&policy, &compiled.tier);
            match (before, started) {
                (0, _) => self.sets.acquire(&compiled.rules.sets),
                (1, false) => self.sets.release(&compiled.rules.sets),
                _ => continue,
            }
            self.dirty.policies.insert(id, policy);
        }
    }

    fn profile(&mut self, key: &Key, value: Option<&Profile>) {
        let name: Arc<str> = key.name.as_str().into();
        self.dirty.profiles.insert(name.clone());
        let Some(value) = value else {
            self.report(key.clone(), Vec::new());
            self.applies.remove_parent(&name);
            self.sets.remove_parent(&name);
            if let Some(entry) = self.profiles.get_mut(&name) {
                let old = std::mem::take(entry);
                if let Some(rules) = old.rules.filter(|_| old.users > 0) {
                    self.sets.release(&rules.sets);
                }
                entry.users = old.users;
                if old.users == 0 {
                    self.profiles.remove(&name);
                }
            }
            self.follow();
            return;
        };
        let labels = &value.spec.labels_to_apply;
        self.applies.set_parent(name.clone(), labels.clone());
        self.sets.set_parent(name.clone(), labels.clone());
        let (rules, mut faults) = compile::compile_profile(&value.spec);
        let entry = self.profiles.entry(name).or_default();
        let good = faults.is_empty();
        if !good && entry.good {
            for fault in &mut faults {
                fault.effect = Effect::KeptEarlier;
            }
        } else {
            entry.good = good;
            let old = entry.rules.replace(rules.clone());
            if entry.users > 0 {
                self.sets.acquire(&rules.sets);
                if let Some(old) = old {
                    self.sets.release(&old.sets);
                }
            }
        }
        self.report(key.clone(), faults);
        self.follow();
    }

    fn tier(&mut self, key: &Key, value: Option<&Tier>) {
        let name = key.name.as_str();
        if Tiers::is_built_in(name) {
            return;
        }
        let mut faults = Vec::new();
        let place = value.map(|tier| {
            let end = match tier.spec.default_action.as_deref() {
                None | Some("" | "Deny") => Some(EndTier::Deny),
                Some("Pass") => Some(EndTier::Pass),
                Some(found) => {
                    faults.push(Fault {
                        field: "defaultAction".into(),
                        reason: Reason::Unknown {
                            found: found.to_owned(),
                            expected: "Deny, Pass",
                        },
                        effect: if self.tiers.has(name) {
                            Effect::KeptEarlier
                        } else {
                            Effect::NotEnforced
                        },
                    });
                    None
                }
            };
            end.map(|end| Place {
                order: tier.spec.order,
                end,
            })
        });
        self.report(key.clone(), faults);
        let changed = match place {
            Some(None) => false,
            Some(Some(place)) => self.tiers.set(name, Some(place)),
            None => self.tiers.set(name, None),
        };
        if changed {
            self.rearrange(name);
        }
    }

    /// A tier came, went or moved: so do its policies.
    fn rearrange(&mut self, tier: &str) {
        let of_tier =
            |entry: &PolicyEntry| entry.compiled.as_ref().is_some_and(|c| *c.tier == *tier);
        let policies: Vec<Arc<Key>> = self
            .policies
            .iter()
            .filter(|(_, entry)| of_tier(entry))
            .map(|(id, _)| id.clone())
            .collect();
        let exists = self.tiers.has(tier);
        for id in policies {
            let compiled = self.policies.get(&id).and_then(|e| e.compiled.clone());
            let mut faults: Vec<Fault> = self
                .problems
                .get(&*id)
                .into_iter()
                .flatten()
                .filter(|problem| !matches!(problem.reason, Reason::NoTier(_)))
                .map(|problem| Fault {
                    field: problem.field.clone(),
                    reason: problem.reason.clone(),
                    effect: problem.effect,
                })
                .collect();
            if !exists {
                faults.push(Fault {
                    field: "tier".into(),
                    reason: Reason::NoTier(tier.to_owned()),
                    effect: Effect::NotEnforced,
                });
            }
            self.report((*id).clone(), faults);
            self.enforce(&id, compiled);
        }
    }
}

/// The identity of a policy in the state.
fn policy_id(key: &Key, tier: &str) -> PolicyId {
    match &key.namespace {
        Some(namespace) => PolicyId::new(&format!("np/{namespace}/{tier}/{}", key.name)),
        None => PolicyId::new(&format!("gnp/{tier}/{}", key.name)),
    }
}

/// The identity of a profile in the state.
fn profile_id(name: &str) -> ProfileId {
    ProfileId::new(name)
}

/// The kind of a policy as it counts between equals.
const fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::NetworkPolicy => "NetworkPolicy",
        _ => "GlobalNetworkPolicy",
    }
}
