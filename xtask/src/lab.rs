//! `cargo xtask lab`: install, build, run.

use std::path::PathBuf;
use std::process::Command;

use crate::system::{self, Purpose};
use crate::{stage, workspace};

/// Installs what is missing, builds the programs, and runs `ocicat-lab` with the arguments (default: `demo`).
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    system::install(Purpose::Lab)?;
    let folder = build()?;
    let mut lab = Command::new(folder.join("ocicat-lab"));
    if arguments.is_empty() {
        lab.arg("demo");
    } else {
        lab.args(arguments);
    }
    let status = lab
        .status()
        .map_err(|error| format!("cannot run ocicat-lab: {error}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => Err(format!("ocicat-lab: {status}")),
    }
}

/// Builds the programs that the lab consists of; returns the folder that they are in.
///
/// The plugin is built on its own, so that no feature that the agent asks of a shared crate gets into it.
pub(crate) fn build() -> Result<PathBuf, String> {
    for packages in [
        &["ocicat"][..],
        &["ocicat-node", "ocicat-bgpd", "ocicat-lab"],
    ] {
        let mut cargo = workspace::cargo();
        cargo
            .args(["build", "--bins", "--manifest-path"])
            .arg(workspace::examples());
        for package in packages {
            cargo.args(["-p", package]);
        }
        stage::run(&mut cargo)?;
    }
    Ok(workspace::target().join("debug"))
}
