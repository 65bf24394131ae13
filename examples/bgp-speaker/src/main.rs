//! `ocicat-bgpd`: see the crate's documentation.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A stand-alone BGP speaker and route reflector.
#[derive(Parser)]
#[command(name = "ocicat-bgpd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs in the foreground until SIGTERM (Cease) or SIGUSR2 (silent, for graceful restart). SIGHUP reloads.
    Run {
        /// The configuration: JSON when the name ends with .json, else TOML.
        #[arg(long, default_value = "/etc/ocicat/bgpd.toml")]
        config: PathBuf,
        /// Where to listen, instead of the configuration's addr and port.
        #[arg(long)]
        listen: Option<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let Command::Run { config, listen } = Arguments::parse().command;
    match ocicat_bgpd::run::run(&config, listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ocicat-bgpd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
