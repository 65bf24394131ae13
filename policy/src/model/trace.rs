use std::fmt;

use ocicat_datastore::Key;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::Flow;

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It gets through.
    Allow,
    /// It does not.
    Deny,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// What becomes of a flow, and how it came to that.
///
/// Serialised it is `{verdict, tier, policy, rule, why, skipped, decisions}`, where all but the last are those of
/// the decision that counted. `Display` says the same in lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    flow: Flow,
    decisions: Vec<Decision>,
}

/// What one endpoint's policy said about a flow in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Decision {
    /// What it said.
    pub verdict: Verdict,
    /// `ingress` or `egress`; empty where no policy was asked.
    pub direction: &'static str,
    /// The endpoint whose policy was asked, as its key is written; empty where none was.
    pub endpoint: String,
    /// The tier that decided.
    pub tier: Option<String>,
    /// The policy or profile that decided, as its key is written; none at the end of a tier and where nothing was
    /// asked.
    pub policy: Option<String>,
    /// The rule that decided, counted from 0 among those of the direction.
    pub rule: Option<usize>,
    /// Why, in words.
    pub why: String,
    /// The rules that were asked before and did not decide.
    pub skipped: Vec<Skipped>,
}

/// A rule that did not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skipped {
    /// The tier; empty for profiles.
    pub tier: String,
    /// The policy or profile, as its key is written.
    pub policy: String,
    /// The rule, counted from 0 among those of the direction.
    pub rule: usize,
    /// The first field that did not match.
    pub field: String,
    /// Why it did not.
    pub why: String,
}

impl Trace {
    pub(super) fn new(flow: &Flow) -> Self {
        Self {
            flow: flow.clone(),
            decisions: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, decision: Decision) {
        self.decisions.push(decision);
    }

    /// What becomes of the flow: it is denied if one of the decisions denies it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.deciding().map_or(Verdict::Allow, |d| d.verdict)
    }

    /// Whether the flow gets through.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict() == Verdict::Allow
    }

    /// The decision that counted: the one that denies, else the last. None when nobody was asked.
    #[must_use]
    pub fn deciding(&self) -> Option<&Decision> {
        self.decisions.last()
    }

    /// All decisions in order: the sender's egress, the receiver's ingress.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The flow that was asked about.
    #[must_use]
    pub const fn flow(&self) -> &Flow {
        &self.flow
    }
}

impl Decision {
    pub(super) fn start(endpoint: &Key, ingress: bool) -> Self {
        Self {
            direction: if ingress { "ingress" } else { "egress" },
            endpoint: endpoint.to_string(),
            ..Self::without_policy("")
        }
    }

    /// Allowed, whatever policies say.
    pub(super) fn without_policy(why: &str) -> Self {
        Self {
            verdict: Verdict::Allow,
            direction: "",
            endpoint: String::new(),
            tier: None,
            policy: None,
            rule: None,
            why: why.into(),
            skipped: Vec::new(),
        }
    }
}

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let open = Decision::without_policy("neither side is an endpoint under policy");
        let deciding = self.deciding().unwrap_or(&open);
        let mut out = serializer.serialize_struct("Trace", 7)?;
        out.serialize_field("verdict", &deciding.verdict)?;
        out.serialize_field("tier", &deciding.tier)?;
        out.serialize_field("policy", &deciding.policy)?;
        out.serialize_field("rule", &deciding.rule)?;
        out.serialize_field("why", &deciding.why)?;
        out.serialize_field("skipped", &deciding.skipped)?;
        out.serialize_field("decisions", &self.decisions)?;
        out.end()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flow {
            source,
            destination,
            protocol,
            destination_port,
            ..
        } = &self.flow;
        let verdict = self.verdict();
        write!(f, "{verdict}: {protocol} {source} -> {destination}")?;
        if protocol.has_ports() {
            write!(f, " port {destination_port}")?;
        }
        for decision in &self.decisions {
            write!(f, "\n{decision}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for skipped in &self.skipped {
            writeln!(f, "  {skipped}")?;
        }
        write!(f, "  {}", self.verdict)?;
        if !self.endpoint.is_empty() {
            write!(f, " by {} of {}", self.direction, self.endpoint)?;
        }
        if let Some(policy) = &self.policy {
            write!(f, ", {policy}")?;
        }
        if let Some(rule) = self.rule {
            write!(f, " rule {rule}")?;
        }
        if let Some(tier) = &self.tier {
            write!(f, " in tier {tier}")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            policy,
            rule,
            field,
            why,
            ..
        } = self;
        write!(f, "not {policy} rule {rule}: {field}: {why}")
    }
}
