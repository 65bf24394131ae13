//! Policy of the node's own interfaces comes and goes: the kernel lets go of all that belonged to it.

use std::sync::Arc;

use ocicat_dataplane::State;
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{
    Action, EndTier, EndpointId, FailsafePort, HostEndpoint, HostRules, Policy, PolicyId,
    ProfileId, Protocol, Rule, Set, SetId, Tier, TunnelGuard,
};

use crate::lab::*;

const ENDPOINTS: [&str; 3] = ["eth0", "eth1", "rest"];

/// A node whose pods are under policy; none of its own interfaces is.
fn without() -> State {
    let mut state = small();
    let safe = |protocol, port| FailsafePort {
        protocol,
        port,
        net: None,
    };
    let nodes = SetId::new("all-nodes");
    state
        .sets
        .insert(nodes.clone(), Set::new([host("172.16.0.1")]));
    state.sets.insert(
        SetId::new("s:admins"),
        Set::new([host("192.0.2.7"), range("198.51.100.0/24")]),
    );
    state.host = Arc::new(HostRules {
        failsafe_in: vec![safe(Protocol::TCP, 22), safe(Protocol::UDP, 68)],
        failsafe_out: vec![safe(Protocol::UDP, 53), safe(Protocol::TCP, 179)],
        tunnels: vec![TunnelGuard {
            protocol: Protocol::UDP,
            port: Some(4789),
            sources: nodes,
        }],
        ..HostRules::default()
    });
    for (at, id) in ["gnp/first/a", "gnp/first/b", "gnp/default/c"]
        .into_iter()
        .enumerate()
    {
        let number = 5000 + u16::try_from(at).unwrap();
        let policy = Policy {
            ingress: vec![allow_from("s:admins", Protocol::TCP, number)],
            egress: vec![Rule::new(Action::Allow)],
        };
        state.policies.insert(PolicyId::new(id), policy.into());
    }
    state
}

fn add(state: &mut State, endpoint: &str) {
    let first = |policies: &[&str]| Tier {
        name: "first".into(),
        end: EndTier::Pass,
        ..tier(policies)
    };
    // Some chains of tiers are shared with another endpoint, some are not.
    let tiers = vec![
        first(&["gnp/first/a", "gnp/first/b"]),
        tier(&["gnp/default/c"]),
    ];
    let forward = match endpoint {
        "eth0" => vec![first(&["gnp/first/b"])],
        "eth1" => tiers.clone(),
        _ => Vec::new(),
    };
    let endpoint_of = HostEndpoint {
        link: (endpoint != "rest").then(|| link(endpoint)),
        ingress: tiers.clone(),
        egress: tiers,
        forward_ingress: forward.clone(),
        forward_egress: forward,
        profiles: vec![ProfileId::new("kns.default")],
    };
    state
        .hosts
        .insert(EndpointId::new(endpoint), endpoint_of.into());
}

fn with(endpoints: &[&str]) -> State {
    let mut state = without();
    for endpoint in endpoints {
        add(&mut state, endpoint);
    }
    state
}

/// Applies the state, of which nothing may be refused; afterwards the kernel has what it would have had from the start.
fn reach(table: &mut Table, state: &State) {
    let report = table.apply(state).unwrap();
    let names: Vec<_> = state.hosts.keys().collect();
    assert_eq!(report.failed, [], "{names:?}");
    let ours = blocks();
    let fresh = inside(&namespace(), || {
        Table::open().unwrap().apply(state).unwrap();
        blocks()
    });
    let names_of = |blocks: &std::collections::BTreeMap<String, String>| {
        blocks.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names_of(&ours), names_of(&fresh), "{names:?}");
    assert_eq!(ours, fresh, "{names:?}");
    assert_eq!(table.apply(state).unwrap().changed, 0);
}

#[test]
fn endpoints_go_one_at_a_time_in_any_order() {
    node(|| {
        let mut table = Table::open().unwrap();
        let [a, b, c] = ENDPOINTS;
        for order in [
            [a, b, c],
            [a, c, b],
            [b, a, c],
            [b, c, a],
            [c, a, b],
            [c, b, a],
        ] {
            for left in (0..=order.len()).rev() {
                reach(&mut table, &with(&order[..left]));
            }
        }
    });
}

#[test]
fn endpoints_go_all_at_once() {
    node(|| {
        let mut table = Table::open().unwrap();
        for endpoints in [&ENDPOINTS[..], &ENDPOINTS[..2], &ENDPOINTS[2..]] {
            reach(&mut table, &with(endpoints));
            reach(&mut table, &without());
        }
    });
}

#[test]
fn endpoints_that_went_while_nobody_looked_go_too() {
    node(|| {
        reach(&mut Table::open().unwrap(), &with(&ENDPOINTS));
        reach(&mut Table::open().unwrap(), &without());
    });
}

#[test]
fn endpoints_go_through_a_small_send_buffer() {
    node(|| {
        let mut table = Table::with_send_buffer(4096).unwrap();
        reach(&mut table, &with(&ENDPOINTS));
        reach(&mut table, &without());
    });
}

#[test]
fn an_incomplete_state_takes_no_endpoint_away() {
    node(|| {
        reach(&mut Table::open().unwrap(), &with(&ENDPOINTS));
        let before = blocks();
        let mut table = Table::open().unwrap();
        let mut state = without();
        state.incomplete = true;
        let report = table.apply(&state).unwrap();
        assert_eq!(report.failed, []);
        let after = blocks();
        for name in ["chain host-in/eth0 {", "map host-in {", "chain output {"] {
            assert_eq!(before[name], after[name], "{name}");
        }
        reach(&mut table, &without());
    });
}
