//! Rules of policies and profiles.

use super::Problems;
use super::value::{self, Cidr};
use crate::model::{EntityRule, HttpMatch, IcmpFields, IntOrString, Port, Protocol, Rule};

/// The most rules of one direction.
const RULES: usize = 1024;
/// The most ranges of one side.
const NETS: usize = 256;
/// The most ports of one side.
const PORTS: usize = 50;
/// The most paths of an HTTP match.
const PATHS: usize = 20;

const ACTIONS: &[&str] = &["Allow", "Deny", "Log", "Pass"];

/// Where rules stand.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// In a policy of a namespace.
    Namespace,
    /// In a policy of the cluster, or a profile.
    Global,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Ingress,
    Egress,
}

pub(super) fn ingress(problems: &mut Problems, rules: &[Rule], place: Place) {
    direction(problems, "spec.ingress", rules, place, Direction::Ingress);
}

pub(super) fn egress(problems: &mut Problems, rules: &[Rule], place: Place) {
    direction(problems, "spec.egress", rules, place, Direction::Egress);
}

fn direction(
    problems: &mut Problems,
    field: &str,
    rules: &[Rule],
    place: Place,
    direction: Direction,
) {
    let reason = format!("has {} rules; {RULES} are the most", rules.len());
    problems.check(rules.len() <= RULES, field, reason);
    for (index, rule) in rules.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if let Some(malformed) = &rule.malformed {
            let inner = &malformed.field;
            let path = if inner.is_empty() {
                field
            } else {
                format!("{field}.{inner}")
            };
            problems.add(path, &malformed.reason);
            continue;
        }
        one(problems, &field, rule, direction);
        for (name, side, served) in [
            ("source", &rule.source, direction == Direction::Ingress),
            (
                "destination",
                &rule.destination,
                direction == Direction::Egress,
            ),
        ] {
            let field = format!("{field}.{name}");
            entity(problems, &field, side, rule);
            services(problems, &field, side, served, place);
        }
    }
}

fn one(problems: &mut Problems, field: &str, rule: &Rule, direction: Direction) {
    value::one_of(problems, &format!("{field}.action"), &rule.action, ACTIONS);
    let version = match &rule.ip_version {
        None => None,
        Some(IntOrString::Int(4)) => Some(4),
        Some(IntOrString::Int(6)) => Some(6),
        Some(other) => {
            problems.add(
                format!("{field}.ipVersion"),
                format!("{other} is neither 4 nor 6"),
            );
            None
        }
    };
    for (name, protocol) in [
        ("protocol", &rule.protocol),
        ("notProtocol", &rule.not_protocol),
    ] {
        if let Some(Err(error)) = protocol.as_ref().map(IntOrString::protocol) {
            problems.add(format!("{field}.{name}"), error);
        }
    }
    let protocol = rule
        .protocol
        .as_ref()
        .and_then(|protocol| protocol.protocol().ok());
    for (name, icmp) in [("icmp", &rule.icmp), ("notICMP", &rule.not_icmp)] {
        if let Some(icmp) = icmp {
            icmp_fields(problems, &format!("{field}.{name}"), icmp, protocol);
        }
    }
    let wrong_family = matches!(
        (protocol, version),
        (Some(Protocol::ICMP), Some(6)) | (Some(Protocol::ICMPV6), Some(4))
    );
    problems.check(
        !wrong_family,
        &format!("{field}.ipVersion"),
        "is not that of the protocol",
    );
    if let Some(http) = &rule.http {
        let field = format!("{field}.http");
        let fits = rule.action == "Allow"
            && direction == Direction::Ingress
            && protocol.is_none_or(|protocol| protocol == Protocol::TCP);
        problems.check(fits, &field, "is only for Allow of TCP in ingress rules");
        http_match(problems, &field, http);
    }
    families(problems, field, rule, version);
}

fn icmp_fields(
    problems: &mut Problems,
    field: &str,
    icmp: &IcmpFields,
    protocol: Option<Protocol>,
) {
    let fits = matches!(protocol, Some(Protocol::ICMP | Protocol::ICMPV6));
    problems.check(fits, field, "needs protocol ICMP or ICMPv6");
    if let Some(number) = icmp.r#type {
        let reason = format!("{number} is not in 0 to 254");
        problems.check(
            (0..=254).contains(&number),
            &format!("{field}.type"),
            reason,
        );
    }
    if let Some(code) = icmp.code {
        let reason = format!("{code} is not in 0 to 255");
        problems.check((0..=255).contains(&code), &format!("{field}.code"), reason);
        problems.check(
            icmp.r#type.is_some(),
            &format!("{field}.code"),
            "needs a type",
        );
    }
}

fn http_match(problems: &mut Problems, field: &str, http: &HttpMatch) {
    let reason = format!("has {} paths; {PATHS} are the most", http.paths.len());
    problems.check(http.paths.len() <= PATHS, &format!("{field}.paths"), reason);
    for (index, path) in http.paths.iter().enumerate() {
        let field = format!("{field}.paths[{index}]");
        let one = path.exact.is_some() != path.prefix.is_some();
        problems.check(one, &field, "is either exact or prefix");
        let text = path.exact.as_ref().or(path.prefix.as_ref());
        let rooted = text.is_none_or(|text| text.starts_with('/'));
        problems.check(rooted, &field, "must begin with a slash");
    }
}

/// All ranges of a rule are of one family, that of `ipVersion` where it is stated.
fn families(problems: &mut Problems, field: &str, rule: &Rule, version: Option<u8>) {
    let mut family = version.map(|version| (version == 4, "ipVersion".to_owned()));
    for (side, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        for (list, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
            for (index, net) in nets.iter().enumerate() {
                let Ok(cidr) = Cidr::parse_or_address(net) else {
                    continue;
                };
                let place = format!("{side}.{list}[{index}]");
                match &family {
                    None => family = Some((cidr.is_v4(), place)),
                    Some((v4, first)) if *v4 != cidr.is_v4() => {
                        let reason = format!("{cidr} is of another IP version than {first}");
                        problems.add(format!("{field}.{place}"), reason);
                        return;
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

fn entity(problems: &mut Problems, field: &str, side: &EntityRule, rule: &Rule) {
    for (list, nets, negated) in [
        ("nets", &side.nets, false),
        ("notNets", &side.not_nets, true),
    ] {
        let reason = format!("has {} ranges; {NETS} are the most", nets.len());
        problems.check(nets.len() <= NETS, &format!("{field}.{list}"), reason);
        for (index, net) in nets.iter().enumerate() {
            let field = format!("{field}.{list}[{index}]");
            let everything = value::net(problems, &field, net).is_some_and(|cidr| cidr.length == 0);
            let reason = format!("nothing is outside of {net}");
            problems.check(!(negated && everything), &field, reason);
        }
    }
    for (name, selector, global) in [
        ("selector", &side.selector, false),
        ("notSelector", &side.not_selector, false),
        ("namespaceSelector", &side.namespace_selector, true),
    ] {
        value::selector(
            problems,
            &format!("{field}.{name}"),
            selector.as_deref(),
            global,
        );
    }
    if let Some(accounts) = &side.service_accounts {
        let path = format!("{field}.serviceAccounts");
        value::selector(
            problems,
            &format!("{path}.selector"),
            accounts.selector.as_deref(),
            false,
        );
        for (index, name) in accounts.names.iter().enumerate() {
            let reason = format!("{name:?} is no name of a service account");
            let named = value::is_name(name, 253, true);
            problems.check(named, &format!("{path}.names[{index}]"), reason);
        }
    }
    for (list, ports) in [("ports", &side.ports), ("notPorts", &side.not_ports)] {
        self::ports(problems, &format!("{field}.{list}"), ports, rule);
    }
}

fn ports(problems: &mut Problems, field: &str, ports: &[IntOrString], rule: &Rule) {
    let reason = format!("has {} ports; {PORTS} are the most", ports.len());
    problems.check(ports.len() <= PORTS, field, reason);
    let mut numbers = false;
    for (index, port) in ports.iter().enumerate() {
        match port.port() {
            Ok(Port::Name(_)) => {}
            Ok(_) => numbers = true,
            Err(error) => problems.add(format!("{field}[{index}]"), error),
        }
    }
    let protocol = rule.protocol.as_ref().map(IntOrString::protocol);
    // What is wrong with the protocol itself was said.
    let known = match protocol {
        None => false,
        Some(Ok(protocol)) => protocol.has_ports(),
        Some(Err(_)) => true,
    };
    let reason = "numbers of ports need a protocol that has ports: TCP, UDP, SCTP or UDPLite";
    problems.check(!numbers || known, field, reason);
}

fn services(problems: &mut Problems, field: &str, side: &EntityRule, served: bool, place: Place) {
    let Some(services) = &side.services else {
        return;
    };
    let path = format!("{field}.services");
    problems.check(
        served,
        &path,
        "is only for the source of ingress and the destination of egress rules",
    );
    let reason = "needs a namespace in a policy of the cluster";
    let placed = place == Place::Namespace || services.namespace.is_some();
    problems.check(placed, &format!("{path}.namespace"), reason);
    problems.check(
        !services.name.is_empty(),
        &format!("{path}.name"),
        "is missing",
    );
    let others = !side.nets.is_empty()
        || !side.not_nets.is_empty()
        || side.selector.is_some()
        || side.not_selector.is_some()
        || side.namespace_selector.is_some()
        || side.service_accounts.is_some();
    problems.check(
        !others,
        &path,
        "excludes selectors, nets and service accounts on this side",
    );
    let ports = side.ports.is_empty() && side.not_ports.is_empty();
    problems.check(
        ports,
        &path,
        "excludes ports on this side: the service has its own",
    );
}
