//! `cargo xtask`: the commands of the project, for people and for CI alike.

use std::process::ExitCode;

mod api;
mod bench;
mod costs;
mod crds;
mod dist;
mod documents;
mod lab;
mod package;
mod stage;
mod system;
mod tests;
mod vm;
mod workspace;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  lab [ARGS]        install what is missing, build, and run the lab's demo (or `ocicat-lab ARGS`)
  test [--quick]    everything that has to hold: format, clippy, features, docs, tests, lab, packages
                    --quick: format, clippy and the tests only
  bench [NAME..]    what things cost: policy, ipam, dataplane; bgp [--help]; all of them without a name
  vm [lab]          the kernel tests and the lab's IP in IP on Debian's kernel under qemu; lab: that alone
  package           package every crate and build a program against each archive, outside the workspace
  dist              static programs, the image, the manifests and their checksums, in target/dist
  documents         run the commands that documents show, and look for what they say is printed (build first: lab)
  costs [--write]   what each crate costs who adds it; --write measures builds, too, and updates README.md;
                    --check compares README.md but for the times
  crds [--check]    write examples/deploy/crds, the definitions for the Kubernetes API; --check compares
  api [--bless]     compare the public API of every crate with its snapshot; --bless writes the snapshots
  system [--tests]  install the system packages that building and the lab (or the tests) need
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let flags: Vec<&str> = rest.iter().map(String::as_str).collect();
    let outcome = match (command.as_str(), flags.as_slice()) {
        ("lab", _) => lab::run(&rest),
        ("test", []) => tests::run(false),
        ("test", ["--quick"]) => tests::run(true),
        ("bench", names) => bench::run(names),
        ("vm", []) => vm::run(),
        ("vm", ["lab"]) => vm::run_lab(),
        ("package", []) => package::run(),
        ("dist", []) => dist::dist(),
        ("documents", []) => documents::run_all(),
        ("costs", []) => costs::run_costs(false),
        ("costs", ["--write"]) => costs::run_costs(true),
        ("costs", ["--check"]) => costs::check(),
        ("crds", []) => crds::run(false),
        ("crds", ["--check"]) => crds::run(true),
        ("api", []) => api::run(false),
        ("api", ["--bless"]) => api::run(true),
        ("system", []) => system::install(system::Purpose::Lab),
        ("system", ["--tests"]) => system::install(system::Purpose::Tests),
        ("help" | "--help" | "-h", _) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
