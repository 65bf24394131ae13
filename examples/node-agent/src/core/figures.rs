//! What the core tells of itself: parameters, endpoints, figures.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use ocicat_dataplane::state::Workload;
use ocicat_dataplane::{Failure, Object as Refused};
use ocicat_datastore::model::Kind;
use ocicat_datastore::{Key, Object};
use serde_json::Value;

use super::Core;
use crate::control::{BgpShown, Configuration, DatastoreShown, Drained, Endpoint};
use crate::drain::Drain;
use crate::figures::{Figures, Health};
use crate::health::Listening;
use crate::parameters::{Shown, Source};
use crate::speaker::Speaker;

/// How many objects of the kinds that there are many of: only their hashes are kept.
#[derive(Debug, Default)]
pub(super) struct Counts {
    state: RandomState,
    workloads: HashSet<u64>,
    policies: HashSet<u64>,
}

impl Counts {
    fn of(&mut self, kind: Kind) -> Option<&mut HashSet<u64>> {
        match kind {
            Kind::WorkloadEndpoint => Some(&mut self.workloads),
            Kind::NetworkPolicy | Kind::GlobalNetworkPolicy => Some(&mut self.policies),
            _ => None,
        }
    }

    pub(super) fn put(&mut self, object: &Object) {
        let hash = self
            .state
            .hash_one((object.kind, &object.namespace, &object.name));
        if let Some(all) = self.of(object.kind) {
            all.insert(hash);
        }
    }

    pub(super) fn delete(&mut self, key: &Key) {
        let hash = self.state.hash_one((key.kind, &key.namespace, &key.name));
        if let Some(all) = self.of(key.kind) {
            all.remove(&hash);
        }
    }
}

impl Core {
    /// What file and environment say about where health and metrics are asked for holds from the start: an agent that
    /// waits for its datastore is alive, and not ready.
    pub(super) fn listen_early(&self) {
        replace_watched(&self.ports.listening, self.listening(&mut Vec::new()));
    }

    fn listening(&self, problems: &mut Vec<String>) -> Listening {
        let parameters = self.parameters();
        let health = ("healthEnabled", "healthHost", "healthPort");
        let health = parameters.listen(health, SocketAddr::from(([127, 0, 0, 1], 9099)), problems);
        let metrics = (
            "prometheusMetricsEnabled",
            "prometheusMetricsHost",
            "prometheusMetricsPort",
        );
        let metrics = parameters.listen(metrics, SocketAddr::from(([0, 0, 0, 0], 9091)), problems);
        Listening { health, metrics }
    }

    /// Acts on parameters that other tasks follow, and warns of those without an effect, once.
    pub(super) fn follow_parameters(&mut self) {
        let mut problems = Vec::new();
        let listening = self.listening(&mut problems);
        let parameters = self.parameters();
        let resync = parameters.read(
            "routeRefreshInterval",
            Duration::from_secs(90),
            seconds,
            &mut problems,
        );
        let warnings = parameters.warnings();
        self.follow_mtu_pattern(&mut problems);
        problems.extend(self.mtus_too_large());
        for warning in problems.into_iter().chain(warnings) {
            if self.warned.insert(warning.clone()) {
                tracing::warn!(warning, "a parameter is not followed");
            }
        }
        replace_watched(&self.ports.listening, listening);
        replace_watched(&self.ports.resync, resync);
    }

    pub(super) fn configuration(&self) -> Configuration {
        let (felix, mut warnings) = self.parameters().shown();
        let mut values = self.fixed.settings.clone();
        let bgp = &self.world.bgp;
        let bgp = [
            ("bgp.asNumber", bgp.as_number.to_string()),
            ("bgp.nodeToNodeMeshEnabled", bgp.mesh.to_string()),
            ("bgp.listenPort", bgp.port.to_string()),
        ];
        values.extend(bgp.into_iter().map(|(name, value)| Shown {
            name: name.to_owned(),
            value,
            source: "BGPConfiguration".to_owned(),
        }));
        let addresses = self.fixed.addresses.iter();
        values.extend(addresses.map(|address| Shown {
            name: "node.address".to_owned(),
            value: address.to_string(),
            source: Source::Detected.to_string(),
        }));
        values.extend(felix);
        warnings.extend(self.world.bgp_problems.iter().cloned());
        Configuration { values, warnings }
    }

    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let pods = self.world.local_pods.iter();
        pods.map(|((namespace, name), pod)| {
            let workload = self.state.workloads.get(&pod.link);
            Endpoint {
                namespace: namespace.clone(),
                name: name.clone(),
                link: pod.link.to_string(),
                addresses: pod.addresses.iter().map(ToString::to_string).collect(),
                policies: workload.map(|one| policies(one)).unwrap_or_default(),
                status: if workload.is_some() && self.is_ready() {
                    "up"
                } else {
                    "pending"
                }
                .to_owned(),
            }
        })
        .collect()
    }

    /// The objects of the next snapshot.
    pub(super) fn objects(&self) -> Vec<Value> {
        self.restore.values()
    }

    pub(super) fn set_drain(&mut self, on: bool) -> Result<Drained, String> {
        self.drain
            .set(on)
            .map_err(|error| format!("it cannot be noted for the next start: {error}"))?;
        self.ports.events.publish("drain", &[("on", &on)]);
        Ok(drained(&self.drain))
    }

    pub(super) fn health(&self) -> Health {
        Health {
            ready: self.is_open(),
            reasons: self.reasons(),
            waiting: self.waiting.map(|since| since.elapsed()),
        }
    }

    pub(super) fn datastore(&self) -> DatastoreShown {
        DatastoreShown {
            connected: self.disconnected.is_empty() && !self.seen.is_empty(),
            in_sync: self.in_sync(),
            restored: self.restore.in_force() && !self.in_sync(),
            error: self.disconnected.values().next().cloned(),
        }
    }

    pub(super) fn bgp_shown(&self, speaker: &Speaker) -> BgpShown {
        let Some(identity) = speaker.identity() else {
            return BgpShown::default();
        };
        BgpShown {
            as_number: identity.as_number,
            router_id: identity.router_id.to_string(),
            listen: identity.listen.iter().map(ToString::to_string).collect(),
            announced: self.announced.iter().map(ToString::to_string).collect(),
        }
    }

    pub(super) async fn figures(&self, speaker: &Speaker) -> Figures {
        let datastore = self.datastore();
        Figures {
            ready: self.is_open(),
            locked: self.world.locked,
            in_sync: datastore.in_sync,
            connected: datastore.connected,
            restored: datastore.restored,
            draining: self.drain.is_on(),
            nodes: self.world.nodes.len(),
            workloads: self.cluster.workloads.len(),
            cluster_policies: self.cluster.policies.len(),
            local_endpoints: self.state.workloads.len(),
            local_policies: self.state.policies.len(),
            sets: self.state.sets.len(),
            routes: self.state.routes.len(),
            own_blocks: self.world.own_blocks.len(),
            learned: self.learned.len(),
            announced: self.announced.len(),
            astray: self.astray.len(),
            failures: self.failures.len(),
            problems: self.problems.len() + self.peer_problems.len(),
            applies: self.applies,
            failed_applies: self.failed_applies,
            updates: self.updates,
            waits: self.waits.len(),
            peers: speaker.peers().await,
            selectors: self.graph.counters().selectors,
            evaluations: self.graph.counters().evaluations,
            refused: self.refused,
            first_ready: self.first_ready,
            pools: self.world.pool_uses(),
            node: self.fixed.node.clone(),
        }
    }
}

/// How many parts of policy the kernel refuses that it did not refuse before. Routes and links are no business of
/// nftables, and that a link is not there yet is no error.
pub(super) fn newly_refused(failed: &[Failure], before: &[String]) -> u64 {
    let of_policy = |one: &&Failure| {
        matches!(
            one.object,
            Refused::Set(_)
                | Refused::Policy(_)
                | Refused::Profile(_)
                | Refused::Workload(_)
                | Refused::HostEndpoint(_)
                | Refused::HostRules
                | Refused::Nat
                | Refused::Policies
        )
    };
    let new = failed.iter().filter(of_policy);
    new.filter(|one| !before.contains(&one.to_string())).count() as u64
}

/// The policies of an endpoint, in the order in which they are asked; each once.
fn policies(workload: &Workload) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for tier in workload.ingress.iter().chain(&workload.egress) {
        for policy in &tier.policies {
            let name = policy.to_string();
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

fn drained(drain: &Drain) -> Drained {
    Drained {
        draining: drain.is_on(),
        since_s: drain.age(),
    }
}

/// A duration as Felix has it: Go's, or plain seconds; none below a second.
fn seconds(text: &str) -> Option<Duration> {
    let plain = text.parse().ok().map(Duration::from_secs);
    let time = plain.or_else(|| crate::peers::duration(text))?;
    (time >= Duration::from_secs(1)).then_some(time)
}

pub(super) fn replace_watched<T: PartialEq>(sender: &tokio::sync::watch::Sender<T>, value: T) {
    sender.send_if_modified(|old| {
        let changed = *old != value;
        if changed {
            *old = value;
        }
        changed
    });
}
