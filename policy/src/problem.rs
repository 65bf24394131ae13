use std::fmt;

use ocicat_datastore::Key;
use ocicat_datastore::model::{Malformed, ValueError};
use ocicat_selectors::kubernetes::LabelSelectorError;
use ocicat_selectors::{LabelError, ParseError};

/// Something in an object that cannot be done as it is written, and what is done instead. The other objects are not
/// affected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub key: Key,
    /// The field inside its `spec`, such as `ingress[2].source.selector`.
    pub field: String,
    /// What is wrong with it.
    pub reason: Reason,
    /// What is done instead.
    pub effect: Effect,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            field,
            reason,
            effect,
        } = self;
        write!(f, "{key}: {field}: {reason}; {effect}")
    }
}

/// What is done with an object, or a part of one, that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// The version that was there before stays in force.
    KeptEarlier,
    /// The object is not in force.
    NotEnforced,
    /// The rule, which would have let something through, is left out.
    RuleLeftOut,
    /// The rule denies everything that it could have meant.
    RuleDenies,
    /// The value is left out.
    ValueLeftOut,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeptEarlier => "the earlier version stays in force",
            Self::NotEnforced => "it is not enforced",
            Self::RuleLeftOut => "the rule is left out",
            Self::RuleDenies => "the rule denies all that it could have meant",
            Self::ValueLeftOut => "the value is left out",
        })
    }
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A selector that does not parse.
    #[error(transparent)]
    Selector(#[from] ParseError),
    /// A Kubernetes selector that says nothing.
    #[error(transparent)]
    LabelSelector(#[from] LabelSelectorError),
    /// A label that becomes too long when it is told apart as a namespace's or service account's.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// A port or protocol that is none.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A rule that could not be read at all.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A range of addresses that is none.
    #[error("{0:?} is no address or range")]
    Net(String),
    /// A word that is none of those that can stand here.
    #[error("{found:?} is not one of {expected}")]
    Unknown {
        /// The word.
        found: String,
        /// The words that can stand here.
        expected: &'static str,
    },
    /// A number outside of its range.
    #[error("{found} is not between {first} and {last}")]
    Range {
        /// The number.
        found: i64,
        /// The lowest that is allowed.
        first: i64,
        /// The highest that is allowed.
        last: i64,
    },
    /// A tier that does not exist.
    #[error("there is no tier {0:?}")]
    NoTier(String),
    /// A field that needs another one.
    #[error("it needs {0}")]
    Needs(&'static str),
    /// A field that cannot stand beside another one.
    #[error("it excludes {0}")]
    Excludes(&'static str),
    /// A feature that is not there yet.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
    /// A name that no network interface can have.
    #[error("{0:?} cannot name a network interface")]
    Link(String),
    /// The object could not be read at all.
    #[error("{0}")]
    Unreadable(String),
}
