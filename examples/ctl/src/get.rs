//! `get`: objects by kind, name, label or file.

use std::collections::BTreeMap;

use ocicat_datastore::{Change, Key, Kind, Object, Scope};
use ocicat_selectors::Selector;
use serde_json::Value;

use crate::cli;
use crate::connection::Connection;
use crate::export;
use crate::failure::Failure;
use crate::files;
use crate::kinds;
use crate::output::{Format, Output};

/// Prints what was asked for.
///
/// # Errors
/// [`Failure::NotFound`] for each name that does not exist, after those that do have been printed.
pub async fn run(at: &Connection, args: &cli::Get, output: &Output) -> Result<(), Failure> {
    let output = match output {
        Output::Plain(Format::Table) if args.export => &Output::Plain(Format::Yaml),
        output => output,
    };
    if let Some(kinds) = kinds::list(args.chosen.kind.as_deref().unwrap_or_default())? {
        return several(at, args, &kinds, output).await;
    }
    let (kind, keys) = named(at, &args.chosen)?;
    let (mut found, missing, single) = match kind {
        Some(kind) if keys.is_empty() => (listed(at, kind, args).await?, Vec::new(), false),
        _ => fetch(at, keys).await?,
    };
    if args.export {
        found.iter_mut().for_each(export::strip);
    }
    match kind {
        Some(kind) if found.is_empty() && missing.is_empty() && output.is_for_people() => {
            eprintln!("{}", nothing(kind, args));
        }
        _ if found.is_empty() && !missing.is_empty() => {}
        _ => print(output, &output.objects(&found, single)?),
    }
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(Key::to_string).collect();
        return Err(Failure::NotFound(format!(
            "{}: not found",
            names.join(", ")
        )));
    }
    if args.watch {
        watch(at, args, output).await?;
    }
    Ok(())
}

/// All objects of several kinds.
async fn several(
    at: &Connection,
    args: &cli::Get,
    kinds: &[Kind],
    output: &Output,
) -> Result<(), Failure> {
    if args.watch || !args.chosen.names.is_empty() {
        let text = "names and --watch go with one kind";
        return Err(Failure::Usage(text.into()));
    }
    let mut found = Vec::new();
    for kind in kinds {
        found.extend(listed(at, *kind, args).await?);
    }
    if args.export {
        found.iter_mut().for_each(export::strip);
    }
    if found.is_empty() && output.is_for_people() {
        eprintln!("there is none of them");
    } else {
        print(output, &output.objects(&found, false)?);
    }
    Ok(())
}

/// That there is nothing to show, and where there may be something.
fn nothing(kind: Kind, args: &cli::Get) -> String {
    let place = match &args.chosen.namespace.namespace {
        _ if !kind.is_namespaced() || args.all_namespaces => String::new(),
        namespace => format!(
            " in the namespace {}; -A shows all namespaces",
            namespace.as_deref().unwrap_or("default")
        ),
    };
    let with = args.selector.as_ref();
    let with = with.map_or_else(String::new, |selector| format!(" with {selector}"));
    format!("no {kind}{with}{place}", kind = kind.unique_name())
}

/// A template says itself where lines end.
fn print(output: &Output, text: &str) {
    match output {
        Output::JsonPath(_) => print!("{text}"),
        Output::Plain(Format::Name | Format::Yaml) if text.is_empty() => {}
        _ => println!("{text}"),
    }
}

type Answer = (Vec<Object>, Vec<Key>, bool);

/// The objects that the arguments name: their kind unless files name them, and their keys. Fields that a kind does not have
/// are of no interest in such files.
pub(crate) fn named(
    at: &Connection,
    chosen: &cli::Chosen,
) -> Result<(Option<Kind>, Vec<Key>), Failure> {
    let namespace = chosen.namespace.namespace.as_deref();
    if !chosen.filename.is_empty() {
        let ignore = cli::Validation::Ignore;
        let manifests = files::read(&chosen.filename, at.kubernetes, namespace, ignore)?;
        return Ok((None, manifests.iter().map(|one| one.object.key()).collect()));
    }
    let (kind, named) = kinds::kind_and_name(chosen.kind.as_deref().unwrap_or_default())?;
    let names = chosen.names.iter().map(String::as_str);
    let names = named.into_iter().chain(names);
    Ok((
        Some(kind),
        names.map(|name| key(kind, namespace, name)).collect(),
    ))
}

/// All objects of a kind that the arguments want.
async fn listed(at: &Connection, kind: Kind, args: &cli::Get) -> Result<Vec<Object>, Failure> {
    let objects = at.store.backend().list(&scope(kind, args)).await?.objects;
    let wanted = args.selector.as_deref().map(selector).transpose()?;
    let fits = |object: &Object| {
        wanted
            .as_ref()
            .is_none_or(|one| one.matches(&labels(object)))
    };
    Ok(objects.into_iter().filter(fits).collect())
}

fn scope(kind: Kind, args: &cli::Get) -> Scope {
    if kind.is_namespaced() && !args.all_namespaces {
        let namespace = args.chosen.namespace.namespace.as_deref();
        Scope::namespace(kind, namespace.unwrap_or("default"))
    } else {
        Scope::all(kind)
    }
}

async fn fetch(at: &Connection, keys: Vec<Key>) -> Result<Answer, Failure> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let single = keys.len() == 1;
    for key in keys {
        match at.store.backend().get(&key).await? {
            Some(object) => found.push(object),
            None => missing.push(key),
        }
    }
    Ok((found, missing, single))
}

/// The key of a named object; namespaced kinds are in `default` when nothing else is said.
#[must_use]
pub fn key(kind: Kind, namespace: Option<&str>, name: &str) -> Key {
    if kind.is_namespaced() {
        Key::namespaced(kind, namespace.unwrap_or("default"), name)
    } else {
        Key::cluster(kind, name)
    }
}

/// A selector in Calico's language; `a=b,c!=d` as in kubectl works, too.
fn selector(text: &str) -> Result<Selector, Failure> {
    let kubectl = |part: &str| {
        let (key, operator, value) = match part.split_once("!=") {
            Some((key, value)) => (key, "!=", value),
            None => {
                let (key, value) = part.split_once('=')?;
                (key, "==", value.trim_start_matches('='))
            }
        };
        let plain = |text: &str| !text.contains(['\'', '"', ' ', '(']);
        (plain(key) && plain(value)).then(|| format!("{key} {operator} '{value}'"))
    };
    let parts: Option<Vec<String>> = text.split(',').map(kubectl).collect();
    let calico = parts.map_or_else(|| text.to_owned(), |parts| parts.join(" && "));
    calico
        .parse()
        .map_err(|error| Failure::Usage(format!("--selector: {error}")))
}

fn labels(object: &Object) -> BTreeMap<String, String> {
    let labels = object.value.pointer("/metadata/labels");
    let members = labels.and_then(Value::as_object).into_iter().flatten();
    members
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Prints objects as they change, until the datastore goes or the user ends it.
async fn watch(at: &Connection, args: &cli::Get, output: &Output) -> Result<(), Failure> {
    let (kind, _) = kinds::kind_and_name(args.chosen.kind.as_deref().unwrap_or_default())?;
    let scope = scope(kind, args);
    let since = at.store.backend().list(&scope).await?.revision;
    let mut changes = at.store.backend().watch(&scope, since).await?;
    while let Some(change) = std::future::poll_fn(|cx| changes.as_mut().poll_next(cx)).await {
        match change? {
            Change::Put(mut object) => {
                if args.export {
                    export::strip(&mut object);
                }
                let text = output.objects(&[object], true)?;
                match output {
                    Output::Columns(_) | Output::Plain(Format::Table | Format::Wide) => {
                        println!("{}", text.lines().last().unwrap_or_default());
                    }
                    _ => print(output, &text),
                }
            }
            Change::Deleted { key, .. } => println!("{key} deleted"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_selector_languages_work() {
        for (text, expected) in [
            ("a=b,c!=d", "(a == \"b\" && c != \"d\")"),
            ("a == 'b'", "a == \"b\""),
            ("has(x)", "has(x)"),
        ] {
            assert_eq!(
                selector(text).map(|one| one.to_string()),
                Ok(expected.to_owned())
            );
        }
        assert!(matches!(
            selector("a ==").map(|_| ()),
            Err(Failure::Usage(_))
        ));
    }
}
