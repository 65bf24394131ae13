//! What the documents say about the tree is so, and files stay small enough to be read.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::root;

const LONGEST: usize = 500;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .expect("a folder of the tree")
        .flatten()
    {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_is_longer_than_it_may_be() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    assert!(files.len() > 100, "the tree was found");
    let long: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(path)
                .expect("a source file")
                .lines()
                .count();
            (lines > LONGEST).then(|| format!("{} has {lines} lines", path.display()))
        })
        .collect();
    assert!(
        long.is_empty(),
        "at most {LONGEST} lines a file:\n{}",
        long.join("\n")
    );
}

#[test]
fn no_module_is_in_a_mod_rs() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    // What several integration tests share has to be in a folder, or cargo takes it for a test of its own.
    let shared = |path: &Path| {
        path.parent()
            .and_then(Path::parent)
            .is_some_and(|folder| folder.ends_with("tests"))
    };
    let bad: Vec<_> = files
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "mod.rs") && !shared(path))
        .collect();
    assert!(bad.is_empty(), "x.rs stands beside x/: {bad:?}");
}

/// Paths in backticks or links that begin with a folder of the tree.
fn paths(document: &str) -> Vec<String> {
    let folders = [
        "selectors/",
        "ipam/",
        "bgp/",
        "dataplane/",
        "datastore/",
        "policy/",
        "cni/",
        "tests/",
        "examples/",
        "xtask/",
    ];
    document
        .split(|c: char| c.is_whitespace() || matches!(c, '`' | '(' | ')' | '[' | ']' | ',' | ';'))
        .filter(|word| folders.iter().any(|folder| word.starts_with(folder)))
        .map(|word| word.trim_end_matches(['.', ':']).to_owned())
        .collect()
}

#[test]
fn documents_name_files_that_are_there() {
    let mut missing = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).expect("a document");
        for path in paths(&text) {
            if !root().join(&path).exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "not in the tree:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_crate_has_its_papers() {
    for name in [
        "selectors",
        "ipam",
        "bgp",
        "dataplane",
        "datastore",
        "policy",
        "cni",
    ] {
        for file in [
            "README.md",
            "CHANGELOG.md",
            "LICENSE-MIT",
            "LICENSE-APACHE",
            "public-api.txt",
        ] {
            assert!(root().join(name).join(file).is_file(), "{name}/{file}");
        }
        let readme = fs::read_to_string(root().join(name).join("README.md")).expect("a README");
        assert!(
            readme.contains("```"),
            "{name}/README.md shows how the crate is used"
        );
    }
}

/// What it does to links, routes and nftables it asks of the kernel: `ip`, `nft` and the like are needed by tests alone.
#[test]
fn the_dataplane_starts_no_program() {
    let mut files = Vec::new();
    sources(&root().join("dataplane/src"), &mut files);
    files.retain(|path| !path.ends_with("tests.rs"));
    assert!(files.len() > 50, "the crate was found");
    for path in files {
        let text = fs::read_to_string(&path).expect("a source file");
        for line in text.lines().filter(|line| !line.trim().starts_with("//")) {
            let starts = ["process::", "Command::", "posix_spawn", "execv"];
            let word = starts.iter().find(|word| line.contains(**word));
            let own_id = line.contains("std::process::id()");
            assert!(word.is_none() || own_id, "{}: {line}", path.display());
        }
    }
}
