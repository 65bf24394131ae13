//! `cargo xtask test`: everything that has to hold.

use std::process::Command;

use crate::stage::Stages;
use crate::system::{self, Purpose};
use crate::workspace::{self, CRATES, cargo};
use crate::{api, costs, crds, lab, package, vm};

const EXAMPLES: &str = "examples/Cargo.toml";

/// Runs all the stages, or the inner loop's.
pub(crate) fn run(quick: bool) -> Result<(), String> {
    let mut stages = Stages::default();
    let outcome = all(&mut stages, quick);
    stages.summary();
    outcome
}

fn all(stages: &mut Stages, quick: bool) -> Result<(), String> {
    stages.step("system packages", || system::install(Purpose::Tests))?;
    format(stages)?;
    clippy(stages)?;
    if !quick {
        features(stages)?;
        docs(stages)?;
    }
    tests(stages)?;
    if quick {
        return Ok(());
    }
    licences(stages)?;
    stages.step("public API", || api::run(false))?;
    stages.step("definitions", || crds::run(true))?;
    stages.step("costs in README.md", costs::check)?;
    stages.step("packages", package::run)?;
    lab::stages(stages)?;
    stages.step("virtual machine", vm::run)
}

/// `cargo deny` sees doubled versions and forbidden sources too; licences are also checked by a test that needs no
/// further program.
fn licences(stages: &mut Stages) -> Result<(), String> {
    let there = cargo()
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        println!(
            "--- cargo deny is not installed here; licences were checked by tests/tests/licences.rs alone"
        );
        return Ok(());
    }
    let check = ["deny", "--offline", "check", "licenses", "bans", "sources"];
    stages.command("cargo deny", cargo().args(check))
}

fn format(stages: &mut Stages) -> Result<(), String> {
    stages.command("format", cargo().args(["fmt", "--all", "--check"]))?;
    let mut examples = cargo();
    examples
        .args(["fmt", "--all", "--check", "--manifest-path"])
        .arg(workspace::examples());
    stages.command("format examples", &mut examples)
}

fn clippy(stages: &mut Stages) -> Result<(), String> {
    let flags = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--all-features",
    ];
    let deny = ["--", "-D", "warnings"];
    stages.command("clippy", cargo().args(flags).args(deny))?;
    let mut examples = cargo();
    examples
        .args(flags)
        .arg("--manifest-path")
        .arg(workspace::examples())
        .args(deny);
    stages.command("clippy examples", &mut examples)
}

/// Each crate on its own with no features, with its default ones and with all of them, so that none leans on what
/// another one of the workspace happens to switch on.
fn features(stages: &mut Stages) -> Result<(), String> {
    for name in CRATES {
        stages.step(&format!("{name} alone"), || {
            for set in [&["--no-default-features"][..], &[], &["--all-features"]] {
                crate::stage::run(
                    cargo()
                        .args(["check", "--quiet", "--locked", "-p", name])
                        .args(set),
                )?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn docs(stages: &mut Stages) -> Result<(), String> {
    let flags = [
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--all-features",
    ];
    stages.command(
        "docs",
        cargo().args(flags).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    let mut examples = cargo();
    examples
        .args(flags)
        .arg("--manifest-path")
        .arg(workspace::examples());
    stages.command("docs examples", examples.env("RUSTDOCFLAGS", "-D warnings"))
}

fn tests(stages: &mut Stages) -> Result<(), String> {
    // The programs come first: tests of the assembly run them.
    stages.step("build programs", || lab::build().map(|_| ()))?;
    let root: Vec<&str> = vec!["--workspace", "--all-features"];
    let examples: Vec<&str> = vec!["--workspace"];
    test(stages, "tests", &root, None)?;
    test(stages, "tests examples", &examples, Some(EXAMPLES))?;
    // Tests that are ignored where what they read is not at hand.
    let agent = workspace::target().join("debug/ocicat-node");
    let plugin = ["-p", "ocicat", "--test", "with_agent", "--", "--ignored"];
    with(
        stages,
        "plugin and agent",
        &plugin,
        Some(EXAMPLES),
        ("OCICAT_NODE", agent.as_os_str()),
    )?;
    // Its store would come along into the thin plugins if it were built with them.
    let direct = ["-p", "ocicat", "--features", "direct", "--test", "direct"];
    let mut without_agent = cargo();
    without_agent.args(["test", "--locked", "--manifest-path", EXAMPLES]);
    stages.tests("plugin without an agent", without_agent.args(direct))?;
    simulation(stages)?;
    runtimes(stages)?;
    third_opinion(stages)?;
    if let Some(data) = std::env::var_os("OCICAT_CALICO_DATA") {
        let flags = [
            "-p",
            "ocicat-datastore",
            "--all-features",
            "--test",
            "calico_data",
            "--",
            "--ignored",
        ];
        with(
            stages,
            "Calico's own objects",
            &flags,
            None,
            ("OCICAT_CALICO_DATA", data.as_os_str()),
        )?;
    }
    Ok(())
}

/// Address management on a virtual clock, 10,000 short runs and 100 long ones; a build for debugging takes ten times as long.
fn simulation(stages: &mut Stages) -> Result<(), String> {
    let mut command = cargo();
    command.args(["test", "--locked", "--release", "-p", "ocicat-ipam"]);
    command.args(["--features", "testing", "--test", "simulation"]);
    stages.tests("address management, simulated", &mut command)
}

/// Container runtimes with ocicat as their network. They need the real root.
fn runtimes(stages: &mut Stages) -> Result<(), String> {
    if !system::is_root() {
        println!("--- container runtimes need root: containerd and podman were not tried");
        return Ok(());
    }
    let mut command = cargo();
    command.args([
        "test",
        "--locked",
        "-p",
        "ocicat-tests",
        "--test",
        "runtimes",
    ]);
    stages.tests("container runtimes", command.args(["--", "--ignored"]))
}

/// What policies mean, in the opinion of PyPI's network-config-analyzer, which is installed for it.
fn third_opinion(stages: &mut Stages) -> Result<(), String> {
    const ANALYZER: &str = "network-config-analyzer==2.1.0";
    let home = workspace::target().join("network-config-analyzer");
    let program = home.join("bin/nca");
    if !program.exists() {
        let mut venv = Command::new("python3");
        stages.command("Python of its own", venv.args(["-m", "venv"]).arg(&home))?;
        let mut pip = Command::new(home.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        stages.command("network-config-analyzer", pip.arg(ANALYZER))?;
    }
    let test = "policy_third_opinion";
    let flags = ["-p", "ocicat-tests", "--test", test, "--", "--ignored"];
    let variable = ("OCICAT_NCA", program.as_os_str());
    with(
        stages,
        "a third opinion on policies",
        &flags,
        None,
        variable,
    )
}

/// Runs tests that want something from the environment.
fn with(
    stages: &mut Stages,
    name: &str,
    flags: &[&str],
    manifest: Option<&str>,
    variable: (&str, &std::ffi::OsStr),
) -> Result<(), String> {
    let mut command = cargo();
    command.args(["test", "--locked"]);
    if let Some(manifest) = manifest {
        command.args(["--manifest-path", manifest]);
    }
    stages.tests(name, command.args(flags).env(variable.0, variable.1))
}

/// Builds tests as we are, then runs them as root: the real one, or that of a user namespace of our own.
fn test(
    stages: &mut Stages,
    name: &str,
    flags: &[&str],
    manifest: Option<&str>,
) -> Result<(), String> {
    let mut arguments = vec!["test", "--locked"];
    arguments.extend(flags);
    if let Some(manifest) = manifest {
        arguments.extend(["--manifest-path", manifest]);
    }
    stages.command(
        &format!("build {name}"),
        cargo().args(&arguments).arg("--no-run"),
    )?;
    if system::is_root() {
        println!("--- {name} run as root");
        return stages.tests(name, cargo().args(&arguments).arg("--no-fail-fast"));
    }
    println!("--- {name} run as root of a user namespace of their own");
    let mut unshare = Command::new("unshare");
    unshare.current_dir(workspace::root()).args([
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "sh",
        "-c",
    ]);
    unshare
        .arg("mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$@\"")
        .arg("sh");
    unshare
        .arg("cargo")
        .args(&arguments)
        .args(["--offline", "--no-fail-fast"]);
    stages.tests(name, &mut unshare)
}
