//! `ocicatctl`, and `kubectl-ocicat`: what calicoctl is to Calico.

use std::process::ExitCode;

use clap::Parser;
use ocicatctl::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.output.is_json();
    match ocicatctl::run::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if json {
                eprintln!("{}", failure.to_json());
            } else {
                eprintln!("{failure}");
            }
            failure.code().into()
        }
    }
}
