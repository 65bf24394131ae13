use std::collections::BTreeMap;

use ocicat_dataplane::state::{Action, Icmp, IpVersion, Protocol, Rule, SetId, Side};
use ocicat_datastore::model::{IcmpFields, IntOrString, Rule as Written};

use super::entity::End;
use super::{Direction, Fault, SetSpec};
use crate::{Effect, Reason};

/// Where a rule stands.
pub(super) struct Scope<'a> {
    /// The namespace of its policy.
    pub(super) namespace: Option<&'a str>,
    pub(super) direction: Direction,
}

/// What could not be read of a rule.
#[derive(Default)]
pub(super) struct Notes {
    found: Vec<(String, Reason)>,
}

impl Notes {
    pub(super) fn add(&mut self, end: End, field: &str, reason: Reason) {
        self.top(&format!("{}.{field}", end.name()), reason);
    }

    /// The value, or `None` and a note of why there is none.
    pub(super) fn take<T>(
        &mut self,
        end: End,
        field: &str,
        result: Result<T, Reason>,
    ) -> Option<T> {
        result.map_err(|reason| self.add(end, field, reason)).ok()
    }

    fn top(&mut self, field: &str, reason: Reason) {
        self.found.push((field.to_owned(), reason));
    }
}

impl Scope<'_> {
    /// The rule to follow, the sets that it names, and what cannot be read.
    ///
    /// A rule that cannot be read in full lets nothing through: an Allow goes, and so does a Log; a Deny denies all
    /// that it could have meant; a Pass, and an action that is none, does the same.
    pub(super) fn compile(
        &self,
        written: &Written,
    ) -> (Option<Rule>, BTreeMap<SetId, SetSpec>, Vec<Fault>) {
        let mut notes = Notes::default();
        let mut sets = BTreeMap::new();
        let rule = self.read(written, &mut notes, &mut sets);
        if notes.found.is_empty() {
            return (Some(rule), sets, Vec::new());
        }
        let denies = matches!(rule.action, Action::Deny | Action::Pass);
        let effect = if denies {
            Effect::RuleDenies
        } else {
            Effect::RuleLeftOut
        };
        let fault = |(field, reason)| Fault {
            field,
            reason,
            effect,
        };
        let faults = notes.found.into_iter().map(fault).collect();
        let rule = denies.then_some(Rule {
            action: Action::Deny,
            ..rule
        });
        (rule, sets, faults)
    }

    /// The rule with all that can be read; a match that cannot be read is left out.
    fn read(
        &self,
        written: &Written,
        notes: &mut Notes,
        sets: &mut BTreeMap<SetId, SetSpec>,
    ) -> Rule {
        if let Some(malformed) = &written.malformed {
            notes.top("", Reason::Malformed(malformed.clone()));
        }
        if written.http.is_some() {
            notes.top("http", Reason::Unsupported("a match on HTTP"));
        }
        let mut rule = Rule::new(action(&written.action, notes));
        rule.ip_version = ip_version(written.ip_version.as_ref(), notes);
        rule.protocol = protocol("protocol", written.protocol.as_ref(), notes);
        rule.not_protocol = protocol("notProtocol", written.not_protocol.as_ref(), notes);
        let icmp_goes = matches!(rule.protocol, Some(Protocol::ICMP | Protocol::ICMPV6));
        rule.icmp = icmp("icmp", written.icmp.as_ref(), icmp_goes, notes);
        rule.not_icmp = icmp("notICMP", written.not_icmp.as_ref(), icmp_goes, notes);
        let (mut source, mut destination) = (written.source.clone(), written.destination.clone());
        if written.protocol.is_some() && rule.protocol.is_none() {
            // Ports mean nothing without the protocol that they were meant for.
            for side in [&mut source, &mut destination] {
                side.ports.clear();
                side.not_ports.clear();
            }
        }
        rule.source = self.side(End::Source, &source, rule.protocol, notes, sets);
        rule.destination = self.side(End::Destination, &destination, rule.protocol, notes, sets);
        if rule.protocol.is_none() && (only_names(&rule.source) || only_names(&rule.destination)) {
            // A name without a protocol means TCP, as in Calico.
            rule.protocol = Some(Protocol::TCP);
        }
        rule
    }
}

/// The side asks for a port by its name; a number would have needed a protocol.
fn only_names(side: &Side) -> bool {
    !side.port_sets.is_empty()
}

fn action(text: &str, notes: &mut Notes) -> Action {
    match text {
        "Allow" => Action::Allow,
        "Deny" => Action::Deny,
        "Log" => Action::Log,
        "Pass" => Action::Pass,
        _ => {
            let reason = Reason::Unknown {
                found: text.to_owned(),
                expected: "Allow, Deny, Log, Pass",
            };
            notes.top("action", reason);
            Action::Deny
        }
    }
}

fn ip_version(written: Option<&IntOrString>, notes: &mut Notes) -> Option<IpVersion> {
    match written? {
        IntOrString::Int(4) => Some(IpVersion::V4),
        IntOrString::Int(6) => Some(IpVersion::V6),
        other => {
            let reason = Reason::Unknown {
                found: other.to_string(),
                expected: "4, 6",
            };
            notes.top("ipVersion", reason);
            None
        }
    }
}

fn protocol(field: &str, written: Option<&IntOrString>, notes: &mut Notes) -> Option<Protocol> {
    match written?.protocol() {
        Ok(protocol) => Some(Protocol(protocol.0)),
        Err(error) => {
            notes.top(field, Reason::Value(error));
            None
        }
    }
}

fn icmp(
    field: &str,
    written: Option<&IcmpFields>,
    protocol_is_icmp: bool,
    notes: &mut Notes,
) -> Option<Icmp> {
    let written = written.filter(|w| w.r#type.is_some() || w.code.is_some())?;
    if !protocol_is_icmp {
        notes.top(field, Reason::Needs("the protocol ICMP or ICMPv6"));
        return None;
    }
    let Some(kind) = written.r#type else {
        notes.top(field, Reason::Needs("a type beside the code"));
        return None;
    };
    let mut number = |name: &str, found: i64, last: u8| {
        let number = u8::try_from(found).ok().filter(|n| *n <= last);
        if number.is_none() {
            let reason = Reason::Range {
                found,
                first: 0,
                last: last.into(),
            };
            notes.top(&format!("{field}.{name}"), reason);
        }
        number
    };
    let kind = number("type", kind, 254)?;
    let code = match written.code {
        Some(code) => Some(number("code", code, 255)?),
        None => None,
    };
    Some(Icmp { kind, code })
}
