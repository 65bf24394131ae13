//! The kernel's table is what nft makes of the rendered text: our encoder against nft's own.

use std::sync::Arc;

use ocicat_dataplane::State;
use ocicat_dataplane::nft::{Table, render};
use ocicat_dataplane::state::{
    Action, Denied, EndTier, EndpointId, EndpointToHost, FailsafePort, HostEndpoint, HostRules,
    Icmp, IpVersion, Logging, Member, Nat, Policy, PolicyId, PortRange, ProfileId, Protocol, Rule,
    Set, SetId, TunnelGuard,
};

use crate::lab::*;

fn same(state: State) {
    node(move || {
        let mut table = Table::open().unwrap();
        let report = table.apply(&state).unwrap();
        assert!(report.changed > 0);
        let ours = blocks();
        let text = render(&state);
        let theirs = inside(&namespace(), || {
            nft(&text);
            blocks()
        });
        for (name, block) in &theirs {
            let own = ours
                .get(name)
                .unwrap_or_else(|| panic!("{name} is missing in the kernel"));
            assert_eq!(own, block, "{name}\n{text}");
        }
        assert_eq!(ours.len(), theirs.len());
    });
}

#[test]
fn a_small_state() {
    same(small());
}

#[test]
fn every_kind_of_rule() {
    let mut state = small();
    state
        .policies
        .insert(PolicyId::new("gnp/default/all"), Arc::new(every_rule()));
    state.sets.insert(
        SetId::new("s:mixed"),
        Set::new([
            host("10.0.0.1"),
            range("10.1.0.0/16"),
            range("10.1.2.0/24"),
            range("fd00::/64"),
            range("10.2.0.0/16"),
            range("255.0.0.0/8"),
        ]),
    );
    let ports = [("10.0.0.1", 80), ("fd00::1", 81)];
    state.sets.insert(
        SetId::new("n:http"),
        Set::new(
            ports
                .map(|(address, port)| Member::Port(address.parse().unwrap(), Protocol::TCP, port)),
        ),
    );
    let mut one = (*state.workloads[&link("cali1")]).clone();
    one.ingress[0]
        .policies
        .push(PolicyId::new("gnp/default/all"));
    one.egress = one.ingress.clone();
    one.egress[0].end = EndTier::Pass;
    one.allowed_sources = vec![net("192.168.0.0/16"), net("fd01::/64")];
    state.workloads.insert(link("cali1"), one.into());
    let mut down = workload(&["10.65.0.4"], Vec::new(), Vec::new());
    down.up = false;
    state.workloads.insert(link("cali3"), down.into());
    same(state);
}

fn every_rule() -> Policy {
    let mut rules = Vec::new();
    let mut with = |change: &dyn Fn(&mut Rule)| {
        for action in [Action::Allow, Action::Deny, Action::Pass, Action::Log] {
            let mut rule = Rule::new(action);
            change(&mut rule);
            rules.push(rule);
        }
    };
    with(&|_| {});
    with(&|rule| rule.ip_version = Some(IpVersion::V6));
    with(&|rule| rule.protocol = Some(Protocol::SCTP));
    with(&|rule| rule.not_protocol = Some(Protocol::UDP));
    with(&|rule| {
        rule.icmp = Some(Icmp {
            kind: 8,
            code: None,
        })
    });
    with(&|rule| {
        rule.not_icmp = Some(Icmp {
            kind: 3,
            code: Some(4),
        })
    });
    with(&|rule| rule.source.nets = vec![net("10.0.0.0/8")]);
    with(&|rule| rule.source.not_nets = vec![net("10.0.0.0/8"), net("192.168.0.0/16")]);
    with(&|rule| {
        rule.destination.nets = vec![net("10.0.0.0/8"), net("fd00::/8"), net("fc00::1/128")]
    });
    with(&|rule| {
        rule.source.sets = vec![SetId::new("s:friends"), SetId::new("s:mixed")];
        rule.source.not_sets = vec![SetId::new("s:nobody"), SetId::new("s:mixed")];
    });
    with(&|rule| {
        rule.protocol = Some(Protocol::TCP);
        rule.destination.ports = vec![
            port(80),
            PortRange {
                first: 443,
                last: 445,
            },
        ];
        rule.destination.port_sets = vec![SetId::new("n:http")];
        rule.source.not_ports = vec![PortRange {
            first: 1,
            last: 1023,
        }];
    });
    with(&|rule| {
        rule.destination.port_sets = vec![SetId::new("n:http")];
        rule.source.not_port_sets = vec![SetId::new("n:http")];
        rule.destination.not_ports = vec![port(1), port(3)];
    });
    with(&|rule| rule.destination.service = Some(SetId::new("n:http")));
    Policy {
        ingress: rules.clone(),
        egress: rules,
    }
}

fn rules_of_the_host(nodes: &SetId) -> HostRules {
    let guard = |protocol, port| TunnelGuard {
        protocol,
        port,
        sources: nodes.clone(),
    };
    HostRules {
        endpoint_to_host: EndpointToHost::Accept,
        closed_to_pods: vec![(Protocol::TCP, 179), (Protocol::TCP, 9091)],
        tunnels: vec![guard(Protocol::UDP, Some(4789)), guard(Protocol(4), None)],
        failsafe_in: vec![FailsafePort {
            protocol: Protocol::TCP,
            port: 22,
            net: None,
        }],
        failsafe_out: vec![FailsafePort {
            protocol: Protocol::UDP,
            port: 53,
            net: Some(net("10.96.0.0/12")),
        }],
        denied: Denied::Reject,
        logging: Logging {
            per_minute: Some(10),
            group: Some(3),
            ..Logging::default()
        },
        ..HostRules::default()
    }
}

#[test]
fn the_host() {
    let mut state = small();
    let nodes = SetId::new("all-nodes");
    state.sets.insert(
        nodes.clone(),
        Set::new([host("172.16.0.1"), host("172.16.0.2")]),
    );
    state.host = Arc::new(rules_of_the_host(&nodes));
    state.nat = Arc::new(Nat {
        sources: vec![net("10.65.0.0/16"), net("fd00::/64")],
        excluded: vec![net("10.65.0.0/16"), net("10.66.0.0/16"), net("fd00::/48")],
        address: None,
        ports: Some(PortRange {
            first: 20_000,
            last: 30_000,
        }),
    });
    let log = Policy {
        ingress: vec![Rule::new(Action::Log), Rule::new(Action::Deny)],
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("gnp/default/log"), log.into());
    for (name, of) in [("all", None), ("uplink", Some(link("eth0")))] {
        let policies = || vec![tier(&["gnp/default/log"])];
        let endpoint = HostEndpoint {
            link: of,
            ingress: policies(),
            egress: Vec::new(),
            forward_ingress: policies(),
            forward_egress: Vec::new(),
            profiles: vec![ProfileId::new("kns.default")],
        };
        state.hosts.insert(EndpointId::new(name), endpoint.into());
    }
    same(state);
}

#[test]
fn another_source_address() {
    let mut state = small();
    state.nat = Arc::new(Nat {
        sources: vec![net("10.65.0.0/16")],
        excluded: Vec::new(),
        address: Some("192.0.2.1".parse().unwrap()),
        ports: Some(PortRange {
            first: 20_000,
            last: 30_000,
        }),
    });
    same(state);
}

/// The text of a small state, word for word: what a bug report or a review shows. `OCNFT_BLESS=1` writes it anew.
#[test]
fn the_text_is_as_it_was() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nft/small.nft");
    let text = render(&small());
    if std::env::var_os("OCNFT_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, include_str!("small.nft"));
}
