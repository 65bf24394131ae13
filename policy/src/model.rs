//! The reference: what the resources say about one flow, read off them one by one, with the reasons.
//!
//! Slow and plain on purpose. It shares nothing with [`Graph`](crate::Graph) but selectors, so that the two can be
//! held against each other.

mod cluster;
mod rule;
mod staged;
mod trace;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ocicat_dataplane::state::{EndpointToHost, FailsafePort, Protocol};
use ocicat_datastore::Key;
use ocicat_datastore::model::{
    EndpointSlice, GlobalNetworkPolicy, GlobalNetworkSet, HostEndpoint, NetworkPolicy, NetworkSet,
    Profile, Rule, StagedGlobalNetworkPolicy, StagedNetworkPolicy, Tier, WorkloadEndpoint,
};

use crate::Update;
use cluster::{Labels, Party, PolicyView, TierView};
use rule::Outcome;
pub use trace::{Decision, Skipped, Trace, Verdict};

/// A packet that opens a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sends it.
    pub source: IpAddr,
    /// Who is meant to get it, after destination NAT.
    pub destination: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port that it comes from; of no meaning for protocols without ports.
    pub source_port: u16,
    /// The port that it goes to; of no meaning for protocols without ports.
    pub destination_port: u16,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
    /// The node that sends it itself.
    pub from_node: Option<String>,
    /// The node that it is for itself.
    pub to_node: Option<String>,
    /// The node's interface by which it comes or goes where it does not cross a pod's; matters to host endpoints that
    /// name one.
    pub interface: Option<String>,
}

impl Flow {
    /// A flow of a protocol to a port, from port 40000.
    #[must_use]
    pub const fn new(source: IpAddr, destination: IpAddr, protocol: Protocol, port: u16) -> Self {
        Self {
            source,
            destination,
            protocol,
            source_port: 40_000,
            destination_port: port,
            icmp: None,
            from_node: None,
            to_node: None,
            interface: None,
        }
    }

    /// A TCP connection to a port.
    #[must_use]
    pub const fn tcp(source: IpAddr, destination: IpAddr, port: u16) -> Self {
        Self::new(source, destination, Protocol::TCP, port)
    }

    /// UDP to a port.
    #[must_use]
    pub const fn udp(source: IpAddr, destination: IpAddr, port: u16) -> Self {
        Self::new(source, destination, Protocol::UDP, port)
    }

    /// An echo request, ICMP or ICMPv6 as the addresses are.
    #[must_use]
    pub fn ping(source: IpAddr, destination: IpAddr) -> Self {
        let (protocol, kind) = if destination.is_ipv4() {
            (Protocol::ICMP, 8)
        } else {
            (Protocol::ICMPV6, 128)
        };
        Self {
            icmp: Some((kind, 0)),
            ..Self::new(source, destination, protocol, 0)
        }
    }
}

/// All resources that policy depends on, and what they say about a flow.
#[derive(Clone, Debug, Default)]
pub struct Model {
    endpoints: BTreeMap<Key, Arc<WorkloadEndpoint>>,
    hosts: BTreeMap<Key, Arc<HostEndpoint>>,
    namespaced: BTreeMap<Key, Arc<NetworkPolicy>>,
    global: BTreeMap<Key, Arc<GlobalNetworkPolicy>>,
    staged_namespaced: BTreeMap<Key, Arc<StagedNetworkPolicy>>,
    staged_global: BTreeMap<Key, Arc<StagedGlobalNetworkPolicy>>,
    profiles: BTreeMap<String, Arc<Profile>>,
    tiers: BTreeMap<String, Arc<Tier>>,
    network_sets: BTreeMap<Key, Arc<NetworkSet>>,
    global_network_sets: BTreeMap<Key, Arc<GlobalNetworkSet>>,
    slices: BTreeMap<Key, Arc<EndpointSlice>>,
    /// By node and interface.
    interfaces: BTreeMap<(String, String), BTreeSet<IpAddr>>,
    endpoint_to_host: EndpointToHost,
    /// What host endpoints leave open, inbound and outbound.
    failsafe: [Vec<FailsafePort>; 2],
}

impl Model {
    /// A model without resources but the built-in tiers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of a pod's packets to its own node when its policy has let them through; dropped at first, as in
    /// Felix.
    pub const fn set_endpoint_to_host(&mut self, action: EndpointToHost) {
        self.endpoint_to_host = action;
    }

    /// The ports that policy of host endpoints never closes, to the node and from it, as in the dataplane's
    /// [`HostRules`](ocicat_dataplane::state::HostRules); none at first.
    pub fn set_failsafe(&mut self, inbound: Vec<FailsafePort>, outbound: Vec<FailsafePort>) {
        self.failsafe = [inbound, outbound];
    }

    /// Says which addresses an interface of a node has; none when it is gone. Host endpoints that name no interface are
    /// for the first one, by name, that has one of their `expectedIPs`.
    pub fn set_interface(&mut self, node: &str, name: &str, addresses: BTreeSet<IpAddr>) {
        let addresses = (!addresses.is_empty()).then_some(addresses);
        put(&mut self.interfaces, (node.into(), name.into()), addresses);
    }

    /// Takes in one change. Unlike in a [`Graph`](crate::Graph), the version that counts is always the last.
    pub fn update(&mut self, update: Update) {
        match update {
            Update::WorkloadEndpoint(key, value) => put(&mut self.endpoints, key, value),
            Update::HostEndpoint(key, value) => put(&mut self.hosts, key, value),
            Update::NetworkPolicy(key, value) => put(&mut self.namespaced, key, value),
            Update::GlobalNetworkPolicy(key, value) => put(&mut self.global, key, value),
            Update::StagedNetworkPolicy(key, value) => {
                put(&mut self.staged_namespaced, key, value);
            }
            Update::StagedGlobalNetworkPolicy(key, value) => {
                put(&mut self.staged_global, key, value);
            }
            Update::Profile(key, value) => put(&mut self.profiles, key.name, value),
            Update::Tier(key, value) => put(&mut self.tiers, key.name, value),
            Update::NetworkSet(key, value) => put(&mut self.network_sets, key, value),
            Update::GlobalNetworkSet(key, value) => {
                put(&mut self.global_network_sets, key, value);
            }
            Update::EndpointSlice(key, value) => put(&mut self.slices, key, value),
        }
    }

    /// What becomes of the flow, and why, from one end to the other: the egress policy of the pod that sends it, that
    /// of its node for what it forwards, the policy of the other node for what it forwards, the ingress policy of the
    /// pod that gets it. Where a node is an end, its host endpoint is asked. Who is none of these is not asked.
    ///
    /// The ports that host endpoints never close ([`set_failsafe`](Self::set_failsafe)) are open whatever these say.
    #[must_use]
    pub fn evaluate(&self, flow: &Flow) -> Trace {
        let mut trace = Trace::new(flow);
        let source = self
            .endpoint_of(flow.source)
            .filter(|_| flow.from_node.is_none());
        let destination = self
            .endpoint_of(flow.destination)
            .filter(|_| flow.to_node.is_none());
        if let (Some((a, _)), Some((b, _))) = (source, destination)
            && a == b
        {
            trace.push(Decision::without_policy("a pod always reaches itself"));
            return trace;
        }
        let home = |pod: Option<(&Key, &WorkloadEndpoint)>, node: &Option<String>| {
            pod.map(|(_, e)| e.spec.node.clone())
                .or_else(|| node.clone())
        };
        let from = home(source, &flow.from_node);
        let to = home(destination, &flow.to_node);
        let stays = from.is_some() && from == to;
        let mut asked = Vec::new();
        if let Some((key, endpoint)) = source {
            asked.push(Ask::Pod(key, endpoint, false));
        }
        if let Some(node) = from.as_ref().filter(|_| !stays) {
            asked.push(Ask::Host(node, false, source.is_some()));
        }
        if let Some(node) = to.as_ref().filter(|_| !stays) {
            asked.push(Ask::Host(node, true, destination.is_some()));
        }
        if let Some((key, endpoint)) = destination {
            if stays && source.is_none() {
                trace.push(Decision::without_policy(
                    "a node always reaches its own pods",
                ));
            } else {
                asked.push(Ask::Pod(key, endpoint, true));
            }
        }
        for ask in asked {
            if let Some(decision) = self.answer(&ask, flow) {
                let denied = decision.verdict == Verdict::Deny;
                trace.push(decision);
                if denied {
                    return trace;
                }
            }
        }
        if stays && source.is_some() && flow.to_node.is_some() {
            trace.push(self.to_own_node());
        }
        trace
    }

    fn answer(&self, ask: &Ask<'_>, flow: &Flow) -> Option<Decision> {
        match ask {
            Ask::Pod(key, endpoint, ingress) => {
                let subject = Subject {
                    labels: self.labels_of(key, endpoint),
                    profiles: &endpoint.spec.profiles,
                    ingress: *ingress,
                    forwards: false,
                    parties: self.parties(),
                };
                Some(self.decide(key, &subject, flow))
            }
            Ask::Host(node, ingress, forwards) => {
                let (key, endpoint) = self.host_endpoint(node, flow)?;
                if !forwards && self.is_failsafe(*ingress, flow) {
                    return Some(Decision::without_policy("the port is a failsafe"));
                }
                let subject = Subject {
                    labels: self.labels_of_host(endpoint),
                    profiles: &endpoint.spec.profiles,
                    ingress: *ingress,
                    forwards: *forwards,
                    parties: self.parties(),
                };
                Some(self.decide(key, &subject, flow))
            }
        }
    }

    fn is_failsafe(&self, ingress: bool, flow: &Flow) -> bool {
        let [inbound, outbound] = &self.failsafe;
        let (ports, other) = if ingress {
            (inbound, flow.source)
        } else {
            (outbound, flow.destination)
        };
        ports.iter().any(|safe| {
            safe.protocol == flow.protocol
                && safe.port == flow.destination_port
                && safe.net.is_none_or(|net| net.contains(other))
        })
    }

    fn to_own_node(&self) -> Decision {
        match self.endpoint_to_host {
            EndpointToHost::Drop => Decision {
                verdict: Verdict::Deny,
                ..Decision::without_policy("defaultEndpointToHostAction is Drop")
            },
            EndpointToHost::Return | EndpointToHost::Accept => {
                Decision::without_policy("defaultEndpointToHostAction lets it through")
            }
        }
    }

    /// What the policies of one endpoint say.
    fn decide(&self, key: &Key, subject: &Subject<'_>, flow: &Flow) -> Decision {
        let ingress = subject.ingress;
        let mut decision = Decision::start(key, ingress);
        for (tier, policies) in self.tiers_of(subject) {
            let mut passed = false;
            for policy in policies {
                let rules = policy.rules(ingress);
                let asked = Asked {
                    tier: &tier.name,
                    policy: policy.key.to_string(),
                    namespace: policy.namespace(),
                };
                match self.ask(&asked, rules, subject, flow, &mut decision) {
                    Some("Pass") => {
                        passed = true;
                        break;
                    }
                    Some(_) => return decision,
                    None => {}
                }
            }
            if !passed && tier.denies_at_end {
                decision.tier = Some(tier.name);
                decision.verdict = Verdict::Deny;
                decision.why =
                    "no rule of the tier's policies matches, and the tier ends with Deny".into();
                return decision;
            }
        }
        if subject.forwards {
            decision.why = "no policy for forwarded traffic decides".into();
            return decision;
        }
        self.by_profiles(subject, flow, decision)
    }

    fn by_profiles(&self, subject: &Subject<'_>, flow: &Flow, mut decision: Decision) -> Decision {
        for name in subject.profiles {
            let Some(profile) = self.profiles.get(name) else {
                continue;
            };
            let rules = if subject.ingress {
                &profile.spec.ingress
            } else {
                &profile.spec.egress
            };
            let asked = Asked {
                tier: "",
                policy: format!("Profile/{name}"),
                namespace: None,
            };
            // A Pass has nowhere to go from a profile: the next profile is asked.
            match self.ask(&asked, rules, subject, flow, &mut decision) {
                None | Some("Pass") => {}
                Some(_) => return decision,
            }
        }
        decision.verdict = Verdict::Deny;
        decision.why = "no policy and no profile allows it".into();
        decision
    }

    /// Asks rules one by one; the action of the first that decides, which is then in the decision.
    fn ask(
        &self,
        asked: &Asked<'_>,
        rules: &[Rule],
        subject: &Subject<'_>,
        flow: &Flow,
        decision: &mut Decision,
    ) -> Option<&'static str> {
        let ingress = subject.ingress;
        for (i, rule) in rules.iter().enumerate() {
            let skipped = |field: &str, why: String| Skipped {
                tier: asked.tier.to_owned(),
                policy: asked.policy.clone(),
                rule: i,
                field: field.to_owned(),
                why,
            };
            let action = match self.outcome(rule, asked.namespace, ingress, flow, &subject.parties)
            {
                Outcome::Skipped { field, why } => {
                    decision.skipped.push(skipped(&field, why));
                    continue;
                }
                Outcome::Matches("Log") => {
                    decision
                        .skipped
                        .push(skipped("action", "it only logs".into()));
                    continue;
                }
                Outcome::Matches("Pass") => {
                    decision
                        .skipped
                        .push(skipped("action", "it passes to the next tier".into()));
                    return Some("Pass");
                }
                Outcome::Matches(action) => action,
            };
            decision.tier = (!asked.tier.is_empty()).then(|| asked.tier.to_owned());
            decision.policy = Some(asked.policy.clone());
            decision.rule = Some(i);
            decision.verdict = if action == "Allow" {
                Verdict::Allow
            } else {
                Verdict::Deny
            };
            decision.why = "the rule matches".into();
            return Some(action);
        }
        None
    }

    /// The tiers with policies for the endpoint and direction, each with these policies, all in order.
    fn tiers_of(&self, subject: &Subject<'_>) -> Vec<(TierView, Vec<PolicyView<'_>>)> {
        let mut tiers: Vec<(TierView, Vec<PolicyView<'_>>)> = Vec::new();
        for policy in self.policies() {
            if !policy.applies(subject) {
                continue;
            }
            let Some(tier) = self.tier(policy.tier()) else {
                continue;
            };
            match tiers.iter_mut().find(|(known, _)| known.name == tier.name) {
                Some((_, policies)) => policies.push(policy),
                None => tiers.push((tier, vec![policy])),
            }
        }
        let order = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
        };
        tiers.sort_by(|(a, _), (b, _)| order(a.order, b.order).then_with(|| a.name.cmp(&b.name)));
        for (_, policies) in &mut tiers {
            policies
                .sort_by(|a, b| order(a.order(), b.order()).then_with(|| a.rank().cmp(&b.rank())));
        }
        tiers
    }
}

/// Whose policy is asked; true for ingress.
enum Ask<'a> {
    Pod(&'a Key, &'a WorkloadEndpoint, bool),
    /// A node's; true in the end when it only forwards.
    Host(&'a str, bool, bool),
}

/// What an endpoint's policies depend on.
struct Subject<'a> {
    labels: Labels,
    profiles: &'a [String],
    ingress: bool,
    /// It is a host's, and the packet goes on.
    forwards: bool,
    /// Everything that addresses can belong to.
    parties: Vec<Party>,
}

/// The policy or profile whose rules are asked.
struct Asked<'a> {
    tier: &'a str,
    policy: String,
    namespace: Option<&'a str>,
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}
