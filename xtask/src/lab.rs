//! `cargo xtask lab`: install, build, run.

use std::path::PathBuf;
use std::process::Command;

use crate::system::{self, Purpose};
use crate::{documents, stage, workspace};

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

/// The folder of the scenarios.
pub(crate) fn scenarios() -> PathBuf {
    workspace::root().join("examples/lab/scenarios")
}

/// The demo on both datastores, every scenario that says what it expects, and two minutes of random churn.
pub(crate) fn stages(stages: &mut stage::Stages) -> Result<(), String> {
    let lab = |arguments: &[&str]| {
        let mut lab = Command::new(workspace::target().join("debug/ocicat-lab"));
        lab.args(arguments);
        lab
    };
    stages.command("lab", &mut lab(&["demo"]))?;
    stages.command("lab on etcd", &mut lab(&["demo", "--datastore", "etcd"]))?;
    for scenario in tested()? {
        let name = scenario.file_stem().unwrap_or_default().to_string_lossy();
        let file = scenario.to_string_lossy();
        let test = &mut lab(&["test", "-f", &file]);
        stages.command(&format!("lab scenario {name}"), test)?;
    }
    stages.step("documents", documents::run_all)?;
    stages.command("lab soak", &mut lab(&["soak", "--minutes", "2"]))
}

/// The scenarios with steps, but the one that only the virtual machine's kernel can run.
fn tested() -> Result<Vec<PathBuf>, String> {
    let folder = scenarios();
    let fault = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let elsewhere = path.file_stem().is_some_and(|name| name == "ipip");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.contains("\nsteps:\n") && !elsewhere {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Builds the programs that the lab consists of; returns the folder that they are in.
///
/// The plugin is built on its own, so that no feature that the agent asks of a shared crate gets into it.
pub(crate) fn build() -> Result<PathBuf, String> {
    for packages in [
        &["ocicat"][..],
        &["ocicat-node", "ocicat-bgpd", "ocicat-lab", "ocicatctl"],
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
