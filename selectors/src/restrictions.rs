use alloc::collections::{BTreeMap, BTreeSet};

use crate::expr::{Expr, Test};
use crate::{Label, Value};

/// What something's labels must be like so that a selector can match it: a necessary condition, not a sufficient one.
///
/// An index files a selector under one of these and then need not ask it about anything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    labels: BTreeMap<Label, Restriction>,
    unsatisfiable: bool,
}

/// What a selector demands of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restriction {
    /// The label must be there.
    Present,
    /// The label must not be there.
    Absent,
    /// The label must be there with one of these values. With no values, nothing can match.
    OneOf(BTreeSet<Value>),
}

impl Restrictions {
    pub(crate) fn of(expr: &Expr) -> Self {
        walk(expr, false)
    }

    /// What is demanded of `label`; `None` when nothing is.
    #[must_use]
    pub fn get(&self, label: &str) -> Option<&Restriction> {
        self.labels.get(label)
    }

    /// The demands, by label.
    pub fn iter(&self) -> impl Iterator<Item = (&Label, &Restriction)> {
        self.labels.iter()
    }

    /// Whether no label is restricted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Whether the demands contradict each other, so that the selector matches nothing at all.
    #[must_use]
    pub const fn is_unsatisfiable(&self) -> bool {
        self.unsatisfiable
    }

    const fn none() -> Self {
        Self {
            labels: BTreeMap::new(),
            unsatisfiable: false,
        }
    }

    const fn never() -> Self {
        Self {
            labels: BTreeMap::new(),
            unsatisfiable: true,
        }
    }

    fn one(label: &Label, restriction: Restriction) -> Self {
        let unsatisfiable = restriction.is_unsatisfiable();
        Self {
            labels: [(label.clone(), restriction)].into(),
            unsatisfiable,
        }
    }

    /// Both hold.
    fn and(mut self, other: Self) -> Self {
        self.unsatisfiable |= other.unsatisfiable;
        for (label, right) in other.labels {
            let both = match self.labels.remove(&label) {
                Some(left) => left.and(right),
                None => right,
            };
            self.unsatisfiable |= both.is_unsatisfiable();
            self.labels.insert(label, both);
        }
        self
    }

    /// One of them holds.
    fn or(mut self, mut other: Self) -> Self {
        if self.unsatisfiable {
            return other;
        }
        if other.unsatisfiable {
            return self;
        }
        let labels = core::mem::take(&mut self.labels);
        self.labels = labels
            .into_iter()
            .filter_map(|(label, left)| {
                let right = other.labels.remove(&label)?;
                left.or(right).map(|either| (label, either))
            })
            .collect();
        self
    }
}

impl Restriction {
    fn is_unsatisfiable(&self) -> bool {
        matches!(self, Self::OneOf(values) if values.is_empty())
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Absent, Self::Absent) => Self::Absent,
            (Self::Absent, _) | (_, Self::Absent) => Self::OneOf(BTreeSet::new()),
            (Self::Present, other) | (other, Self::Present) => other,
            (Self::OneOf(mut left), Self::OneOf(right)) => {
                left.retain(|value| right.contains(value));
                Self::OneOf(left)
            }
        }
    }

    /// `None` when nothing is demanded any more.
    fn or(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Absent, Self::Absent) => Some(Self::Absent),
            (Self::Absent, _) | (_, Self::Absent) => None,
            (Self::Present, _) | (_, Self::Present) => Some(Self::Present),
            (Self::OneOf(mut left), Self::OneOf(mut right)) => {
                left.append(&mut right);
                Some(Self::OneOf(left))
            }
        }
    }
}

/// The restrictions of an expression, or of its negation: negations are pushed inwards.
fn walk(expr: &Expr, negated: bool) -> Restrictions {
    match (expr, negated) {
        (Expr::All | Expr::Global, false) => Restrictions::none(),
        (Expr::All | Expr::Global, true) => Restrictions::never(),
        (Expr::Test { label, test }, _) => of_test(label, test, negated),
        (Expr::Not { operand }, _) => walk(operand, !negated),
        (Expr::And { operands }, false) | (Expr::Or { operands }, true) => operands
            .iter()
            .map(|operand| walk(operand, negated))
            .fold(Restrictions::none(), Restrictions::and),
        (Expr::Or { operands }, false) | (Expr::And { operands }, true) => operands
            .iter()
            .map(|operand| walk(operand, negated))
            .fold(Restrictions::never(), Restrictions::or),
    }
}

fn of_test(label: &Label, test: &Test, negated: bool) -> Restrictions {
    let restriction = match (test, negated) {
        (Test::Equal(value), false) | (Test::NotEqual(value), true) => {
            Restriction::OneOf([value.clone()].into())
        }
        (Test::In(values), false) | (Test::NotIn(values), true) => {
            Restriction::OneOf(values.iter().cloned().collect())
        }
        (Test::Present | Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_), false) => {
            Restriction::Present
        }
        (Test::Present, true) => Restriction::Absent,
        // A label that is absent, or has another value, satisfies these.
        (
            Test::Equal(_)
            | Test::In(_)
            | Test::Contains(_)
            | Test::StartsWith(_)
            | Test::EndsWith(_),
            true,
        )
        | (Test::NotEqual(_) | Test::NotIn(_), false) => return Restrictions::none(),
    };
    Restrictions::one(label, restriction)
}
