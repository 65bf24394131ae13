//! Where things are, and what the workspaces consist of.

use std::path::PathBuf;
use std::process::Command;

/// The published crates, in the order in which they can be published.
pub(crate) const CRATES: [&str; 7] = [
    "ocicat-selectors",
    "ocicat-ipam",
    "ocicat-bgp",
    "ocicat-dataplane",
    "ocicat-cni",
    "ocicat-datastore",
    "ocicat-policy",
];

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .map_or_else(|| here.clone(), std::path::Path::to_path_buf)
}

/// The manifest of the examples' workspace.
pub(crate) fn examples() -> PathBuf {
    root().join("examples/Cargo.toml")
}

/// The folder of a published crate: its name without `ocicat-`.
pub(crate) fn folder(name: &str) -> PathBuf {
    root().join(name.trim_start_matches("ocicat-"))
}

/// The target folder in use.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Cargo, run at the root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
