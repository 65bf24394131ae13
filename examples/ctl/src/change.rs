//! `patch` and `label`: some fields of an object.

use ocicat_datastore::{Key, Kind, Object, Op, StoreError, validate};
use serde_json::{Map, Value};

use crate::cli::{self, PatchForm, Validation};
use crate::connection::Connection;
use crate::document;
use crate::failure::Failure;
use crate::get::key;
use crate::kinds;
use crate::output::Format;
use crate::pools;
use crate::unknown::{self, Unknown};
use crate::write::say;

/// How often a change is tried again when somebody else was faster.
const TRIES: usize = 20;

/// Applies a patch.
///
/// # Errors
/// A patch that is none, or that makes the object invalid; then nothing is written.
pub async fn patch(at: &Connection, args: &cli::Patch, format: Format) -> Result<(), Failure> {
    let (kind, named) = kinds::kind_and_name(&args.kind)?;
    let name = args.name.as_deref().or(named);
    let name = name.ok_or_else(|| Failure::Usage("name the object to patch".into()))?;
    let key = key(kind, args.namespace.namespace.as_deref(), name);
    let patch = document::parse("--patch", &args.patch)?;
    let patch = patch.first().map(document::Document::to_json);
    let patch = patch.ok_or_else(|| Failure::Usage("--patch is empty".into()))?;
    modify(at, &key, |value| {
        let before = unknown::fields(kind, value);
        apply(value, &patch, args.form)?;
        misspelt(kind, value, &before, args.strictness.validate)
    })
    .await?;
    say(&key, "patched", format);
    Ok(())
}

/// Fields that the kind does not have and that were not there before.
fn misspelt(
    kind: Kind,
    value: &Value,
    before: &[Unknown],
    validation: Validation,
) -> Result<(), Failure> {
    let now = unknown::fields(kind, value);
    let new = now.iter().filter(|one| !before.contains(one));
    let new: Vec<String> = new
        .map(|one| format!("--patch: {}: {}", one.field, one.message))
        .collect();
    match validation {
        Validation::Strict if !new.is_empty() => return Err(Failure::Failed(new.join("\n"))),
        Validation::Warn => new.iter().for_each(|one| eprintln!("warning: {one}")),
        _ => {}
    }
    Ok(())
}

fn apply(value: &mut Value, patch: &Value, form: PatchForm) -> Result<(), Failure> {
    match form {
        PatchForm::Merge => {
            json_patch::merge(value, patch);
            Ok(())
        }
        PatchForm::Json => {
            let operations: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| Failure::Usage(format!("--patch: {error}")))?;
            json_patch::patch(value, &operations)
                .map_err(|error| Failure::Failed(format!("--patch: {error}")))
        }
    }
}

/// Sets and removes labels.
///
/// # Errors
/// A label that has another value, unless it may be overwritten.
pub async fn label(at: &Connection, args: &cli::Label, format: Format) -> Result<(), Failure> {
    let kind = kinds::kind(&args.kind)?;
    let key = key(kind, args.namespace.namespace.as_deref(), &args.name);
    let mut labels = args.labels.clone();
    if args.remove {
        if let Some(pair) = labels.iter().find(|label| label.contains('=')) {
            let text = format!("{pair}: --remove wants the label's key alone");
            return Err(Failure::Usage(text));
        }
        for label in labels.iter_mut().filter(|label| !label.ends_with('-')) {
            label.push('-');
        }
    }
    modify(at, &key, |value| relabel(value, &labels, args.overwrite)).await?;
    say(&key, "labelled", format);
    Ok(())
}

fn relabel(value: &mut Value, changes: &[String], overwrite: bool) -> Result<(), Failure> {
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
    let metadata = metadata.ok_or_else(|| Failure::Failed("the object has no metadata".into()))?;
    let labels = metadata
        .entry("labels")
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(labels) = labels.as_object_mut() else {
        return Err(Failure::Failed("metadata.labels is no map".into()));
    };
    for change in changes {
        match (change.split_once('='), change.strip_suffix('-')) {
            (Some((key, value)), _) => {
                let old = labels.get(key).and_then(Value::as_str);
                if old.is_some_and(|old| old != value) && !overwrite {
                    let old = old.unwrap_or_default();
                    return Err(Failure::Conflict(format!(
                        "the label {key} is {old}; --overwrite changes it"
                    )));
                }
                labels.insert(key.to_owned(), value.into());
            }
            (None, Some(key)) => {
                labels.remove(key);
            }
            (None, None) => {
                return Err(Failure::Usage(format!(
                    "{change:?} is neither KEY=VALUE nor KEY-"
                )));
            }
        }
    }
    Ok(())
}

/// Reads, changes, checks and writes an object, again when somebody else was faster.
async fn modify(
    at: &Connection,
    key: &Key,
    change: impl Fn(&mut Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        let object = at.store.backend().get(key).await?;
        let object = object.ok_or_else(|| StoreError::Missing { key: key.clone() })?;
        let mut value = object.value.clone();
        change(&mut value)?;
        let changed = Object {
            value,
            ..object.clone()
        };
        named_alike(&changed)?;
        if let Some(problem) = validate::object(&changed).first() {
            return Err(Failure::Failed(format!("{key}: {problem}")));
        }
        if let Some((field, fault)) = pools::changed(&object, &changed) {
            return Err(Failure::Failed(format!("{key}: {field}: {fault}")));
        }
        if changed.value == object.value {
            return Ok(());
        }
        tries += 1;
        match at
            .store
            .backend()
            .write(vec![Op::Update(changed)])
            .await
            .pop()
        {
            Some(Err(StoreError::Conflict { .. })) if tries < TRIES => {}
            Some(Err(error)) => return Err(error.into()),
            _ => return Ok(()),
        }
    }
}

/// A patch must not make another object of it.
fn named_alike(changed: &Object) -> Result<(), Failure> {
    let read = Object::from_value(changed.value.clone())?;
    if read.key() == changed.key() {
        Ok(())
    } else {
        let key = changed.key();
        Err(Failure::Failed(format!(
            "{key}: kind, name and namespace cannot be changed"
        )))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_set_removed_and_guarded() {
        let mut value = json!({"metadata": {"name": "x", "labels": {"a": "1", "b": "2"}}});
        let change = |value: &mut Value, change: &str, overwrite| {
            relabel(value, &[change.to_owned()], overwrite)
        };
        assert_eq!(change(&mut value, "c=3", false), Ok(()));
        assert_eq!(change(&mut value, "b-", false), Ok(()));
        assert_eq!(value["metadata"]["labels"], json!({"a": "1", "c": "3"}));
        assert!(matches!(
            change(&mut value, "a=2", false),
            Err(Failure::Conflict(_))
        ));
        assert_eq!(change(&mut value, "a=2", true), Ok(()));
        assert!(matches!(
            change(&mut value, "a", true),
            Err(Failure::Usage(_))
        ));
    }

    #[test]
    fn both_forms_of_patches_work() {
        let mut value = json!({"spec": {"order": 1, "selector": "all()"}});
        let merge = json!({"spec": {"order": 2, "selector": null}});
        assert_eq!(apply(&mut value, &merge, PatchForm::Merge), Ok(()));
        assert_eq!(value, json!({"spec": {"order": 2}}));
        let operations = json!([{"op": "add", "path": "/spec/tier", "value": "x"}]);
        assert_eq!(apply(&mut value, &operations, PatchForm::Json), Ok(()));
        assert_eq!(value, json!({"spec": {"order": 2, "tier": "x"}}));
        assert!(apply(&mut value, &merge, PatchForm::Json).is_err());
    }
}
