use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::ops::Range;

/// How many characters of a long text are shown on either side of the place of an error.
const SHOWN: usize = 30;

/// A text that is not a selector: what is wrong with it, and where.
///
/// `Display` is one line; [`render`](Self::render) shows the text with a mark under the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {}", span.start)]
pub struct ParseError {
    fault: Fault,
    span: Range<usize>,
    text: Box<str>,
}

/// What is wrong with a text that is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Something else should stand here.
    #[error("found {found}, expected {expected}")]
    Unexpected {
        /// What stands here, as a person would say it.
        found: String,
        /// What could stand here.
        expected: &'static str,
    },
    /// A character that no selector has outside of quotes.
    #[error("unknown character {found:?}")]
    Character {
        /// The character.
        found: char,
    },
    /// Half of an operator of two characters.
    #[error("found a single `{found}`, expected `{expected}`")]
    HalfOperator {
        /// The character.
        found: char,
        /// The operator.
        expected: &'static str,
    },
    /// A quote that is not closed by one of its own kind.
    #[error("this {quote} is never closed")]
    OpenQuote {
        /// The quote.
        quote: char,
    },
    /// A parenthesis that is not closed.
    #[error("this ( is never closed")]
    OpenParenthesis,
    /// A closing parenthesis without an opening one.
    #[error("this ) closes nothing")]
    StrayParenthesis,
    /// A label's key of more than 512 bytes.
    #[error("a label's key has {length} bytes, at most {limit} are allowed")]
    LongLabel {
        /// Its length in bytes.
        length: usize,
        /// The longest that is allowed.
        limit: usize,
    },
    /// A text longer than [`MAX_LENGTH`](crate::MAX_LENGTH). It was not read.
    #[error("the selector has {length} bytes, at most {limit} are allowed")]
    LongText {
        /// Its length in bytes.
        length: usize,
        /// The longest that is allowed.
        limit: usize,
    },
    /// Parentheses nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    #[error("parentheses nest deeper than {limit}")]
    Deep {
        /// The deepest that is allowed.
        limit: usize,
    },
}

impl ParseError {
    pub(crate) fn new(fault: Fault, span: Range<usize>, text: &str) -> Self {
        let text = if matches!(fault, Fault::LongText { .. }) {
            "".into()
        } else {
            text.into()
        };
        Self { fault, span, text }
    }

    /// What is wrong.
    #[must_use]
    pub const fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Where, in bytes of the text. Empty at the end of the text when something is missing there.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The message in three lines: what is wrong, the text (a part of it when it is long), and a mark under the place.
    ///
    /// ```
    /// let error = "role == web".parse::<ocicat_selectors::Selector>().unwrap_err();
    /// assert_eq!(
    ///     error.render(),
    ///     "found `web`, expected a value in quotes\n  role == web\n          ^^^"
    /// );
    /// ```
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_to(&mut out);
        out
    }

    fn write_to(&self, out: &mut String) -> fmt::Result {
        use fmt::Write as _;
        write!(out, "{}", self.fault)?;
        if self.text.is_empty() {
            return Ok(());
        }
        let before = self.text.get(..self.span.start).unwrap_or_default();
        let inside = self.text.get(self.span.clone()).unwrap_or_default();
        let after = self.text.get(self.span.end..).unwrap_or_default();
        let skipped = before.chars().count().saturating_sub(SHOWN);
        let dots = if skipped > 0 { "..." } else { "" };
        out.push_str("\n  ");
        out.push_str(dots);
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        out.extend(before.chars().skip(skipped).map(shown));
        let width = inside.chars().count().min(2 * SHOWN);
        out.extend(inside.chars().take(width).map(shown));
        out.extend(after.chars().take(SHOWN).map(shown));
        if after.chars().nth(SHOWN).is_some() {
            out.push_str("...");
        }
        let indent = dots.len() + before.chars().count() - skipped;
        write!(
            out,
            "\n  {:indent$}{:^<width$}",
            "",
            "",
            width = width.max(1)
        )
    }
}
