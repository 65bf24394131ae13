//! `ocicatctl`, and `kubectl-ocicat`: what calicoctl is to Calico.

use std::process::ExitCode;

use clap::Parser;
use ocicatctl::cli::{self, Cli};

/// What a shell calls a program that SIGPIPE ended: 128 and the signal's number.
const PIPE: i32 = 141;

fn main() -> ExitCode {
    quiet_when_nobody_reads();
    let cli = Cli::parse_from(cli::understood(std::env::args_os()));
    let json = cli.global.output.format().is_json();
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

/// `ocicatctl get pods | head` is no crash: Rust ignores SIGPIPE, and printing panics then.
fn quiet_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.contains("Broken pipe")) {
            std::process::exit(PIPE);
        }
        usual(panic);
    }));
}
