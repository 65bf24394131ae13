//! The chains that hang in the kernel, and what they share.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::antispoof::{
    ANTISPOOF, ARP_ADDRESSES, ARP_SOURCES, ND_TARGET, ND_TARGETS, POD_ADDRESSES_4, POD_ADDRESSES_6,
    POD_SOURCES, antispoof, arp, nd_target,
};
use super::endpoint::{counted, failsafe};
use super::hosts::{always_open, failsafe_rules, links, output_rules};
use super::nat::postrouting;
use super::rule::reject_chain;
use super::{ACCEPTED, CUT, Direction, Needs, Output, Variant};
use crate::Prefix;
use crate::nft::ruleset::{Chain, Element, Hook, Part, Place, Shape};
use crate::nft::statement::{Field, Rule, Statement, Value, Verdict, state};
use crate::state::{
    Denied, EndpointId, EndpointToHost, HostEndpoint, HostRules, IpVersion, LinkName, Nat,
    OpenConnections, PortRange, Protocol, TunnelGuard,
};

/// From the link that a packet comes in by to the chain of its pod's egress policy.
pub(super) const FROM_POD: &str = "from-pod";
/// From the link that a packet goes out by to the chain of its pod's ingress policy.
pub(super) const TO_POD: &str = "to-pod";
const CLOSED_TO_PODS: &str = "closed-to-pods";
const FROM_PODS: &str = "from-pods";
const TO_PODS: &str = "to-pods";
const PODS_TO_HOST: &str = "pods-to-host";

/// Before filter (0), where other firewalls look at our mark; behind kube-proxy (-110), whose refusals come first.
const FILTER: i32 = -10;
const RAW: i32 = -300;
const SOURCE_NAT: i32 = 100;

/// What the base chains depend on.
pub(super) struct Base<'a> {
    pub(super) host: &'a HostRules,
    pub(super) nat: &'a Nat,
    pub(super) endpoints: &'a BTreeMap<EndpointId, Arc<HostEndpoint>>,
    pub(super) tunnels: &'a [LinkName],
}

pub(super) fn compile(base: &Base<'_>, needs: &mut Needs<'_>) {
    collections(base, needs.output);
    chain(
        needs.output,
        "raw-prerouting",
        hook(Place::Prerouting, RAW),
        prerouting(base),
    );
    chain(needs.output, ANTISPOOF, None, antispoof());
    chain(needs.output, ND_TARGET, None, nd_target());
    chain(needs.output, "arp-input", hook(Place::Input, 0), arp(base));
    let rules = untracked(base, Field::OutLink);
    if !rules.is_empty() {
        chain(needs.output, "raw-output", hook(Place::Output, RAW), rules);
    }
    let rules = forward(base, needs.output);
    chain(needs.output, "forward", hook(Place::Forward, FILTER), rules);
    let rules = input(base, needs);
    chain(needs.output, "input", hook(Place::Input, FILTER), rules);
    chain(needs.output, FROM_PODS, None, from_pods(base));
    chain(needs.output, TO_PODS, None, to_pods(base));
    chain(needs.output, PODS_TO_HOST, None, pods_to_host(base));
    if base.host.denied == Denied::Reject {
        chain(needs.output, &reject_chain(), None, reject());
    }
    if !base.endpoints.is_empty() {
        let mut rules = Vec::new();
        for tunnel in &base.host.tunnels {
            for version in [IpVersion::V4, IpVersion::V6] {
                rules.extend(from_node(
                    tunnel,
                    version,
                    Field::Destination(version),
                    needs,
                ));
            }
        }
        rules.extend(output_rules(base, needs.output));
        chain(needs.output, "output", hook(Place::Output, FILTER), rules);
        for direction in [Direction::In, Direction::Out] {
            let rules = failsafe_rules(base.host, direction);
            chain(needs.output, &failsafe(direction), None, rules);
        }
    }
    let rules = postrouting(base, needs);
    if !rules.is_empty() {
        let hook = Hook {
            place: Place::Postrouting,
            priority: SOURCE_NAT,
            nat: true,
        };
        chain(needs.output, "nat-postrouting", Some(hook), rules);
    }
}

const fn hook(place: Place, priority: i32) -> Option<Hook> {
    Some(Hook {
        place,
        priority,
        nat: false,
    })
}

pub(super) fn chain(output: &mut Output, name: &str, hook: Option<Hook>, rules: Vec<Rule>) {
    output.chains.push(Arc::new(Chain {
        name: name.into(),
        hook,
        rules,
    }));
}

fn collections(base: &Base<'_>, output: &mut Output) {
    for map in [FROM_POD, TO_POD, POD_SOURCES, ARP_SOURCES, ND_TARGETS] {
        output.collections.push((map.into(), Shape::dispatch()));
    }
    let versions = [
        (ARP_ADDRESSES, IpVersion::V4),
        (POD_ADDRESSES_4, IpVersion::V4),
        (POD_ADDRESSES_6, IpVersion::V6),
    ];
    for (set, version) in versions {
        let key = vec![Part::Link, Part::Address(version)];
        let shape = Shape {
            key,
            ranges: false,
            verdicts: false,
        };
        output.collections.push((set.into(), shape));
    }
    let key = vec![Part::Protocol, Part::Port];
    let shape = Shape {
        key,
        ranges: false,
        verdicts: false,
    };
    output.collections.push((CLOSED_TO_PODS.into(), shape));
    for (protocol, port) in &base.host.closed_to_pods {
        let element = Element::protocol_port(*protocol, *port);
        output.elements.push((CLOSED_TO_PODS.into(), element));
    }
    if !base.endpoints.is_empty() {
        for map in ["host-in", "host-out", "forward-in", "forward-out"] {
            output.collections.push((map.into(), Shape::dispatch()));
        }
    }
}

pub(super) fn pods(base: &Base<'_>, field: Field, not: bool) -> Statement {
    let value = Value::Links(base.host.workload_prefix.clone());
    Statement::Is { field, not, value }
}

pub(super) fn jump(chain: &str) -> Statement {
    Statement::jump(&chain.into())
}

fn prerouting(base: &Base<'_>) -> Vec<Rule> {
    let loopback = Prefix::containing([127, 0, 0, 0].into(), 8).ok();
    let mut rules = Vec::new();
    if let (Some(net), Ok(lo)) = (loopback, LinkName::new("lo")) {
        // The link last: every packet comes by here, and names take longest to compare.
        let mut martian = vec![
            Statement::version(IpVersion::V4),
            Statement::is(Field::Destination(IpVersion::V4), Value::Net(net)),
            Statement::Is {
                field: Field::InLink,
                not: true,
                value: Value::Link(lo),
            },
        ];
        martian.extend([Statement::Counter, Statement::Verdict(Verdict::Drop)]);
        rules.push(Rule::new(martian, "to 127.0.0.0/8 from outside"));
    }
    rules.push(Rule::new(
        vec![pods(base, Field::InLink, false), jump(ANTISPOOF)],
        "",
    ));
    rules.extend(untracked(base, Field::InLink));
    rules
}

/// Outer packets of tunnels over UDP are nobody's connection: tracking them costs an entry for each flow inside, whose
/// hash is in the source port, and they must not be translated.
fn untracked(base: &Base<'_>, field: Field) -> Vec<Rule> {
    let udp = base
        .host
        .tunnels
        .iter()
        .filter(|tunnel| tunnel.port.is_some());
    let rule = |tunnel: &TunnelGuard| {
        let mut all = vec![pods(base, field, true)];
        all.extend(outer(tunnel));
        all.push(Statement::NoTrack);
        Rule::new(all, "tunnel packets are not tracked")
    };
    udp.map(rule).collect()
}

fn accept() -> [Statement; 2] {
    [
        Statement::Mark {
            clear: 0,
            set: ACCEPTED,
        },
        Statement::Verdict(Verdict::Accept),
    ]
}

/// Drops packets of connections that policy has come to deny.
fn cut(base: &Base<'_>) -> Option<Rule> {
    let cut = Statement::ConnectionMarked(CUT);
    let all = vec![cut, Statement::Counter, Statement::Verdict(Verdict::Drop)];
    (base.host.open_connections == OpenConnections::Cut)
        .then(|| Rule::new(all, "a later policy denies the connection"))
}

/// The fast path, and packets that belong to no connection.
fn connections() -> Vec<Rule> {
    let mut open = vec![Statement::State(state::ESTABLISHED | state::RELATED)];
    open.extend(accept());
    let invalid = vec![
        Statement::State(state::INVALID),
        Statement::Counter,
        Statement::Verdict(Verdict::Drop),
    ];
    vec![
        Rule::new(open, "open connections"),
        Rule::new(invalid, "of no connection"),
    ]
}

fn forward(base: &Base<'_>, output: &mut Output) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !base.endpoints.is_empty() {
        rules.extend(cut(base));
        let mut open = vec![Statement::State(state::ESTABLISHED | state::RELATED)];
        open.extend(accept());
        rules.push(Rule::new(open, "open connections"));
        let links = links(base, output, Field::InLink, "forward-in");
        rules.push(Rule::new(vec![Statement::jump(&links)], ""));
    }
    rules.push(Rule::new(
        vec![pods(base, Field::InLink, false), jump(FROM_PODS)],
        "",
    ));
    rules.push(Rule::new(
        vec![pods(base, Field::OutLink, false), jump(TO_PODS)],
        "",
    ));
    if !base.endpoints.is_empty() {
        let links = links(base, output, Field::OutLink, "forward-out");
        rules.push(Rule::new(vec![Statement::jump(&links)], ""));
    }
    rules
}

fn from_pods(base: &Base<'_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = cut(base).into_iter().chain(connections()).collect();
    for tunnel in &base.host.tunnels {
        let mut all = outer(tunnel);
        all.extend([Statement::Counter, Statement::Verdict(Verdict::Drop)]);
        rules.push(Rule::new(all, "tunnel packet of a pod"));
    }
    let dispatch = Statement::Map {
        field: Field::InLink,
        map: FROM_POD.into(),
    };
    rules.push(Rule::new(vec![dispatch], ""));
    rules.push(counted(Verdict::Drop, "from a link without an endpoint"));
    rules
}

fn to_pods(base: &Base<'_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = cut(base).into_iter().chain(connections()).collect();
    let dispatch = Statement::Map {
        field: Field::OutLink,
        map: TO_POD.into(),
    };
    rules.push(Rule::new(vec![dispatch], ""));
    rules.push(counted(Verdict::Drop, "to a link without an endpoint"));
    rules
}

/// Matches a tunnel's outer packets.
fn outer(tunnel: &TunnelGuard) -> Vec<Statement> {
    let mut all = vec![Statement::protocol(tunnel.protocol)];
    if let Some(port) = tunnel.port {
        let ports = PortRange {
            first: port,
            last: port,
        };
        all.push(Statement::is(Field::DestinationPort, Value::Ports(ports)));
    }
    all
}

/// Accepts outer packets from, or to, known nodes: policy of the node's own interfaces is not asked.
fn from_node(
    tunnel: &TunnelGuard,
    version: IpVersion,
    other: Field,
    needs: &mut Needs<'_>,
) -> Option<Rule> {
    let set = needs.set(&tunnel.sources, Variant::addresses, version)?;
    let mut all = vec![Statement::version(version)];
    all.extend(outer(tunnel));
    all.push(Statement::lookup(vec![other], &set));
    all.push(Statement::Verdict(Verdict::Accept));
    Some(Rule::new(all, "tunnel packet of a node"))
}

fn input(base: &Base<'_>, needs: &mut Needs<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for tunnel in &base.host.tunnels {
        for version in [IpVersion::V4, IpVersion::V6] {
            rules.extend(from_node(tunnel, version, Field::Source(version), needs));
            let mut all = vec![Statement::version(version)];
            all.extend(outer(tunnel));
            all.extend([Statement::Counter, Statement::Verdict(Verdict::Drop)]);
            rules.push(Rule::new(all, "tunnel packet from a stranger"));
        }
    }
    rules.push(Rule::new(
        vec![pods(base, Field::InLink, false), jump(PODS_TO_HOST)],
        "",
    ));
    if !base.endpoints.is_empty() {
        rules.extend(always_open(Field::InLink));
        let links = links(base, needs.output, Field::InLink, "host-in");
        rules.push(Rule::new(vec![Statement::jump(&links)], ""));
    }
    rules
}

fn pods_to_host(base: &Base<'_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = cut(base).into_iter().collect();
    rules.extend(connections().drain(..1));
    // Group membership and neighbour discovery: without them there is no IPv6 at all.
    for kind in [130, 131, 132, 133, 135, 136, 143] {
        let mut all = vec![
            Statement::protocol(Protocol::ICMPV6),
            Statement::is(Field::IcmpType, Value::IcmpType(kind)),
        ];
        all.extend(accept());
        rules.push(Rule::new(all, ""));
    }
    let fields = vec![Field::Protocol, Field::DestinationPort];
    let mut closed = vec![Statement::lookup(fields, &CLOSED_TO_PODS.into())];
    closed.extend([Statement::Counter, Statement::Verdict(Verdict::Drop)]);
    rules.push(Rule::new(closed, "closed to pods"));
    rules.push(Rule::new(vec![jump(FROM_PODS)], ""));
    match base.host.endpoint_to_host {
        EndpointToHost::Drop => rules.push(counted(Verdict::Drop, "pod to its host")),
        EndpointToHost::Accept => rules.push(counted(Verdict::Accept, "pod to its host")),
        EndpointToHost::Return => {}
    }
    rules
}

fn reject() -> Vec<Rule> {
    let tcp = vec![Statement::protocol(Protocol::TCP), Statement::Reset];
    vec![Rule::new(tcp, ""), Rule::new(vec![Statement::Prohibit], "")]
}
