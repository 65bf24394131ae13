//! From a policy as it is written to rules that a dataplane can follow, with the sets that they need.

mod entity;
mod rule;
mod set;

use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_dataplane::state::{Policy, SetId};
use ocicat_datastore::model::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, ProfileSpec, Rule as Written,
};
use ocicat_selectors::{Label, Selector, Value};

use crate::labels::{self, stated};
use crate::{Effect, Reason};
pub(crate) use set::SetSpec;

/// Which way a rule's packets go, seen from the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// A policy, ready to be applied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compiled {
    pub(crate) tier: Arc<str>,
    pub(crate) order: Option<f64>,
    /// The endpoints that it is for.
    pub(crate) selector: Selector,
    /// It says something about packets to its endpoints.
    pub(crate) ingress: bool,
    /// It says something about packets from its endpoints.
    pub(crate) egress: bool,
    /// It applies to what a host endpoint forwards, too.
    pub(crate) forward: bool,
    pub(crate) rules: Rules,
}

/// Rules of a policy or profile with the sets that they name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules {
    pub(crate) policy: Arc<Policy>,
    pub(crate) sets: BTreeMap<SetId, SetSpec>,
}

/// What is wrong with a field of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) field: String,
    pub(crate) reason: Reason,
    pub(crate) effect: Effect,
}

/// What a policy is read from: the fields that both kinds have.
pub(crate) struct Source<'a> {
    namespace: Option<&'a str>,
    tier: Option<&'a String>,
    order: Option<f64>,
    selector: Option<&'a String>,
    namespace_selector: Option<&'a String>,
    service_account_selector: Option<&'a String>,
    types: &'a [String],
    ingress: &'a [Written],
    egress: &'a [Written],
    forward: bool,
    unsupported: Option<&'static str>,
}

impl<'a> Source<'a> {
    pub(crate) fn global(spec: &'a GlobalNetworkPolicySpec) -> Self {
        Self {
            namespace: None,
            tier: spec.tier.as_ref(),
            order: spec.order,
            selector: spec.selector.as_ref(),
            namespace_selector: spec.namespace_selector.as_ref(),
            service_account_selector: spec.service_account_selector.as_ref(),
            types: &spec.types,
            ingress: &spec.ingress,
            egress: &spec.egress,
            forward: spec.apply_on_forward,
            unsupported: match (spec.do_not_track, spec.pre_dnat) {
                (true, _) => Some("doNotTrack"),
                (_, true) => Some("preDNAT"),
                _ => None,
            },
        }
    }

    pub(crate) fn namespaced(namespace: &'a str, spec: &'a NetworkPolicySpec) -> Self {
        Self {
            namespace: Some(namespace),
            tier: spec.tier.as_ref(),
            order: spec.order,
            selector: spec.selector.as_ref(),
            namespace_selector: None,
            service_account_selector: spec.service_account_selector.as_ref(),
            types: &spec.types,
            ingress: &spec.ingress,
            egress: &spec.egress,
            forward: false,
            unsupported: None,
        }
    }

    /// The policy as far as it can be read, and what cannot. No policy when it is not clear what it is for.
    pub(crate) fn compile(&self) -> (Option<Compiled>, Vec<Fault>) {
        let mut faults = Vec::new();
        if let Some(feature) = self.unsupported {
            faults.push(not_enforced(feature, Reason::Unsupported(feature)));
        }
        let selector = self.endpoints(&mut faults);
        let types = self.directions(&mut faults);
        let enforced = faults.is_empty();
        let (ingress, egress) = types.unwrap_or((true, true));
        let rules = compile_rules(
            self.namespace,
            if ingress { self.ingress } else { &[] },
            if egress { self.egress } else { &[] },
            &mut faults,
        );
        let Some(selector) = selector.filter(|_| enforced) else {
            return (None, faults);
        };
        let compiled = Compiled {
            tier: stated(self.tier).unwrap_or("default").into(),
            order: self.order,
            selector,
            ingress,
            egress,
            forward: self.forward,
            rules,
        };
        (Some(compiled), faults)
    }

    fn endpoints(&self, faults: &mut Vec<Fault>) -> Option<Selector> {
        let mut read = |field: &str, text: Option<&String>, of: fn(&str) -> Parsed| {
            let Some(text) = stated(text) else {
                return Some(Selector::all());
            };
            of(text)
                .map_err(|reason| faults.push(not_enforced(field, reason)))
                .ok()
        };
        let own = read("selector", self.selector, entity::selector);
        let namespaces = read(
            "namespaceSelector",
            self.namespace_selector,
            entity::namespaces,
        );
        let accounts = read(
            "serviceAccountSelector",
            self.service_account_selector,
            entity::service_accounts,
        );
        let inside = match self.namespace {
            Some(namespace) => equal(labels::NAMESPACE, namespace)
                .map_err(|reason| faults.push(not_enforced("metadata.namespace", reason)))
                .ok()?,
            None => Selector::all(),
        };
        Some(inside.and(namespaces?).and(accounts?).and(own?))
    }

    /// Whether the policy is about ingress and egress.
    fn directions(&self, faults: &mut Vec<Fault>) -> Option<(bool, bool)> {
        if self.types.is_empty() {
            let egress = !self.egress.is_empty();
            return Some((!egress || !self.ingress.is_empty(), egress));
        }
        let mut directions = (false, false);
        for (i, found) in self.types.iter().enumerate() {
            match found.as_str() {
                "Ingress" => directions.0 = true,
                "Egress" => directions.1 = true,
                _ => {
                    let reason = Reason::Unknown {
                        found: found.clone(),
                        expected: "Ingress, Egress",
                    };
                    faults.push(not_enforced(&format!("types[{i}]"), reason));
                    return None;
                }
            }
        }
        Some(directions)
    }
}

/// The rules of a profile, and what cannot be read of them.
pub(crate) fn compile_profile(spec: &ProfileSpec) -> (Rules, Vec<Fault>) {
    let mut faults = Vec::new();
    let rules = compile_rules(None, &spec.ingress, &spec.egress, &mut faults);
    (rules, faults)
}

fn compile_rules(
    namespace: Option<&str>,
    ingress: &[Written],
    egress: &[Written],
    faults: &mut Vec<Fault>,
) -> Rules {
    let mut sets = BTreeMap::new();
    let mut compile = |direction, name: &str, rules: &[Written]| {
        let mut out = Vec::with_capacity(rules.len());
        for (i, written) in rules.iter().enumerate() {
            let scope = rule::Scope {
                namespace,
                direction,
            };
            let (rule, needed, found) = scope.compile(written);
            faults.extend(found.into_iter().map(|mut fault| {
                fault.field = match fault.field.as_str() {
                    "" => format!("{name}[{i}]"),
                    inner => format!("{name}[{i}].{inner}"),
                };
                fault
            }));
            if let Some(rule) = rule {
                out.push(rule);
                sets.extend(needed);
            }
        }
        out
    };
    let policy = Policy {
        ingress: compile(Direction::Ingress, "ingress", ingress),
        egress: compile(Direction::Egress, "egress", egress),
    };
    Rules {
        policy: Arc::new(policy),
        sets,
    }
}

pub(crate) type Parsed = Result<Selector, Reason>;

/// `label == "value"` for a label that we know and a value from outside.
pub(crate) fn equal(label: &str, value: &str) -> Parsed {
    let unreadable = |_| Reason::Unreadable(format!("{value:?} has both kinds of quotes"));
    let value = Value::new(value).map_err(unreadable)?;
    Ok(Selector::equal(Label::new(label)?, value))
}

fn not_enforced(field: &str, reason: Reason) -> Fault {
    Fault {
        field: field.to_owned(),
        reason,
        effect: Effect::NotEnforced,
    }
}
