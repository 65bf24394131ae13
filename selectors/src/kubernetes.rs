//! Kubernetes' `LabelSelector`, there and back.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::expr::{Expr, Test};
use crate::{Label, LabelError, Selector, Value, ValueError};

/// Kubernetes' `LabelSelector` (`meta/v1`): what `matchLabels` and `matchExpressions` all match. Empty, it matches
/// everything; that an *absent* selector can mean nothing or everything is the business of the field it stands in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct LabelSelector {
    /// Labels that must be there with this value.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "BTreeMap::is_empty")
    )]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Vec::is_empty")
    )]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a [`LabelSelector`] on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is required.
    pub operator: Operator,
    /// The values for [`Operator::In`] and [`Operator::NotIn`]: at least one. Empty for the others.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Vec::is_empty")
    )]
    pub values: Vec<String>,
}

/// The operators of a [`Requirement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// Why a [`LabelSelector`] is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelSelectorError {
    /// A key that no label can have.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// A value that no selector can spell; no label can have it either.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A word that is no operator.
    #[error("{operator:?} for {key:?} is not one of In, NotIn, Exists, DoesNotExist")]
    Operator {
        /// The label's key.
        key: String,
        /// The word.
        operator: String,
    },
    /// `In` or `NotIn` without values.
    #[error("{operator:?} for {key:?} needs at least one value")]
    NoValues {
        /// The label's key.
        key: String,
        /// The operator.
        operator: Operator,
    },
    /// `Exists` or `DoesNotExist` with values.
    #[error("{operator:?} for {key:?} takes no values")]
    Values {
        /// The label's key.
        key: String,
        /// The operator.
        operator: Operator,
    },
}

/// A part of a selector that a [`LabelSelector`] has no words for: `||`, a substring, a negation of several tests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Kubernetes label selector cannot say {part}")]
pub struct Inexpressible {
    /// The part, in canonical form.
    pub part: String,
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = LabelSelectorError;

    fn try_from(selector: &LabelSelector) -> Result<Self, LabelSelectorError> {
        let mut operands = Vec::new();
        for (key, value) in &selector.match_labels {
            operands.push(Expr::Test {
                label: Label::new(key)?,
                test: Test::Equal(Value::new(value)?),
            });
        }
        let mut requirements: Vec<_> = selector.match_expressions.iter().collect();
        requirements.sort_unstable();
        for requirement in requirements {
            operands.push(requirement.to_expr()?);
        }
        Ok(Self::from_expr(Expr::all_of(operands)))
    }
}

impl Requirement {
    fn to_expr(&self) -> Result<Expr, LabelSelectorError> {
        let (key, operator) = (self.key.clone(), self.operator);
        let takes_values = matches!(operator, Operator::In | Operator::NotIn);
        if takes_values && self.values.is_empty() {
            return Err(LabelSelectorError::NoValues { key, operator });
        }
        if !takes_values && !self.values.is_empty() {
            return Err(LabelSelectorError::Values { key, operator });
        }
        let label = Label::new(&key)?;
        let values: Result<Vec<_>, _> = self.values.iter().map(|v| Value::new(v)).collect();
        let test = match operator {
            Operator::In => Test::one_of(values?),
            Operator::NotIn => Test::none_of(values?),
            Operator::Exists | Operator::DoesNotExist => Test::Present,
        };
        let expr = Expr::Test { label, test };
        Ok(if operator == Operator::DoesNotExist {
            expr.negated()
        } else {
            expr
        })
    }
}

impl TryFrom<&Selector> for LabelSelector {
    type Error = Inexpressible;

    fn try_from(selector: &Selector) -> Result<Self, Inexpressible> {
        let mut out = Self::default();
        let operands = match selector.expr() {
            Expr::And { operands } => operands.as_slice(),
            one => core::slice::from_ref(one),
        };
        for operand in operands {
            out.add(operand)?;
        }
        Ok(out)
    }
}

impl LabelSelector {
    fn add(&mut self, operand: &Expr) -> Result<(), Inexpressible> {
        let refused = || Inexpressible {
            part: operand.to_string(),
        };
        let (test, negated) = match operand {
            Expr::All | Expr::Global => return Ok(()),
            Expr::Test { .. } => (operand, false),
            Expr::Not { operand } => (&**operand, true),
            Expr::And { .. } | Expr::Or { .. } => return Err(refused()),
        };
        let Expr::Test { label, test } = test else {
            return Err(refused());
        };
        let text = |v: &Value| String::from(v.as_str());
        let (operator, values) = match (test, negated) {
            (Test::Present, false) => (Operator::Exists, Vec::new()),
            (Test::Present, true) => (Operator::DoesNotExist, Vec::new()),
            (Test::Equal(v), false) | (Test::NotEqual(v), true) => (Operator::In, [text(v)].into()),
            (Test::Equal(v), true) | (Test::NotEqual(v), false) => {
                (Operator::NotIn, [text(v)].into())
            }
            (Test::In(v), false) | (Test::NotIn(v), true) => {
                (Operator::In, v.iter().map(text).collect())
            }
            (Test::In(v), true) | (Test::NotIn(v), false) => {
                (Operator::NotIn, v.iter().map(text).collect())
            }
            _ => return Err(refused()),
        };
        self.require(label, operator, values).ok_or_else(refused)
    }

    /// `None` for `in {}`, which Kubernetes refuses; `not in {}` is true of everything and left out.
    fn require(&mut self, label: &Label, operator: Operator, values: Vec<String>) -> Option<()> {
        let key = String::from(label.as_str());
        match (operator, values.as_slice()) {
            (Operator::In, []) => return None,
            (Operator::NotIn, []) => return Some(()),
            (Operator::In, [value]) if !self.match_labels.contains_key(&key) => {
                self.match_labels.insert(key, value.clone());
            }
            _ => self.match_expressions.push(Requirement {
                key,
                operator,
                values,
            }),
        }
        Some(())
    }
}
