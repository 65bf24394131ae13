//! YAML and JSON files as trees that remember the line of every value, so that an error found long after parsing
//! still names file, line and field.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// What is wrong with a file: where, and why. Shown as one line, `file:line: field: message`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{}{}{message}", line_prefix(*.line), field_prefix(.field))]
#[non_exhaustive]
pub struct Fault {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// The line, from 1; 0 when the fault has none (a file that cannot be read).
    pub line: u64,
    /// The path of the field, such as `pools[0].cidr`; empty for the document itself.
    pub field: String,
    /// What is wrong, in one line.
    pub message: String,
}

impl Fault {
    /// A fault of a whole file.
    #[must_use]
    pub fn of_file(file: &str, message: impl fmt::Display) -> Self {
        Self {
            file: file.into(),
            line: 0,
            field: String::new(),
            message: one_line(&message.to_string()),
        }
    }
}

fn line_prefix(line: u64) -> String {
    if line == 0 {
        " ".to_owned()
    } else {
        format!("{line}: ")
    }
}

fn field_prefix(field: &str) -> String {
    if field.is_empty() {
        String::new()
    } else {
        format!("{field}: ")
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One document of a file: a tree of values with their lines.
#[derive(Clone, Debug)]
pub struct Document {
    file: Arc<str>,
    root: Node,
}

/// A value and the line that it starts on.
#[derive(Clone, Debug)]
struct Node {
    line: u64,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Scalar(serde_json::Value),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
struct Key {
    line: u64,
    text: String,
}

/// Reads every document of a text; empty documents are left out.
///
/// JSON is read as the subset of YAML that it is, so one reader serves both.
///
/// # Errors
/// A [`Fault`] with the line of the first syntax error, duplicate key included.
pub fn parse(file: &str, text: &str) -> Result<Vec<Document>, Fault> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let roots: Vec<Spanned<Value>> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Fault {
            file: file.into(),
            line: error.location().map_or(0, |location| location.line()),
            field: String::new(),
            message: one_line(&without_location(&error.to_string())),
        })?;
    let file: Arc<str> = file.into();
    Ok(roots
        .into_iter()
        .map(|root| Document {
            file: file.clone(),
            root: Node::from(root),
        })
        .collect())
}

/// The parser's message ends with its own idea of the place, which [`Fault`] already shows in front.
fn without_location(message: &str) -> String {
    match message.rsplit_once(" at line ") {
        Some((head, tail)) if tail.starts_with(|first: char| first.is_ascii_digit()) => {
            head.to_owned()
        }
        _ => message.to_owned(),
    }
}

impl Document {
    /// The file's name, as given to [`parse`].
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The document as plain JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.root.to_json()
    }

    /// The elements of the list at `field`, each a document of its own with its lines kept.
    #[must_use]
    pub fn elements(&self, field: &str) -> Option<Vec<Self>> {
        let (node, whole) = self.root.descend(field);
        match &node.value {
            Value::List(nodes) if whole => {
                let file = || self.file.clone();
                Some(
                    nodes
                        .iter()
                        .map(|node| Self {
                            file: file(),
                            root: node.clone(),
                        })
                        .collect(),
                )
            }
            _ => None,
        }
    }

    /// The text at `field`, if there is one.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        match self.root.descend(field) {
            (
                Node {
                    value: Value::Scalar(serde_json::Value::String(text)),
                    ..
                },
                true,
            ) => Some(text),
            _ => None,
        }
    }

    /// Whether the document has a value at `field`.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.root.descend(field).1
    }

    /// The line of `field`, a path such as `pools[0].cidr`; of its nearest ancestor when there is no such field.
    #[must_use]
    pub fn line(&self, field: &str) -> u64 {
        self.root.line_of(field)
    }

    /// A fault at `field` of this document.
    #[must_use]
    pub fn fault(&self, field: &str, message: impl fmt::Display) -> Fault {
        Fault {
            file: self.file.clone(),
            line: self.line(field),
            field: field.to_owned(),
            message: one_line(&message.to_string()),
        }
    }

    /// The document as a value of a type.
    ///
    /// # Errors
    /// A [`Fault`] at the field that the type refuses; for an unknown key, at that key.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_path_to_error::deserialize(self.to_json()).map_err(|error| {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let message = error.inner().to_string();
            match unknown_field(&message) {
                Some(key) => self.fault(
                    &within(&path, key),
                    format!("unknown field; {}", expected(&message)),
                ),
                None => self.fault(&path, message),
            }
        })
    }
}

/// serde names an unknown key in its message only.
fn unknown_field(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn expected(message: &str) -> &str {
    message
        .split_once(", ")
        .map_or("there are no fields here", |(_, expected)| expected)
}

fn within(path: &str, key: &str) -> String {
    if path.is_empty() || path == key || path.ends_with(&format!(".{key}")) {
        if path.is_empty() {
            key.to_owned()
        } else {
            path.to_owned()
        }
    } else {
        format!("{path}.{key}")
    }
}

impl Node {
    fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar(scalar) => scalar.clone(),
            Value::List(nodes) => nodes.iter().map(Self::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.text.clone(), node.to_json()))
                    .collect(),
            ),
        }
    }

    /// The deepest node on the way to `field`, and whether that is all the way.
    fn descend(&self, field: &str) -> (&Self, bool) {
        let mut node = self;
        let mut rest = field;
        while !rest.is_empty() {
            match node.step(rest) {
                Some((next, left, _)) => (node, rest) = (next, left),
                None => return (node, false),
            }
        }
        (node, true)
    }

    fn line_of(&self, field: &str) -> u64 {
        let (mut node, mut rest, mut line) = (self, field, self.line);
        while let Some((next, left, at)) = node.step(rest) {
            (node, rest, line) = (next, left, at);
        }
        line
    }

    /// One step along a path: the child, what is left of the path, and the line where the child is named.
    ///
    /// Keys may hold dots (`projectcalico.org/x`), so the longest key that the path starts with is taken.
    fn step<'a, 'p>(&'a self, path: &'p str) -> Option<(&'a Self, &'p str, u64)> {
        match &self.value {
            Value::List(nodes) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let node = nodes.get(index.parse::<usize>().ok()?)?;
                Some((node, rest.strip_prefix('.').unwrap_or(rest), node.line))
            }
            Value::Map(entries) => {
                let fits = |key: &Key| {
                    let rest = path.strip_prefix(key.text.as_str())?;
                    let ends = rest.is_empty() || rest.starts_with('[');
                    rest.strip_prefix('.').or_else(|| ends.then_some(rest))
                };
                let found = entries
                    .iter()
                    .filter_map(|(key, node)| Some((key, node, fits(key)?)));
                let (key, node, rest) = found.max_by_key(|(key, ..)| key.text.len())?;
                Some((node, rest, key.line))
            }
            Value::Scalar(_) => None,
        }
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self {
            line: spanned.referenced.line(),
            value: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Scalar(serde_json::Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Scalar(serde_json::Value::Null))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element::<Spanned<Value>>()? {
            nodes.push(Node::from(node));
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key {
                line: key.referenced.line(),
                text: key.value,
            };
            entries.push((key, Node::from(map.next_value::<Spanned<Value>>()?)));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests;
