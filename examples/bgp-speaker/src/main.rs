//! `ocicat-bgpd`: see the crate's documentation.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ocicat_bgpd::{config, control, run};

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
    /// How many neighbours and prefixes a running speaker has.
    Status(Question),
    /// Each neighbour of a running speaker.
    Neighbors(Question),
    /// Each prefix with its paths.
    Routes(Question),
    /// The counters, as Prometheus reads them.
    Metrics(Question),
}

#[derive(Args)]
struct Question {
    /// Where the speaker answers.
    #[arg(long, default_value = config::SOCKET)]
    socket: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let (question, word) = match Arguments::parse().command {
        Command::Run { config, listen } => {
            return match run::run(&config, listen) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error, 1),
            };
        }
        Command::Status(question) => (question, "status"),
        Command::Neighbors(question) => (question, "neighbors"),
        Command::Routes(question) => (question, "routes"),
        Command::Metrics(question) => (question, "metrics"),
    };
    match control::ask(&question.socket, word) {
        Ok(answer) => {
            let text = if question.json {
                format!("{answer}\n")
            } else {
                control::text(&answer)
            };
            // A closed pipe, as of `head`, is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error, 6),
    }
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("ocicat-bgpd: {error:#}");
    ExitCode::from(code)
}
