//! Whether a rule matches a flow, field by field.

use std::net::IpAddr;

use ocicat_datastore::model::{EntityRule, IcmpFields, IntOrString, Port, Rule};

use super::cluster::{Party, contains, in_namespaces, is_net, of_accounts, selects};
use super::{Flow, Model};

/// What a rule does with a flow.
pub(super) enum Outcome {
    /// It matches; this is its action, or what is done in its place.
    Matches(&'static str),
    /// It does not match.
    Skipped { field: String, why: String },
}

/// What the fields of a rule said so far.
#[derive(Default)]
struct Answer {
    mismatch: Option<(String, String)>,
    unreadable: Option<(String, String)>,
}

impl Answer {
    /// Takes the answer of one field: whether it matches, `None` when it cannot be read.
    fn field(&mut self, name: &str, matches: Option<bool>, why: impl FnOnce() -> String) {
        match matches {
            Some(true) => {}
            Some(false) if self.mismatch.is_none() => {
                self.mismatch = Some((name.to_owned(), why()));
            }
            Some(false) => {}
            None => self.bad(name, "it cannot be read"),
        }
    }

    fn bad(&mut self, name: &str, why: &str) {
        if self.unreadable.is_none() {
            self.unreadable = Some((name.to_owned(), why.to_owned()));
        }
    }
}

/// The protocol that a rule names.
#[derive(Clone, Copy)]
enum Named {
    Absent,
    Unreadable,
    Is(u8),
}

/// One side of the rule against one side of the flow.
struct End<'a> {
    name: &'static str,
    entity: &'a EntityRule,
    address: IpAddr,
    port: u16,
    /// Whether it is the side that is not the policy's own endpoint.
    is_other: bool,
}

impl Model {
    pub(super) fn outcome(
        &self,
        rule: &Rule,
        namespace: Option<&str>,
        ingress: bool,
        flow: &Flow,
        parties: &[Party],
    ) -> Outcome {
        let mut answer = Answer::default();
        if rule.malformed.is_some() {
            answer.bad("", "the rule cannot be read");
        }
        if rule.http.is_some() {
            answer.bad("http", "matching on HTTP is not supported yet");
        }
        let protocol = header(rule, flow, &mut answer);
        let ends = [
            End {
                name: "source",
                entity: &rule.source,
                address: flow.source,
                port: flow.source_port,
                is_other: ingress,
            },
            End {
                name: "destination",
                entity: &rule.destination,
                address: flow.destination,
                port: flow.destination_port,
                is_other: !ingress,
            },
        ];
        for end in &ends {
            self.end(end, protocol, namespace, flow, parties, &mut answer);
        }
        let action = match rule.action.as_str() {
            "Allow" => "Allow",
            "Deny" => "Deny",
            "Log" => "Log",
            "Pass" => "Pass",
            _ => {
                answer.bad("action", "it is no action");
                "Deny"
            }
        };
        match (answer.unreadable, answer.mismatch) {
            (Some((field, why)), _) if action == "Allow" || action == "Log" => {
                Outcome::Skipped { field, why }
            }
            (_, Some((field, why))) => Outcome::Skipped { field, why },
            (Some(_), None) => Outcome::Matches("Deny"),
            (None, None) => Outcome::Matches(action),
        }
    }

    fn end(
        &self,
        end: &End<'_>,
        protocol: Named,
        namespace: Option<&str>,
        flow: &Flow,
        parties: &[Party],
        answer: &mut Answer,
    ) {
        let entity = end.entity;
        let address = end.address;
        let name = |field: &str| format!("{}.{field}", end.name);
        if !entity.nets.is_empty() {
            let readable = entity.nets.iter().all(|net| is_net(net));
            let found = entity.nets.iter().any(|net| contains(net, address));
            answer.field(&name("nets"), readable.then_some(found), || {
                format!("{address} is in none of them")
            });
        }
        for net in &entity.not_nets {
            let found = is_net(net).then(|| !contains(net, address));
            answer.field(&name("notNets"), found, || format!("{address} is in {net}"));
        }
        let pick = Pick { entity, namespace };
        let found = pick.any(parties, address, answer, end.name);
        answer.field(&name("selector"), Some(found), || {
            format!("{address} belongs to nothing that is selected")
        });
        if let Some(text) = entity
            .not_selector
            .as_deref()
            .filter(|t| !t.trim().is_empty())
        {
            let mut excluded = Some(false);
            for party in parties {
                match selects(Some(text), &party.labels) {
                    None => excluded = None,
                    Some(true) if party.has(address) => excluded = excluded.map(|_| true),
                    Some(_) => {}
                }
            }
            let readable = text.parse::<ocicat_selectors::Selector>().is_ok();
            let matches = readable.then(|| excluded != Some(true));
            answer.field(&name("notSelector"), matches, || {
                format!("{address} is selected by {text}")
            });
        }
        match protocol {
            // Ports mean nothing without the protocol that they were meant for.
            Named::Unreadable => {}
            Named::Absent => self.ports(end, &pick, None, flow, parties, answer),
            Named::Is(number) => self.ports(end, &pick, Some(number), flow, parties, answer),
        }
        self.service(end, namespace, flow, answer);
    }

    fn ports(
        &self,
        end: &End<'_>,
        pick: &Pick<'_>,
        protocol: Option<u8>,
        flow: &Flow,
        parties: &[Party],
        answer: &mut Answer,
    ) {
        for (field, list, wanted) in [
            ("ports", &end.entity.ports, true),
            ("notPorts", &end.entity.not_ports, false),
        ] {
            let name = format!("{}.{field}", end.name);
            let read: Vec<Option<Port>> = list.iter().map(|port| port.port().ok()).collect();
            let numbers = read.iter().flatten().any(|p| !matches!(p, Port::Name(_)));
            let names = read.iter().flatten().any(|p| matches!(p, Port::Name(_)));
            let ported = protocol.is_some_and(has_ports);
            if (numbers && !ported) || (names && protocol.is_some() && !ported) {
                answer.bad(&name, "the protocol has no ports");
                continue;
            }
            if read.iter().any(Option::is_none) {
                answer.bad(&name, "one of them is no port");
                if wanted {
                    continue;
                }
            }
            if list.is_empty() {
                continue;
            }
            // A name without a protocol means TCP.
            let of_names = protocol.unwrap_or(6);
            let hit = read.iter().flatten().any(|port| match port {
                Port::Number(number) => *number == end.port,
                Port::Range(first, last) => (*first..=*last).contains(&end.port),
                Port::Name(port) => {
                    flow.protocol.0 == of_names
                        && parties.iter().any(|party| {
                            party.has(end.address)
                                && pick.selects(party)
                                && party.has_port(port, of_names, end.port)
                        })
                }
            });
            // Numbers are of the rule's protocol, which was compared before.
            answer.field(&name, Some(hit == wanted), || {
                let (is, port) = (if wanted { "is not" } else { "is" }, end.port);
                format!("{port} {is} among them")
            });
        }
    }

    fn service(&self, end: &End<'_>, namespace: Option<&str>, flow: &Flow, answer: &mut Answer) {
        let Some(service) = &end.entity.services else {
            return;
        };
        let name = format!("{}.services", end.name);
        let others = EntityRule {
            services: None,
            ..end.entity.clone()
        };
        let stated = service
            .namespace
            .as_deref()
            .filter(|n| !n.trim().is_empty());
        let (Some(namespace), true) = (stated.or(namespace), end.is_other) else {
            answer.bad(&name, "it is on the wrong side or has no namespace");
            return;
        };
        if others != EntityRule::default() || service.name.is_empty() {
            answer.bad(&name, "it stands beside other fields or has no name");
            return;
        }
        let port = (end.name == "destination").then_some((flow.protocol.0, end.port));
        let found = self.is_backend((namespace, &service.name), end.address, port);
        answer.field(&name, Some(found), || {
            format!(
                "{} is no backend of {namespace}/{}",
                end.address, service.name
            )
        });
    }
}

/// The endpoints and network sets that a side names.
struct Pick<'a> {
    entity: &'a EntityRule,
    namespace: Option<&'a str>,
}

impl Pick<'_> {
    /// Whether the side names some at all, and if so whether the address belongs to one.
    fn any(&self, parties: &[Party], address: IpAddr, answer: &mut Answer, side: &str) -> bool {
        for (field, readable) in [
            ("selector", self.own(&Default::default()).is_some()),
            (
                "namespaceSelector",
                self.inside(&Default::default()).is_some(),
            ),
            (
                "serviceAccounts",
                self.account(&Default::default()).is_some(),
            ),
        ] {
            if !readable {
                answer.bad(&format!("{side}.{field}"), "it cannot be read");
            }
        }
        !self.is_stated() || parties.iter().any(|p| p.has(address) && self.selects(p))
    }

    fn is_stated(&self) -> bool {
        let stated = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.trim().is_empty());
        let accounts = self.entity.service_accounts.as_ref();
        stated(&self.entity.selector)
            || stated(&self.entity.namespace_selector)
            || accounts.is_some_and(|a| !a.names.is_empty() || stated(&a.selector))
            // A policy of a namespace that names anybody, if only by whom not, means its namespace.
            || (stated(&self.entity.not_selector) && self.namespace.is_some())
    }

    /// Parts that cannot be read select everything: the rule can then only deny.
    fn selects(&self, party: &Party) -> bool {
        let own_namespace = self.namespace.is_none_or(|namespace| {
            let stated = self.entity.namespace_selector.as_deref();
            let elsewhere = stated.is_some_and(|t| !t.trim().is_empty());
            let label = party.labels.get("projectcalico.org/namespace");
            elsewhere || !self.is_stated() || label.is_some_and(|l| l == namespace)
        });
        own_namespace
            && self.own(&party.labels) != Some(false)
            && self.inside(&party.labels) != Some(false)
            && self.account(&party.labels) != Some(false)
    }

    fn own(&self, labels: &super::Labels) -> Option<bool> {
        selects(self.entity.selector.as_deref(), labels)
    }

    fn inside(&self, labels: &super::Labels) -> Option<bool> {
        in_namespaces(self.entity.namespace_selector.as_deref(), labels)
    }

    fn account(&self, labels: &super::Labels) -> Option<bool> {
        let Some(accounts) = &self.entity.service_accounts else {
            return Some(true);
        };
        let name = labels.get("projectcalico.org/serviceaccount");
        let spelt = |n: &String| !(n.contains('"') && n.contains('\''));
        if !accounts.names.iter().all(spelt) {
            return None;
        }
        let named = accounts.names.is_empty() || name.is_some_and(|n| accounts.names.contains(n));
        Some(of_accounts(accounts.selector.as_deref(), labels)? && named)
    }
}

impl Party {
    fn has(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| contains(net, address))
    }

    fn has_port(&self, name: &str, protocol: u8, number: u16) -> bool {
        self.ports.iter().any(|(n, p, port)| {
            n == name && *port == number && p.protocol().is_ok_and(|p| p.0 == protocol)
        })
    }
}

/// Version, protocol and ICMP; the protocol that the rule names.
fn header(rule: &Rule, flow: &Flow, answer: &mut Answer) -> Named {
    if let Some(version) = &rule.ip_version {
        let found = match version {
            IntOrString::Int(4) => Some(flow.destination.is_ipv4()),
            IntOrString::Int(6) => Some(flow.destination.is_ipv6()),
            _ => None,
        };
        answer.field("ipVersion", found, || {
            format!("{} is not of it", flow.destination)
        });
    }
    let read = |p: &IntOrString| p.protocol().ok().map(|p| p.0);
    let protocol = rule.protocol.as_ref().and_then(read);
    if rule.protocol.is_some() {
        let found = protocol.map(|p| p == flow.protocol.0);
        answer.field("protocol", found, || {
            format!("the flow is {}", flow.protocol)
        });
    }
    if let Some(not) = &rule.not_protocol {
        let found = read(not).map(|p| p != flow.protocol.0);
        answer.field("notProtocol", found, || {
            format!("the flow is {}", flow.protocol)
        });
    }
    for (field, fields, wanted) in [
        ("icmp", &rule.icmp, true),
        ("notICMP", &rule.not_icmp, false),
    ] {
        if let Some(fields) = fields.as_ref().filter(|f| **f != IcmpFields::default()) {
            let icmp = matches!(protocol, Some(1 | 58));
            let is = icmp.then(|| is_icmp(fields, flow)).flatten();
            answer.field(field, is.map(|is| is == wanted), || {
                format!("type and code are {:?}", flow.icmp)
            });
        }
    }
    match protocol {
        Some(number) => Named::Is(number),
        None if rule.protocol.is_some() => Named::Unreadable,
        None => Named::Absent,
    }
}

/// Whether the flow has this ICMP type and code; `None` when they cannot be read.
fn is_icmp(fields: &IcmpFields, flow: &Flow) -> Option<bool> {
    let kind = fields.r#type.filter(|kind| (0..=254).contains(kind))?;
    let code = fields.code.unwrap_or(0);
    if !(0..=255).contains(&code) {
        return None;
    }
    Some(flow.icmp.is_some_and(|(k, c)| {
        i64::from(k) == kind && (fields.code.is_none() || i64::from(c) == code)
    }))
}

const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132 | 136)
}
