use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::{Label, LabelError, Labels, Value};

/// The syntax tree of a [`Selector`](crate::Selector), for reading.
///
/// It is in normal form: no negation of a negation, no `And` directly in an `And`, no `Or` directly in an `Or`, at
/// least two operands in each. So equal trees mean equal canonical texts. [`Selector`](crate::Selector) has the
/// functions that build one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// `all()`: everything.
    All,
    /// `global()`: everything too. Only a policy's namespace selector gives it another meaning.
    Global,
    /// A test of one label.
    #[non_exhaustive]
    Test {
        /// The label's key.
        label: Label,
        /// What is asked of its value.
        test: Test,
    },
    /// `!`: what the operand does not match.
    #[non_exhaustive]
    Not {
        /// What is negated; never a negation.
        operand: Box<Self>,
    },
    /// `&&`: what all operands match.
    #[non_exhaustive]
    And {
        /// The operands; none of them is an `And`.
        operands: Vec<Self>,
    },
    /// `||`: what one of the operands matches.
    #[non_exhaustive]
    Or {
        /// The operands; none of them is an `Or`.
        operands: Vec<Self>,
    },
}

/// What is asked of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Test {
    /// `has(label)`: there is such a label, whatever its value.
    Present,
    /// `== "value"`: the label is there and equal.
    Equal(Value),
    /// `!= "value"`: the label is absent or not equal.
    NotEqual(Value),
    /// `in {"a", "b"}`: the label is there and one of these. In order, without repetition.
    In(Box<[Value]>),
    /// `not in {"a", "b"}`: the label is absent or none of these. In order, without repetition.
    NotIn(Box<[Value]>),
    /// `contains "part"`: the label is there and has the part in it.
    Contains(Value),
    /// `starts with "part"`: the label is there and begins so.
    StartsWith(Value),
    /// `ends with "part"`: the label is there and ends so.
    EndsWith(Value),
}

impl Expr {
    /// Whether the expression is true of `labels`.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        match self {
            Self::All | Self::Global => true,
            Self::Test { label, test } => test.matches(labels.get(label.as_str())),
            Self::Not { operand } => !operand.matches(labels),
            Self::And { operands } => operands.iter().all(|operand| operand.matches(labels)),
            Self::Or { operands } => operands.iter().any(|operand| operand.matches(labels)),
        }
    }

    /// Calls `visit` with the key of each test, in the order of the text; a key comes as often as it is written.
    pub fn visit_labels(&self, visit: &mut impl FnMut(&Label)) {
        match self {
            Self::All | Self::Global => {}
            Self::Test { label, .. } => visit(label),
            Self::Not { operand } => operand.visit_labels(visit),
            Self::And { operands } | Self::Or { operands } => {
                for operand in operands {
                    operand.visit_labels(visit);
                }
            }
        }
    }

    /// How deep parentheses nest in the canonical form.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::All | Self::Global | Self::Test { .. } => 0,
            Self::Not { operand } => operand.depth(),
            Self::And { operands } | Self::Or { operands } => {
                1 + operands.iter().map(Self::depth).max().unwrap_or(0)
            }
        }
    }

    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Not { operand } => *operand,
            other => Self::Not {
                operand: Box::new(other),
            },
        }
    }

    pub(crate) fn all_of(operands: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for operand in operands {
            match operand {
                Self::And { operands } => flat.extend(operands),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::All,
            1 => flat.swap_remove(0),
            _ => Self::And { operands: flat },
        }
    }

    /// `operands` is not empty.
    pub(crate) fn any_of(operands: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for operand in operands {
            match operand {
                Self::Or { operands } => flat.extend(operands),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::All.negated(),
            1 => flat.swap_remove(0),
            _ => Self::Or { operands: flat },
        }
    }

    pub(crate) fn renamed(
        &self,
        rename: &mut impl FnMut(&str) -> alloc::string::String,
    ) -> Result<Self, LabelError> {
        Ok(match self {
            Self::All => Self::All,
            Self::Global => Self::Global,
            Self::Test { label, test } => Self::Test {
                label: Label::new(&rename(label.as_str()))?,
                test: test.clone(),
            },
            Self::Not { operand } => Self::Not {
                operand: Box::new(operand.renamed(rename)?),
            },
            Self::And { operands } => Self::And {
                operands: renamed_each(operands, rename)?,
            },
            Self::Or { operands } => Self::Or {
                operands: renamed_each(operands, rename)?,
            },
        })
    }
}

fn renamed_each(
    operands: &[Expr],
    rename: &mut impl FnMut(&str) -> alloc::string::String,
) -> Result<Vec<Expr>, LabelError> {
    operands.iter().map(|o| o.renamed(rename)).collect()
}

impl Test {
    /// Whether the test holds for a label's value; `None` is an absent label.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::NotEqual(_) | Self::NotIn(_), None) => true,
            (_, None) => false,
            (Self::Present, Some(_)) => true,
            (Self::Equal(wanted), Some(value)) => value == wanted.as_str(),
            (Self::NotEqual(wanted), Some(value)) => value != wanted.as_str(),
            (Self::In(wanted), Some(value)) => is_one_of(wanted, value),
            (Self::NotIn(wanted), Some(value)) => !is_one_of(wanted, value),
            (Self::Contains(part), Some(value)) => value.contains(part.as_str()),
            (Self::StartsWith(part), Some(value)) => value.starts_with(part.as_str()),
            (Self::EndsWith(part), Some(value)) => value.ends_with(part.as_str()),
        }
    }

    pub(crate) fn one_of(values: impl IntoIterator<Item = Value>) -> Self {
        Self::In(sorted(values))
    }

    pub(crate) fn none_of(values: impl IntoIterator<Item = Value>) -> Self {
        Self::NotIn(sorted(values))
    }
}

fn is_one_of(sorted: &[Value], value: &str) -> bool {
    sorted.binary_search_by(|v| v.as_str().cmp(value)).is_ok()
}

fn sorted(values: impl IntoIterator<Item = Value>) -> Box<[Value]> {
    let mut values: Vec<Value> = values.into_iter().collect();
    values.sort_unstable();
    values.dedup();
    values.into_boxed_slice()
}

/// The canonical form: it parses to an equal tree.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Test { label, test } => test.write(label, f),
            Self::Not { operand } => write!(f, "!{operand}"),
            Self::And { operands } => write_joined(f, operands, " && "),
            Self::Or { operands } => write_joined(f, operands, " || "),
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, operands: &[Expr], operator: &str) -> fmt::Result {
    for (i, operand) in operands.iter().enumerate() {
        f.write_str(if i == 0 { "(" } else { operator })?;
        fmt::Display::fmt(operand, f)?;
    }
    f.write_str(")")
}

impl Test {
    fn write(&self, label: &Label, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => write!(f, "has({label})"),
            Self::Equal(value) => write!(f, "{label} == {value}"),
            Self::NotEqual(value) => write!(f, "{label} != {value}"),
            Self::Contains(part) => write!(f, "{label} contains {part}"),
            Self::StartsWith(part) => write!(f, "{label} starts with {part}"),
            Self::EndsWith(part) => write!(f, "{label} ends with {part}"),
            Self::In(values) => write_set(f, label, "in", values),
            Self::NotIn(values) => write_set(f, label, "not in", values),
        }
    }
}

fn write_set(
    f: &mut fmt::Formatter<'_>,
    label: &Label,
    operator: &str,
    values: &[Value],
) -> fmt::Result {
    write!(f, "{label} {operator} {{")?;
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        fmt::Display::fmt(value, f)?;
    }
    f.write_str("}")
}
