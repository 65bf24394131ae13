//! Each kind of match in a rule, for packets to a pod and from one.

use ocicat_dataplane::state::HostRules;
use serde_json::{Map, Value, json};

use crate::lab::node;
use crate::world::World;

/// What the rule says of the other side and of the packet, a packet that it matches and one that it does not: the
/// other side's name, the kind, and 4 or 6.
type Case = (
    &'static str,
    Value,
    Value,
    [(&'static str, &'static str, u8); 2],
);

/// `peer` goes to `source` of ingress rules and `destination` of egress rules, `rule` to the rule itself; what it says
/// of the destination's ports holds for both.
#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let none = || json!({});
    let tcp = |ports: Value| json!({"protocol": "TCP", "destination": {"ports": ports}});
    vec![
        (
            "anything",
            none(),
            none(),
            [("c", "tcp/80", 4), ("", "", 4)],
        ),
        (
            "nets",
            json!({"nets": ["10.65.0.4/32"]}),
            none(),
            [("c", "tcp/80", 4), ("c", "tcp/80", 6)],
        ),
        (
            "nets of IPv6",
            json!({"nets": ["fd00::4/127"]}),
            none(),
            [("c", "ping", 6), ("c", "ping", 4)],
        ),
        (
            "many nets",
            json!({"nets": ["10.65.0.4/32", "192.0.2.0/24", "fd00:9::/64"]}),
            none(),
            [("outside", "udp/53", 6), ("c", "udp/53", 6)],
        ),
        (
            "notNets",
            json!({"notNets": ["192.0.2.0/24"]}),
            none(),
            [("c", "tcp/80", 4), ("outside", "tcp/80", 4)],
        ),
        (
            "nets but",
            json!({"nets": ["10.65.0.0/16"], "notNets": ["10.65.0.4/32"]}),
            none(),
            [("", "", 4), ("c", "tcp/80", 4)],
        ),
        (
            "selector",
            json!({"selector": "app == 'web'"}),
            none(),
            [("c", "udp/80", 6), ("outside", "udp/80", 6)],
        ),
        (
            "notSelector",
            json!({"notSelector": "app == 'web'"}),
            none(),
            [("outside", "tcp/80", 4), ("c", "tcp/80", 4)],
        ),
        (
            "a network set",
            json!({"selector": "where == 'far'"}),
            none(),
            [("outside", "tcp/80", 6), ("c", "tcp/80", 4)],
        ),
        (
            "namespaceSelector",
            json!({"namespaceSelector": "team == 'y'"}),
            none(),
            [("c", "tcp/80", 4), ("outside", "tcp/80", 4)],
        ),
        (
            "both selectors",
            json!({"selector": "app == 'web'", "namespaceSelector": "team == 'y'"}),
            none(),
            [("c", "sctp/80", 4), ("outside", "sctp/80", 4)],
        ),
        (
            "nets and selector",
            json!({"selector": "has(app)", "nets": ["10.65.0.4/30"]}),
            none(),
            [("c", "tcp/80", 4), ("c", "tcp/80", 6)],
        ),
        (
            "protocol",
            none(),
            json!({"protocol": "UDP"}),
            [("c", "udp/53", 6), ("c", "tcp/80", 6)],
        ),
        (
            "protocol by number",
            none(),
            json!({"protocol": 132}),
            [("c", "sctp/80", 4), ("c", "tcp/80", 4)],
        ),
        (
            "UDPLite",
            none(),
            json!({"protocol": "UDPLite"}),
            [("c", "udplite/80", 4), ("c", "udp/80", 4)],
        ),
        (
            "notProtocol",
            none(),
            json!({"notProtocol": "TCP"}),
            [("c", "ping", 4), ("c", "tcp/80", 4)],
        ),
        (
            "ipVersion 4",
            none(),
            json!({"ipVersion": 4}),
            [("c", "tcp/80", 4), ("c", "tcp/80", 6)],
        ),
        (
            "ipVersion 6",
            none(),
            json!({"ipVersion": 6}),
            [("c", "tcp/80", 6), ("c", "tcp/80", 4)],
        ),
        (
            "ICMP",
            none(),
            json!({"protocol": "ICMP"}),
            [("c", "ping", 4), ("c", "ping", 6)],
        ),
        (
            "ICMPv6",
            none(),
            json!({"protocol": "ICMPv6"}),
            [("c", "ping", 6), ("c", "ping", 4)],
        ),
        (
            "ICMP type",
            none(),
            json!({"protocol": "ICMP", "icmp": {"type": 13}}),
            [("c", "timestamp", 4), ("c", "ping", 4)],
        ),
        (
            "ICMP type and code",
            none(),
            json!({"protocol": "ICMPv6", "icmp": {"type": 128, "code": 1}}),
            [("c", "timestamp", 6), ("c", "ping", 6)],
        ),
        (
            "notICMP type",
            none(),
            json!({"protocol": "ICMP", "notICMP": {"type": 13}}),
            [("c", "ping", 4), ("c", "timestamp", 4)],
        ),
        // Not (type and code): another code of the type is let through.
        (
            "notICMP type and code",
            none(),
            json!({"protocol": "ICMPv6", "notICMP": {"type": 128, "code": 0}}),
            [("c", "timestamp", 6), ("c", "ping", 6)],
        ),
        (
            "a port",
            none(),
            tcp(json!([80])),
            [("c", "tcp/80", 4), ("c", "tcp/81", 4)],
        ),
        (
            "ports",
            none(),
            tcp(json!([80, 443])),
            [("c", "tcp/443", 6), ("c", "tcp/81", 6)],
        ),
        (
            "a range of ports",
            none(),
            tcp(json!(["79:81", 443])),
            [("c", "tcp/81", 4), ("c", "tcp/8080", 4)],
        ),
        (
            "notPorts",
            none(),
            json!({"protocol": "TCP", "destination": {"notPorts": [80]}}),
            [("c", "tcp/81", 4), ("c", "tcp/80", 4)],
        ),
        (
            "source ports",
            none(),
            json!({"protocol": "UDP", "source": {"ports": ["1:1023"]}}),
            [("c", "udp/80<1000", 4), ("c", "udp/80", 4)],
        ),
        (
            "not source ports",
            none(),
            json!({"protocol": "TCP", "source": {"notPorts": [1000]}}),
            [("c", "tcp/80", 4), ("c", "tcp/80<1000", 4)],
        ),
        (
            "a named port",
            none(),
            tcp(json!(["http"])),
            [("", "", 4), ("c", "tcp/443", 4)],
        ),
        (
            "named and numbered",
            none(),
            tcp(json!(["http", 443])),
            [("c", "tcp/443", 4), ("c", "tcp/80", 4)],
        ),
        (
            "no named port",
            none(),
            json!({"protocol": "TCP", "destination": {"notPorts": ["http"]}}),
            [("c", "tcp/443", 4), ("", "", 4)],
        ),
        (
            "everything at once",
            json!({"selector": "app == 'web'", "nets": ["10.65.0.0/24"], "notNets": ["10.65.0.99/32"]}),
            json!({"protocol": "TCP", "ipVersion": 4, "source": {"ports": [1000]}, "destination": {"ports": [80]}}),
            [("c", "tcp/80<1000", 4), ("c", "tcp/80", 4)],
        ),
    ]
}

/// A rule with the other side's part put where it belongs.
fn rule(action: &str, ingress: bool, peer: &Value, rest: &Value) -> Value {
    let side = if ingress { "source" } else { "destination" };
    let mut rule: Map<String, Value> = rest.as_object().unwrap().clone();
    rule.insert("action".into(), json!(action));
    let entity = rule.entry(side).or_insert_with(|| json!({}));
    for (key, value) in peer.as_object().unwrap() {
        entity[key] = value.clone();
    }
    Value::Object(rule)
}

fn policy(ingress: bool, rules: &[Value]) -> Value {
    let (kind, word) = if ingress {
        ("Ingress", "ingress")
    } else {
        ("Egress", "egress")
    };
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "default.it"},
        "spec": {"tier": "default", "order": 1, "selector": "pod == 'b'", "types": [kind], word: rules},
    })
}

fn in_force(ingress: bool) {
    node(move || {
        let mut world = World::new();
        let (mut allowed, mut denied) = (0, 0);
        for (name, peer, rest, probes) in cases() {
            // What the rule matches is let through and nothing else; then the other way round.
            for action in ["Allow", "Deny"] {
                let mut rules = vec![rule(action, ingress, &peer, &rest)];
                if action == "Deny" {
                    rules.push(json!({"action": "Allow"}));
                }
                world.apply(&[policy(ingress, &rules)], &HostRules::default());
                for (at, (other, kind, version)) in probes.iter().enumerate() {
                    if other.is_empty() {
                        continue;
                    }
                    let (from, to) = if ingress {
                        (*other, "b")
                    } else {
                        ("b", *other)
                    };
                    let expected = (at == 0) == (action == "Allow");
                    assert_eq!(
                        world.says(from, to, kind, *version == 4),
                        expected,
                        "{action} {name}: {from} to {to} {kind}"
                    );
                }
                let [yes, no] = world.agree(&format!("{action} {name}, ingress {ingress}"));
                allowed += yes;
                denied += no;
            }
        }
        eprintln!("{allowed} arrived, {denied} did not");
        assert!(allowed > 5_000 && denied > 2_000, "{allowed}, {denied}");
    });
}

#[test]
fn every_kind_of_rule_for_packets_to_a_pod() {
    in_force(true);
}

#[test]
fn every_kind_of_rule_for_packets_from_a_pod() {
    in_force(false);
}
