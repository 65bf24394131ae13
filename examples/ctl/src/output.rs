//! Objects as text: tables, YAML, JSON, names.

mod custom;
mod jsonpath;
mod shape;

pub use custom::Columns;
pub use jsonpath::Template;
pub use shape::{Output, OutputParser};

use ocicat_datastore::{Object, Revision};
use serde::Serialize;
use serde_json::{Value, json};

use crate::columns;
use crate::failure::Failure;

/// How objects are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table with the most important columns.
    #[default]
    #[value(alias = "ps")]
    Table,
    /// A table with more columns.
    Wide,
    /// YAML documents that `apply` takes.
    Yaml,
    /// JSON: one object, or a `List`.
    Json,
    /// A line `Kind/name` for each.
    Name,
}

impl Format {
    /// Whether a program reads the output.
    #[must_use]
    pub const fn is_json(self) -> bool {
        matches!(self, Self::Json)
    }
}

/// Prints objects, grouped by kind in tables. `single`: one object was asked for by name, so JSON is that object and no
/// list.
///
/// # Errors
/// When an object cannot be written as YAML.
pub fn objects(objects: &[Object], format: Format, single: bool) -> Result<String, Failure> {
    match format {
        Format::Table | Format::Wide => Ok(tables(objects, format == Format::Wide)),
        Format::Name => {
            let names = objects.iter().map(|object| object.key().to_string());
            Ok(names.collect::<Vec<_>>().join("\n"))
        }
        Format::Json => json_text(&listed(objects, single)),
        Format::Yaml => {
            let documents = objects.iter().map(|object| yaml(&with_version(object)));
            Ok(documents
                .collect::<Result<Vec<_>, _>>()?
                .join("---\n")
                .trim_end()
                .to_owned())
        }
    }
}

/// One value for all objects: the object where `single`, else a `List`.
fn listed(objects: &[Object], single: bool) -> Value {
    let mut values: Vec<Value> = objects.iter().map(with_version).collect();
    match values.pop() {
        Some(value) if single && values.is_empty() => value,
        last => {
            values.extend(last);
            json!({"apiVersion": "v1", "kind": "List", "items": values})
        }
    }
}

/// Any value as JSON or YAML; `None` for the formats that are for people.
///
/// # Errors
/// When the value cannot be written so.
pub fn value(value: &impl Serialize, format: Format) -> Result<Option<String>, Failure> {
    match format {
        Format::Json => json_text(value).map(Some),
        Format::Yaml => yaml(value).map(|text| Some(text.trim_end().to_owned())),
        _ => Ok(None),
    }
}

fn json_text(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::failed("JSON", error))
}

fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|error| Failure::failed("YAML", error))
}

/// The object as users see it: with the revision that a later `replace` is held against.
fn with_version(object: &Object) -> Value {
    let mut value = object.value.clone();
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(metadata), true) = (metadata, object.revision != Revision::NONE) {
        let version = object.revision.to_string();
        metadata.insert("resourceVersion".to_owned(), version.into());
    }
    value
}

fn tables(objects: &[Object], wide: bool) -> String {
    let mut tables = Vec::new();
    for group in objects.chunk_by(|one, other| one.kind == other.kind) {
        if let Some(first) = group.first() {
            tables.push(columns::table(first.kind, group, wide).to_string());
        }
    }
    tables.join("\n\n")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_kind_is_printed_in_every_format() {
        use ocicat_datastore::Kind;
        for kind in Kind::ALL.iter().copied() {
            let mut metadata = json!({"name": "one"});
            if kind.is_namespaced() {
                metadata["namespace"] = "shop".into();
            }
            let value = json!({
                "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": metadata, "spec": {"x": [1]},
            });
            let object = Object::from_value(value).expect("an object");
            for format in Format::value_variants() {
                let text = super::objects(std::slice::from_ref(&object), *format, true);
                let text = text.unwrap_or_else(|error| panic!("{kind:?} {format:?}: {error}"));
                assert!(text.contains("one"), "{kind:?} {format:?}: {text}");
                let place = !kind.is_namespaced() || text.contains("shop");
                assert!(place, "{kind:?} {format:?}: {text}");
            }
            let again = crate::kinds::kind(kind.unique_name());
            assert_eq!(again, Ok(kind));
            assert_eq!(
                crate::kinds::kind(&kind.unique_name().to_lowercase()),
                Ok(kind)
            );
        }
    }
}
