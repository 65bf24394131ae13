//! A state that needs every kind of object and expression, and what is sent for it.

use std::sync::Arc;

use ocicat_dataplane::State;
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{
    Action, Denied, EndTier, EndpointId, EndpointToHost, FailsafePort, HostEndpoint, HostRules,
    Icmp, IpVersion, Logging, Member, Nat, OpenConnections, Policy, PolicyId, PortRange, Protocol,
    Rule, Set, SetId, Tier, TunnelGuard, Workload,
};

use crate::tree::{Message, split};

/// The chain of the policy whose rules are spelled out in `rules.rs`.
pub(crate) const POLICY: &str = "policy-in/oracle";

/// Does something in a network namespace of its own.
pub(crate) fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    crate::namespaces::alone("ocnft-oracles", work)
}

/// What goes to the kernel for the whole state, and then for a smaller one: deletions.
pub(crate) fn sent() -> Vec<Vec<u8>> {
    alone(|| {
        let mut all = Vec::new();
        for denied in [Denied::Drop, Denied::Reject] {
            let mut table = Table::open().unwrap();
            table.remove().unwrap();
            table.record();
            let mut state = state(denied);
            let report = table.apply(&state).unwrap();
            assert_eq!(report.failed, []);
            assert_eq!(report.lacking, [], "this kernel cannot do all of it");
            state.workloads.clear();
            let set = state.sets.get_mut(&SetId::new("s:friends")).unwrap();
            set.remove(&host("10.0.0.3/32"));
            table.apply(&state).unwrap();
            all.extend(table.recorded());
        }
        all
    })
}

/// The messages in it.
pub(crate) fn messages() -> Vec<(Vec<u8>, Message)> {
    let sent = sent();
    let all = sent.iter().flat_map(|datagram| split(datagram));
    let all: Vec<_> = all
        .map(|bytes| (bytes.to_vec(), Message::read(bytes)))
        .collect();
    assert!(all.len() > 200, "{} messages", all.len());
    all
}

pub(crate) fn host(text: &str) -> Member {
    Member::Net(text.parse().unwrap())
}

fn port(port: u16) -> PortRange {
    PortRange {
        first: port,
        last: port,
    }
}

pub(crate) fn state(denied: Denied) -> State {
    let mut state = State::default();
    let sets = [
        (
            "s:friends",
            vec![
                host("10.0.0.2/32"),
                host("10.0.0.3/32"),
                host("fd00::2/128"),
            ],
        ),
        (
            "s:nets",
            vec![host("10.1.0.0/16"), host("192.0.2.0/24"), host("fd01::/32")],
        ),
        (
            "p:web",
            vec![Member::Port(
                "10.0.0.2".parse().unwrap(),
                Protocol::TCP,
                8080,
            )],
        ),
        (
            "all-nodes",
            vec![host("192.0.2.9/32"), host("fd00:9::9/128")],
        ),
    ];
    for (id, members) in sets {
        state.sets.insert(SetId::new(id), Set::new(members));
    }
    let policy = Policy {
        ingress: [rules(), more()].concat(),
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("oracle"), policy.into());
    endpoints(&mut state);
    state.host = host_rules(denied).into();
    state.nat = Arc::new(Nat {
        sources: vec!["10.0.0.0/8".parse().unwrap()],
        excluded: vec!["10.0.0.0/8".parse().unwrap()],
        address: (denied == Denied::Drop).then(|| "192.0.2.1".parse().unwrap()),
        ports: Some(PortRange {
            first: 32_768,
            last: 60_999,
        }),
    });
    state
}

fn endpoints(state: &mut State) {
    let tier = Tier {
        name: "default".into(),
        policies: vec![PolicyId::new("oracle")],
        end: EndTier::Deny,
    };
    let pod = Workload {
        addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        allowed_sources: vec!["10.9.0.0/16".parse().unwrap(), "fd09::/64".parse().unwrap()],
        ingress: vec![tier.clone()],
        egress: Vec::new(),
        profiles: Vec::new(),
        up: true,
    };
    state.workloads.insert("cali1".parse().unwrap(), pod.into());
    let endpoint = HostEndpoint {
        link: Some("eth0".parse().unwrap()),
        ingress: vec![tier.clone()],
        egress: Vec::new(),
        forward_ingress: vec![tier],
        forward_egress: Vec::new(),
        profiles: Vec::new(),
    };
    state.hosts.insert(EndpointId::new("eth0"), endpoint.into());
}

fn host_rules(denied: Denied) -> HostRules {
    let guard = |protocol, port| TunnelGuard {
        protocol,
        port,
        sources: SetId::new("all-nodes"),
    };
    HostRules {
        denied,
        endpoint_to_host: EndpointToHost::Accept,
        open_connections: OpenConnections::Cut,
        logging: Logging {
            prefix: "oracle".into(),
            per_minute: Some(60),
            group: (denied == Denied::Drop).then_some(7),
        },
        tunnels: vec![guard(Protocol::UDP, Some(4789)), guard(Protocol(4), None)],
        closed_to_pods: vec![(Protocol::TCP, 179)],
        failsafe_in: vec![FailsafePort {
            protocol: Protocol::TCP,
            port: 22,
            net: Some("192.0.2.0/24".parse().unwrap()),
        }],
        ..HostRules::default()
    }
}

fn rule(action: Action, edit: impl Fn(&mut Rule)) -> Rule {
    let mut rule = Rule::new(action);
    edit(&mut rule);
    rule
}

/// What `rules.rs` spells out, in the same order.
fn rules() -> Vec<Rule> {
    vec![
        rule(Action::Allow, |rule| {
            rule.protocol = Some(Protocol::TCP);
            rule.source.nets = vec!["10.1.2.3/32".parse().unwrap()];
        }),
        rule(Action::Deny, |rule| {
            rule.protocol = Some(Protocol::UDP);
            rule.destination.nets = vec!["10.0.0.0/9".parse().unwrap()];
            rule.destination.not_ports = vec![port(53)];
        }),
        rule(Action::Allow, |rule| {
            rule.destination.not_nets = vec!["2001:db8::/33".parse().unwrap()];
            rule.ip_version = Some(IpVersion::V6);
        }),
        rule(Action::Pass, |rule| {
            rule.ip_version = Some(IpVersion::V4);
            rule.icmp = Some(Icmp {
                kind: 8,
                code: Some(3),
            });
        }),
        rule(Action::Allow, |rule| {
            rule.ip_version = Some(IpVersion::V4);
            rule.source.sets = vec![SetId::new("s:friends")];
            rule.not_protocol = Some(Protocol::SCTP);
        }),
        rule(Action::Allow, |rule| {
            rule.ip_version = Some(IpVersion::V4);
            rule.protocol = Some(Protocol::TCP);
            rule.destination.not_sets = vec![SetId::new("s:nets")];
        }),
        rule(Action::Allow, |rule| {
            rule.ip_version = Some(IpVersion::V4);
            rule.protocol = Some(Protocol::TCP);
            rule.destination.port_sets = vec![SetId::new("p:web")];
        }),
    ]
}

/// Rules that only the libraries' readers see.
fn more() -> Vec<Rule> {
    vec![
        rule(Action::Allow, |rule| {
            rule.protocol = Some(Protocol::TCP);
            rule.source.ports = vec![PortRange {
                first: 1_000,
                last: 2_000,
            }];
        }),
        rule(Action::Log, |rule| rule.ip_version = Some(IpVersion::V6)),
        rule(Action::Allow, |rule| {
            rule.source.nets = vec![
                "10.1.0.0/16".parse().unwrap(),
                "10.3.0.0/16".parse().unwrap(),
            ];
            rule.destination.ports = vec![
                port(80),
                PortRange {
                    first: 90,
                    last: 99,
                },
            ];
        }),
        rule(Action::Deny, |rule| {
            rule.not_icmp = Some(Icmp {
                kind: 8,
                code: None,
            });
        }),
    ]
}
