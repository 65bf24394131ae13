//! The tree, and what cargo says of it.

#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests has a parent folder")
        .to_path_buf()
}

/// What cargo prints when it is called with `words` for a workspace of the tree, named by its Cargo.toml.
pub(crate) fn cargo(words: &[&str], manifest: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(words)
        .arg("--manifest-path")
        .arg(root().join(manifest))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints text")
}

/// The packages of a workspace, as `cargo metadata` lists them.
pub(crate) fn packages(manifest: &str, more: &[&str]) -> Vec<Value> {
    let words = [&["metadata", "--format-version", "1"], more].concat();
    let metadata: Value =
        serde_json::from_str(&cargo(&words, manifest)).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("packages").clone()
}
