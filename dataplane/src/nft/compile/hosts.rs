//! The node's own interfaces under policy.

use super::base::{Base, chain, pods};
use super::{Direction, Output};
use crate::nft::name::{Name, name};
use crate::nft::statement::{Field, Rule, Statement, Value, Verdict, state};
use crate::state::{FailsafePort, HostRules, IpVersion, LinkName, PortRange, Protocol};

/// Packets through interfaces of the node that are under policy: named ones, then the rest. A chain of its own, so
/// that what comes after the jump to it is reached.
pub(super) fn links(base: &Base<'_>, output: &mut Output, field: Field, role: &str) -> Name {
    let map = Statement::Map {
        field,
        map: role.into(),
    };
    let mut rules = vec![Rule::new(vec![map], "")];
    let rest = base
        .endpoints
        .iter()
        .find(|(_, endpoint)| endpoint.link.is_none());
    if let Some((id, _)) = rest {
        let named = name(role, id.as_str());
        let all = vec![pods(base, field, true), Statement::jump(&named)];
        rules.push(Rule::new(all, "every other interface"));
    }
    let own: Name = format!("links-{role}").into();
    chain(output, &own, None, rules);
    own
}

/// What policy of the node's own interfaces never closes.
pub(super) fn always_open(field: Field) -> Vec<Rule> {
    let open = |mut conditions: Vec<Statement>, remark| {
        conditions.push(Statement::Verdict(Verdict::Accept));
        Rule::new(conditions, remark)
    };
    let established = Statement::State(state::ESTABLISHED | state::RELATED);
    let mut rules = Vec::new();
    if let Ok(lo) = LinkName::new("lo") {
        rules.push(open(vec![Statement::is(field, Value::Link(lo))], ""));
    }
    rules.push(open(vec![established], "open connections"));
    for kind in [130, 131, 132, 133, 134, 135, 136, 143] {
        let kind = Statement::is(Field::IcmpType, Value::IcmpType(kind));
        rules.push(open(vec![Statement::protocol(Protocol::ICMPV6), kind], ""));
    }
    rules
}

pub(super) fn output_rules(base: &Base<'_>, output: &mut Output) -> Vec<Rule> {
    let mut rules = vec![Rule::new(
        vec![
            pods(base, Field::OutLink, false),
            Statement::Verdict(Verdict::Accept),
        ],
        "the host reaches its pods",
    )];
    rules.extend(always_open(Field::OutLink));
    let links = links(base, output, Field::OutLink, "host-out");
    rules.push(Rule::new(vec![Statement::jump(&links)], ""));
    rules
}

pub(super) fn failsafe_rules(host: &HostRules, direction: Direction) -> Vec<Rule> {
    let (ports, source) = match direction {
        Direction::In => (&host.failsafe_in, true),
        Direction::Out => (&host.failsafe_out, false),
    };
    ports
        .iter()
        .map(|port| failsafe_rule(port, source))
        .collect()
}

fn failsafe_rule(port: &FailsafePort, source: bool) -> Rule {
    let mut all = Vec::new();
    if let Some(net) = port.net {
        let version = if net.is_ipv4() {
            IpVersion::V4
        } else {
            IpVersion::V6
        };
        all.push(Statement::version(version));
        all.push(Statement::protocol(port.protocol));
        all.push(Statement::is(
            Field::address(source, version),
            Value::Net(net),
        ));
    } else {
        all.push(Statement::protocol(port.protocol));
    }
    let ports = PortRange {
        first: port.port,
        last: port.port,
    };
    all.push(Statement::is(Field::DestinationPort, Value::Ports(ports)));
    all.extend([Statement::Counter, Statement::Verdict(Verdict::Accept)]);
    Rule::new(all, "failsafe")
}
