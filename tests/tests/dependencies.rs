//! Who may depend on whom. The rules stand in ARCHITECTURE.md; this holds them, over what cargo itself reports.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The ocicat crates that each published crate may name, dev-dependencies included.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("ocicat-selectors", &[]),
    ("ocicat-ipam", &[]),
    ("ocicat-bgp", &[]),
    ("ocicat-dataplane", &[]),
    ("ocicat-cni", &[]),
    ("ocicat-datastore", &["ocicat-ipam", "ocicat-selectors"]),
    (
        "ocicat-policy",
        &["ocicat-selectors", "ocicat-datastore", "ocicat-dataplane"],
    ),
];

/// Foreign crates that only one of ours may name.
const RESERVED: [(&str, &str); 10] = [
    ("kube", "ocicat-datastore"),
    ("k8s-openapi", "ocicat-datastore"),
    ("etcd-client", "ocicat-datastore"),
    ("rusqlite", "ocicat-datastore"),
    ("rtnetlink", "ocicat-dataplane"),
    ("netlink-packet-core", "ocicat-dataplane"),
    ("netlink-packet-route", "ocicat-dataplane"),
    ("netlink-packet-netfilter", "ocicat-dataplane"),
    ("netlink-sys", "ocicat-dataplane"),
    ("netlink-proto", "ocicat-dataplane"),
];

#[derive(Debug)]
struct Dependency {
    name: String,
    optional: bool,
    dev: bool,
    default_features: bool,
}

fn packages(manifest: &str) -> BTreeMap<String, (Vec<Dependency>, Value)> {
    let list = common::packages(manifest, &["--no-deps"]);
    list.into_iter()
        .map(|package| {
            let name = package["name"].as_str().expect("a name").to_owned();
            let dependencies = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .map(|one| Dependency {
                    name: one["name"].as_str().expect("a name").to_owned(),
                    optional: one["optional"].as_bool().unwrap_or(false),
                    dev: one["kind"].as_str() == Some("dev"),
                    default_features: one["uses_default_features"].as_bool().unwrap_or(true),
                })
                .collect();
            (name, (dependencies, package["features"].clone()))
        })
        .collect()
}

#[test]
fn crates_know_only_whom_they_may() {
    let packages = packages("Cargo.toml");
    for (name, allowed) in ALLOWED {
        let (dependencies, _) = packages
            .get(name)
            .unwrap_or_else(|| panic!("{name} is a member"));
        for dependency in dependencies
            .iter()
            .filter(|one| one.name.starts_with("ocicat"))
        {
            assert!(
                allowed.contains(&dependency.name.as_str()),
                "{name} may not depend on {}",
                dependency.name
            );
        }
    }
}

#[test]
fn every_published_crate_has_a_rule() {
    let ruled: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let ours: BTreeSet<String> = packages("Cargo.toml")
        .into_keys()
        .filter(|name| !matches!(name.as_str(), "xtask" | "ocicat-tests"))
        .collect();
    assert_eq!(
        ours.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        ruled
    );
}

#[test]
fn foreign_systems_are_named_in_one_place() {
    for (name, (dependencies, _)) in packages("Cargo.toml") {
        if name == "ocicat-tests" {
            continue;
        }
        for dependency in &dependencies {
            if let Some((_, owner)) = RESERVED
                .iter()
                .find(|(foreign, _)| *foreign == dependency.name)
            {
                assert_eq!(name, *owner, "only {owner} may name {}", dependency.name);
                assert!(
                    dependency.optional || dependency.dev,
                    "{name} must have {} behind a feature",
                    dependency.name
                );
            }
        }
    }
}

#[test]
fn default_features_pull_in_nothing_heavy() {
    for (name, (dependencies, features)) in packages("Cargo.toml") {
        // `std` is pure: it only adds implementations for the standard library's types.
        let defaults = features["default"].as_array().cloned().unwrap_or_default();
        if name.starts_with("ocicat-") && name != "ocicat-tests" {
            assert!(
                defaults.iter().all(|one| one == "std"),
                "{name}: default features are empty or pure"
            );
        }
        for dependency in &dependencies {
            if dependency.name == "tokio" && name.starts_with("ocicat-") && name != "ocicat-tests" {
                assert!(
                    dependency.optional || dependency.dev,
                    "{name} must have tokio behind a feature"
                );
            }
        }
    }
}

#[test]
fn policy_takes_the_model_and_the_vocabulary_only() {
    let packages = packages("Cargo.toml");
    let (dependencies, _) = &packages["ocicat-policy"];
    for dependency in dependencies
        .iter()
        .filter(|one| one.name.starts_with("ocicat"))
    {
        assert!(
            !dependency.default_features,
            "policy takes {} without default features",
            dependency.name
        );
    }
}

#[test]
fn nothing_depends_on_the_examples() {
    let examples: BTreeSet<String> = packages("examples/Cargo.toml").into_keys().collect();
    for (name, (dependencies, _)) in packages("Cargo.toml") {
        for dependency in &dependencies {
            let own = packages("Cargo.toml").contains_key(&dependency.name);
            assert!(
                own || !examples.contains(&dependency.name),
                "{name} depends on an example: {}",
                dependency.name
            );
        }
    }
}

/// What a program is built from, when it is built alone.
fn tree(package: &str) -> String {
    let words = [
        "tree", "--edges", "normal", "--prefix", "none", "-p", package,
    ];
    common::cargo(&words, "examples/Cargo.toml")
}

#[test]
fn the_plugin_is_thin() {
    let tree = tree("ocicat");
    for heavy in [
        "tokio",
        "kube",
        "etcd-client",
        "rusqlite",
        "ocicat-datastore",
        "ocicat-bgp",
    ] {
        let found = tree
            .lines()
            .any(|line| line.split_whitespace().next() == Some(heavy));
        assert!(!found, "the CNI plugin must not be built from {heavy}");
    }
}
