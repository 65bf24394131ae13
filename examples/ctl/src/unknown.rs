//! Fields that a kind does not have.
//!
//! Objects keep such fields when they are read and written, so that a newer version's objects survive. In a file that a
//! person wrote, they are misspelt in nearly every case, and a policy without the field does something else.

use ocicat_datastore::{Kind, crds};
use ocicat_node::parameters::KNOWN;
use serde_json::{Map, Value};

mod open;

/// A field that its kind does not have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unknown {
    /// Its path, such as `spec.ingress[0].sorce`.
    pub field: String,
    /// The message: what was meant, as far as that can be guessed.
    pub message: String,
}

/// What `ObjectMeta` of Kubernetes has.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The fields of an object that its kind does not have, in the order of their paths.
///
/// Kinds of which only a part is known here (pods, services, ...) have none. Where a kind keeps whatever it has, only what
/// looks like one of its fields is misspelt: other names are those of a newer version.
#[must_use]
pub fn fields(kind: Kind, value: &Value) -> Vec<Unknown> {
    let Some(mut schema) = crds::known_fields(kind) else {
        return Vec::new();
    };
    if let Some(known) = schema
        .pointer_mut("/properties/metadata")
        .and_then(Value::as_object_mut)
    {
        let all = METADATA.iter().map(|name| ((*name).to_owned(), open()));
        known.insert("properties".to_owned(), all.collect());
    }
    if let Some(known) = schema["properties"].as_object_mut() {
        // What was read with its status is applied again.
        known.entry("status").or_insert_with(open);
    }
    let mut search = Search {
        kind,
        root: &schema,
        found: Vec::new(),
    };
    search.look("", value, &schema);
    search.found.sort();
    search.found
}

/// The schema of anything.
fn open() -> Value {
    serde_json::json!({ "x-kubernetes-preserve-unknown-fields": true })
}

struct Search<'a> {
    kind: Kind,
    root: &'a Value,
    found: Vec<Unknown>,
}

impl Search<'_> {
    fn look(&mut self, path: &str, value: &Value, schema: &Value) {
        match value {
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.look(&format!("{path}[{index}]"), element, &schema["items"]);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    self.member(path, name, member, schema);
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, path: &str, name: &str, member: &Value, schema: &Value) {
        let at = join(path, name);
        let no_fields = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&no_fields);
        if let Some(known) = properties.get(name) {
            return self.look(&at, member, known);
        }
        if schema["additionalProperties"].is_object() {
            return self.look(&at, member, &schema["additionalProperties"]);
        }
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            let known = open_names(self.kind, path);
            if !known.contains(&name)
                && let Some(meant) = nearest(name, known.into_iter())
            {
                self.add(at, format!("unknown field; did you mean {meant}?"));
            }
            return;
        }
        if properties.is_empty() && schema["type"] != "object" {
            // The type is wrong, which is told elsewhere.
            return;
        }
        let message = match nearest(name, properties.keys().map(String::as_str)) {
            Some(meant) => format!("unknown field; did you mean {meant}?"),
            None => match elsewhere(self.root, name) {
                Some(place) => format!("unknown field here; did you mean {place}?"),
                None => format!("unknown field; {}", listed(properties)),
            },
        };
        self.add(at, message);
    }

    fn add(&mut self, field: String, message: String) {
        self.found.push(Unknown { field, message });
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The names that are known where a kind keeps whatever it has.
fn open_names(kind: Kind, path: &str) -> Vec<&'static str> {
    match (kind, path) {
        (Kind::FelixConfiguration, "spec") => {
            let ours = KNOWN.iter().map(|known| known.name);
            ours.chain(open::FELIX.iter().copied()).collect()
        }
        (Kind::KubeControllersConfiguration, "spec") => open::CONTROLLERS.to_vec(),
        _ => Vec::new(),
    }
}

/// The name that is most like `name`; letters' case counts for nothing, and a third of the letters may be wrong.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let rated = known.map(|one| {
        let distance = strsim::damerau_levenshtein(&wanted, &one.to_lowercase());
        (distance, one)
    });
    let (distance, best) = rated.min()?;
    (distance <= wanted.chars().count() / 3).then_some(best)
}

/// Where else the kind has a field of this name: the place that is least deep.
fn elsewhere(schema: &Value, name: &str) -> Option<String> {
    let mut level = vec![(String::new(), schema)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (path, schema) in level {
            for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
                let at = join(&path, field);
                if field.eq_ignore_ascii_case(name) {
                    return Some(at);
                }
                let list = inner["items"].is_object();
                next.push(if list {
                    (format!("{at}[]"), &inner["items"])
                } else {
                    (at, inner)
                });
            }
        }
        level = next;
    }
    None
}

/// The fields that there are, unless there are too many for a line.
fn listed(properties: &Map<String, Value>) -> String {
    const MOST: usize = 12;
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    match names.len() {
        0 => "there are no fields here".to_owned(),
        1..=MOST => format!("there are {}", names.join(", ")),
        count => format!("it is none of the {count} fields that are known here"),
    }
}

#[cfg(test)]
mod tests;
