use std::fmt;
use std::sync::Arc;

use super::{Filter, Rule, RuleFault};

/// Rules for both directions and families: the `spec` of a Calico BGPFilter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct RuleSet {
    /// For IPv4 routes to a peer, in order.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "exportV4", skip_serializing_if = "Vec::is_empty")
    )]
    pub export_v4: Vec<Rule>,
    /// For IPv4 routes from a peer, in order.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "importV4", skip_serializing_if = "Vec::is_empty")
    )]
    pub import_v4: Vec<Rule>,
    /// For IPv6 routes to a peer, in order.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "exportV6", skip_serializing_if = "Vec::is_empty")
    )]
    pub export_v6: Vec<Rule>,
    /// For IPv6 routes from a peer, in order.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "importV6", skip_serializing_if = "Vec::is_empty")
    )]
    pub import_v6: Vec<Rule>,
}

/// One of the lists of a [`RuleSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleList {
    /// `exportV4`
    ExportV4,
    /// `importV4`
    ImportV4,
    /// `exportV6`
    ExportV6,
    /// `importV6`
    ImportV6,
}

impl RuleList {
    const ALL: [Self; 4] = [
        Self::ExportV4,
        Self::ImportV4,
        Self::ExportV6,
        Self::ImportV6,
    ];

    const fn is_ipv4(self) -> bool {
        matches!(self, Self::ExportV4 | Self::ImportV4)
    }

    const fn is_import(self) -> bool {
        matches!(self, Self::ImportV4 | Self::ImportV6)
    }
}

impl fmt::Display for RuleList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExportV4 => "exportV4",
            Self::ImportV4 => "importV4",
            Self::ExportV6 => "exportV6",
            Self::ImportV6 => "importV6",
        })
    }
}

/// A rule that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{list}[{index}]: {fault}")]
pub struct RuleError {
    /// In which list.
    pub list: RuleList,
    /// Which rule of it, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub fault: RuleFault,
}

impl RuleSet {
    fn list(&self, list: RuleList) -> &[Rule] {
        match list {
            RuleList::ExportV4 => &self.export_v4,
            RuleList::ImportV4 => &self.import_v4,
            RuleList::ExportV6 => &self.export_v6,
            RuleList::ImportV6 => &self.import_v6,
        }
    }

    /// Looks for the first rule that cannot be followed.
    ///
    /// # Errors
    /// [`RuleError`] with list, place and field.
    pub fn check(&self) -> Result<(), RuleError> {
        for list in RuleList::ALL {
            for (index, rule) in self.list(list).iter().enumerate() {
                rule.check(list.is_ipv4(), list.is_import())
                    .map_err(|fault| RuleError { list, index, fault })?;
            }
        }
        Ok(())
    }
}

/// The rules of one direction as a [`Filter`]. The first rule that matches decides; a route that none matches is for
/// the filter behind ([`Rules::or_else`]), or passes.
#[derive(Clone, Default)]
pub struct Rules {
    pub(super) v4: Vec<Rule>,
    pub(super) v6: Vec<Rule>,
    pub(super) behind: Option<Arc<dyn Filter>>,
}

impl Rules {
    /// The import rules of several sets, the first set's first.
    ///
    /// # Errors
    /// The first rule that cannot be followed.
    pub fn import<'a>(sets: impl IntoIterator<Item = &'a RuleSet>) -> Result<Self, RuleError> {
        Self::of(sets, RuleList::ImportV4, RuleList::ImportV6)
    }

    /// The export rules of several sets, the first set's first.
    ///
    /// # Errors
    /// The first rule that cannot be followed.
    pub fn export<'a>(sets: impl IntoIterator<Item = &'a RuleSet>) -> Result<Self, RuleError> {
        Self::of(sets, RuleList::ExportV4, RuleList::ExportV6)
    }

    fn of<'a>(
        sets: impl IntoIterator<Item = &'a RuleSet>,
        v4: RuleList,
        v6: RuleList,
    ) -> Result<Self, RuleError> {
        let mut rules = Self::default();
        for set in sets {
            set.check()?;
            rules.v4.extend_from_slice(set.list(v4));
            rules.v6.extend_from_slice(set.list(v6));
        }
        Ok(rules)
    }

    /// Leaves routes that no rule matches to `filter`.
    #[must_use]
    pub fn or_else(mut self, filter: impl Into<Option<Arc<dyn Filter>>>) -> Self {
        self.behind = filter.into();
        self
    }

    /// Whether there is no rule; with nothing behind them such rules let everything pass.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("v4", &self.v4)
            .field("v6", &self.v6)
            .field("behind", &self.behind.is_some())
            .finish()
    }
}
