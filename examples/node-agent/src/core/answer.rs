//! What the core tells others about itself.

use std::sync::Arc;

use ocicat_dataplane::Prefix;
use ocicat_dataplane::hop::When;
use ocicat_dataplane::state::{Hop, RouteKey};
use ocicat_datastore::model::Kind;

use serde_json::Value;

use super::Core;
use super::figures::replace_watched;
use crate::census::Census;
use crate::control::{BgpShown, Question, Status};
use crate::facts::{Facts, LOCKED, TunnelPools};
use crate::network::{own_block, pool_of};
use crate::speaker::Speaker;

impl Core {
    pub(super) fn answer_waits(&mut self) {
        let generation = self.ports.desired.borrow().generation;
        let generation = (generation > 0 && self.in_sync()).then_some(generation);
        self.waits.answer(&self.seen, generation, self.applied);
    }

    pub(super) fn tell_facts(&self) {
        self.tell_statuses();
        self.tell_census();
        let facts = Facts {
            ready: self.is_ready(),
            locked: self.world.locked,
            reasons: self.reasons(),
            limited: self.broken.clone(),
            source_spoofing: self.allows_spoofing(),
            mtu: self.pod_mtu(),
            tunnel_pools: (self.in_sync() && !self.world.locked).then(|| self.tunnel_pools()),
            namespaces: self.world.all_namespaces().clone(),
        };
        self.ports.facts.send_if_modified(|old| {
            let changed = **old != facts;
            if changed {
                *old = Arc::new(facts);
            }
            changed
        });
    }

    /// As the datastore has it now: not before it is listed, and not as the snapshot has it.
    fn tell_census(&self) {
        let listed = [
            Kind::ClusterInformation,
            Kind::Node,
            Kind::IpPool,
            Kind::BlockAffinity,
            Kind::IpamBlock,
        ];
        if !listed.iter().all(|kind| self.listed.contains(kind)) {
            return;
        }
        let unread = self.problems.keys().any(|key| key.kind == Kind::IpPool);
        let census = Census {
            taken: self.taken.clone(),
            locked: self.world.locked,
            pools: unread || !self.world.pools.is_empty(),
            unsettled: self.world.has_unsettled(),
        };
        replace_watched(&self.ports.census, Some(census));
    }

    /// Notes whether a node has an address of this one.
    pub(super) fn compare_addresses(&mut self, name: &str) {
        self.taken.retain(|_, other| other != name);
        let node = self.world.nodes.get(name);
        let Some(node) = node.filter(|_| name != self.fixed.node) else {
            return;
        };
        let addresses = node.addresses.iter().map(|one| one.ip());
        let shared = addresses.filter(|address| self.fixed.addresses.contains(address));
        self.taken
            .extend(shared.map(|address| (address, name.to_owned())));
    }

    /// The status, without what only the speaker knows.
    pub(super) fn status(&self) -> Status {
        Status {
            node: self.fixed.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.is_open(),
            reasons: self.reasons(),
            peers: Vec::new(),
            blocks: self
                .world
                .own_blocks
                .iter()
                .map(ToString::to_string)
                .collect(),
            routes: self.state.routes.len(),
            endpoints: self.world.pod_count(),
            policies: self.state.policies.len(),
            applies: self.applies,
            datastore: self.datastore(),
            bgp: BgpShown::default(),
            draining: self.drain.is_on(),
        }
    }

    /// Routes with whether the kernel has them, and why not.
    fn explained(&self, mut routes: Vec<Value>) -> Vec<Value> {
        for route in &mut routes {
            let prefix = route["prefix"].as_str().and_then(|text| text.parse().ok());
            let Some(prefix) = prefix else { continue };
            let (installed, why) = self.explain(prefix);
            route["interface"] = self.interface_of(prefix).into();
            route["installed"] = installed.into();
            route["why"] = why.into();
        }
        routes
    }

    /// The link that the kernel sends packets for a prefix to, where that is said.
    fn interface_of(&self, prefix: Prefix) -> Option<String> {
        let route = self.state.routes.get(&RouteKey::main(prefix))?;
        let uplink = self.fixed.uplink.as_ref().map(|uplink| &uplink.name);
        let link = match route.hops.first()? {
            Hop::Link(link) => Some(link),
            Hop::Via { link, .. } => link.as_ref().or(uplink),
            _ => None,
        };
        link.map(ToString::to_string)
    }

    fn explain(&self, prefix: Prefix) -> (bool, &'static str) {
        let keys = [RouteKey::main(prefix), own_block(prefix)];
        let installed = keys.iter().any(|key| self.state.routes.contains_key(key));
        let pool = pool_of(&self.world.pools, prefix);
        let why = if self.announced.contains(&prefix) {
            "this node's own"
        } else if pool.is_some_and(|pool| pool.encapsulation.vxlan != When::Never) {
            "in a VXLAN pool: the datastore says where it is"
        } else if installed {
            "the best path"
        } else if self.world.bgp.services.covers(&prefix) {
            "an address of services: this node serves it itself"
        } else if !self.learned.contains_key(&prefix) {
            "no path can be used"
        } else if pool.is_none() {
            "announced by a node, outside of every pool"
        } else if self
            .astray
            .iter()
            .any(|one| one.starts_with(&format!("{prefix} ")))
        {
            "announced by a node that has not claimed it"
        } else {
            "the kernel has no way to its next hop"
        };
        (installed, why)
    }

    /// Whether the first state that follows from everything is in the kernel.
    pub(super) fn is_ready(&self) -> bool {
        self.whole.is_some_and(|whole| whole <= self.applied)
    }

    /// Whether pods can be added, as far as this node and the datastore go.
    pub(super) fn is_open(&self) -> bool {
        self.is_ready() && !self.world.locked
    }

    /// Tells people that the datastore was locked or unlocked.
    pub(super) fn tell_lock(&self, before: bool) {
        match (before, self.world.locked) {
            (false, true) => tracing::warn!(
                "the datastore is locked: no pod is added, no address collected, nothing written until it is unlocked; what is programmed stays"
            ),
            (true, false) => tracing::info!("the datastore is unlocked"),
            _ => return,
        }
        self.ports
            .events
            .publish("datastore-lock", &[("on", &self.world.locked)]);
    }

    /// Answers a question of the control server.
    pub(super) async fn question(&mut self, question: Question, speaker: &Speaker) {
        match question {
            Question::Wait {
                objects,
                limit,
                answer,
            } => {
                self.waits.add(objects, limit, answer);
                self.answer_waits();
            }
            Question::Status(answer) => {
                let mut status = self.status();
                status.peers = speaker.peers().await;
                status.bgp = self.bgp_shown(speaker);
                let _ = answer.send(status);
            }
            Question::Routes(answer) => {
                let _ = answer.send(Value::Array(self.explained(speaker.routes().await)));
            }
            Question::Config(answer) => drop(answer.send(self.configuration())),
            Question::Endpoints(answer) => drop(answer.send(self.endpoints())),
            Question::Objects(answer) => drop(answer.send(self.objects())),
            Question::Drain(on, answer) => drop(answer.send(self.set_drain(on))),
            Question::Health(answer) => drop(answer.send(self.health())),
            Question::Figures(answer) => drop(answer.send(self.figures(speaker).await)),
        }
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.world.locked {
            reasons.push(LOCKED.to_owned());
        }
        if !self.in_sync() {
            let missing: Vec<&str> = crate::world::KINDS
                .iter()
                .filter(|kind| !self.listed.contains(kind))
                .map(|kind: &Kind| kind.name())
                .collect();
            if !missing.is_empty() {
                let missing = missing.join(", ");
                reasons.push(format!(
                    "not in sync with the datastore: {missing} not listed yet"
                ));
            }
            if !self.registration.done {
                reasons.push("this node's address is not in the datastore yet".to_owned());
            }
            if self.restore.in_force() {
                reasons.push(
                    "lives by its snapshot of the datastore: nothing is removed, no pod is added"
                        .to_owned(),
                );
            }
        } else if !self.is_ready() {
            reasons.push("the first state is not in the kernel yet".to_owned());
        }
        if let Some((kind, error)) = self.disconnected.iter().next() {
            let others = self.disconnected.len() - 1;
            let more = if others > 0 {
                format!(" and {others} more kinds")
            } else {
                String::new()
            };
            reasons.push(format!(
                "the datastore does not answer ({kind}{more}): {error}"
            ));
        }
        reasons.extend(self.registration.problem.clone());
        let taken = self.taken.iter();
        reasons.extend(
            taken.map(|(address, node)| format!("Node {node} has the address {address}, too")),
        );
        reasons.extend(self.astray.iter().cloned());
        reasons.extend(self.notes.iter().chain(&self.peer_problems).cloned());
        reasons.extend(self.problems.values().cloned());
        reasons.extend(self.graph.problems().map(ToString::to_string));
        reasons.extend(self.failures.iter().cloned());
        reasons
    }

    fn tunnel_pools(&self) -> TunnelPools {
        let own = self.world.bgp_nodes.get(&self.fixed.node);
        TunnelPools {
            pools: self.world.pool_specs.values().cloned().collect(),
            labels: own.map(|node| node.labels.clone()).unwrap_or_default(),
        }
    }
}
