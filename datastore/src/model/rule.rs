//! A rule of a policy or profile.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::value::{IntOrString, lenient};

/// A rule: what it matches, and what happens then. Everything that is stated must match.
///
/// Values are kept as they were written, so that one bad value does not hide the others: parse them with
/// [`IntOrString::port`], [`IntOrString::protocol`] and the like, and decide what a bad one means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// `Allow`, `Deny`, `Log` or `Pass`.
    pub action: String,
    /// 4 or 6; both when absent.
    #[serde(rename = "ipVersion", skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<IntOrString>,
    /// `TCP`, `UDP`, `ICMP`, `ICMPv6`, `SCTP`, `UDPLite` or 1..=255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<IntOrString>,
    /// Any protocol but this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<IntOrString>,
    /// ICMP type and code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpFields>,
    /// Any ICMP type and code but these.
    #[serde(rename = "notICMP", skip_serializing_if = "Option::is_none")]
    pub not_icmp: Option<IcmpFields>,
    /// Where traffic comes from.
    #[serde(skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    /// Where traffic goes.
    #[serde(skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
    /// HTTP methods and paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpMatch>,
    /// Notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RuleMetadata>,
    /// What is wrong where the rule could not be read; only `action` is then kept, if it could be.
    #[serde(skip_serializing_if = "Option::is_none", skip)]
    pub malformed: Option<Malformed>,
}

/// One side of traffic. Everything that is stated must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EntityRule {
    /// In any of these ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
    /// In none of these ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_nets: Vec<String>,
    /// An endpoint or network set with such labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// No endpoint or network set with such labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_selector: Option<String>,
    /// In a namespace with such labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// On any of these ports: a number, `a:b` or a name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<IntOrString>,
    /// On none of these ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_ports: Vec<IntOrString>,
    /// A pod of such a service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountMatch>,
    /// A backend of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceMatch>,
}

/// ICMP type and code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IcmpFields {
    /// 0..=254.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub r#type: Option<i64>,
    /// 0..=255; needs `type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
}

/// Service accounts; both fields must match when both are stated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccountMatch {
    /// One of these names; any when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// With such labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceMatch {
    /// Its name.
    pub name: String,
    /// Its namespace; the policy's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// HTTP methods and paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// One of these methods; any when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// One of these paths; any when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<HttpPath>,
}

/// A path; one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpPath {
    /// Exactly this path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// A path that begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// Notes on a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RuleMetadata {
    /// Key and value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Why a rule could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Malformed {
    /// The field inside the rule, such as `source.ports`; empty for the rule itself.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl EntityRule {
    /// Whether nothing is stated: everything matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    lenient(deserializer, |malformed, action| Rule {
        action,
        malformed: Some(malformed),
        ..Rule::default()
    })
}
