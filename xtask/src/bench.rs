//! `cargo xtask bench`: what things cost, in release builds.

use crate::stage;
use crate::workspace::cargo;

/// The commands of each benchmark, by name.
const BENCHES: [(&str, &[&[&str]]); 3] = [
    (
        "policy",
        &[
            &["run", "-p", "ocicat-selectors", "--example", "cost"],
            &["run", "-p", "ocicat-policy", "--example", "cost"],
        ],
    ),
    ("ipam", &[&["bench", "-p", "ocicat-ipam", "--all-features"]]),
    (
        "dataplane",
        &[&["bench", "-p", "ocicat-dataplane", "--all-features"]],
    ),
];

/// Runs the benchmarks of these names; all without any.
pub(crate) fn run(names: &[&str]) -> Result<(), String> {
    let unknown = |name: &&&str| !BENCHES.iter().any(|(bench, _)| bench == *name);
    if let Some(unknown) = names.iter().find(unknown) {
        let all: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "no benchmark {unknown}; there are {}",
            all.join(", ")
        ));
    }
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    for (_, commands) in BENCHES.iter().filter(|(name, _)| wanted(name)) {
        for command in *commands {
            let mut cargo = cargo();
            cargo.args(*command).args(["--quiet", "--locked"]);
            if command[0] == "run" {
                cargo.arg("--release");
            }
            stage::run(&mut cargo)?;
        }
    }
    Ok(())
}
