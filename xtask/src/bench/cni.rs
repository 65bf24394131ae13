//! `cargo xtask bench cni`: attaching pods, beside the reference plugins. The measuring is in tests/benches/cni.rs.

use std::path::Path;

use crate::system::{self, Purpose};
use crate::{dist, stage, workspace};

/// Builds the plugin as it is shipped and the agent, both optimised, and runs the benchmark with them.
pub(crate) fn run() -> Result<(), String> {
    if !system::is_root() {
        return Err("the benchmark makes network namespaces and links: run it as root".to_owned());
    }
    system::install(Purpose::Tests)?;
    let folder = workspace::target().join("bench-cni");
    std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
    let mut programs = dist::static_programs("ocicat", &["ocicat", "ocicat-ipam"])?;
    programs.extend(dist::static_programs("ocicat-node", &["ocicat-node"])?);
    for program in programs {
        let to = folder.join(program.file_name().unwrap_or_default());
        std::fs::copy(&program, &to).map_err(|error| failed(&program, &error))?;
    }
    let mut bench = workspace::cargo();
    // The one that measures starts programs and waits for them: how it is compiled itself does not matter.
    bench.args(["bench", "--quiet", "--profile", "dev"]);
    bench.args(["-p", "ocicat-tests", "--bench", "cni"]);
    stage::run(bench.env("OCICAT_PROGRAMS", &folder))
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
