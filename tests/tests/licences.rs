//! Everything that a program of ours is built from may be shipped with it: its licences are on the list of deny.toml.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{packages, root};

/// The list in deny.toml, which `cargo deny` reads too.
fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let (_, list) = text
        .split_once("allow = [")
        .expect("a list of allowed licences");
    let (list, _) = list.split_once(']').expect("the list's end");
    list.split(',')
        .map(|one| one.trim().trim_matches('"').to_owned())
        .filter(|one| !one.is_empty())
        .collect()
}

/// Whether an SPDX expression can be satisfied with allowed licences.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut place = 0;
    either(&words, &mut place, allowed) && place == words.len()
}

fn either(words: &[&str], place: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut value = both(words, place, allowed);
    while words.get(*place) == Some(&"OR") {
        *place += 1;
        value |= both(words, place, allowed);
    }
    value
}

fn both(words: &[&str], place: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut value = one(words, place, allowed);
    while words.get(*place) == Some(&"AND") {
        *place += 1;
        value &= one(words, place, allowed);
    }
    value
}

fn one(words: &[&str], place: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*place) else {
        return false;
    };
    *place += 1;
    if *word == "(" {
        let value = either(words, place, allowed);
        *place += 1;
        return value;
    }
    if words.get(*place) == Some(&"WITH") {
        // An exception only adds permissions.
        *place += 2;
    }
    allowed.contains(*word)
}

#[test]
fn expressions_are_understood() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0".to_owned()]);
    for (expression, good) in [
        ("MIT", true),
        ("MIT OR GPL-3.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0", false),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Apache-2.0", true),
        ("(MIT AND GPL-3.0) OR Zlib", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), good, "{expression}");
    }
}

#[test]
fn every_dependency_may_be_shipped() {
    let allowed = allowed();
    assert!(allowed.contains("MIT"), "deny.toml was read");
    let mut bad = Vec::new();
    let mut seen = 0;
    for manifest in ["Cargo.toml", "examples/Cargo.toml"] {
        for package in packages(manifest, &["--locked"]) {
            seen += 1;
            let licence = package["license"].as_str().unwrap_or_default();
            if !satisfied(licence, &allowed) {
                bad.push(format!(
                    "{} {}: {licence:?}",
                    package["name"], package["version"]
                ));
            }
        }
    }
    assert!(seen > 50, "the dependencies were listed");
    assert!(
        bad.is_empty(),
        "not allowed by deny.toml:\n{}",
        bad.join("\n")
    );
}
