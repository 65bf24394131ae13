//! The way of all packets at once: what the policies of each hop leave of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_dataplane::state::{
    Action, EndTier, IpVersion, LinkName, Member, Policy, ProfileId, Protocol, Rule, SetId, Side,
    Tier, Workload,
};
use ocicat_dataplane::{Prefix, State};

use super::region::Port;
use super::{Matrix, Party, Reachable};
use crate::{Graph, Model};

/// A party with where it is.
struct Place<'a> {
    party: Party,
    /// The node and the interface; none for somebody outside.
    pod: Option<(&'a str, LinkName)>,
}

pub(super) fn matrix(model: &Model, outside: &[IpAddr]) -> Matrix {
    let states = states(model);
    let mut places = Vec::new();
    for (node, state) in &states {
        for (link, workload) in &state.workloads {
            for address in &workload.addresses {
                let name = model.name_of(*address).unwrap_or_else(|| link.to_string());
                let party = Party {
                    name,
                    address: *address,
                };
                let pod = Some((node.as_str(), link.clone()));
                places.push(Place { party, pod });
            }
        }
    }
    places.extend(outside.iter().map(|address| Place {
        party: Party {
            name: address.to_string(),
            address: *address,
        },
        pod: None,
    }));
    let mut out = Matrix::default();
    for source in &places {
        for destination in &places {
            let same_family = source.party.address.is_ipv4() == destination.party.address.is_ipv4();
            let under_policy = source.pod.is_some() || destination.pod.is_some();
            if same_family && under_policy && source.pod != destination.pod {
                let cell = between(&states, source, destination);
                let pair = (source.party.clone(), destination.party.clone());
                out.cells.insert(pair, cell);
            }
        }
    }
    out
}

/// What each node with endpoints would hold.
fn states(model: &Model) -> BTreeMap<String, State> {
    let nodes: BTreeSet<&str> = model.nodes().collect();
    let state = |node: &str| {
        let mut graph = Graph::new(node);
        for update in model.updates() {
            graph.update(update);
        }
        let mut state = State::default();
        graph.flush(&mut state);
        state
    };
    nodes
        .into_iter()
        .map(|node| (node.to_owned(), state(node)))
        .collect()
}

fn between(
    states: &BTreeMap<String, State>,
    source: &Place<'_>,
    destination: &Place<'_>,
) -> Reachable {
    let (from, to) = (source.party.address, destination.party.address);
    let crosses = match (&source.pod, &destination.pod) {
        (Some((a, _)), Some((b, _))) => a != b,
        _ => true,
    };
    let mut open = Reachable::everything();
    for (place, ingress) in [(source, false), (destination, true)] {
        let Some((node, link)) = &place.pod else {
            continue;
        };
        let Some(state) = states.get(*node) else {
            continue;
        };
        let hop = Hop {
            state,
            ingress,
            from,
            to,
        };
        let workload = state.workloads.get(link);
        let pod = workload.map_or_else(Reachable::nothing, |w| hop.pod(w));
        open = open.and(&pod);
        if crosses {
            open = open.and(&hop.forwarded());
        }
    }
    open
}

/// One endpoint of one node, asked about all packets from one address to another.
struct Hop<'a> {
    state: &'a State,
    ingress: bool,
    from: IpAddr,
    to: IpAddr,
}

impl Hop<'_> {
    fn pod(&self, workload: &Workload) -> Reachable {
        let tiers = if self.ingress {
            &workload.ingress
        } else {
            &workload.egress
        };
        let (allowed, undecided) = self.tiers(tiers);
        allowed.or(&self.profiles(&workload.profiles, undecided))
    }

    /// What the node forwards by an interface that no host endpoint names.
    fn forwarded(&self) -> Reachable {
        let Some(host) = self.state.hosts.values().find(|h| h.link.is_none()) else {
            return Reachable::everything();
        };
        let tiers = if self.ingress {
            &host.forward_ingress
        } else {
            &host.forward_egress
        };
        let (allowed, undecided) = self.tiers(tiers);
        allowed.or(&undecided)
    }

    /// What the tiers allow, and what they leave to be decided.
    fn tiers(&self, tiers: &[Tier]) -> (Reachable, Reachable) {
        let mut allowed = Reachable::nothing();
        let mut open = Reachable::everything();
        for tier in tiers {
            let mut passed = Reachable::nothing();
            for policy in tier
                .policies
                .iter()
                .filter_map(|id| self.state.policies.get(id))
            {
                let asked = self.rules(policy, open);
                allowed = allowed.or(&asked.allowed);
                passed = passed.or(&asked.passed);
                open = asked.undecided;
            }
            if tier.end == EndTier::Deny {
                open = Reachable::nothing();
            }
            open = open.or(&passed);
        }
        (allowed, open)
    }

    fn profiles(&self, profiles: &[ProfileId], mut open: Reachable) -> Reachable {
        let mut allowed = Reachable::nothing();
        for profile in profiles.iter().filter_map(|id| self.state.profiles.get(id)) {
            let asked = self.rules(profile, open);
            allowed = allowed.or(&asked.allowed);
            // A Pass has nowhere to go from a profile: the next profile is asked.
            open = asked.undecided.or(&asked.passed);
        }
        allowed
    }

    fn rules(&self, policy: &Policy, open: Reachable) -> Asked {
        let rules = if self.ingress {
            &policy.ingress
        } else {
            &policy.egress
        };
        let mut asked = Asked {
            allowed: Reachable::nothing(),
            passed: Reachable::nothing(),
            undecided: open,
        };
        for rule in rules.iter().filter(|rule| rule.action != Action::Log) {
            let hit = asked.undecided.and(&self.matched(rule));
            if hit.is_nothing() {
                continue;
            }
            asked.undecided = asked.undecided.without(&hit);
            match rule.action {
                Action::Allow => asked.allowed = asked.allowed.or(&hit),
                Action::Pass => asked.passed = asked.passed.or(&hit),
                Action::Deny | Action::Log => {}
            }
        }
        asked
    }

    /// All packets between the two addresses that the rule matches.
    fn matched(&self, rule: &Rule) -> Reachable {
        let version = if self.to.is_ipv4() {
            IpVersion::V4
        } else {
            IpVersion::V6
        };
        let here = rule.ip_version.is_none_or(|v| v == version)
            && self.holds(&rule.source, self.from)
            && self.holds(&rule.destination, self.to);
        if !here {
            return Reachable::nothing();
        }
        let mut out = match rule.protocol {
            Some(protocol) => Reachable::protocol(protocol),
            None => Reachable::everything(),
        };
        if let Some(protocol) = rule.not_protocol {
            out = out.without(&Reachable::protocol(protocol));
        }
        if let Some(icmp) = &rule.icmp {
            out = out.and(&Reachable::icmp(icmp.kind, icmp.code));
        }
        if let Some(icmp) = &rule.not_icmp {
            out = out.without(&Reachable::icmp(icmp.kind, icmp.code));
        }
        out = self.with_ports(out, &rule.source, Port::Source);
        self.with_ports(out, &rule.destination, Port::Destination)
    }

    /// Whether the side's addresses are such.
    fn holds(&self, side: &Side, address: IpAddr) -> bool {
        (side.nets.is_empty() || side.nets.iter().any(|net| net.contains(address)))
            && !side.not_nets.iter().any(|net| net.contains(address))
            && side.sets.iter().all(|id| self.in_set(id, address))
            && !side.not_sets.iter().any(|id| self.in_set(id, address))
    }

    fn in_set(&self, id: &SetId, address: IpAddr) -> bool {
        let Some(set) = self.state.sets.get(id) else {
            return false;
        };
        // No range is inside of another: only the last one that begins at or before the address can have it.
        let upto = Member::Net(Prefix::host(address));
        let last = set.members().range(..=upto).next_back();
        matches!(last, Some(Member::Net(net)) if net.contains(address))
    }

    fn with_ports(&self, packets: Reachable, side: &Side, at: Port) -> Reachable {
        let mut out = packets;
        if !side.ports.is_empty() || !side.port_sets.is_empty() {
            let mut any = Reachable::ports(at, &side.ports);
            for id in &side.port_sets {
                any = any.or(&self.ports_in(id, at));
            }
            out = out.and(&any);
        }
        out = out.without(&Reachable::ports(at, &side.not_ports));
        for id in &side.not_port_sets {
            out = out.without(&self.ports_in(id, at));
        }
        match &side.service {
            Some(id) => out.and(&self.ports_in(id, at)),
            None => out,
        }
    }

    /// The ports that the set has of the address at that end.
    fn ports_in(&self, id: &SetId, at: Port) -> Reachable {
        let address = match at {
            Port::Source => self.from,
            Port::Destination => self.to,
        };
        let mut out = Reachable::nothing();
        if let Some(set) = self.state.sets.get(id) {
            let first = Member::Port(address, Protocol(0), 0);
            let last = Member::Port(address, Protocol(u8::MAX), u16::MAX);
            for member in set.members().range(first..=last) {
                if let Member::Port(_, protocol, number) = member {
                    out = out.or(&Reachable::port(at, *protocol, *number));
                }
            }
        }
        out
    }
}

/// What the rules of one policy make of the packets that they are asked about.
struct Asked {
    allowed: Reachable,
    passed: Reachable,
    undecided: Reachable,
}
