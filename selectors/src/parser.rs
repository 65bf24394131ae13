//! From text to tree. Nesting lives on a stack of our own, so no text can exhaust the thread's.

mod lexer;

use alloc::vec::Vec;
use core::ops::Range;

use crate::error::{Fault, ParseError};
use crate::expr::{Expr, Test};
use crate::name::{Label, MAX_LABEL, Value};
use lexer::{Lexer, Token};

/// The longest text that is read as a selector, in bytes: 64 KiB. Calico's API stops at 1024, but selectors that are
/// put together from several, or made from Kubernetes' lists of values, are longer.
pub const MAX_LENGTH: usize = 64 * 1024;

/// How deep parentheses may nest: 256. A tree of that depth is matched and printed within a few KiB of stack.
pub const MAX_DEPTH: usize = 256;

pub(crate) fn parse(text: &str) -> Result<Expr, ParseError> {
    check_length(text)?;
    let parser = Parser {
        lexer: Lexer::new(text),
        levels: Vec::new(),
    };
    let expr = parser
        .parse()
        .map_err(|(fault, span)| ParseError::new(fault, span, text))?;
    if expr.depth() > MAX_DEPTH {
        let fault = Fault::Deep { limit: MAX_DEPTH };
        return Err(ParseError::new(fault, 0..text.len(), text));
    }
    Ok(expr)
}

/// Refuses a text longer than [`MAX_LENGTH`] without reading it.
pub(crate) fn check_length(text: &str) -> Result<(), ParseError> {
    if text.len() <= MAX_LENGTH {
        return Ok(());
    }
    let fault = Fault::LongText {
        length: text.len(),
        limit: MAX_LENGTH,
    };
    Err(ParseError::new(fault, MAX_LENGTH..text.len(), text))
}

type Failure = (Fault, Range<usize>);

/// One level of parentheses while it is read.
#[derive(Default)]
struct Level {
    /// Finished operands of `||`.
    alternatives: Vec<Expr>,
    /// Operands of the `&&` that is being read.
    conjunction: Vec<Expr>,
    /// An odd number of `!` stands before the next operand.
    negated: bool,
    /// The place of the parenthesis; nothing at the top.
    opened: Range<usize>,
}

impl Level {
    fn operand(&mut self, operand: Expr) {
        let negated = core::mem::take(&mut self.negated);
        self.conjunction
            .push(if negated { operand.negated() } else { operand });
    }

    fn finish_conjunction(&mut self) {
        let operands = core::mem::take(&mut self.conjunction);
        self.alternatives.push(Expr::all_of(operands));
    }

    fn finish(mut self) -> Expr {
        self.finish_conjunction();
        Expr::any_of(self.alternatives)
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The levels around the one being read.
    levels: Vec<Level>,
}

const OPERAND: &str = "a label, has(), all(), ! or (";

impl<'t> Parser<'t> {
    fn parse(mut self) -> Result<Expr, Failure> {
        let mut level = Level::default();
        let mut next = self.lexer.token()?;
        if next.0 == Token::End {
            return Ok(Expr::All);
        }
        loop {
            // An operand has to come: `!`s and parentheses, then a test.
            match next {
                (Token::Not, _) => {
                    level.negated = !level.negated;
                    next = self.lexer.token()?;
                    continue;
                }
                (Token::Open, span) => {
                    level = self.descend(level, span)?;
                    next = self.lexer.token()?;
                    continue;
                }
                (Token::Word(word), span) => {
                    let operand = self.operand(word, span)?;
                    level.operand(operand);
                }
                (Token::Close, span) if self.levels.is_empty() => {
                    return Err((Fault::StrayParenthesis, span));
                }
                (Token::End, _) if !self.levels.is_empty() && level.is_fresh() => {
                    return Err((Fault::OpenParenthesis, level.opened));
                }
                (found, span) => return Err(unexpected(found, span, OPERAND)),
            }
            // An operand was read: parentheses close, then an operator or the end.
            loop {
                match self.lexer.token()? {
                    (Token::And, _) => break,
                    (Token::Or, _) => {
                        level.finish_conjunction();
                        break;
                    }
                    (Token::Close, span) => {
                        let Some(outer) = self.levels.pop() else {
                            return Err((Fault::StrayParenthesis, span));
                        };
                        let inner = core::mem::replace(&mut level, outer);
                        level.operand(inner.finish());
                    }
                    (Token::End, _) if self.levels.is_empty() => return Ok(level.finish()),
                    (Token::End, _) => return Err((Fault::OpenParenthesis, level.opened)),
                    (found, span) => return Err(unexpected(found, span, "&&, || or the end")),
                }
            }
            next = self.lexer.token()?;
        }
    }

    /// Begins a level at the parenthesis at `span`.
    fn descend(&mut self, outer: Level, span: Range<usize>) -> Result<Level, Failure> {
        if self.levels.len() >= MAX_DEPTH {
            return Err((Fault::Deep { limit: MAX_DEPTH }, span));
        }
        self.levels.push(outer);
        Ok(Level {
            opened: span,
            ..Level::default()
        })
    }

    /// What begins with a word: a function's call, or a label's test.
    fn operand(&mut self, word: &'t str, span: Range<usize>) -> Result<Expr, Failure> {
        if self.lexer.touches_parenthesis() {
            match word {
                "has" => return self.has(),
                "all" => return self.call(Expr::All),
                "global" => return self.call(Expr::Global),
                _ => {}
            }
        }
        let label = label(word, span)?;
        let test = self.test()?;
        Ok(Expr::Test { label, test })
    }

    fn call(&mut self, expr: Expr) -> Result<Expr, Failure> {
        self.lexer.token()?;
        self.expect(Token::Close, "`)`")?;
        Ok(expr)
    }

    fn has(&mut self) -> Result<Expr, Failure> {
        self.lexer.token()?;
        let label = match self.lexer.token()? {
            (Token::Word(word), span) => label(word, span)?,
            (found, span) => return Err(unexpected(found, span, "a label's key")),
        };
        self.expect(Token::Close, "`)`")?;
        Ok(Expr::Test {
            label,
            test: Test::Present,
        })
    }

    fn test(&mut self) -> Result<Test, Failure> {
        match self.lexer.token()? {
            (Token::Equal, _) => self.value().map(Test::Equal),
            (Token::NotEqual, _) => self.value().map(Test::NotEqual),
            (Token::Word("contains"), _) => self.value().map(Test::Contains),
            (Token::Word("startswith"), _) => self.value().map(Test::StartsWith),
            (Token::Word("endswith"), _) => self.value().map(Test::EndsWith),
            (Token::Word("in"), _) => self.values().map(Test::one_of),
            (Token::Word("notin"), _) => self.values().map(Test::none_of),
            (Token::Word("starts"), _) => {
                self.expect(Token::Word("with"), "`with`")?;
                self.value().map(Test::StartsWith)
            }
            (Token::Word("ends"), _) => {
                self.expect(Token::Word("with"), "`with`")?;
                self.value().map(Test::EndsWith)
            }
            (Token::Word("not"), _) => {
                self.expect(Token::Word("in"), "`in`")?;
                self.values().map(Test::none_of)
            }
            (found, span) => Err(unexpected(
                found,
                span,
                "==, !=, in, not in, contains, starts with or ends with",
            )),
        }
    }

    fn value(&mut self) -> Result<Value, Failure> {
        match self.lexer.token()? {
            (Token::Quoted(text), span) => value(text, span),
            (found, span) => Err(unexpected(found, span, "a value in quotes")),
        }
    }

    fn values(&mut self) -> Result<Vec<Value>, Failure> {
        self.expect(Token::OpenBrace, "`{`")?;
        let mut values = Vec::new();
        loop {
            match self.lexer.token()? {
                (Token::CloseBrace, _) => return Ok(values),
                (Token::Quoted(text), span) => values.push(value(text, span)?),
                (found, span) => return Err(unexpected(found, span, "a value in quotes or `}`")),
            }
            match self.lexer.token()? {
                (Token::CloseBrace, _) => return Ok(values),
                (Token::Comma, _) => {}
                (found, span) => return Err(unexpected(found, span, "`,` or `}`")),
            }
        }
    }

    fn expect(&mut self, wanted: Token<'_>, expected: &'static str) -> Result<(), Failure> {
        let (found, span) = self.lexer.token()?;
        if found == wanted {
            Ok(())
        } else {
            Err(unexpected(found, span, expected))
        }
    }
}

impl Level {
    /// Nothing was read on this level yet.
    fn is_fresh(&self) -> bool {
        self.alternatives.is_empty() && self.conjunction.is_empty()
    }
}

fn unexpected(found: Token<'_>, span: Range<usize>, expected: &'static str) -> Failure {
    let found = found.describe();
    (Fault::Unexpected { found, expected }, span)
}

fn label(word: &str, span: Range<usize>) -> Result<Label, Failure> {
    Label::new(word).map_err(|_| {
        let fault = Fault::LongLabel {
            length: word.len(),
            limit: MAX_LABEL,
        };
        (fault, span)
    })
}

fn value(text: &str, span: Range<usize>) -> Result<Value, Failure> {
    // A text in one kind of quotes cannot hold both kinds, so this does not fail.
    Value::new(text).map_err(|_| unexpected(Token::Quoted(text), span, "one kind of quotes"))
}
