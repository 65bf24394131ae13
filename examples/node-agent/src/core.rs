//! The single owner of what the agent knows and wants: events in, desired state out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ocicat_dataplane::interfaces::Interface;
use ocicat_dataplane::state::{Hop, LinkName, Protocol, RouteKey};
use ocicat_dataplane::{Prefix, Report, State};
use ocicat_datastore::model::Kind;
use ocicat_datastore::{Key, Object, Revision, StoreError};
use ocicat_policy::Graph;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::census::Census;
use crate::config::BgpConfig;
use crate::control::Question;
use crate::drain::Drain;
use crate::endpoint_status::Statuses;
use crate::events::Events;
use crate::facts::Facts;
use crate::health::Listening;
use crate::metrics::Meters;
use crate::network::{Learned, Tunnels, Uplink};
use crate::parameters::{self, Parameters, Shown};
use crate::peers::SecretRef;
use crate::register::Registration;
use crate::secrets::Secrets;
use crate::snapshot::Snapshot;
use crate::world::{KINDS, Touched, World};

mod answer;
mod bgp;
mod figures;
mod host;
mod mtu;
mod network;
mod origin;
mod policy;
mod restore;
mod run;
mod status;
mod wait;

use figures::Counts;
pub(crate) use restore::Restore;
pub(crate) use run::Channels;
use wait::Waits;

/// A state that the dataplane should reach, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desired {
    /// Grows by one with every new state; 0 is before the first.
    pub(crate) generation: u64,
    /// The state.
    pub(crate) state: Arc<State>,
}

/// What the dataplane made of a state.
#[derive(Debug)]
pub(crate) struct Applied {
    /// The state's number.
    pub(crate) generation: u64,
    /// What came of it, or why nothing did.
    pub(crate) outcome: Result<Report, String>,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    /// The node's name.
    pub(crate) node: String,
    /// The link with the node's address.
    pub(crate) uplink: Option<Uplink>,
    /// The link with the node's IPv6 address, where that is another one.
    pub(crate) uplink_v6: Option<Uplink>,
    /// Felix's parameters from file and environment: they win over the datastore's.
    pub(crate) felix: parameters::Fixed,
    /// Settings of the program itself, and where they come from.
    pub(crate) settings: Vec<Shown>,
    /// The node's addresses, one of each family at most, IPv4 first.
    pub(crate) addresses: Vec<IpAddr>,
    /// What the file says about the speaker.
    pub(crate) bgp: BgpConfig,
    /// Ports of the agent that pods never reach, beside BGP's.
    pub(crate) closed: Vec<(Protocol, u16)>,
}

/// Where the core says what should be.
pub(crate) struct Ports {
    /// States that the dataplane should reach.
    pub(crate) desired: watch::Sender<Desired>,
    /// What other tasks may know.
    pub(crate) facts: watch::Sender<Arc<Facts>>,
    /// What is kept on disk for a start without the datastore.
    pub(crate) snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// What registering this node depends on, once it is known.
    pub(crate) census: watch::Sender<Option<Census>>,
    /// Where health and metrics are to be asked for.
    pub(crate) listening: watch::Sender<Listening>,
    /// How often the kernel is read anew.
    pub(crate) resync: watch::Sender<Duration>,
    /// How long things take.
    pub(crate) meters: Meters,
    /// Told of kinds that allocation depends on, when something of them changed.
    pub(crate) changed: Box<dyn Fn(Kind) + Send + Sync>,
    /// The passwords that sessions need.
    pub(crate) secrets: watch::Sender<BTreeSet<SecretRef>>,
    /// What happens, for people.
    pub(crate) events: Events,
    /// The endpoint-status files that there should be.
    pub(crate) statuses: watch::Sender<Option<Arc<Statuses>>>,
}

/// The core's data; its methods decide, `run` waits.
pub(crate) struct Core {
    fixed: Fixed,
    world: World,
    graph: Graph,
    state: State,
    touched: Touched,
    policy_touched: bool,
    spoofers: policy::Spoofers,
    links: BTreeMap<LinkName, BTreeSet<IpAddr>>,
    uplinks: Vec<Interface>,
    /// What the links that a pattern names carry.
    stated_mtu: Option<u32>,
    tunnels: Tunnels,
    lingering: Option<(Tunnels, Instant)>,
    learned: BTreeMap<Prefix, Learned>,
    adopted: BTreeMap<RouteKey, ocicat_dataplane::state::Route>,
    gateways: BTreeMap<IpAddr, Hop>,
    unresolved: BTreeSet<IpAddr>,
    announced: BTreeSet<Prefix>,
    reachable: BTreeMap<IpAddr, IpAddr>,
    listening: Option<u16>,
    local_peers: bool,
    secrets: Arc<Secrets>,
    drain: Drain,
    restore: Restore,
    registration: Registration,
    disconnected: BTreeMap<Kind, String>,
    /// Addresses of this node that another node has, too, and which.
    taken: BTreeMap<IpAddr, String>,
    /// Routes whose announcer has no claim to them.
    astray: Vec<String>,
    /// The first state that was computed in sync.
    whole: Option<u64>,
    seen: BTreeMap<Kind, Revision>,
    listed: BTreeSet<Kind>,
    problems: BTreeMap<Key, String>,
    notes: Vec<String>,
    pub(crate) peer_problems: Vec<String>,
    waits: Waits,
    ports: Ports,
    applied: u64,
    applies: u64,
    failed_applies: u64,
    /// Parts of policy that the kernel refused so far; what it goes on to refuse counts once.
    refused: u64,
    began: Instant,
    /// How long it took until the agent was ready for the first time.
    first_ready: Option<Duration>,
    updates: u64,
    /// Since when the kernel owes an answer to a state.
    waiting: Option<Instant>,
    cluster: Counts,
    warned: BTreeSet<String>,
    failures: Vec<String>,
    /// Why the last apply failed as a whole.
    broken: Vec<String>,
}

impl Core {
    pub(crate) fn new(
        fixed: Fixed,
        adopted: BTreeMap<RouteKey, ocicat_dataplane::state::Route>,
        restore: Restore,
        drain: Drain,
        ports: Ports,
    ) -> Self {
        Self {
            world: World::new(&fixed.node),
            graph: Graph::new(&fixed.node),
            fixed,
            state: State::default(),
            touched: Touched {
                network: true,
                peers: true,
                originations: true,
            },
            policy_touched: true,
            spoofers: policy::Spoofers::default(),
            links: BTreeMap::new(),
            uplinks: Vec::new(),
            stated_mtu: None,
            tunnels: Tunnels::default(),
            lingering: None,
            learned: BTreeMap::new(),
            adopted,
            gateways: BTreeMap::new(),
            unresolved: BTreeSet::new(),
            announced: BTreeSet::new(),
            reachable: BTreeMap::new(),
            listening: None,
            local_peers: false,
            secrets: Arc::default(),
            drain,
            restore,
            registration: Registration::default(),
            disconnected: BTreeMap::new(),
            taken: BTreeMap::new(),
            astray: Vec::new(),
            whole: None,
            seen: BTreeMap::new(),
            listed: BTreeSet::new(),
            problems: BTreeMap::new(),
            notes: Vec::new(),
            peer_problems: Vec::new(),
            waits: Waits::default(),
            ports,
            applied: 0,
            applies: 0,
            failed_applies: 0,
            refused: 0,
            began: Instant::now(),
            first_ready: None,
            updates: 0,
            waiting: None,
            cluster: Counts::default(),
            warned: BTreeSet::new(),
            failures: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Everything is known: each kind has been listed once, and the datastore has this node's address.
    pub(crate) fn in_sync(&self) -> bool {
        let written = self.registration.endpoints;
        let seen = self.seen.get(&Kind::WorkloadEndpoint);
        self.registration.done
            && seen.is_some_and(|seen| *seen >= written)
            && KINDS.iter().all(|kind| self.listed.contains(kind))
    }

    /// Nothing is programmed or announced before enough is known: all of it, or what the snapshot has while the
    /// datastore is away.
    pub(crate) fn may_act(&self) -> bool {
        self.in_sync() || self.restore.in_force()
    }

    /// Takes an object in; one that does not decode leaves its last good version in force and is reported.
    pub(crate) fn put(&mut self, object: &Object) {
        self.updates += 1;
        self.cluster.put(object);
        (self.ports.changed)(object.kind);
        self.disconnected.remove(&object.kind);
        self.restore.put(&self.fixed.node, object);
        let (pods, blocks) = (self.world.pod_count(), self.world.own_blocks.clone());
        let locked = self.world.locked;
        match self
            .world
            .put(object)
            .and_then(|touched| self.put_policy(object).map(|()| touched))
        {
            Ok(touched) => {
                self.problems.remove(&object.key());
                self.touched.add(touched);
            }
            Err(error) => self.problem(object, &error),
        }
        self.tell_lock(locked);
        if object.kind == Kind::Node {
            self.compare_addresses(&object.name);
        }
        for block in self.world.own_blocks.difference(&blocks) {
            self.ports
                .events
                .publish("block-claimed", &[("block", block)]);
        }
        if self.world.pod_count() != pods {
            self.ports
                .events
                .publish("endpoint-added", &[("endpoint", &object.name)]);
        }
        self.saw(object.kind, object.revision);
    }

    /// Takes an object out.
    pub(crate) fn delete(&mut self, key: &Key, revision: Revision) {
        let (pods, locked) = (self.world.pod_count(), self.world.locked);
        self.updates += 1;
        self.cluster.delete(key);
        (self.ports.changed)(key.kind);
        self.restore.delete(key);
        let touched = self.world.delete(key);
        self.touched.add(touched);
        self.tell_lock(locked);
        if key.kind == Kind::Node {
            self.compare_addresses(&key.name);
        }
        self.delete_policy(key);
        self.problems.remove(key);
        if self.world.pod_count() != pods {
            self.ports
                .events
                .publish("endpoint-removed", &[("endpoint", &key.name)]);
        }
        self.saw(key.kind, revision);
    }

    /// Everything of the kind up to the revision has been taken in.
    pub(crate) fn saw(&mut self, kind: Kind, revision: Revision) {
        self.disconnected.remove(&kind);
        let seen = self.seen.entry(kind).or_default();
        *seen = revision.max(*seen);
    }

    /// A kind has been listed completely.
    pub(crate) fn listed(&mut self, kind: Kind, revision: Revision) {
        self.listed.insert(kind);
        // What the snapshot had and the datastore has no more.
        for key in self.restore.take_leftovers(kind) {
            self.delete(&key, revision);
        }
        self.saw(kind, revision);
    }

    /// The routes of the agent's predecessor are no longer held: every peer has told what it has, or had its time.
    pub(crate) fn release_adopted(&mut self) {
        if !self.adopted.is_empty() {
            self.adopted.clear();
            self.touched.network = true;
        }
    }

    /// How the kernel reaches next hops that are no neighbours.
    pub(crate) fn resolved(&mut self, gateways: BTreeMap<IpAddr, Hop>) {
        if self.gateways != gateways {
            self.gateways = gateways;
            self.touched.network = true;
        }
    }

    /// Next hops that need the kernel's answer.
    pub(crate) fn to_resolve(&self) -> BTreeSet<IpAddr> {
        self.unresolved
            .iter()
            .chain(self.gateways.keys())
            .copied()
            .collect()
    }

    /// Brings the desired state up to date with what is known, and hands it on when it changed.
    pub(crate) fn advance(&mut self) {
        if !self.may_act() {
            self.tell_facts();
            return;
        }
        let began = std::time::Instant::now();
        let generation = self.ports.desired.borrow().generation;
        let mut changed = generation == 0;
        let incomplete = !self.in_sync();
        changed |= replace(&mut self.state.incomplete, incomplete);
        let over = |(_, until): &(Tunnels, Instant)| *until <= Instant::now();
        self.touched.network |= self.lingering.as_ref().is_some_and(over);
        if std::mem::take(&mut self.touched.network) {
            self.follow_parameters();
            self.follow_spoofing();
            changed |= self.plan_network();
        }
        if std::mem::take(&mut self.policy_touched) {
            changed |= self.flush_policy();
        }
        if changed {
            if !self.state.incomplete {
                self.whole.get_or_insert(generation + 1);
            }
            self.waiting.get_or_insert_with(Instant::now);
            let took = began.elapsed().as_secs_f64();
            self.ports.meters.compute.observe(took);
            let state = Arc::new(self.state.clone());
            self.ports.desired.send_modify(|desired| {
                desired.generation += 1;
                desired.state = state;
            });
        }
        self.tell_facts();
        self.answer_waits();
    }

    /// A Felix parameter: environment and file before the datastore.
    fn felix(&self, name: &str) -> Option<String> {
        self.parameters().stated(name).map(|(value, _)| value)
    }

    fn parameters(&self) -> Parameters<'_> {
        Parameters {
            fixed: &self.fixed.felix,
            objects: &self.world.felix_layers,
        }
    }

    fn problem(&mut self, object: &Object, error: &StoreError) {
        tracing::warn!(object = %object.key(), %error, "its last good version, if any, stays in force");
        self.problems.insert(object.key(), error.to_string());
    }

    /// The dataplane is done with a state.
    pub(crate) fn applied(&mut self, applied: Applied) {
        self.applies += 1;
        if applied.generation >= self.ports.desired.borrow().generation {
            self.waiting = None;
        }
        match applied.outcome {
            Ok(report) => {
                // Without its table nothing of a pod's policy is in force.
                let table = report.failed.iter();
                let table = table.filter(|one| one.object == ocicat_dataplane::Object::Policies);
                self.broken = table.map(ToString::to_string).collect();
                self.refused += figures::newly_refused(&report.failed, &self.failures);
                self.failures = report.failed.iter().map(ToString::to_string).collect();
                if report.changed > 0 {
                    self.ports
                        .events
                        .publish("policy-applied", &[("changed", &report.changed)]);
                }
                if self.broken.is_empty() {
                    self.applied = self.applied.max(applied.generation);
                    if self.is_ready() {
                        self.first_ready.get_or_insert_with(|| self.began.elapsed());
                    }
                }
            }
            Err(error) => {
                self.failed_applies += 1;
                self.failures = vec![error.clone()];
                self.broken = vec![error];
            }
        }
        self.tell_facts();
        self.answer_waits();
    }

    /// How long the core may sleep: until the next wait runs out.
    pub(crate) fn deadline(&self) -> Instant {
        let hour = Instant::now() + Duration::from_secs(3600);
        let lingering = self.lingering.map(|(_, until)| until);
        let times = self.waits.next_limit().into_iter().chain(lingering);
        times.fold(hour, Instant::min)
    }
}

fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    if changed {
        *old = new;
    }
    changed
}

fn replace_shared<T: PartialEq>(old: &mut Arc<T>, new: T) -> bool {
    let changed = **old != new;
    if changed {
        *old = Arc::new(new);
    }
    changed
}

/// What the control server may ask is answered here; see `answer`.
pub(crate) type Questions = mpsc::Receiver<Question>;

#[cfg(test)]
mod tests;
