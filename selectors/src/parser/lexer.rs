use core::ops::Range;

use crate::error::Fault;
use crate::name::is_label_byte;

/// A piece of a selector's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// Characters that a label's key is made of: a key, a function's name or a word of an operator.
    Word(&'t str),
    /// A text in quotes, without them.
    Quoted(&'t str),
    Open,
    Close,
    OpenBrace,
    CloseBrace,
    Comma,
    Equal,
    NotEqual,
    Not,
    And,
    Or,
    End,
}

impl Token<'_> {
    /// The token as an error message names it.
    pub(super) fn describe(&self) -> alloc::string::String {
        use alloc::format;
        match self {
            Self::Word(word) => format!("`{}`", cut(word)),
            Self::Quoted(text) => format!("the quoted {:?}", cut(text)),
            Self::Open => "`(`".into(),
            Self::Close => "`)`".into(),
            Self::OpenBrace => "`{`".into(),
            Self::CloseBrace => "`}`".into(),
            Self::Comma => "`,`".into(),
            Self::Equal => "`==`".into(),
            Self::NotEqual => "`!=`".into(),
            Self::Not => "`!`".into(),
            Self::And => "`&&`".into(),
            Self::Or => "`||`".into(),
            Self::End => "the end".into(),
        }
    }
}

/// The start of a text, so that a message stays a line.
fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(i, _)| i);
    text.get(..end).unwrap_or(text)
}

/// Cuts a text into tokens, one at a time.
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token and its place. Past the end it is [`Token::End`] again and again.
    pub(super) fn token(&mut self) -> Result<(Token<'t>, Range<usize>), (Fault, Range<usize>)> {
        let rest = self.rest().trim_start_matches([' ', '\t']);
        self.at = self.text.len() - rest.len();
        let Some(&first) = rest.as_bytes().first() else {
            return Ok((Token::End, self.at..self.at));
        };
        match first {
            b'(' => Ok(self.take(Token::Open, 1)),
            b')' => Ok(self.take(Token::Close, 1)),
            b'{' => Ok(self.take(Token::OpenBrace, 1)),
            b'}' => Ok(self.take(Token::CloseBrace, 1)),
            b',' => Ok(self.take(Token::Comma, 1)),
            b'!' if rest.starts_with("!=") => Ok(self.take(Token::NotEqual, 2)),
            b'!' => Ok(self.take(Token::Not, 1)),
            b'=' => self.double(Token::Equal, '=', "=="),
            b'&' => self.double(Token::And, '&', "&&"),
            b'|' => self.double(Token::Or, '|', "||"),
            b'"' => self.quoted('"'),
            b'\'' => self.quoted('\''),
            byte if is_label_byte(byte) => {
                let length = rest.bytes().take_while(|b| is_label_byte(*b)).count();
                let word = rest.get(..length).unwrap_or_default();
                Ok(self.take(Token::Word(word), length))
            }
            _ => {
                let found = rest.chars().next().unwrap_or_default();
                Err((
                    Fault::Character { found },
                    self.at..self.at + found.len_utf8(),
                ))
            }
        }
    }

    /// Whether the next byte, without any blank before it, opens a parenthesis.
    pub(super) fn touches_parenthesis(&self) -> bool {
        self.rest().starts_with('(')
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, token: Token<'t>, length: usize) -> (Token<'t>, Range<usize>) {
        let start = self.at;
        self.at += length;
        (token, start..self.at)
    }

    fn double(
        &mut self,
        token: Token<'t>,
        found: char,
        expected: &'static str,
    ) -> Result<(Token<'t>, Range<usize>), (Fault, Range<usize>)> {
        if self.rest().starts_with(expected) {
            return Ok(self.take(token, 2));
        }
        Err((
            Fault::HalfOperator { found, expected },
            self.at..self.at + 1,
        ))
    }

    fn quoted(&mut self, quote: char) -> Result<(Token<'t>, Range<usize>), (Fault, Range<usize>)> {
        let inside = self.rest().get(1..).unwrap_or_default();
        let Some((text, _)) = inside.split_once(quote) else {
            return Err((Fault::OpenQuote { quote }, self.at..self.at + 1));
        };
        Ok(self.take(Token::Quoted(text), text.len() + 2))
    }
}
