//! One rule of a policy as rules of the kernel: one for both address families where it names no address, else one
//! for each family that can match, times the alternatives that a single kernel rule cannot say.

use super::{ACCEPTED, Needs, PASSED, Variant};
use crate::Prefix;
use crate::nft::name::Name;
use crate::nft::ruleset::{Element, Part, Shape};
use crate::nft::statement::{Field, Rule as KernelRule, Statement, Value, Verdict};
use crate::state::{Action, Denied, IpVersion, Logging, PortRange, Protocol, Rule, Side};

/// Conditions that hold together.
type Conditions = Vec<Statement>;
/// Conditions of which one group holds.
type Alternatives = Vec<Conditions>;

/// What a denying rule does.
pub(super) fn deny(denied: Denied) -> Verdict {
    match denied {
        Denied::Drop => Verdict::Drop,
        Denied::Reject => Verdict::Goto(reject_chain()),
    }
}

/// The chain that refuses with an answer.
pub(super) fn reject_chain() -> Name {
    "refuse".into()
}

/// How a policy's rules act, the same for all of them.
#[derive(Clone, Copy)]
pub(super) struct Style<'a> {
    pub(super) denied: Denied,
    pub(super) logging: &'a Logging,
}

/// The kernel's rules for `rule`; none when it can match nothing.
pub(super) fn compile(rule: &Rule, style: Style<'_>, needs: &mut Needs<'_>) -> Vec<KernelRule> {
    let mut versions = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        if rule.ip_version.is_some_and(|only| only != version) {
            continue;
        }
        let mut for_version = ForVersion {
            version,
            versioned: rule.ip_version.is_some(),
            protocol: rule.protocol,
            needs,
        };
        if let Some(alternatives) = for_version.rule(rule) {
            versions.push((version, for_version.versioned, alternatives));
        }
    }
    // Nothing in it depends on the family: once for both.
    if let [(_, false, one), (_, false, other)] = versions.as_slice() {
        if one == other {
            versions.truncate(1);
        }
    }
    let mut rules = Vec::new();
    for (version, versioned, alternatives) in versions {
        for conditions in alternatives {
            let mut statements = Vec::new();
            if versioned {
                statements.push(Statement::version(version));
            }
            statements.extend(conditions);
            act(rule.action, style, &mut statements);
            rules.push(KernelRule::new(statements, ""));
        }
    }
    rules
}

fn act(action: Action, style: Style<'_>, statements: &mut Vec<Statement>) {
    statements.push(Statement::Counter);
    let leave = |bit, statements: &mut Vec<Statement>| {
        statements.push(Statement::Mark { clear: 0, set: bit });
        statements.push(Statement::Verdict(Verdict::Return));
    };
    match action {
        Action::Allow => leave(ACCEPTED, statements),
        Action::Pass => leave(PASSED, statements),
        Action::Deny => statements.push(Statement::Verdict(deny(style.denied))),
        Action::Log => {
            if let Some(per_minute) = style.logging.per_minute {
                statements.push(Statement::Limit { per_minute });
            }
            statements.push(Statement::Log {
                prefix: format!("{}: ", style.logging.prefix).into(),
                group: style.logging.group,
            });
        }
    }
}

struct ForVersion<'a, 'b> {
    version: IpVersion,
    /// Some condition is of this family only.
    versioned: bool,
    protocol: Option<Protocol>,
    needs: &'a mut Needs<'b>,
}

impl ForVersion<'_, '_> {
    /// `None` when the rule cannot match packets of the family.
    fn rule(&mut self, rule: &Rule) -> Option<Alternatives> {
        let mut all: Alternatives = vec![Vec::new()];
        if rule.icmp.is_some() || rule.not_icmp.is_some() {
            self.icmp_protocol();
        }
        if let Some(protocol) = self.protocol {
            both(&mut all, &Statement::protocol(protocol));
        }
        if let Some(protocol) = rule.not_protocol {
            both(
                &mut all,
                &Statement::Is {
                    field: Field::Protocol,
                    not: true,
                    value: Value::Protocol(protocol),
                },
            );
        }
        for (side, source) in [(&rule.source, true), (&rule.destination, false)] {
            for statement in self.addresses(side, source)? {
                both(&mut all, &statement);
            }
            for alternatives in self.ports(side, source)? {
                all = product(&all, &alternatives);
            }
        }
        for (icmp, not) in [(rule.icmp, false), (rule.not_icmp, true)] {
            if let Some(icmp) = icmp {
                let (field, value) = match icmp.code {
                    None => (Field::IcmpType, Value::IcmpType(icmp.kind)),
                    Some(code) => (Field::Icmp, Value::Icmp(icmp.kind, code)),
                };
                both(&mut all, &Statement::Is { field, not, value });
            }
        }
        Some(all)
    }

    /// An ICMP condition is about ICMP messages: of the family's own protocol when none is named.
    fn icmp_protocol(&mut self) {
        if self.protocol.is_none() {
            self.versioned = true;
            self.protocol = Some(match self.version {
                IpVersion::V4 => Protocol::ICMP,
                IpVersion::V6 => Protocol::ICMPV6,
            });
        }
    }

    fn addresses(&mut self, side: &Side, source: bool) -> Option<Conditions> {
        let mut all = Vec::new();
        let field = Field::address(source, self.version);
        for (nets, not) in [(&side.nets, false), (&side.not_nets, true)] {
            if nets.is_empty() {
                continue;
            }
            self.versioned = true;
            let own = maximal(nets, self.version);
            match own.as_slice() {
                [] if not => {}
                [] => return None,
                [any] if any.length() == 0 && !not => {}
                [any] if any.length() == 0 => return None,
                [one] => all.push(Statement::Is {
                    field,
                    not,
                    value: Value::Net(*one),
                }),
                many => {
                    let set = self.needs.nets(self.version, many);
                    all.push(lookup(vec![field], not, &set));
                }
            }
        }
        for set in &side.sets {
            let set = self.needs.set(set, Variant::addresses, self.version)?;
            self.versioned = true;
            all.push(lookup(vec![field], false, &set));
        }
        for set in &side.not_sets {
            self.versioned = true;
            if let Some(set) = self.needs.set(set, Variant::addresses, self.version) {
                all.push(lookup(vec![field], true, &set));
            }
        }
        if let Some(service) = &side.service {
            let set = self.needs.set(service, Variant::ports, self.version)?;
            all.push(self.member(source, false, &set));
        }
        Some(all)
    }

    /// Address, protocol and port together are (not) in the set.
    fn member(&mut self, source: bool, not: bool, set: &Name) -> Statement {
        self.versioned = true;
        let address = Field::address(source, self.version);
        lookup(
            vec![address, Field::Protocol, Field::port(source)],
            not,
            set,
        )
    }

    fn ports(&mut self, side: &Side, source: bool) -> Option<Vec<Alternatives>> {
        let mut all = Vec::new();
        if !side.ports.is_empty() || !side.port_sets.is_empty() {
            let mut any = Vec::new();
            if !side.ports.is_empty() {
                any.extend(self.numbers(&side.ports, source, false));
            }
            for set in &side.port_sets {
                self.versioned = true;
                if let Some(set) = self.needs.set(set, Variant::ports, self.version) {
                    any.push(vec![self.member(source, false, &set)]);
                }
            }
            if any.is_empty() {
                return None;
            }
            all.push(any);
        }
        if !side.not_ports.is_empty() {
            all.push(vec![self.numbers(&side.not_ports, source, true)?]);
        }
        for set in &side.not_port_sets {
            self.versioned = true;
            if let Some(set) = self.needs.set(set, Variant::ports, self.version) {
                let member = self.member(source, true, &set);
                all.push(self.where_ports(member));
            }
        }
        Some(all)
    }

    /// Port numbers; only packets that have ports match, whether the condition is negated or not.
    fn numbers(&mut self, ports: &[PortRange], source: bool, not: bool) -> Option<Conditions> {
        let mut all = Vec::new();
        match self.protocol {
            Some(protocol) if protocol.has_ports() => {}
            Some(_) => return None,
            None => {
                let set = self.needs.port_protocols();
                all.push(lookup(vec![Field::Protocol], false, &set));
            }
        }
        let field = Field::port(source);
        match merged(ports).as_slice() {
            [one] => all.push(Statement::Is {
                field,
                not,
                value: Value::Ports(*one),
            }),
            many => {
                let set = self.needs.numbers(many);
                all.push(lookup(vec![field], not, &set));
            }
        }
        Some(all)
    }

    /// A condition on ports that holds for packets without ports.
    fn where_ports(&mut self, condition: Statement) -> Alternatives {
        match self.protocol {
            Some(protocol) if protocol.has_ports() => vec![vec![condition]],
            Some(_) => vec![Vec::new()],
            None => {
                let set = self.needs.port_protocols();
                vec![
                    vec![lookup(vec![Field::Protocol], false, &set), condition],
                    vec![lookup(vec![Field::Protocol], true, &set)],
                ]
            }
        }
    }
}

fn lookup(fields: Vec<Field>, not: bool, set: &Name) -> Statement {
    Statement::In {
        fields,
        not,
        set: set.clone(),
    }
}

fn both(all: &mut Alternatives, condition: &Statement) {
    for conditions in all {
        conditions.push(condition.clone());
    }
}

fn product(one: &Alternatives, other: &Alternatives) -> Alternatives {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    pairs
        .map(|(a, b)| a.iter().chain(b).cloned().collect())
        .collect()
}

/// The ranges of a family that no other of them covers, in order.
pub(super) fn maximal<'a>(
    nets: impl IntoIterator<Item = &'a Prefix>,
    version: IpVersion,
) -> Vec<Prefix> {
    let mut own: Vec<Prefix> = nets
        .into_iter()
        .filter(|net| net.is_ipv4() == (version == IpVersion::V4))
        .copied()
        .collect();
    // By address, then length: what covers a range comes before it.
    own.sort_unstable();
    let mut kept: Vec<Prefix> = Vec::with_capacity(own.len());
    for net in own {
        if !kept.last().is_some_and(|last| last.covers(&net)) {
            kept.push(net);
        }
    }
    kept
}

/// Port ranges in order, those that touch made one.
fn merged(ports: &[PortRange]) -> Vec<PortRange> {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The elements of a set of port numbers, and its shape.
pub(super) fn port_elements(ports: &[PortRange]) -> (Shape, Vec<Element>) {
    if ports.iter().all(|range| range.first == range.last) {
        let single = |range: &PortRange| Element::single(range.first.to_be_bytes());
        return (Shape::plain(Part::Port), ports.iter().map(single).collect());
    }
    let range =
        |range: &PortRange| Element::range(&range.first.to_be_bytes(), &range.last.to_be_bytes());
    let elements = ports.iter().flat_map(range).collect();
    (Shape::ranges(Part::Port), elements)
}

/// The elements of ranges that do not overlap.
pub(super) fn net_elements(nets: &[Prefix]) -> Vec<Element> {
    let elements = |net: &Prefix| {
        let (first, last) = ends(*net);
        Element::range(&first, &last)
    };
    nets.iter().flat_map(elements).collect()
}

/// The first and the last address of a range.
fn ends(net: Prefix) -> (Vec<u8>, Vec<u8>) {
    let first = crate::nft::encode::address_bytes(net.address());
    let mask = crate::nft::encode::mask_bytes(net.length(), first.len());
    let last = first
        .iter()
        .zip(mask)
        .map(|(byte, mask)| byte | !mask)
        .collect();
    (first, last)
}
