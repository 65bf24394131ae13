//! A node with many pods and policies.

use std::net::IpAddr;
use std::sync::Arc;

use ocicat_dataplane::state::{
    Action, EndTier, LinkName, Member, Policy, PolicyId, PortRange, Protocol, Rule, Set, SetId,
    Tier, Workload,
};
use ocicat_dataplane::{Prefix, State};

pub(crate) const ENDPOINTS: usize = 1_000;
const POLICIES: usize = 200;

pub(crate) fn cluster(each: usize, apart: bool) -> State {
    cluster_of(ENDPOINTS, each, apart)
}

/// Each endpoint with `each` policies, in lists that many share, or when `apart` two. A policy of a list takes two rules:
/// to ask it, and to heed its answer.
pub(crate) fn cluster_of(endpoints: usize, each: usize, apart: bool) -> State {
    let mut state = State::default();
    for number in 0..POLICIES {
        let id = PolicyId::new(&format!("np/default/default/{number}"));
        state.policies.insert(id, policy(number, 80));
        let members = (0..20_u32).map(|n| address(0x0a41_0000 + n * 7));
        state
            .sets
            .insert(SetId::new(&format!("s:{number}")), Set::new(members));
    }
    for number in 0..endpoints {
        let (name, pod) = workload(number, each, apart);
        state.workloads.insert(name, pod);
    }
    state
}

pub(crate) fn policy(number: usize, port: u16) -> Arc<Policy> {
    let rule = |port| {
        let mut rule = Rule::new(Action::Allow);
        rule.protocol = Some(Protocol::TCP);
        rule.source.sets.push(SetId::new(&format!("s:{number}")));
        rule.destination.ports.push(PortRange {
            first: port,
            last: port,
        });
        rule
    };
    Arc::new(Policy {
        ingress: vec![rule(port), rule(port + 1)],
        egress: Vec::new(),
    })
}

pub(crate) fn workload(number: usize, each: usize, apart: bool) -> (LinkName, Arc<Workload>) {
    // With another step from the same start it is another list.
    let (start, step) = match apart {
        true => (
            number / 2 * 37,
            [1, 3, 7, 9, 11, 13, 17, 19][number / 2 / POLICIES % 8],
        ),
        false if each == POLICIES => (0, 1),
        false => (number * 37, 1),
    };
    let policies = (0..each).map(|at| (start + at * step) % POLICIES);
    let policies = policies
        .map(|at| PolicyId::new(&format!("np/default/default/{at}")))
        .collect();
    let tier = Tier {
        name: "default".into(),
        policies,
        end: EndTier::Deny,
    };
    let Member::Net(own) = address(0x0a42_0000 + u32::try_from(number).unwrap()) else {
        unreachable!()
    };
    let pod = Workload {
        addresses: vec![own.address()],
        allowed_sources: Vec::new(),
        ingress: vec![tier],
        egress: Vec::new(),
        profiles: Vec::new(),
        up: true,
    };
    (
        LinkName::new(format!("cali{number:011x}")).unwrap(),
        Arc::new(pod),
    )
}

/// What policies say of packets in holds for packets out, and applies to them.
pub(crate) fn both_ways(state: &mut State) {
    for policy in state.policies.values_mut() {
        let ingress = policy.ingress.clone();
        *policy = Arc::new(Policy {
            egress: ingress.clone(),
            ingress,
        });
    }
    for pod in state.workloads.values_mut() {
        let mut both = (**pod).clone();
        both.egress.clone_from(&both.ingress);
        *pod = Arc::new(both);
    }
}

/// Makes a policy look at a set.
pub(crate) fn use_set(state: &mut State, set: &str) {
    let id = PolicyId::new("np/default/default/0");
    let mut policy = (*state.policies[&id]).clone();
    policy.ingress[0].source.not_sets.push(SetId::new(set));
    state.policies.insert(id, policy.into());
}

pub(crate) fn address(number: u32) -> Member {
    Member::Net(Prefix::host(IpAddr::V4(number.into())))
}
