//! `cargo xtask bench`: what things cost, in release builds.

mod bgp;
mod cni;
mod dataplane;

use crate::stage;
use crate::workspace::cargo;

/// The commands of each benchmark, by name.
const BENCHES: [(&str, &[&[&str]]); 3] = [
    (
        "policy",
        &[
            &["run", "-p", "ocicat-selectors", "--example", "cost"],
            // The shape of the cost: a tenth of the cluster, the cluster, ten of it.
            &["run", "-p", "ocicat-policy", "--example", "cost", "0.1"],
            &["run", "-p", "ocicat-policy", "--example", "cost", "1"],
            &["run", "-p", "ocicat-policy", "--example", "cost", "10"],
        ],
    ),
    (
        "ipam",
        &[
            &[
                "bench",
                "-p",
                "ocicat-ipam",
                "--features=testing",
                "--bench=ipam",
            ],
            &[
                "bench",
                "-p",
                "ocicat-datastore",
                "--features=etcd,ipam,memory,sqlite",
                "--bench=stores",
            ],
        ],
    ),
    (
        "agent",
        &[&[
            "run",
            "--manifest-path",
            "examples/Cargo.toml",
            "--package=ocicat-node",
            "--example=scale",
        ]],
    ),
];

/// Runs the benchmarks of these names; all without any.
pub(crate) fn run(names: &[&str]) -> Result<(), String> {
    if let Some((&"bgp", arguments)) = names.split_first() {
        return bgp::run(arguments);
    }
    if names == ["cni"] {
        return cni::run();
    }
    if names == ["dataplane"] {
        return dataplane::run();
    }
    let unknown = |name: &&&str| !BENCHES.iter().any(|(bench, _)| bench == *name);
    if let Some(unknown) = names.iter().find(unknown) {
        let all: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "no benchmark {unknown}; there are bgp, cni, dataplane, {}",
            all.join(", ")
        ));
    }
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    for (_, commands) in BENCHES.iter().filter(|(name, _)| wanted(name)) {
        for command in *commands {
            let mut cargo = cargo();
            // What follows the fifth word is the program's own.
            let (own, program) = command.split_at(command.len().min(5));
            cargo.args(own).args(["--quiet", "--locked"]);
            if command[0] == "run" {
                cargo.arg("--release");
            }
            if !program.is_empty() {
                cargo.arg("--").args(program);
            }
            stage::run(&mut cargo)?;
        }
    }
    if names.is_empty() {
        dataplane::run()?;
        cni::run()?;
        return bgp::run(&["--runs", "1"]);
    }
    Ok(())
}
