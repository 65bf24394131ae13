//! Cases: who should, or should not, reach whom.

use ocicat_dataplane::state::Protocol;
use ocicat_datastore::model::IntOrString;
use ocicat_policy::{Decision, Verdict};

use serde::{Deserialize, Serialize};

use crate::document::{self, Document, Fault};

/// One expectation: who should, or should not, reach whom.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Case {
    /// What it is called in reports.
    pub name: String,
    /// Who sends: `namespace/pod` or an address.
    pub from: String,
    /// Who should get it: `namespace/pod` or an address.
    pub to: String,
    /// The port that it goes to; needed for protocols with ports.
    pub port: Option<u16>,
    /// `tcp` when absent; `udp`, `sctp`, `icmp` or a number.
    pub protocol: Option<IntOrString>,
    /// What should become of it.
    pub expect: Expect,
    /// Who should decide it: `tier/policy`; anybody when absent.
    pub by: Option<String>,
}

/// What should become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// It gets through.
    Allow,
    /// It does not.
    Deny,
}

/// The one key of a file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "cases")]
    _cases: Vec<serde::de::IgnoredAny>,
}

/// Reads a file of cases; each with the document that it came from, for faults that are found later.
///
/// # Errors
/// The first [`Fault`]: a syntax error, an unknown or missing key, a protocol that is none, a port too many or too few.
pub fn read(file: &str, text: &str) -> Result<Vec<(Case, Document)>, Fault> {
    let mut cases = Vec::new();
    for document in document::parse(file, text)? {
        document.decode::<File>()?;
        for element in document.elements("cases").unwrap_or_default() {
            let case: Case = element.decode()?;
            let protocol = case.protocol().ok_or_else(|| {
                element.fault("protocol", "expected tcp, udp, sctp, icmp or 0-255")
            })?;
            match (protocol.has_ports(), case.port) {
                (true, None) => return Err(element.fault("port", "is missing")),
                (false, Some(_)) => {
                    return Err(element.fault("port", format!("{protocol} has no ports")));
                }
                _ => cases.push((case, element)),
            }
        }
    }
    if cases.is_empty() {
        return Err(Fault::of_file(file, "has no cases"));
    }
    Ok(cases)
}

impl Case {
    /// The protocol; `None` when it is none.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        let name = match &self.protocol {
            None => return Some(Protocol::TCP),
            Some(IntOrString::Int(number)) => return u8::try_from(*number).ok().map(Protocol),
            Some(IntOrString::String(name)) => name,
            Some(_) => return None,
        };
        protocol_named(name)
    }
}

/// The protocol that a word or a number names; upper and lower case do not matter.
pub(crate) fn protocol_named(name: &str) -> Option<Protocol> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Some(Protocol::TCP),
        "udp" => Some(Protocol::UDP),
        "sctp" => Some(Protocol::SCTP),
        "icmp" => Some(Protocol::ICMP),
        number => number.parse().ok().map(Protocol),
    }
}

impl Expect {
    pub(crate) const fn is(self, verdict: Verdict) -> bool {
        matches!(
            (self, verdict),
            (Self::Allow, Verdict::Allow) | (Self::Deny, Verdict::Deny)
        )
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Whether a decision is of whom `by` names.
pub(crate) fn is_by(by: &str, decision: &Decision) -> bool {
    let place = place(decision);
    let Some((tier, policy)) = by.split_once('/') else {
        return by == place;
    };
    let Some(key) = &decision.policy else {
        return false;
    };
    let mut parts = key.splitn(3, '/').skip(1);
    let (namespace, name) = match (parts.next(), parts.next()) {
        (Some(namespace), Some(name)) => (Some(namespace), name),
        (Some(name), None) => (None, name),
        _ => return false,
    };
    // A policy is called by what it is stored as, or by what its author called it.
    let stored = [format!("knp.{tier}."), format!("{tier}."), "kcnp.".into()];
    let given = stored
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix.as_str()));
    let called = |text: &str| text == name || Some(text) == given;
    let in_namespace = policy
        .split_once('/')
        .is_some_and(|(of, text)| Some(of) == namespace && called(text));
    tier == decision.tier.as_deref().unwrap_or("profile") && (called(policy) || in_namespace)
}

/// Who decided, as `by` would say it.
pub(crate) fn place(decision: &Decision) -> String {
    let tier = decision.tier.as_deref();
    match decision
        .policy
        .as_deref()
        .and_then(|key| key.split_once('/'))
    {
        Some((_, policy)) => format!("{}/{policy}", tier.unwrap_or("profile")),
        None => tier.unwrap_or("nobody").to_owned(),
    }
}
