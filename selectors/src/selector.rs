use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

use crate::expr::{Expr, Test};
use crate::{Label, LabelError, Labels, ParseError, Restrictions, Value};

/// A label selector: parsed, normalised, cheap to clone (one reference count).
///
/// Two selectors are equal when their canonical texts are; that is also their order.
#[derive(Clone)]
pub struct Selector(Arc<Inner>);

struct Inner {
    expr: Expr,
    canonical: Box<str>,
}

impl Selector {
    /// `all()`: matches everything.
    #[must_use]
    pub fn all() -> Self {
        Self::from_expr(Expr::All)
    }

    /// `has(label)`: matches what has the label, whatever its value.
    #[must_use]
    pub fn has(label: Label) -> Self {
        let test = Test::Present;
        Self::from_expr(Expr::Test { label, test })
    }

    /// `label == "value"`.
    #[must_use]
    pub fn equal(label: Label, value: Value) -> Self {
        let test = Test::Equal(value);
        Self::from_expr(Expr::Test { label, test })
    }

    /// `label in {..}`; with no values it matches nothing.
    #[must_use]
    pub fn one_of(label: Label, values: impl IntoIterator<Item = Value>) -> Self {
        let test = Test::one_of(values);
        Self::from_expr(Expr::Test { label, test })
    }

    /// `label not in {..}`; it matches what does not have the label.
    #[must_use]
    pub fn none_of(label: Label, values: impl IntoIterator<Item = Value>) -> Self {
        let test = Test::none_of(values);
        Self::from_expr(Expr::Test { label, test })
    }

    /// Whether something with these labels is selected.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        self.0.expr.matches(labels)
    }

    /// What both select. `all()` on either side leaves the other as it is.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.0.expr == Expr::All {
            return self;
        }
        if self.0.expr == Expr::All {
            return other;
        }
        Self::from_expr(Expr::all_of([self.0.expr.clone(), other.0.expr.clone()]))
    }

    /// What one of them selects.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::from_expr(Expr::any_of([self.0.expr.clone(), other.0.expr.clone()]))
    }

    /// The syntax tree.
    #[must_use]
    pub fn expr(&self) -> &Expr {
        &self.0.expr
    }

    /// The canonical text, the same as `Display` writes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.canonical
    }

    /// Whether this is `all()`.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.expr == Expr::All
    }

    /// The selector with each label's key replaced by what `rename` answers. Values stay, whatever they spell.
    ///
    /// # Errors
    /// [`LabelError`] when an answer is not a label's key.
    ///
    /// ```
    /// let selector: ocicat_selectors::Selector = "stage == 'pcns.' && !has(old)".parse()?;
    /// let renamed = selector.rename_labels(|label| format!("pcns.{label}"))?;
    /// assert_eq!(renamed.to_string(), r#"(pcns.stage == "pcns." && !has(pcns.old))"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rename_labels(
        &self,
        mut rename: impl FnMut(&str) -> String,
    ) -> Result<Self, LabelError> {
        self.0.expr.renamed(&mut rename).map(Self::from_expr)
    }

    /// What labels something must have, or must not have, so that the selector can match it: necessary, not
    /// sufficient.
    #[must_use]
    pub fn restrictions(&self) -> Restrictions {
        Restrictions::of(&self.0.expr)
    }

    /// The selector's identity as Calico makes it: `s:` and the base64url of SHA-224 over `s:` and the canonical text.
    /// 40 characters of `[A-Za-z0-9:_-]`.
    #[cfg(feature = "uid")]
    #[must_use]
    pub fn unique_id(&self) -> String {
        crate::uid::unique_id(self.as_str())
    }

    pub(crate) fn from_expr(expr: Expr) -> Self {
        let canonical = expr.to_string().into_boxed_str();
        Self(Arc::new(Inner { expr, canonical }))
    }
}

impl core::ops::Not for Selector {
    type Output = Self;

    fn not(self) -> Self {
        Self::from_expr(self.0.expr.clone().negated())
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self::all()
    }
}

/// Blank text is `all()`. White space is blanks and tabs only.
///
/// The limits ([`MAX_LENGTH`](crate::MAX_LENGTH), [`MAX_DEPTH`](crate::MAX_DEPTH)) hold for the text and for its
/// canonical form, so that what was parsed once can be written down and parsed again.
impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let selector = Self::from_expr(crate::parser::parse(text)?);
        crate::parser::check_length(&selector.0.canonical)?;
        Ok(selector)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.canonical)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.0.canonical)
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.canonical == other.0.canonical
    }
}

impl Eq for Selector {}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.canonical.cmp(&other.0.canonical)
    }
}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.canonical.hash(state);
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = alloc::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
