//! Random clusters: small enough that everything meets everything, odd enough that every field is used.

use std::net::IpAddr;
use std::sync::Arc;

use ocicat_datastore::model::{
    EndpointConditions, EndpointSlice, EntityRule, GlobalNetworkPolicy, GlobalNetworkPolicySpec,
    GlobalNetworkSet, HostEndpoint, HostEndpointPort, HostEndpointSpec, IcmpFields, IntOrString,
    NetworkPolicy, NetworkPolicySpec, NetworkSet, NetworkSetSpec, Profile, ProfileSpec, Rule,
    ServiceAccountMatch, ServiceMatch, SliceEndpoint, SlicePort, Tier, TierSpec, WorkloadEndpoint,
    WorkloadEndpointPort, WorkloadEndpointSpec,
};
use ocicat_datastore::{Key, Kind, Metadata};
use ocicat_policy::Update;
use proptest::collection::{btree_map, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

pub const PODS: u8 = 6;

fn text(options: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(options).prop_map(str::to_owned)
}

pub fn address(pod: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, pod])
}

pub fn address_v6(pod: u8) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(pod)])
}

pub fn link(pod: u8) -> String {
    format!("cali{pod}")
}

pub fn node(pod: u8) -> &'static str {
    if pod.is_multiple_of(2) { "n0" } else { "n1" }
}

pub fn namespace(pod: u8) -> &'static str {
    if pod.is_multiple_of(3) { "a" } else { "b" }
}

fn labels() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    let key = text(&["role", "env", "pcns.env", "projectcalico.org/namespace"]);
    btree_map(key, text(&["x", "y", "a"]), 0..3)
}

pub fn pod(pod: u8) -> impl Strategy<Value = Update> {
    let ports = vec(
        (text(&["http", "dns"]), text(&["TCP", "UDP"]), 80..83_u16),
        0..3,
    );
    let account = weighted(0.6, text(&["s1", "s2"]));
    let orchestrator = prop_oneof![3 => Just("k8s"), 1 => Just("cni")];
    let facts = (labels(), ports, account, any::<bool>(), orchestrator);
    facts.prop_map(move |(labels, ports, account, dual, orchestrator)| {
        let namespace = namespace(pod);
        let name = format!("pod{pod}");
        let mut profiles = vec![format!("kns.{namespace}")];
        profiles.extend(account.as_ref().map(|a| format!("ksa.{namespace}.{a}")));
        let mut addresses = vec![format!("{}/32", address(pod))];
        if dual {
            addresses.push(format!("{}/128", address_v6(pod)));
        }
        let endpoint = WorkloadEndpoint {
            metadata: Metadata {
                labels,
                ..Metadata::namespaced(namespace, name.clone())
            },
            spec: WorkloadEndpointSpec {
                orchestrator: orchestrator.into(),
                node: node(pod).into(),
                interface_name: Some(link(pod)),
                ip_networks: addresses,
                profiles,
                service_account_name: account,
                ports: ports
                    .into_iter()
                    .map(|(name, protocol, port)| WorkloadEndpointPort {
                        name: Some(name),
                        protocol: IntOrString::String(protocol),
                        port,
                        ..WorkloadEndpointPort::default()
                    })
                    .collect(),
                ..WorkloadEndpointSpec::default()
            },
        };
        let key = Key::namespaced(Kind::WorkloadEndpoint, namespace, name);
        Update::WorkloadEndpoint(key, Some(Arc::new(endpoint)))
    })
}

fn profile(name: &'static str, prefix: &'static str) -> impl Strategy<Value = Update> {
    let labels = btree_map(
        text(&["env", "team"]).prop_map(move |k| format!("{prefix}{k}")),
        text(&["x", "y"]),
        0..3,
    );
    let rules = || prop_oneof![3 => Just(vec![allow()]), 1 => vec(rule(), 0..2)];
    (labels, rules(), rules()).prop_map(move |(labels_to_apply, ingress, egress)| {
        let profile = Profile {
            metadata: Metadata::named(name),
            spec: ProfileSpec {
                ingress,
                egress,
                labels_to_apply,
            },
        };
        Update::Profile(Key::cluster(Kind::Profile, name), Some(Arc::new(profile)))
    })
}

fn allow() -> Rule {
    Rule {
        action: "Allow".into(),
        ..Rule::default()
    }
}

fn tier(name: &'static str) -> impl Strategy<Value = Update> {
    let order = weighted(0.8, select(&[1.0, 2.0, 2e6][..]));
    let end = weighted(0.7, text(&["Deny", "Pass", "Pass", "Nonsense"]));
    (order, end).prop_map(move |(order, default_action)| {
        let tier = Tier {
            metadata: Metadata::named(name),
            spec: TierSpec {
                order,
                default_action,
            },
            status: None,
        };
        Update::Tier(Key::cluster(Kind::Tier, name), Some(Arc::new(tier)))
    })
}

fn nets() -> impl Strategy<Value = Vec<String>> {
    let net = text(&[
        "10.0.0.0/30",
        "10.0.0.4/31",
        "10.0.0.1",
        "10.0.0.2/32",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "192.0.2.0/24",
        "192.0.2.7/24",
        "fd00::/126",
        "fd00::2",
        "::/0",
        "10.0.0.0/24",
    ]);
    let odd = prop_oneof![30 => net, 1 => Just("10.0.0/24".to_owned())];
    vec(odd, 1..3)
}

fn network_set(name: &'static str) -> impl Strategy<Value = Update> {
    (labels(), nets(), any::<bool>()).prop_map(move |(labels, nets, global)| {
        let spec = NetworkSetSpec { nets };
        if global {
            let set = GlobalNetworkSet {
                metadata: Metadata {
                    labels,
                    ..Metadata::named(name)
                },
                spec,
            };
            let key = Key::cluster(Kind::GlobalNetworkSet, name);
            return Update::GlobalNetworkSet(key, Some(Arc::new(set)));
        }
        let set = NetworkSet {
            metadata: Metadata {
                labels,
                ..Metadata::namespaced("a", name)
            },
            spec,
        };
        let key = Key::namespaced(Kind::NetworkSet, "a", name);
        Update::NetworkSet(key, Some(Arc::new(set)))
    })
}

/// The address of a node.
pub fn node_address(node: &str) -> IpAddr {
    IpAddr::from([172, 16, 0, if node == "n0" { 1 } else { 2 }])
}

/// A host endpoint of a node's `eth0`, of all its interfaces, or of none that is there.
fn host(name: &'static str) -> impl Strategy<Value = Update> {
    let profiles = weighted(0.5, Just(vec!["kns.a".to_owned()]));
    let interface = weighted(0.7, text(&["eth0", "*", "*", "eth7", "no/link"]));
    (labels(), text(&["n0", "n1", "n2"]), interface, profiles).prop_map(
        move |(labels, node, interface_name, profiles)| {
            let endpoint = HostEndpoint {
                metadata: Metadata {
                    labels,
                    ..Metadata::named(name)
                },
                spec: HostEndpointSpec {
                    expected_ips: vec![node_address(&node).to_string()],
                    node,
                    interface_name,
                    profiles: profiles.unwrap_or_default(),
                    ports: vec![HostEndpointPort {
                        name: "http".into(),
                        protocol: "TCP".into(),
                        port: 443,
                    }],
                },
            };
            let key = Key::cluster(Kind::HostEndpoint, name);
            Update::HostEndpoint(key, Some(Arc::new(endpoint)))
        },
    )
}

fn slice(name: &'static str) -> impl Strategy<Value = Update> {
    let endpoint = (0..PODS, weighted(0.3, any::<bool>()));
    let ports = vec((text(&["TCP", "UDP"]), 80..83_u16), 0..3);
    (text(&["svc", "other"]), vec(endpoint, 0..3), ports).prop_map(move |(service, pods, ports)| {
        let label = ("kubernetes.io/service-name".to_owned(), service);
        let slice = EndpointSlice {
            metadata: Metadata {
                labels: [label].into(),
                ..Metadata::namespaced("a", name)
            },
            address_type: "IPv4".into(),
            endpoints: pods
                .into_iter()
                .map(|(pod, ready)| SliceEndpoint {
                    addresses: vec![address(pod).to_string()],
                    conditions: EndpointConditions {
                        ready,
                        ..EndpointConditions::default()
                    },
                    ..SliceEndpoint::default()
                })
                .collect(),
            ports: ports
                .into_iter()
                .map(|(protocol, port)| SlicePort {
                    protocol: Some(protocol),
                    port: Some(port),
                    ..SlicePort::default()
                })
                .collect(),
        };
        let key = Key::namespaced(Kind::EndpointSlice, "a", name);
        Update::EndpointSlice(key, Some(Arc::new(slice)))
    })
}

fn selector() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => text(&[
            "all()", "role == 'x'", "role != 'x'", "has(env)", "!has(role)", "role in {'x','y'}",
            "env == 'y' || role == 'y'", "projectcalico.org/namespace == 'a'", " ",
        ]),
        1 => text(&["role =", "(has(a)"]),
    ]
}

fn namespaces() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => text(&["all()", "env == 'x'", "env != 'x'", "!has(team)", "global()", "team in {'x'}"]),
        1 => text(&["env == ", "global() || has(env)"]),
    ]
}

fn ports() -> impl Strategy<Value = Vec<IntOrString>> {
    let port = prop_oneof![
        8 => select(&[80, 81, 443][..]).prop_map(|n: i64| IntOrString::Int(n)),
        3 => text(&["80:81", "81:90", "1:65535"]).prop_map(IntOrString::String),
        4 => text(&["http", "dns"]).prop_map(IntOrString::String),
        1 => Just(IntOrString::String("90:80".into())),
    ];
    vec(port, 1..3)
}

fn entity() -> impl Strategy<Value = EntityRule> {
    let accounts = (
        vec(text(&["s1", "s2"]), 0..2),
        weighted(0.3, text(&["env == 'x'", "has(team)"])),
    );
    let service = (text(&["svc", "other"]), weighted(0.7, Just("a".to_owned())));
    (
        weighted(0.2, nets()),
        weighted(0.1, nets()),
        weighted(0.35, selector()),
        weighted(0.1, selector()),
        weighted(0.2, namespaces()),
        weighted(0.3, ports()),
        weighted(0.1, ports()),
        weighted(0.15, accounts),
        weighted(0.1, service),
    )
        .prop_map(
            |(
                nets,
                not_nets,
                selector,
                not_selector,
                namespaces,
                ports,
                not_ports,
                accounts,
                service,
            )| {
                let services = service.map(|(name, namespace)| ServiceMatch { name, namespace });
                let stated = EntityRule {
                    nets: nets.unwrap_or_default(),
                    not_nets: not_nets.unwrap_or_default(),
                    selector,
                    not_selector,
                    namespace_selector: namespaces,
                    ports: ports.unwrap_or_default(),
                    not_ports: not_ports.unwrap_or_default(),
                    service_accounts: accounts
                        .map(|(names, selector)| ServiceAccountMatch { names, selector }),
                    services: None,
                };
                match services {
                    // Mostly alone, as it must be.
                    Some(service) if stated.nets.is_empty() => EntityRule {
                        services: Some(service),
                        ..EntityRule::default()
                    },
                    services => EntityRule { services, ..stated },
                }
            },
        )
}

pub fn rule() -> impl Strategy<Value = Rule> {
    let action = text(&[
        "Allow", "Allow", "Allow", "Allow", "Allow", "Allow", "Deny", "Deny", "Deny", "Deny",
        "Pass", "Pass", "Log", "Log", "Nonsense",
    ]);
    let protocol = prop_oneof![
        6 => Just(IntOrString::from("TCP")),
        4 => Just(IntOrString::from("UDP")),
        2 => Just(IntOrString::from("ICMP")),
        1 => Just(IntOrString::Int(132)),
        1 => Just(IntOrString::from("TCPP")),
    ];
    let icmp =
        (weighted(0.9, 0..256_i64), weighted(0.3, 0..2_i64)).prop_map(|(kind, code)| IcmpFields {
            r#type: kind.map(|k| k % 10),
            code,
        });
    let plain = prop_oneof![2 => Just(EntityRule::default()), 3 => entity()];
    let other = prop_oneof![2 => Just(EntityRule::default()), 3 => entity()];
    (
        action,
        weighted(0.1, prop_oneof![5 => Just(IntOrString::Int(4)), 3 => Just(IntOrString::Int(6)), 1 => Just(IntOrString::Int(5))]),
        weighted(0.7, protocol.clone()),
        weighted(0.1, protocol),
        weighted(0.1, icmp.clone()),
        weighted(0.05, icmp),
        plain,
        other,
    )
        .prop_map(|(action, ip_version, protocol, not_protocol, icmp, not_icmp, source, destination)| Rule {
            action,
            ip_version,
            protocol,
            not_protocol,
            icmp,
            not_icmp,
            source,
            destination,
            ..Rule::default()
        })
}

fn types() -> impl Strategy<Value = Vec<String>> {
    let direction = prop_oneof![20 => text(&["Ingress", "Egress"]), 1 => Just("Both".to_owned())];
    vec(direction, 0..3)
}

/// Where a policy stands, and what it is for.
fn place() -> impl Strategy<Value = GlobalNetworkPolicySpec> {
    (
        weighted(
            0.7,
            text(&["default", "t1", "t2", "kube-admin", "none", ""]),
        ),
        weighted(0.7, select(&[1.0, 2.0][..])),
        weighted(0.7, selector()),
        weighted(0.2, namespaces()),
        weighted(0.1, text(&["env == 'x'", "has(team)"])),
        types(),
    )
        .prop_map(|(tier, order, selector, namespaces, accounts, types)| {
            GlobalNetworkPolicySpec {
                tier,
                order,
                selector,
                namespace_selector: namespaces,
                service_account_selector: accounts,
                types,
                ..GlobalNetworkPolicySpec::default()
            }
        })
}

fn policy(name: &'static str) -> impl Strategy<Value = Update> {
    (
        any::<bool>(),
        place(),
        vec(rule(), 0..4),
        vec(rule(), 0..4),
        0..30_u8,
    )
        .prop_map(move |(global, place, ingress, egress, odd)| {
            let spec = GlobalNetworkPolicySpec {
                ingress,
                egress,
                pre_dnat: odd == 0,
                apply_on_forward: odd % 3 == 0,
                ..place
            };
            if global {
                let metadata = Metadata::named(name);
                let policy = GlobalNetworkPolicy { metadata, spec };
                let key = Key::cluster(Kind::GlobalNetworkPolicy, name);
                return Update::GlobalNetworkPolicy(key, Some(Arc::new(policy)));
            }
            let namespace = if odd % 2 == 0 { "a" } else { "b" };
            let policy = NetworkPolicy {
                metadata: Metadata::namespaced(namespace, name),
                spec: NetworkPolicySpec {
                    tier: spec.tier,
                    order: spec.order,
                    selector: spec.selector,
                    service_account_selector: spec.service_account_selector,
                    types: spec.types,
                    ingress: spec.ingress,
                    egress: spec.egress,
                    ..NetworkPolicySpec::default()
                },
            };
            let key = Key::namespaced(Kind::NetworkPolicy, namespace, name);
            Update::NetworkPolicy(key, Some(Arc::new(policy)))
        })
}

/// All resources of a random cluster, each with one update.
pub fn cluster() -> impl Strategy<Value = Vec<Update>> {
    let pods: Vec<_> = (0..PODS).map(|p| pod(p).boxed()).collect();
    let others: Vec<BoxedStrategy<Update>> = vec![
        profile("kns.a", "pcns.").boxed(),
        profile("kns.b", "pcns.").boxed(),
        profile("ksa.a.s1", "pcsa.").boxed(),
        profile("ksa.b.s1", "pcsa.").boxed(),
        tier("t1").boxed(),
        tier("t2").boxed(),
        network_set("nets1").boxed(),
        network_set("nets2").boxed(),
        slice("slice1").boxed(),
        slice("slice2").boxed(),
    ];
    let host = weighted(0.3, host("host")).boxed();
    let policies: Vec<_> = ["p1", "p2", "p3", "p4", "p5", "p6"]
        .map(|name| weighted(0.6, policy(name)).boxed())
        .into();
    (pods, others, policies, host).prop_map(|(mut all, others, policies, host)| {
        all.extend(others);
        all.extend(host);
        all.extend(policies.into_iter().flatten());
        all
    })
}
