//! One side of a rule.

use std::collections::BTreeMap;

use ocicat_dataplane::Prefix;
use ocicat_dataplane::state::{PortRange, Protocol, SetId, Side};
use ocicat_datastore::model::{EntityRule, IntOrString, Port, ServiceAccountMatch, ServiceMatch};
use ocicat_selectors::{Expr, Label, Selector, Value};

use super::rule::{Notes, Scope};
use super::{Direction, Parsed, SetSpec, equal};
use crate::labels::{self, stated};
use crate::{Reason, nets};

/// Which side of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl End {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

pub(super) fn selector(text: &str) -> Parsed {
    Ok(text.parse()?)
}

/// A selector of namespaces, said of what is in them: `all()` is everything in a namespace, `global()` alone is
/// everything that is in none.
pub(super) fn namespaces(text: &str) -> Parsed {
    let selector: Selector = text.parse()?;
    let inside = Selector::has(Label::new(labels::NAMESPACE)?);
    if *selector.expr() == Expr::Global {
        return Ok(!inside);
    }
    if has_global(selector.expr()) {
        return Err(Reason::Excludes("everything else: global() stands alone"));
    }
    let prefixed = selector.rename_labels(|l| format!("{}{l}", labels::NAMESPACE_PREFIX))?;
    Ok(inside.and(prefixed))
}

/// A selector of service accounts, said of the pods that have them.
pub(super) fn service_accounts(text: &str) -> Parsed {
    let selector: Selector = text.parse()?;
    Ok(selector.rename_labels(|l| format!("{}{l}", labels::SERVICE_ACCOUNT_PREFIX))?)
}

fn has_global(expr: &Expr) -> bool {
    match expr {
        Expr::Global => true,
        Expr::Not { operand, .. } => has_global(operand),
        Expr::And { operands, .. } | Expr::Or { operands, .. } => operands.iter().any(has_global),
        _ => false,
    }
}

impl Scope<'_> {
    /// One side of a rule as far as it can be read; what cannot is left out, which makes the side match more.
    pub(super) fn side(
        &self,
        end: End,
        entity: &EntityRule,
        protocol: Option<Protocol>,
        notes: &mut Notes,
        sets: &mut BTreeMap<SetId, SetSpec>,
    ) -> Side {
        let mut need = |spec: SetSpec| {
            let id = spec.id();
            sets.insert(id.clone(), spec);
            id
        };
        let mut side = Side {
            nets: read_nets(&entity.nets, "nets", end, notes),
            not_nets: read_nets(&entity.not_nets, "notNets", end, notes),
            ..Side::default()
        };
        let endpoints = self.endpoints(end, entity, notes);
        if let Some(selector) = &endpoints {
            side.sets.push(need(SetSpec::Addresses(selector.clone())));
        }
        if let Some(text) = stated(entity.not_selector.as_ref())
            && let Some(selector) = notes.take(end, "notSelector", selector(text))
        {
            side.not_sets.push(need(SetSpec::Addresses(selector)));
        }
        let ports = read_ports(&entity.ports, "ports", end, protocol, notes);
        let not_ports = read_ports(&entity.not_ports, "notPorts", end, protocol, notes);
        let selector = endpoints.unwrap_or_default();
        let mut named = |names: Vec<String>| -> Vec<SetId> {
            let of = |name| SetSpec::NamedPort {
                selector: selector.clone(),
                name,
                protocol: protocol.unwrap_or(Protocol::TCP),
            };
            names.into_iter().map(|name| need(of(name))).collect()
        };
        side.port_sets = named(ports.names);
        side.not_port_sets = named(not_ports.names);
        side.ports = ports.ranges;
        side.not_ports = not_ports.ranges;
        if let Some(service) = &entity.services {
            self.service(end, entity, service, notes, &mut side, &mut need);
        }
        side
    }

    /// The selector of the side's endpoints, `None` when it names none.
    fn endpoints(&self, end: End, entity: &EntityRule, notes: &mut Notes) -> Option<Selector> {
        let own = stated(entity.selector.as_ref());
        let own = own.map(|text| notes.take(end, "selector", selector(text)));
        let accounts = entity.service_accounts.as_ref();
        let accounts = accounts.and_then(|m| account_match(m, end, notes));
        let namespaces = match stated(entity.namespace_selector.as_ref()) {
            Some(text) => Some(notes.take(end, "namespaceSelector", namespaces(text))),
            None => {
                let selects = own.is_some()
                    || accounts.is_some()
                    || stated(entity.not_selector.as_ref()).is_some();
                let namespace = self.namespace.filter(|_| selects);
                namespace.map(|n| notes.take(end, "namespace", equal(labels::NAMESPACE, n)))
            }
        };
        // A part that could not be read selects everything: the rule is bad and only ever denies.
        let parts = [namespaces, accounts, own];
        let mut read = parts.into_iter().flatten().map(Option::unwrap_or_default);
        let first = read.next()?;
        Some(read.fold(first, Selector::and))
    }

    /// The backends of a service, as the other side of the packet.
    fn service(
        &self,
        end: End,
        entity: &EntityRule,
        service: &ServiceMatch,
        notes: &mut Notes,
        side: &mut Side,
        need: &mut impl FnMut(SetSpec) -> SetId,
    ) {
        let other_side = match self.direction {
            Direction::Ingress => End::Source,
            Direction::Egress => End::Destination,
        };
        let others = EntityRule {
            services: None,
            ..entity.clone()
        };
        let namespace = service.namespace.as_ref();
        let namespace = stated(namespace).or(self.namespace);
        if end != other_side {
            notes.add(end, "services", Reason::Needs("the other side of traffic"));
        } else if !others.is_empty() {
            notes.add(
                end,
                "services",
                Reason::Excludes("all other fields of the side"),
            );
        } else if let Some(namespace) = namespace.filter(|_| !service.name.is_empty()) {
            let ports = end == End::Destination;
            let id = need(SetSpec::Service {
                namespace: namespace.to_owned(),
                name: service.name.clone(),
                ports,
            });
            if ports {
                side.service = Some(id);
            } else {
                side.sets.push(id);
            }
        } else {
            notes.add(end, "services", Reason::Needs("a name and a namespace"));
        }
    }
}

/// Pods by their service account; `None` when nothing is stated, `Some(None)` when it cannot be read.
fn account_match(
    accounts: &ServiceAccountMatch,
    end: End,
    notes: &mut Notes,
) -> Option<Option<Selector>> {
    let by_label = stated(accounts.selector.as_ref())
        .map(|text| notes.take(end, "serviceAccounts.selector", service_accounts(text)));
    let by_name = (!accounts.names.is_empty())
        .then(|| notes.take(end, "serviceAccounts.names", account_names(&accounts.names)));
    match (by_label, by_name) {
        (Some(a), Some(b)) => Some(a.zip(b).map(|(a, b)| a.and(b))),
        (one, other) => one.or(other),
    }
}

fn account_names(names: &[String]) -> Parsed {
    let value = |name: &String| {
        Value::new(name).map_err(|_| Reason::Unreadable(format!("{name:?} is no name")))
    };
    let values: Result<Vec<Value>, _> = names.iter().map(value).collect();
    let label = Label::new(labels::SERVICE_ACCOUNT)?;
    Ok(Selector::one_of(label, values?))
}

/// The ranges of a list; none, which is any, when one of them cannot be read.
fn read_nets(texts: &[String], field: &'static str, end: End, notes: &mut Notes) -> Vec<Prefix> {
    let mut out = Vec::with_capacity(texts.len());
    let mut complete = true;
    for text in texts {
        match nets::parse(text) {
            Some(net) => out.push(net),
            None => {
                notes.add(end, field, Reason::Net(text.clone()));
                complete = false;
            }
        }
    }
    // A range that is missing from `nets` would make the side match less, one from `notNets` more.
    if !complete && field == "nets" {
        out.clear();
    }
    nets::minimised(out)
}

#[derive(Default)]
struct Ports {
    ranges: Vec<PortRange>,
    names: Vec<String>,
}

/// The ports of a list; none, which is any, when the list cannot be read or has no meaning for the protocol.
fn read_ports(
    written: &[IntOrString],
    field: &'static str,
    end: End,
    protocol: Option<Protocol>,
    notes: &mut Notes,
) -> Ports {
    let mut out = Ports::default();
    let mut complete = true;
    for port in written {
        match port.port() {
            Ok(Port::Number(number)) => out.ranges.push(PortRange {
                first: number,
                last: number,
            }),
            Ok(Port::Range(first, last)) => out.ranges.push(PortRange { first, last }),
            Ok(Port::Name(name)) => out.names.push(name),
            Err(error) => {
                notes.add(end, field, Reason::Value(error));
                complete = false;
            }
        }
    }
    let numbers_make_sense = out.ranges.is_empty() || protocol.is_some_and(Protocol::has_ports);
    let names_make_sense = out.names.is_empty() || protocol.is_none_or(Protocol::has_ports);
    if !numbers_make_sense || !names_make_sense {
        notes.add(end, field, Reason::Needs("a protocol that has ports"));
        return Ports::default();
    }
    if !complete && field == "ports" {
        return Ports::default();
    }
    out.ranges = merged(out.ranges);
    out.names.sort();
    out.names.dedup();
    out
}

/// The same ports in the fewest ranges, in order.
fn merged(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut out: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => out.push(range),
        }
    }
    out
}
