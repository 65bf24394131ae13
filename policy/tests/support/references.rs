//! Whether a state is whole.

use ocicat_dataplane::State;
use ocicat_dataplane::state::Member;

/// Every set of the state is named by a rule, and every set that is named is there; likewise policies and profiles.
pub fn check(state: &State) {
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
