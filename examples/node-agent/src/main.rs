//! `ocicat-node`: the reference node agent as a program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ocicat_node::agent::Agent;
use ocicat_node::config::{Config, LogConfig, LogFormat};
use ocicat_node::log::ErrorCount;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The node agent: claims address blocks, speaks BGP, programs routes and policy, serves the CNI plugin.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file; without, /etc/ocicat/node.toml if it is there.
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Removes what agents have left on this node: kernel, plugins, configuration, state. Stop the agent first. Does all that
    /// can be done; exit code 1 when something could not be removed.
    Uninstall {
        /// Then wait to be ended: as a DaemonSet it is done once on each node.
        #[arg(long)]
        stay: bool,
    },
}

const DEFAULT_CONFIG: &str = "/etc/ocicat/node.toml";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let default = || Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.exists());
    let path = arguments.config.or_else(default);
    let config = match Config::load(path.as_deref(), ocicat_node::config::variables()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ocicat-node: {error}");
            return ExitCode::from(2);
        }
    };
    log(&config.log);
    for warning in &config.warnings {
        tracing::warn!(warning, "a setting is not followed");
    }
    let done = match arguments.command {
        Some(Command::Uninstall { stay }) => uninstall(&config, stay),
        None => run(config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = format!("{error:#}");
            if arguments.command.is_none() {
                tracing::error!(error, "the agent cannot run");
            }
            eprintln!("ocicat-node: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let shutdown = ending()?;
        anyhow::Ok(Agent::new(config).run(shutdown).await?)
    });
    // Blocking threads may still wait for the kernel; nothing of theirs is needed any more.
    runtime.shutdown_background();
    outcome
}

fn uninstall(config: &Config, stay: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(ocicat_node::uninstall::run(config))?;
    for removed in outcome.removed {
        println!("{removed}");
    }
    for left in outcome.left {
        println!("left: {left}");
    }
    if !outcome.faults.is_empty() {
        anyhow::bail!("not removed:\n{}", outcome.faults.join("\n"));
    }
    if stay {
        runtime.block_on(async {
            ending()?.await;
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// Is done when somebody ends this program.
fn ending() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn log(config: &LogConfig) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let logs = match config.format {
        LogFormat::Text => logs.boxed(),
        LogFormat::Json => logs.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(logs)
        .with(ErrorCount)
        .init();
}
