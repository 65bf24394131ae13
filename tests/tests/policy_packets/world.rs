//! Three pods on a node and somebody outside, and what of all the packets between them arrives.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ocicat_dataplane::State;
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{HostRules, LinkName, Protocol};
use ocicat_dataplane::verdict::{Connection, Packet};
use ocicat_datastore::Object;
use ocicat_policy::{Flow, Graph, Model, Update};
use serde_json::{Value, json};

use crate::lab::{link, run};
use crate::wire::{End, careless, forwarding};

pub(crate) const NODE: &str = "n1";

/// Name, link, addresses. The last one is outside of the cluster.
pub(crate) const ENDS: [(&str, &str, &str, &str); 4] = [
    ("a", "cali1", "10.65.0.2", "fd00::2"),
    ("b", "cali2", "10.65.0.3", "fd00::3"),
    ("c", "cali3", "10.65.0.4", "fd00::4"),
    ("outside", "eth9", "192.0.2.9", "fd00:9::9"),
];

pub(crate) struct World {
    pub(crate) ends: Vec<End>,
    pub(crate) table: Table,
    pub(crate) state: State,
    pub(crate) model: Model,
    number: u16,
}

/// A kind of packet: protocol, source and destination port, ICMP type and code.
pub(crate) type Kind = (Protocol, Option<(u16, u16)>, Option<(u8, u8)>);

/// A kind by name: `tcp/80`, `udp/53`, `sctp/80`, `ping`, `timestamp`, `gre`, and `tcp/80<1000` from port 1000.
pub(crate) fn kind(text: &str, v4: bool) -> Kind {
    let icmp = if v4 { Protocol::ICMP } else { Protocol::ICMPV6 };
    match text {
        "ping" => return (icmp, None, Some((if v4 { 8 } else { 128 }, 0))),
        // Of IPv6 the other code of an echo request.
        "timestamp" => return (icmp, None, Some(if v4 { (13, 0) } else { (128, 1) })),
        "gre" => return (Protocol(47), None, None),
        _ => {}
    }
    let (protocol, ports) = text.split_once('/').unwrap();
    let (to, from) = ports.split_once('<').unwrap_or((ports, "40000"));
    let protocol = match protocol {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        "udplite" => Protocol::UDPLITE,
        other => panic!("{other}"),
    };
    (
        protocol,
        Some((from.parse().unwrap(), to.parse().unwrap())),
        None,
    )
}

pub(crate) const KINDS: [&str; 12] = [
    "tcp/80",
    "tcp/81",
    "tcp/443",
    "tcp/80<1000",
    "udp/53",
    "udp/80",
    "sctp/80",
    "udplite/80",
    "ping",
    "timestamp",
    "tcp/8080",
    "udp/80<1000",
];

/// The pods, their namespaces, and a set of addresses.
fn resources() -> Vec<Value> {
    let namespace = |name: &str, team: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace",
               "metadata": {"name": name, "labels": {"team": team}}})
    };
    let mut all = vec![namespace("shop", "x"), namespace("other", "y")];
    all.push(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet",
        "metadata": {"name": "far", "labels": {"where": "far"}},
        "spec": {"nets": ["192.0.2.0/24", "fd00:9::/64"]},
    }));
    let pods = [
        ("shop", "web", 80_u16),
        ("shop", "db", 81),
        ("other", "web", 8080),
    ];
    for ((name, link, v4, v6), (namespace, app, http)) in ENDS.into_iter().zip(pods) {
        all.push(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
            "metadata": {"namespace": namespace, "name": format!("{NODE}-k8s-{name}-eth0"),
                         "labels": {"app": app, "pod": name, "projectcalico.org/namespace": namespace}},
            "spec": {"node": NODE, "orchestrator": "k8s", "interfaceName": link,
                     "ipNetworks": [format!("{v4}/32"), format!("{v6}/128")],
                     "profiles": [format!("kns.{namespace}")],
                     "ports": [{"name": "http", "protocol": "TCP", "port": http}]},
        }));
    }
    all
}

impl World {
    pub(crate) fn new() -> Self {
        forwarding();
        let end = |(_, link, v4, v6): (&str, &str, &str, &str)| End::new(link, v4, v6);
        let ends = ENDS.into_iter().map(end).collect();
        run("ip addr add 192.0.2.1/32 dev eth9");
        run("ip addr add fd00:9::1/128 dev eth9 nodad");
        Self {
            ends,
            table: Table::open().unwrap(),
            state: State::default(),
            model: Model::new(),
            number: 0,
        }
    }

    /// Puts policies in force, and nothing of what was before.
    pub(crate) fn apply(&mut self, policies: &[Value], host: &HostRules) {
        let mut graph = Graph::new(NODE);
        self.model = Model::new();
        let link: LinkName = link("eth9");
        let own: BTreeSet<IpAddr> = ["192.0.2.1", "fd00:9::1"]
            .map(|address| address.parse().unwrap())
            .into();
        self.model.set_interface(NODE, "eth9", own.clone());
        graph.set_interface(link, own);
        for value in resources().iter().chain(policies) {
            let object = Object::from_value(value.clone()).unwrap();
            let update = Update::of(&object).unwrap().unwrap();
            self.model.update(update.clone());
            graph.update(update);
        }
        self.state = State {
            host: host.clone().into(),
            ..State::default()
        };
        graph.flush(&mut self.state);
        let report = self.table.apply(&self.state).unwrap();
        // What was open under other policies is asked again.
        let everybody = self
            .ends
            .iter()
            .flat_map(|end| [end.address(true), end.address(false)]);
        ocicat_dataplane::linux::forget_connections(&everybody.collect()).unwrap();
        assert_eq!(report.failed, []);
        careless();
    }

    /// The packet and the flow that it is, from one of [`ENDS`] to another.
    pub(crate) fn probe(&self, from: usize, to: usize, kind: Kind, v4: bool) -> (Packet, Flow) {
        let address = |at: usize| self.ends[at].address(v4);
        let (protocol, ports, icmp) = kind;
        let packet = Packet {
            in_link: Some(link(ENDS[from].1)),
            out_link: Some(link(ENDS[to].1)),
            source: address(from),
            destination: address(to),
            protocol,
            ports,
            icmp,
            connection: Connection::New,
        };
        let (source_port, destination_port) = ports.unwrap_or_default();
        let flow = Flow {
            source_port,
            icmp,
            // By which one that is outside comes in or goes out.
            interface: Some("eth9".to_owned()),
            ..Flow::new(
                packet.source,
                packet.destination,
                protocol,
                destination_port,
            )
        };
        (packet, flow)
    }

    /// Sends the packets, and says of each whether it arrived.
    pub(crate) fn send(&mut self, packets: &[(usize, usize, Packet)]) -> Vec<bool> {
        let first = self.number;
        for (from, _, packet) in packets {
            self.number += 1;
            self.ends[*from].send(packet, self.number);
        }
        let arrived: Vec<BTreeSet<u16>> = self
            .ends
            .iter()
            .map(|end| end.received().into_iter().collect())
            .collect();
        let numbered = (first + 1..).zip(packets);
        let outcome = numbered.map(|(number, (_, to, _))| arrived[*to].contains(&number));
        let outcome = outcome.collect();
        if self.number > 60_000 {
            self.number = 0;
        }
        outcome
    }

    /// Sends every kind of packet from everybody to everybody, and compares with the evaluator; how many were allowed
    /// and denied.
    pub(crate) fn agree(&mut self, name: &str) -> [usize; 2] {
        let mut packets = Vec::new();
        let mut flows = Vec::new();
        for (from, to) in (0..4).flat_map(|from| (0..4).map(move |to| (from, to))) {
            if from == to {
                continue;
            }
            for (at, v4) in (0..KINDS.len()).flat_map(|at| [(at, true), (at, false)]) {
                let (packet, flow) = self.probe(from, to, kind(KINDS[at], v4), v4);
                packets.push((from, to, packet));
                flows.push(flow);
            }
        }
        self.compare(name, &packets, &flows)
    }

    pub(crate) fn compare(
        &mut self,
        name: &str,
        packets: &[(usize, usize, Packet)],
        flows: &[Flow],
    ) -> [usize; 2] {
        let arrived = self.send(packets);
        let mut counts = [0; 2];
        for ((flow, (_, _, packet)), arrived) in flows.iter().zip(packets).zip(arrived) {
            let trace = self.model.evaluate(flow);
            assert_eq!(
                arrived,
                trace.is_allowed(),
                "{name}: {packet:?}\n{trace}\n{:?}\n{}",
                self.state.verdict(packet),
                run("nft list table inet ocicat"),
            );
            // The third who knows.
            assert_eq!(
                self.state.verdict(packet).is_allowed(),
                arrived,
                "{name}: {packet:?}"
            );
            counts[usize::from(!arrived)] += 1;
        }
        counts
    }

    /// What the evaluator says of a packet in words: `a -> b tcp/80`, of IPv4 or both families.
    pub(crate) fn says(&self, from: &str, to: &str, text: &str, v4: bool) -> bool {
        let at = |name: &str| ENDS.iter().position(|end| end.0 == name).unwrap();
        let (_, flow) = self.probe(at(from), at(to), kind(text, v4), v4);
        self.model.evaluate(&flow).is_allowed()
    }
}
