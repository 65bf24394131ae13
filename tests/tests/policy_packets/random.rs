//! Random policies and random packets.

use ocicat_dataplane::state::HostRules;
use serde_json::{Map, Value, json};

use crate::lab::node;
use crate::world::{KINDS, World, kind};

const ROUNDS: usize = 40;
const PACKETS: usize = 80;

/// xorshift64*: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let wide = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(wide).unwrap() % sides
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())].clone()
    }
}

const SELECTORS: [&str; 7] = [
    "app == 'web'",
    "app == 'db'",
    "all()",
    "!has(app)",
    "pod in {'a', 'c'}",
    "where == 'far'",
    "app != 'web'",
];
const NETS: [&str; 7] = [
    "10.65.0.0/24",
    "10.65.0.3/32",
    "192.0.2.0/24",
    "fd00::/64",
    "fd00::4/127",
    "fd00:9::/64",
    "10.65.0.4/30",
];

fn entity(dice: &mut Dice, ports: bool) -> Value {
    let mut entity = Map::new();
    let key = dice.of(&[
        "selector",
        "notSelector",
        "nets",
        "notNets",
        "namespaceSelector",
        "",
        "",
    ]);
    match key {
        "" => {}
        "nets" | "notNets" => {
            let nets: Vec<&str> = (0..=dice.roll(2)).map(|_| dice.of(&NETS)).collect();
            entity.insert(key.into(), json!(nets));
        }
        "namespaceSelector" => {
            entity.insert(
                key.into(),
                json!(dice.of(&["team == 'x'", "team == 'y'", "all()"])),
            );
        }
        _ => {
            entity.insert(key.into(), json!(dice.of(&SELECTORS)));
        }
    }
    if ports && dice.roll(2) == 0 {
        let key = dice.of(&["ports", "ports", "notPorts"]);
        let ports = [
            json!(80),
            json!("80:100"),
            json!(443),
            json!("http"),
            json!("1:1023"),
            json!("8000:9000"),
        ];
        let chosen: Vec<Value> = (0..=dice.roll(2)).map(|_| dice.of(&ports)).collect();
        entity.insert(key.into(), json!(chosen));
    }
    Value::Object(entity)
}

fn rule(dice: &mut Dice) -> Value {
    let mut rule = Map::new();
    rule.insert(
        "action".into(),
        json!(dice.of(&["Allow", "Allow", "Deny", "Pass", "Log"])),
    );
    let mut has_ports = false;
    match dice.roll(6) {
        0 | 1 => {
            rule.insert("protocol".into(), json!(dice.of(&["TCP", "UDP", "SCTP"])));
            has_ports = true;
        }
        2 => {
            rule.insert(
                "notProtocol".into(),
                json!(dice.of(&["TCP", "UDP", "ICMP"])),
            );
        }
        3 => {
            let (protocol, kind) = dice.of(&[("ICMP", 8), ("ICMP", 13), ("ICMPv6", 128)]);
            rule.insert("protocol".into(), json!(protocol));
            let key = dice.of(&["icmp", "notICMP"]);
            let icmp = dice.of(&[
                json!({"type": kind}),
                json!({"type": kind, "code": 0}),
                json!({"type": kind, "code": 1}),
            ]);
            rule.insert(key.into(), icmp);
        }
        _ => {}
    }
    if dice.roll(5) == 0 && !rule.contains_key("protocol") {
        rule.insert("ipVersion".into(), json!(dice.of(&[4, 6])));
    }
    rule.insert("source".into(), entity(dice, has_ports));
    rule.insert("destination".into(), entity(dice, has_ports));
    Value::Object(rule)
}

fn policies(dice: &mut Dice) -> Vec<Value> {
    let mut all = vec![json!({
        "apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "first"},
        "spec": {"order": 10, "defaultAction": dice.of(&["Deny", "Pass"])},
    })];
    for number in 0..=dice.roll(4) {
        let tier = dice.of(&["first", "default", "default"]);
        let mut rules = || (0..dice.roll(4)).map(|_| rule(dice)).collect::<Vec<_>>();
        let (ingress, egress) = (rules(), rules());
        let types = dice.of(&[
            json!(["Ingress"]),
            json!(["Egress"]),
            json!(["Ingress", "Egress"]),
        ]);
        let mut spec = json!({"tier": tier, "order": number, "selector": dice.of(&SELECTORS[..5]), "types": types});
        for (word, kind, rules) in [
            ("ingress", "Ingress", ingress),
            ("egress", "Egress", egress),
        ] {
            if types.as_array().unwrap().contains(&json!(kind)) {
                spec[word] = json!(rules);
            }
        }
        all.push(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
            "metadata": {"name": format!("{tier}.p{number}")}, "spec": spec,
        }));
    }
    all
}

#[test]
fn the_kernel_and_the_evaluator_agree() {
    node(|| {
        let mut world = World::new();
        let mut dice = Dice(0x0c1c_a7b7);
        let [mut allowed, mut denied] = [0; 2];
        for round in 0..ROUNDS {
            let policies = policies(&mut dice);
            world.apply(&policies, &HostRules::default());
            let (mut packets, mut flows) = (Vec::new(), Vec::new());
            for number in 0..PACKETS {
                let from = dice.roll(4);
                let to = (from + 1 + dice.roll(3)) % 4;
                let v4 = dice.roll(2) == 0;
                let (protocol, mut ports, icmp) = kind(dice.of(&KINDS), v4);
                // Each is a connection of its own.
                if let Some((from, _)) = ports.as_mut().filter(|(from, _)| *from == 40_000) {
                    *from = 20_000 + u16::try_from(number).unwrap();
                }
                let (packet, flow) = world.probe(from, to, (protocol, ports, icmp), v4);
                packets.push((from, to, packet));
                flows.push(flow);
            }
            let name = format!("round {round}: {}", json!(policies));
            let [yes, no] = world.compare(&name, &packets, &flows);
            allowed += yes;
            denied += no;
        }
        assert!(
            allowed > 600 && denied > 600,
            "{allowed} allowed, {denied} denied"
        );
    });
}
