//! Random policies and random packets: a real kernel and the verdict without one must agree.

use std::net::IpAddr;
use std::sync::Arc;

use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{
    Action, EndTier, Icmp, IpVersion, Member, Policy, PolicyId, PortRange, ProfileId, Protocol,
    Rule, Set, SetId, Side, Tier, Workload,
};
use ocicat_dataplane::verdict::{Connection, Packet};
use ocicat_dataplane::{Prefix, State};

use crate::lab::*;
use crate::wire::*;

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

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())].clone()
    }

    fn some<T: Clone>(&mut self, all: &[T], most: usize) -> Vec<T> {
        (0..self.roll(most + 1)).map(|_| self.of(all)).collect()
    }
}

const NETS: [&str; 10] = [
    "10.65.0.0/24",
    "10.65.0.2/32",
    "10.65.0.3/32",
    "192.0.2.0/24",
    "0.0.0.0/0",
    "fd00::/64",
    "fd00::2/128",
    "fd00:9::/64",
    "::/0",
    "10.65.0.0/30",
];
const SETS: [&str; 5] = ["s:a", "s:b", "s:c", "s:d", "s:missing"];
const PORT_SETS: [&str; 3] = ["n:a", "n:b", "n:missing"];
const PROTOCOLS: [Protocol; 6] = [
    Protocol::TCP,
    Protocol::UDP,
    Protocol::SCTP,
    Protocol::ICMP,
    Protocol::ICMPV6,
    Protocol::UDPLITE,
];
const ADDRESSES: [&str; 6] = [
    "10.65.0.2",
    "10.65.0.3",
    "192.0.2.9",
    "fd00::2",
    "fd00::3",
    "fd00:9::9",
];

fn ports(dice: &mut Dice) -> Vec<PortRange> {
    let ranges = [
        (80, 80),
        (81, 90),
        (443, 443),
        (1, 1023),
        (8000, 9000),
        (30_000, 45_000),
    ];
    let ranges = ranges.map(|(first, last)| PortRange { first, last });
    dice.some(&ranges, 2)
}

fn side(dice: &mut Dice) -> Side {
    let nets = NETS.map(net);
    let sets = SETS.map(SetId::new);
    let port_sets = PORT_SETS.map(SetId::new);
    let mut side = Side::default();
    match dice.roll(9) {
        0 => side.nets = dice.some(&nets, 3),
        1 => side.not_nets = dice.some(&nets[..4], 2),
        2 | 3 => side.sets = dice.some(&sets, 2),
        4 => side.not_sets = dice.some(&sets, 2),
        5 => side.port_sets = dice.some(&port_sets, 2),
        6 => side.not_port_sets = dice.some(&port_sets, 1),
        7 => side.service = Some(dice.of(&port_sets)),
        _ => {}
    }
    match dice.roll(6) {
        0 | 1 => side.ports = ports(dice),
        2 => side.not_ports = ports(dice),
        _ => {}
    }
    side
}

fn rule(dice: &mut Dice) -> Rule {
    let actions = [
        Action::Allow,
        Action::Allow,
        Action::Deny,
        Action::Pass,
        Action::Log,
    ];
    let mut rule = Rule::new(dice.of(&actions));
    if dice.one_in(5) {
        rule.ip_version = Some(dice.of(&[IpVersion::V4, IpVersion::V6]));
    }
    match dice.roll(5) {
        0 | 1 => rule.protocol = Some(dice.of(&PROTOCOLS)),
        2 => rule.not_protocol = Some(dice.of(&PROTOCOLS)),
        _ => {}
    }
    let icmp = Icmp {
        kind: dice.of(&[8, 128, 13]),
        code: dice.of(&[None, Some(0), Some(1)]),
    };
    match dice.roll(10) {
        0 => rule.icmp = Some(icmp),
        1 => rule.not_icmp = Some(icmp),
        _ => {}
    }
    rule.source = side(dice);
    rule.destination = side(dice);
    rule
}

fn policy(dice: &mut Dice) -> Arc<Policy> {
    let mut rules = || (0..dice.roll(4)).map(|_| rule(dice)).collect();
    Arc::new(Policy {
        ingress: rules(),
        egress: rules(),
    })
}

const POLICIES: [&str; 5] = [
    "gnp/a/one",
    "gnp/a/two",
    "np/default/a/three",
    "gnp/b/four",
    "gnp/b/five",
];

fn tiers(dice: &mut Dice) -> Vec<Tier> {
    let ids = POLICIES.map(PolicyId::new);
    let names = ["a", "b"];
    let tier = |(name, at): (&str, usize), dice: &mut Dice| {
        let mut policies = dice.some(&ids[at..at + 2], 2);
        policies.dedup();
        let end = dice.of(&[EndTier::Deny, EndTier::Pass]);
        (!policies.is_empty()).then(|| Tier {
            name: name.into(),
            policies,
            end,
        })
    };
    names
        .into_iter()
        .zip([0, 3])
        .filter_map(|named| tier(named, dice))
        .collect()
}

/// Changes some of the state.
fn shuffle(state: &mut State, dice: &mut Dice) {
    for id in POLICIES.map(PolicyId::new) {
        if dice.one_in(2) {
            let policy = policy(dice);
            state.policies.insert(id, policy);
        }
    }
    for id in ["kns.default", "ksa.default"].map(ProfileId::new) {
        if dice.one_in(4) {
            let policy = if dice.one_in(2) {
                policy(dice)
            } else {
                allow_all().into()
            };
            state.profiles.insert(id, policy);
        }
    }
    for id in SETS.iter().take(4).map(|id| SetId::new(id)) {
        let set = state.sets.entry(id).or_default();
        for _ in 0..dice.roll(4) {
            let member = match dice.roll(3) {
                0 => Member::Net(net(dice.of(&NETS))),
                _ => Member::Net(Prefix::host(dice.of(&ADDRESSES).parse().unwrap())),
            };
            if dice.one_in(2) {
                set.insert(member)
            } else {
                set.remove(&member)
            };
        }
    }
    for id in PORT_SETS.iter().take(2).map(|id| SetId::new(id)) {
        let set: &mut Set = state.sets.entry(id).or_default();
        for _ in 0..dice.roll(4) {
            let address = dice.of(&ADDRESSES).parse().unwrap();
            let member = Member::Port(address, dice.of(&PROTOCOLS[..3]), dice.of(&[80, 443]));
            if dice.one_in(3) {
                set.remove(&member)
            } else {
                set.insert(member)
            };
        }
    }
    for (name, addresses) in [("cali1", &ADDRESSES[..]), ("cali2", &ADDRESSES[1..])] {
        let workload = Workload {
            addresses: vec![addresses[0].parse().unwrap(), addresses[3].parse().unwrap()],
            allowed_sources: dice.some(&[net("198.51.100.0/24"), net("fd00:8::/64")], 1),
            ingress: tiers(dice),
            egress: tiers(dice),
            profiles: dice.some(&["kns.default", "ksa.default"].map(ProfileId::new), 2),
            up: !dice.one_in(12),
        };
        if dice.one_in(12) {
            state.workloads.remove(&link(name));
        } else {
            state.workloads.insert(link(name), workload.into());
        }
    }
}

fn packet(dice: &mut Dice, ends: [(&str, &End); 2], number: u16) -> Packet {
    let v4 = dice.one_in(2);
    let [(in_link, from), (out_link, to)] = ends;
    let spoofed: [IpAddr; 2] = if v4 {
        [
            "198.51.100.7".parse().unwrap(),
            "10.65.0.77".parse().unwrap(),
        ]
    } else {
        ["fd00:8::7".parse().unwrap(), "fd00::77".parse().unwrap()]
    };
    let source = if dice.one_in(10) {
        dice.of(&spoofed)
    } else {
        from.address(v4)
    };
    let protocol = match dice.of(&PROTOCOLS) {
        Protocol::ICMP | Protocol::ICMPV6 if v4 => Protocol::ICMP,
        Protocol::ICMP | Protocol::ICMPV6 => Protocol::ICMPV6,
        other => other,
    };
    let ports = (20_000 + number, dice.of(&[80, 85, 443, 8080, 40_000]));
    let echo = if v4 { 8 } else { 128 };
    Packet {
        in_link: Some(link(in_link)),
        out_link: Some(link(out_link)),
        source,
        destination: to.address(v4),
        protocol,
        ports: protocol.has_ports().then_some(ports),
        icmp: (!protocol.has_ports()).then(|| (echo, dice.of(&[0, 1]))),
        connection: Connection::New,
    }
}

#[test]
fn the_kernel_and_the_verdict_agree() {
    node(|| {
        forwarding();
        let ends = [
            ("cali1", End::new("cali1", ADDRESSES[0], ADDRESSES[3])),
            ("cali2", End::new("cali2", ADDRESSES[1], ADDRESSES[4])),
            ("eth9", End::new("eth9", ADDRESSES[2], ADDRESSES[5])),
        ];
        let mut dice = Dice(0x0c1c_a7a7);
        let mut state = State::default();
        let mut table = Table::open().unwrap();
        let (mut allowed, mut denied) = (0, 0);
        for round in 0..60 {
            shuffle(&mut state, &mut dice);
            table
                .apply(&state)
                .unwrap_or_else(|error| panic!("round {round}: {error}"));
            careless();
            let mut sent = [Vec::new(), Vec::new(), Vec::new()];
            for number in 1..=60_u16 {
                let from = dice.roll(3);
                let to = (from + 1 + dice.roll(2)) % 3;
                let pair = [from, to].map(|at| (ends[at].0, &ends[at].1));
                let packet = packet(&mut dice, pair, number + round * 60);
                ends[from].1.send(&packet, number);
                sent[to].push((number, packet));
            }
            for (at, (_, end)) in ends.iter().enumerate() {
                let arrived = end.received();
                for (number, packet) in &sent[at] {
                    let verdict = state.verdict(packet);
                    let through = arrived.contains(number);
                    assert_eq!(
                        through,
                        verdict.is_allowed(),
                        "round {round}: {packet:?}: {verdict:?}\n{}",
                        run("nft list ruleset"),
                    );
                    if through { allowed += 1 } else { denied += 1 }
                }
            }
            assert_eq!(
                Table::open().unwrap().apply(&state).unwrap().changed,
                0,
                "round {round}"
            );
        }
        assert!(
            allowed > 300 && denied > 300,
            "{allowed} allowed, {denied} denied"
        );
    });
}
