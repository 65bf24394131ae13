//! What a node that follows a state does with a packet of one of its pods.

use ocicat_dataplane::State;
use ocicat_dataplane::state::{
    Action, EndTier, IpVersion, LinkName, Member, Policy, PortRange, Rule, SetId, Side, Tier,
};
use ocicat_policy::Flow;

/// Whether the packet gets past the policies of a pod.
pub fn allowed(state: &State, link: &LinkName, ingress: bool, flow: &Flow) -> bool {
    let Some(workload) = state.workloads.get(link).filter(|w| w.up) else {
        return false;
    };
    let tiers = if ingress {
        &workload.ingress
    } else {
        &workload.egress
    };
    for tier in tiers {
        match in_tier(state, tier, ingress, flow) {
            Some(verdict) => return verdict,
            None => continue,
        }
    }
    for profile in &workload.profiles {
        let policy = state
            .profiles
            .get(profile)
            .expect("a profile that is named is there");
        match first(state, rules(policy, ingress), flow) {
            Some(Action::Allow) => return true,
            Some(Action::Deny) => return false,
            _ => {}
        }
    }
    false
}

fn in_tier(state: &State, tier: &Tier, ingress: bool, flow: &Flow) -> Option<bool> {
    assert!(!tier.policies.is_empty(), "a tier without policies");
    for id in &tier.policies {
        let policy = state
            .policies
            .get(id)
            .expect("a policy that is named is there");
        match first(state, rules(policy, ingress), flow) {
            Some(Action::Allow) => return Some(true),
            Some(Action::Deny) => return Some(false),
            Some(Action::Pass) => return None,
            _ => {}
        }
    }
    (tier.end == EndTier::Deny).then_some(false)
}

fn rules(policy: &Policy, ingress: bool) -> &[Rule] {
    if ingress {
        &policy.ingress
    } else {
        &policy.egress
    }
}

fn first(state: &State, rules: &[Rule], flow: &Flow) -> Option<Action> {
    rules
        .iter()
        .filter(|rule| rule.action != Action::Log)
        .find(|rule| matches(state, rule, flow))
        .map(|rule| rule.action)
}

fn matches(state: &State, rule: &Rule, flow: &Flow) -> bool {
    let version = if flow.destination.is_ipv4() {
        IpVersion::V4
    } else {
        IpVersion::V6
    };
    let icmp = |wanted: &ocicat_dataplane::state::Icmp| {
        flow.icmp
            .is_some_and(|(k, c)| k == wanted.kind && wanted.code.is_none_or(|w| w == c))
    };
    rule.ip_version.is_none_or(|v| v == version)
        && rule.protocol.is_none_or(|p| p == flow.protocol)
        && rule.not_protocol.is_none_or(|p| p != flow.protocol)
        && rule.icmp.as_ref().is_none_or(icmp)
        && !rule.not_icmp.as_ref().is_some_and(icmp)
        && side(state, &rule.source, flow, true)
        && side(state, &rule.destination, flow, false)
}

fn side(state: &State, side: &Side, flow: &Flow, source: bool) -> bool {
    let (address, port) = if source {
        (flow.source, flow.source_port)
    } else {
        (flow.destination, flow.destination_port)
    };
    let members = |id: &SetId| {
        state
            .sets
            .get(id)
            .expect("a set that is named is there")
            .members()
    };
    let has_address = |id: &SetId| {
        members(id)
            .iter()
            .any(|m| matches!(m, Member::Net(net) if net.contains(address)))
    };
    let has_port = |id: &SetId| {
        flow.protocol.has_ports()
            && members(id).contains(&Member::Port(address, flow.protocol, port))
    };
    let within = |r: &PortRange| flow.protocol.has_ports() && (r.first..=r.last).contains(&port);
    let any_port = side.ports.is_empty() && side.port_sets.is_empty();
    (side.nets.is_empty() || side.nets.iter().any(|net| net.contains(address)))
        && !side.not_nets.iter().any(|net| net.contains(address))
        && side.sets.iter().all(has_address)
        && !side.not_sets.iter().any(has_address)
        && (any_port || side.ports.iter().any(within) || side.port_sets.iter().any(has_port))
        && !side.not_ports.iter().any(within)
        && !side.not_port_sets.iter().any(has_port)
        && side.service.as_ref().is_none_or(has_port)
}

/// Every set of the state is named by a rule, and every set that is named is there; likewise policies and profiles.
pub fn check_references(state: &State) {
    let mut sets = std::collections::BTreeSet::new();
    for policy in state.policies.values().chain(state.profiles.values()) {
        for rule in policy.ingress.iter().chain(&policy.egress) {
            for side in [&rule.source, &rule.destination] {
                let lists = [
                    &side.sets,
                    &side.not_sets,
                    &side.port_sets,
                    &side.not_port_sets,
                ];
                sets.extend(lists.into_iter().flatten().cloned());
                sets.extend(side.service.clone());
            }
        }
    }
    let there: std::collections::BTreeSet<_> = state.sets.keys().cloned().collect();
    assert_eq!(there, sets);
    let mut policies = std::collections::BTreeSet::new();
    let mut profiles = std::collections::BTreeSet::new();
    for workload in state.workloads.values() {
        let tiers = workload.ingress.iter().chain(&workload.egress);
        policies.extend(tiers.flat_map(|tier| tier.policies.iter().cloned()));
        profiles.extend(workload.profiles.iter().cloned());
    }
    for host in state.hosts.values() {
        let tiers = host.ingress.iter().chain(&host.egress);
        policies.extend(tiers.flat_map(|tier| tier.policies.iter().cloned()));
        profiles.extend(host.profiles.iter().cloned());
    }
    assert!(policies.iter().all(|id| state.policies.contains_key(id)));
    assert_eq!(profiles, state.profiles.keys().cloned().collect());
    // No set holds a range inside of another: an interval set would refuse it.
    for set in state.sets.values() {
        let nets: Vec<_> = set
            .members()
            .iter()
            .filter_map(|m| match m {
                Member::Net(net) => Some(net),
                Member::Port(..) => None,
            })
            .collect();
        for pair in nets.windows(2) {
            assert!(!pair[0].covers(pair[1]), "{pair:?}");
        }
    }
}
