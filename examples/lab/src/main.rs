//! `ocicat-lab`: a cluster on one machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    ocicat_lab::cli::main()
}
