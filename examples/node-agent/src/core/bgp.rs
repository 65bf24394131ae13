//! What the speaker should do, from what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_dataplane::state::Hop;

use super::Core;
use crate::filters::{ExportPolicy, Passage};
use crate::peers::{self, Inputs, PeerKind, WantedPeer};
use crate::secrets;
use crate::speaker::{Speaker, SpeakerError, Wanted};
use crate::startup;

impl Core {
    /// Tells the speaker which sessions and announcements there should be.
    pub(super) async fn steer(&mut self, speaker: &mut Speaker) -> Result<(), SpeakerError> {
        if !self.may_act() {
            return Ok(());
        }
        let first = speaker.identity().is_none();
        if first {
            let (identity, problem) = self.identity();
            drop(problem);
            self.listening = identity.listen.first().map(std::net::SocketAddr::port);
            speaker.start(identity)?;
            self.touched.network = true;
        }
        if speaker.set_draining(self.drain.is_on()) {
            self.announced.clear();
            self.touched.originations = true;
        }
        if std::mem::take(&mut self.touched.originations) {
            self.announce(speaker);
        }
        if std::mem::take(&mut self.touched.peers) {
            self.plan_peers(speaker).await;
        }
        if first {
            speaker.originations_complete();
        }
        Ok(())
    }

    fn identity(&self) -> (crate::speaker::Identity, Option<String>) {
        startup::identity(
            &self.fixed.node,
            self.fixed.addresses.clone(),
            &self.fixed.bgp,
            self.world.bgp_nodes.get(&self.fixed.node),
            &self.world.bgp,
        )
    }

    fn announce(&mut self, speaker: &Speaker) {
        let mut wanted = crate::originate::originations(
            &self.world.pools,
            &self.world.own_blocks,
            &self.world.pods(),
        );
        wanted.extend(self.world.services());
        for prefix in wanted.difference(&self.announced) {
            speaker.originate(*prefix);
            self.ports
                .events
                .publish("route-announced", &[("prefix", prefix)]);
        }
        for prefix in self.announced.difference(&wanted) {
            speaker.withdraw(*prefix);
            self.ports
                .events
                .publish("route-retracted", &[("prefix", prefix)]);
        }
        self.announced = wanted;
    }

    async fn plan_peers(&mut self, speaker: &mut Speaker) {
        let workloads = self.world.workloads();
        let plan = peers::plan(&Inputs {
            own: &self.fixed.node,
            nodes: &self.world.bgp_nodes,
            settings: &self.world.bgp,
            objects: &self.world.bgp_peers,
            workloads: &workloads,
        });
        let mut problems = self.world.bgp_problems.clone();
        problems.extend(plan.problems);
        self.want(&plan.wanted);
        let mut sessions = BTreeMap::new();
        let policy = ExportPolicy::new(&self.world.pools, &self.world.bgp);
        for (address, peer) in plan.wanted {
            match self.session(&peer, &policy, &mut problems) {
                Ok((password, passage)) => {
                    let wanted = Wanted {
                        interface: self.link_to(address),
                        peer,
                        password,
                        passage,
                    };
                    sessions.insert(address, wanted);
                }
                Err(problem) => problems.push(format!("{}: {problem}", peer.object)),
            }
        }
        problems.extend(speaker.set_peers(sessions).await);
        problems.extend(self.check_identity(speaker));
        problems.sort_unstable();
        problems.dedup();
        for problem in problems
            .iter()
            .filter(|one| !self.peer_problems.contains(one))
        {
            tracing::warn!(problem, "BGP is not as it is asked for");
        }
        self.peer_problems = problems;
    }

    /// The link that an address is reached by: that of its pod, the uplink for a neighbour, else what the kernel said.
    pub(super) fn link_to(&self, address: IpAddr) -> Option<String> {
        let mut pods = self.world.local_pods.values();
        if let Some(pod) = pods.find(|pod| pod.addresses.contains(&address)) {
            return Some(pod.link.to_string());
        }
        let own = self.world.own_node();
        if own.addresses.iter().any(|own| own.contains(address)) {
            let six = self.fixed.uplink_v6.as_ref().filter(|_| address.is_ipv6());
            let uplink = six.or(self.fixed.uplink.as_ref());
            return uplink.map(|uplink| uplink.name.to_string());
        }
        match self.gateways.get(&address)? {
            Hop::Via { link, .. } => link.as_ref().map(ToString::to_string),
            _ => None,
        }
    }

    /// What sessions need of others: passwords, routes to peers, an open port.
    fn want(&mut self, wanted: &BTreeMap<IpAddr, WantedPeer>) {
        let secrets: BTreeSet<_> = wanted
            .values()
            .filter_map(|peer| peer.password.clone())
            .collect();
        self.ports.secrets.send_if_modified(|old| {
            let changed = *old != secrets;
            if changed {
                *old = secrets;
            }
            changed
        });
        let reachable: BTreeMap<_, _> = wanted
            .iter()
            .filter_map(|(address, peer)| Some((*address, peer.reachable_by?)))
            .collect();
        let local = wanted
            .values()
            .any(|peer| peer.kind == PeerKind::LocalWorkload);
        if reachable != self.reachable || local != self.local_peers {
            (self.reachable, self.local_peers) = (reachable, local);
            self.touched.network = true;
        }
    }

    /// The password and the filters of a session. Without its password there is no session; without its filters there
    /// is one that nothing passes.
    fn session(
        &self,
        peer: &WantedPeer,
        policy: &ExportPolicy,
        problems: &mut Vec<String>,
    ) -> Result<(Option<String>, Passage), String> {
        let password = match &peer.password {
            None => None,
            Some(reference) => match self.secrets.get(&secrets::name(reference)) {
                Some(secret) => Some(secret.clone()),
                None if reference.optional => None,
                None => {
                    let (name, key) = (&reference.name, &reference.key);
                    return Err(format!(
                        "password: there is no secret {name} with the key {key} (file {name}/{key} in the folder of secrets, or a Secret of the agent's namespace)"
                    ));
                }
            },
        };
        let mut passage = Passage {
            policy: policy.clone(),
            ..Passage::default()
        };
        for name in &peer.filters {
            match self.world.bgp_filters.get(name) {
                Some(rules) => passage.sets.push(rules.clone()),
                None => {
                    passage.closed = true;
                    problems.push(format!(
                        "{}: spec.filters: there is no BGPFilter {name} that can be followed; no route passes until there is",
                        peer.object
                    ));
                }
            }
        }
        Ok((password, passage))
    }

    /// The speaker keeps what it was started with; another AS, address or port needs a restart, which loses no packet.
    fn check_identity(&self, speaker: &Speaker) -> Vec<String> {
        let (wanted, problem) = self.identity();
        let changed = speaker
            .identity()
            .filter(|running| **running != wanted)
            .map(|running| {
                let shown = |one: &crate::speaker::Identity| {
                    let listen: Vec<String> = one.listen.iter().map(ToString::to_string).collect();
                    let (number, id) = (one.as_number, one.router_id);
                    let cluster = one
                        .cluster_id
                        .map(|id| format!(", cluster {id}"))
                        .unwrap_or_default();
                    format!(
                        "AS {number}, router id {id}{cluster}, listening at {}",
                        listen.join(" ")
                    )
                };
                format!(
                    "the node's speaker should be {}, and is {}: restart the agent",
                    shown(&wanted),
                    shown(running)
                )
            });
        problem.into_iter().chain(changed).collect()
    }
}
