//! `-o jsonpath=TEMPLATE`: text with values in it, in kubectl's dialect.
//!
//! Of that dialect: text, `{.path}`, `{"text"}`, `{range .path}...{end}`, `$` and `@`, `[0]`, `[-1]`, `[1:3]`, `[*]`, `['a','b']`,
//! `..name`, `[?(@.a=="b")]`, and `\.` in names. A field that is not there is no text.

use std::iter::Peekable;
use std::str::{Chars, FromStr};

use jsonpath_rust::JsonPath;
use serde_json::Value;

use super::shape::plain;
use crate::failure::Failure;

/// A path in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// As the user wrote it.
    written: String,
    /// As RFC 9535 writes it.
    standard: String,
}

impl Path {
    /// The values that the path leads to.
    ///
    /// # Errors
    /// A path that means nothing.
    pub(super) fn of<'a>(&self, value: &'a Value) -> Result<Vec<&'a Value>, Failure> {
        let found = value.query(&self.standard);
        found.map_err(|error| Failure::Usage(format!("{}: {error}", self.written)))
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = text.trim();
        let inner = inner
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or(inner);
        let path = Self {
            written: text.to_owned(),
            standard: standard(inner)?,
        };
        match path.of(&Value::Null) {
            Ok(_) => Ok(path),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// kubectl's notation as RFC 9535's: the root may be left out, and names may hold dashes, slashes and escaped dots.
fn standard(text: &str) -> Result<String, String> {
    let mut path = String::from("$");
    let mut rest = text.trim_start_matches(['$', '@']).chars().peekable();
    while let Some(next) = rest.peek().copied() {
        match next {
            '[' => path.push_str(&bracket(&mut rest)?),
            '.' => {
                rest.next();
                if rest.next_if_eq(&'.').is_some() {
                    path.push_str("..");
                }
                if rest.next_if_eq(&'*').is_some() {
                    path.push_str("[*]");
                }
            }
            _ => {
                let name = name(&mut rest);
                if name.is_empty() {
                    return Err(format!("{text}: {next:?} is not understood"));
                }
                let quoted = name.replace('\\', "\\\\").replace('\'', "\\'");
                path.push_str(&format!("['{quoted}']"));
            }
        }
    }
    Ok(path)
}

fn name(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(next) = rest.next_if(|next| !matches!(next, '.' | '[' | ']' | ' ' | '(' | ')')) {
        if next == '\\' {
            name.extend(rest.next());
        } else {
            name.push(next);
        }
    }
    name
}

/// What is in brackets, to the one that closes them.
fn bracket(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let (mut text, mut depth, mut quote) = (String::new(), 0_u32, None);
    for next in rest.by_ref() {
        text.push(next);
        match (quote, next) {
            (Some(open), _) if open == next => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(next),
            (None, '[') => depth += 1,
            (None, ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(text);
        }
    }
    Err(format!("{text}: the bracket is not closed"))
}

/// A text with paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Path),
    /// The parts again for every value of the path.
    Range(Path, Vec<Self>),
}

impl Template {
    /// The text for a value.
    ///
    /// # Errors
    /// A path that means nothing.
    pub fn text(&self, value: &Value) -> Result<String, Failure> {
        let mut text = String::new();
        fill(&self.0, value, &mut text)?;
        Ok(text)
    }
}

fn fill(parts: &[Part], value: &Value, text: &mut String) -> Result<(), Failure> {
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Value(path) => {
                let found = path.of(value)?;
                let texts: Vec<String> = found.into_iter().map(plain).collect();
                text.push_str(&texts.join(" "));
            }
            Part::Range(path, inner) => {
                for one in path.of(value)? {
                    fill(inner, one, text)?;
                }
            }
        }
    }
    Ok(())
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("there is no template: jsonpath='{.metadata.name}'".into());
        }
        if !text.contains('{') {
            return Ok(Self(vec![Part::Value(text.parse()?)]));
        }
        // The parts of each range that is open, and its path; the outermost has none.
        let mut open: Vec<(Option<Path>, Vec<Part>)> = vec![(None, Vec::new())];
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, after) = rest.split_once('{').unwrap_or((rest, ""));
            let inside = rest.len() > literal.len();
            if !literal.is_empty() {
                push(&mut open, Part::Text(literal.to_owned()));
            }
            rest = after;
            if inside {
                let end = closing(rest).ok_or_else(|| format!("{{{rest}: it is not closed"))?;
                block(rest.get(..end).unwrap_or_default().trim(), &mut open)?;
                rest = rest.get(end + 1..).unwrap_or_default();
            }
        }
        match (open.pop(), open.is_empty()) {
            (Some((None, parts)), true) => Ok(Self(parts)),
            _ => Err("a {range} has no {end}".into()),
        }
    }
}

fn push(open: &mut [(Option<Path>, Vec<Part>)], part: Part) {
    if let Some((_, parts)) = open.last_mut() {
        parts.push(part);
    }
}

/// Where a block ends: the first closing brace that is not in quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    text.char_indices().find_map(|(index, next)| {
        match (quote, next) {
            (Some(open), _) if open == next => quote = None,
            (None, '\'' | '"') => quote = Some(next),
            (None, '}') => return Some(index),
            _ => {}
        }
        None
    })
}

fn block(text: &str, open: &mut Vec<(Option<Path>, Vec<Part>)>) -> Result<(), String> {
    if text == "end" {
        return match open.pop() {
            Some((Some(path), parts)) => {
                push(open, Part::Range(path, parts));
                Ok(())
            }
            _ => Err("an {end} has no {range}".into()),
        };
    }
    if let Some(path) = text.strip_prefix("range ") {
        open.push((Some(path.trim().parse()?), Vec::new()));
        return Ok(());
    }
    let part = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => Part::Text(unquoted(text, quote)?),
        _ => Part::Value(text.parse()?),
    };
    push(open, part);
    Ok(())
}

/// The text in quotes, with `\n`, `\t` and `\r`.
fn unquoted(text: &str, quote: char) -> Result<String, String> {
    let inner = text.strip_prefix(quote);
    let inner = inner.and_then(|rest| rest.strip_suffix(quote));
    let inner = inner.ok_or_else(|| format!("{text}: the quote is not closed"))?;
    let mut plain = String::new();
    let mut rest = inner.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => plain.extend(rest.next().map(|escaped| match escaped {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            })),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_filled_as_by_kubectl() {
        let value = json!({"kind": "List", "items": [
            {"metadata": {"name": "a", "labels": {"kubernetes.io/os": "linux"}}, "spec": {"order": 1, "nets": ["x", "y"]}},
            {"metadata": {"name": "b"}, "spec": {"order": 2.5, "on": true}},
        ]});
        for (template, expected) in [
            ("{.items[*].metadata.name}", "a b"),
            (".items[0].metadata.name", "a"),
            ("items[1].spec.on", "true"),
            ("{$.items[-1].metadata.name}", "b"),
            ("{.items[0:1].metadata.name}", "a"),
            ("{.items[0].spec.nets}", r#"["x","y"]"#),
            ("{.items[0].spec['order','nets']}", r#"1 ["x","y"]"#),
            (r"{.items[0].metadata.labels.kubernetes\.io/os}", "linux"),
            ("{.items[0].metadata.labels['kubernetes.io/os']}", "linux"),
            ("{..name}", "a b"),
            ("{.items[?(@.metadata.name==\"b\")].spec.order}", "2.5"),
            ("{.items[?(@.spec.order<2)].metadata.name}", "a"),
            ("{.items[5].metadata.name}|{.none}", "|"),
            ("kind: {.kind}{\"\\n\"}", "kind: List\n"),
            (
                r#"{range .items[*]}{.metadata.name}{"\t"}{range .spec.nets[*]}<{@}>{end}{"\n"}{end}."#,
                "a\t<x><y>\nb\t\n.",
            ),
        ] {
            let read: Template = template.parse().expect(template);
            assert_eq!(read.text(&value), Ok(expected.to_owned()), "{template}");
        }
        for wrong in [
            "",
            "{.a",
            "{range .items[*]}x",
            "{end}",
            "{.a[}",
            "{.a[0}",
            "{\"x}",
            "{.a(b)}",
            "{.a[?(]}",
        ] {
            assert!(wrong.parse::<Template>().is_err(), "{wrong}");
        }
    }
}
