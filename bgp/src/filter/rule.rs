use std::fmt;
use std::str::FromStr;

use crate::Prefix;
use crate::attributes::{Community, CommunityError, LargeCommunity};
use crate::number::AsNumber;

/// What becomes of a route that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Action {
    /// It passes, with the rule's operations applied; later rules and filters are not asked.
    Accept,
    /// It does not pass.
    Reject,
}

/// How a route's prefix is compared with a rule's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MatchOperator {
    /// The same prefix.
    Equal,
    /// Any other prefix.
    NotEqual,
    /// The prefix or one inside it.
    In,
    /// A prefix that is not inside it.
    NotIn,
}

/// Bounds of a route's prefix length in bits, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct PrefixLength {
    /// The least; that of the rule's prefix when there is none, or when it is less than that.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub min: Option<u8>,
    /// The most; 32 for IPv4 and 128 for IPv6 when there is none.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub max: Option<u8>,
}

/// Where routes are from that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum RuleSource {
    /// They were learned from a BGP peer; not the speaker's own.
    RemotePeers,
}

/// The kind of peers that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PeerType {
    /// Peers in other ASes.
    #[cfg_attr(feature = "serde", serde(rename = "eBGP"))]
    External,
    /// Peers in the same AS.
    #[cfg_attr(feature = "serde", serde(rename = "iBGP"))]
    Internal,
}

/// A community of either kind: `64512:100` (RFC 1997) or `64512:1:2` (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommunityValue {
    /// Two numbers of 16 bits.
    Standard(Community),
    /// Three numbers of 32 bits.
    Large(LargeCommunity),
}

impl FromStr for CommunityValue {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        if text.matches(':').count() == 2 {
            text.parse().map(Self::Large)
        } else {
            text.parse().map(Self::Standard)
        }
    }
}

impl fmt::Display for CommunityValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(community) => community.fmt(f),
            Self::Large(community) => community.fmt(f),
        }
    }
}

/// Communities that a route must carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct CommunityMatch {
    /// Exactly one, as Calico has it.
    pub values: Vec<CommunityValue>,
}

/// A change to a route that passes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum Operation {
    /// Adds a community.
    AddCommunity {
        /// Which one.
        value: CommunityValue,
    },
    /// Puts AS numbers in front of the path.
    #[cfg_attr(feature = "serde", serde(rename = "prependASPath"))]
    PrependAsPath {
        /// Which ones, in the order in which the path then begins.
        prefix: Vec<AsNumber>,
    },
    /// Sets the priority, which goes between nodes as LOCAL_PREF 2147483647 - priority.
    SetPriority {
        /// The priority, 1..=2147483646; the lower one is preferred.
        value: u32,
    },
}

/// One rule: what a route must be like, and what becomes of it. Conditions that are not set match every route.
///
/// The fields are those of Calico's BGPFilter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Rule {
    /// The prefix to compare with, by `match_operator`.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub cidr: Option<Prefix>,
    /// Bounds of the prefix length; part of the comparison with `cidr`, and negated with it.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub prefix_length: Option<PrefixLength>,
    /// How to compare with `cidr`.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub match_operator: Option<MatchOperator>,
    /// Where the route is from; in import rules it goes without saying.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub source: Option<RuleSource>,
    /// The interface that the route leads out of; `*` stands for any characters, `?` for one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub interface: Option<String>,
    /// The kind of the peer that the route is imported from or exported to.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub peer_type: Option<PeerType>,
    /// Communities that the route carries.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub communities: Option<CommunityMatch>,
    /// What the route's AS path begins with.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "asPathPrefix",
            default,
            skip_serializing_if = "Vec::is_empty"
        )
    )]
    pub as_path_prefix: Vec<AsNumber>,
    /// The route's priority, which is 2147483647 - LOCAL_PREF; a route without LOCAL_PREF has Calico's normal one,
    /// [`Rule::NORMAL_PRIORITY`].
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub priority: Option<u32>,
    /// What becomes of the route.
    pub action: Action,
    /// Changes to a route that is accepted, in order; at most ten.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Vec::is_empty")
    )]
    pub operations: Vec<Operation>,
}

impl Rule {
    /// The priority of a route that says nothing of it.
    pub const NORMAL_PRIORITY: u32 = 1024;
    /// LOCAL_PREF and priority add up to this.
    pub(super) const PRIORITY_SUM: u32 = 2_147_483_647;

    /// A rule that matches every route.
    #[must_use]
    pub const fn new(action: Action) -> Self {
        Self {
            cidr: None,
            prefix_length: None,
            match_operator: None,
            source: None,
            interface: None,
            peer_type: None,
            communities: None,
            as_path_prefix: Vec::new(),
            priority: None,
            action,
            operations: Vec::new(),
        }
    }

    /// Restricts the rule to routes whose prefix compares so with `cidr`.
    #[must_use]
    pub const fn matching(mut self, operator: MatchOperator, cidr: Prefix) -> Self {
        self.match_operator = Some(operator);
        self.cidr = Some(cidr);
        self
    }

    /// Adds a change to what is accepted.
    #[must_use]
    pub fn then(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Whether the rule can be followed in a list of this family.
    pub(super) fn check(&self, ipv4: bool, import: bool) -> Result<(), RuleFault> {
        let most = if ipv4 { 32 } else { 128 };
        match (self.cidr, self.match_operator) {
            (Some(_), None) => return Err(RuleFault::Missing("matchOperator")),
            (None, Some(_)) => return Err(RuleFault::Missing("cidr")),
            (Some(cidr), _) if cidr.is_ipv4() != ipv4 => return Err(RuleFault::Family(cidr)),
            _ => {}
        }
        if let Some(bounds) = self.prefix_length {
            if self.cidr.is_none() {
                return Err(RuleFault::Missing("cidr"));
            }
            for bound in [bounds.min, bounds.max].into_iter().flatten() {
                if bound > most {
                    return Err(RuleFault::Length { bound, most });
                }
            }
        }
        if import && self.source.is_some() {
            return Err(RuleFault::SourceOnImport);
        }
        if self.interface.as_deref() == Some("") {
            return Err(RuleFault::Missing("interface"));
        }
        if let Some(communities) = &self.communities {
            if communities.values.len() != 1 {
                return Err(RuleFault::Communities(communities.values.len()));
            }
        }
        let set = self.operations.iter().filter_map(|operation| {
            let Operation::SetPriority { value } = operation else {
                return None;
            };
            Some(*value)
        });
        if let Some(bad) = self
            .priority
            .into_iter()
            .chain(set)
            .find(|priority| !(1..Self::PRIORITY_SUM).contains(priority))
        {
            return Err(RuleFault::Priority(bad));
        }
        match self.operations.len() {
            0 => Ok(()),
            1..=10 if self.action == Action::Accept => Ok(()),
            1..=10 => Err(RuleFault::OperationsOnReject),
            count => Err(RuleFault::Operations(count)),
        }
    }
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleFault {
    /// A field is empty that another one needs.
    #[error("{0} is missing: cidr and matchOperator go together, prefixLength needs both")]
    Missing(&'static str),
    /// The prefix is of the other family than the list.
    #[error("cidr {0} is of the other address family")]
    Family(Prefix),
    /// A bound of the prefix length is longer than an address.
    #[error("prefixLength: {bound} is more than {most}")]
    Length {
        /// The bound.
        bound: u8,
        /// The longest in this family.
        most: u8,
    },
    /// An import rule has a source.
    #[error("source: every imported route is from a peer; leave it out")]
    SourceOnImport,
    /// There is not exactly one community.
    #[error("communities: {0} values, there must be one")]
    Communities(usize),
    /// A priority is out of range.
    #[error("priority {0} is not in 1..=2147483646")]
    Priority(u32),
    /// A rule that rejects has operations.
    #[error("operations: only a rule with action Accept can have them")]
    OperationsOnReject,
    /// There are too many operations.
    #[error("operations: {0}, at most 10")]
    Operations(usize),
}
