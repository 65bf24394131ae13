//! The values of `-o`: a format, or a shape of the user's own.

use std::str::FromStr;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use ocicat_datastore::Object;
use serde_json::Value;

use super::Format;
use super::custom::Columns;
use super::jsonpath::Template;
use crate::failure::Failure;

/// How a command prints.
#[derive(Clone, Debug)]
pub enum Output {
    /// One of the formats that every command has.
    Plain(Format),
    /// A table with columns of the user's choice.
    Columns(Columns),
    /// Text with values of the objects in it.
    JsonPath(Template),
}

impl Default for Output {
    fn default() -> Self {
        Self::Plain(Format::Table)
    }
}

impl Output {
    /// The format; that of errors and notes where objects have a shape of their own.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self {
            Self::Plain(format) => *format,
            Self::Columns(_) | Self::JsonPath(_) => Format::Table,
        }
    }

    /// Whether objects are printed in a shape of the user's own.
    #[must_use]
    pub const fn is_shaped(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Whether a person reads it, who is told in words that there is nothing.
    #[must_use]
    pub const fn is_for_people(&self) -> bool {
        matches!(
            self,
            Self::Columns(_) | Self::Plain(Format::Table | Format::Wide)
        )
    }

    /// Prints objects. `single`: one was asked for by name.
    ///
    /// # Errors
    /// When an object cannot be written so; a path that means nothing.
    pub fn objects(&self, objects: &[Object], single: bool) -> Result<String, Failure> {
        match self {
            Self::Plain(format) => super::objects(objects, *format, single),
            Self::Columns(columns) => columns.table(objects).map(|table| table.to_string()),
            Self::JsonPath(template) => template.text(&super::listed(objects, single)),
        }
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(format) = Format::from_str(text, true) {
            return Ok(Self::Plain(format));
        }
        let (name, shape) = text.split_once('=').unwrap_or((text, ""));
        match name {
            "custom-columns" => shape.parse().map(Self::Columns),
            "custom-columns-file" => Columns::of_file(&read(shape)?).map(Self::Columns),
            "jsonpath" => shape.parse().map(Self::JsonPath),
            "jsonpath-file" => read(shape)?.parse().map(Self::JsonPath),
            "go-template" | "go-template-file" | "template" | "templatefile" => Err(format!(
                "{name} is not built; -o jsonpath=TEMPLATE, -o custom-columns=SPEC, or -o json and a program such as jq do the same"
            )),
            _ => Err(format!("it is none of {}", forms().join(", "))),
        }
    }
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn forms() -> Vec<String> {
    let values = Format::value_variants().iter();
    let names = values.filter_map(ValueEnum::to_possible_value);
    let names = names.map(|value| value.get_name().to_owned());
    let shapes = ["custom-columns=SPEC", "jsonpath=TEMPLATE"].map(str::to_owned);
    names.chain(shapes).collect()
}

/// Reads [`Output`]; names the formats in help and completion.
#[derive(Clone, Debug)]
pub struct OutputParser;

impl clap::builder::TypedValueParser for OutputParser {
    type Value = Output;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Output, clap::Error> {
        value.to_string_lossy().parse().map_err(|error: String| {
            let text = format!("--output {}: {error}\n", value.to_string_lossy());
            clap::Error::raw(clap::error::ErrorKind::InvalidValue, text).with_cmd(command)
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let formats = Format::value_variants().iter();
        let shapes = [
            PossibleValue::new("custom-columns=SPEC")
                .help("A table: HEADER:.path,... or headers of the wide table, NAME,CIDR"),
            PossibleValue::new("jsonpath=TEMPLATE")
                .help("Text with values of the objects in it, as in kubectl: {.spec.cidr}"),
        ];
        let all = formats.filter_map(ValueEnum::to_possible_value);
        Some(Box::new(all.chain(shapes)))
    }
}

/// A value as text: texts as they are, others as JSON; nothing for null.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
