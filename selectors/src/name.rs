//! The two kinds of text in a selector: a label's key and a value in quotes.

use alloc::string::String;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;

/// The longest label key that a selector can name, in bytes.
pub const MAX_LABEL: usize = 512;

/// The key of a label as it can stand in a selector: 1 to 512 characters of `A-Z a-z 0-9 _ . / -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

/// A text that cannot be a label's key in a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a label's key: 1 to 512 characters of A-Z a-z 0-9 _ . / -")]
pub struct LabelError(pub String);

/// A text that a label's value is compared with. It may be empty and may hold any character, but not both kinds of
/// quotes: the language has no escapes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Arc<str>);

/// A text with both kinds of quotes, which no selector can spell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} has both kinds of quotes: a selector cannot spell it")]
pub struct ValueError(pub String);

/// Whether `byte` can be part of a label's key.
pub(crate) const fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}

impl Label {
    /// Checks that `text` can be a label's key.
    ///
    /// # Errors
    /// [`LabelError`] when it is empty, longer than 512 bytes, or has another character.
    pub fn new(text: &str) -> Result<Self, LabelError> {
        if text.is_empty() || text.len() > MAX_LABEL || !text.bytes().all(is_label_byte) {
            return Err(LabelError(text.into()));
        }
        Ok(Self(text.into()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value {
    /// Checks that a selector can spell `text`.
    ///
    /// # Errors
    /// [`ValueError`] when it has both `'` and `"`.
    pub fn new(text: &str) -> Result<Self, ValueError> {
        if text.contains('"') && text.contains('\'') {
            return Err(ValueError(text.into()));
        }
        Ok(Self(text.into()))
    }

    /// The value as text, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Value {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In quotes: double ones, unless the value has a double quote in it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
