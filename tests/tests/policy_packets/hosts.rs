//! The node's own interface under policy: failsafe ports, forwarded packets, and what pods may.

use ocicat_dataplane::state::{EndpointToHost, FailsafePort, HostRules, Protocol};
use ocicat_dataplane::verdict::Packet;
use ocicat_policy::Flow;
use serde_json::{Value, json};

use crate::lab::{nft, node, run};
use crate::world::{NODE, World, kind};

/// Counts the packets that come to the node's own programs, behind our chains.
const COUNT: &str = "table inet ocnft-host {
    chain in { type filter hook input priority 500; ip ttl 44 counter; ip6 hoplimit 44 counter; }
}";

fn arrived() -> u64 {
    let text = run("nft -j list chain inet ocnft-host in");
    let all: Value = serde_json::from_str(&text).unwrap();
    let rules = all["nftables"].as_array().unwrap().iter();
    let rules = rules.filter_map(|one| one["rule"]["expr"].as_array());
    rules
        .flatten()
        .filter_map(|part| part["counter"]["packets"].as_u64())
        .sum()
}

fn endpoint() -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
        "metadata": {"name": "uplink", "labels": {"host": "yes"}},
        "spec": {"node": NODE, "interfaceName": "eth9"},
    })
}

fn policy(name: &str, order: u32, forward: bool, rules: &Value) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": format!("default.{name}")},
        "spec": {"tier": "default", "order": order, "selector": "host == 'yes'",
                 "types": ["Ingress", "Egress"], "applyOnForward": forward,
                 "ingress": rules, "egress": rules},
    })
}

fn host() -> HostRules {
    let safe = |protocol, port, net: Option<&str>| FailsafePort {
        protocol,
        port,
        net: net.map(|net| net.parse().unwrap()),
    };
    HostRules {
        endpoint_to_host: EndpointToHost::Accept,
        failsafe_in: vec![
            safe(Protocol::TCP, 22, None),
            safe(Protocol::UDP, 68, Some("192.0.2.0/24")),
            safe(Protocol::TCP, 2379, Some("203.0.113.0/24")),
        ],
        ..HostRules::default()
    }
}

/// A packet to the node itself, and the flow that it is.
fn to_node(world: &World, from: usize, text: &str, v4: bool) -> (Packet, Flow) {
    let (mut packet, mut flow) = world.probe(from, 3, kind(text, v4), v4);
    packet.out_link = None;
    packet.destination = if v4 { "192.0.2.1" } else { "fd00:9::1" }.parse().unwrap();
    flow.destination = packet.destination;
    flow.to_node = Some(NODE.to_owned());
    (packet, flow)
}

/// Who sends what to the node, whether of IPv4, and what has to become of it.
type Expected = (usize, &'static str, bool, bool);

fn agree(world: &mut World, name: &str, expected: &[Expected]) {
    let mut number = 0;
    for from in [0, 3] {
        for text in [
            "tcp/22", "tcp/80", "tcp/443", "tcp/2379", "udp/68", "udp/53", "ping", "sctp/80",
        ] {
            for v4 in [true, false] {
                let (packet, flow) = to_node(world, from, text, v4);
                let says = world.model.evaluate(&flow);
                if let Some(case) = expected
                    .iter()
                    .find(|case| (case.0, case.1, case.2) == (from, text, v4))
                {
                    assert_eq!(
                        says.is_allowed(),
                        case.3,
                        "{name}: {text} from {from}\n{says}"
                    );
                }
                let before = arrived();
                number += 1;
                world.ends[from].send(&packet, number);
                world.ends[from].received();
                let came = arrived() > before;
                assert_eq!(came, says.is_allowed(), "{name}: {packet:?}\n{says}");
                assert_eq!(
                    world.state.verdict(&packet).is_allowed(),
                    came,
                    "{name}: {packet:?}"
                );
            }
        }
    }
    // What is forwarded between pods and the outside.
    world.agree(name);
}

#[test]
fn failsafe_ports_and_apply_on_forward() {
    node(|| {
        let mut world = World::new();
        nft(COUNT);
        let host = host();
        let tcp =
            json!([{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80, 443]}}]);
        let deny = json!([{"action": "Deny", "protocol": "UDP"}, {"action": "Allow"}]);
        let cases: [(&str, Vec<Value>, &[Expected]); 4] = [
            (
                "an endpoint without policies",
                vec![endpoint()],
                &[
                    (3, "tcp/22", true, true),
                    (3, "tcp/80", true, false),
                    (3, "udp/68", true, true),
                    (3, "udp/68", false, false),
                    (3, "tcp/2379", true, false),
                ],
            ),
            (
                "policy of the host alone",
                vec![endpoint(), policy("local", 1, false, &tcp)],
                &[
                    (3, "tcp/80", true, true),
                    (3, "udp/53", true, false),
                    (3, "tcp/22", false, true),
                    (0, "udp/53", true, true),
                ],
            ),
            (
                "policy of what is forwarded too",
                vec![endpoint(), policy("all", 1, true, &tcp)],
                &[(3, "tcp/80", true, true), (3, "ping", true, false)],
            ),
            (
                "both",
                vec![
                    endpoint(),
                    policy("all", 1, true, &deny),
                    policy("local", 2, false, &tcp),
                ],
                &[
                    (3, "udp/53", true, false),
                    (3, "udp/68", true, true),
                    (3, "ping", true, true),
                ],
            ),
        ];
        for (name, resources, expected) in cases {
            world.apply(&resources, &host);
            world.model.set_endpoint_to_host(EndpointToHost::Accept);
            world
                .model
                .set_failsafe(host.failsafe_in.clone(), host.failsafe_out.clone());
            agree(&mut world, name, expected);
        }
    });
}
