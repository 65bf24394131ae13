//! `connectivity`: whether packets arrive, asked with pods of its own.
//!
//! On Kubernetes a namespace with a server on every node, and clients that ask all of them: on the same node, across nodes, by
//! a Service, under a policy that forbids it and after it has been taken away. Elsewhere the same with containers on this host,
//! by the CNI plugins that are installed, and what is already there of other nodes is asked from them.

mod api;
mod cluster;
mod host;
mod plan;
mod pods;
mod probe;
mod report;
mod serve;
mod space;
mod survey;

use std::time::Duration;

use crate::cli::{self, Global};
use crate::connection::Connection;
use crate::failure::Failure;

/// The namespace of everything that a test makes.
pub(crate) const NAMESPACE: &str = "ocicat-connectivity";
/// Why a test ended that somebody ended.
const INTERRUPTED: &str = "interrupted";
/// What the servers listen on.
pub(crate) const PORT: u16 = 8080;

/// Does what the arguments say.
///
/// # Errors
/// [`Failure::Found`] when something was not as it should be; what it is has been printed.
pub async fn run(global: &Global, command: cli::Connectivity) -> Result<(), Failure> {
    match command {
        cli::Connectivity::Test(args) => test(global, &args).await,
        cli::Connectivity::Serve { name, port } => serve::run(&name, port).await,
        cli::Connectivity::Probe(args) => probe::run(&args),
    }
}

async fn test(global: &Global, args: &cli::ConnectivityTest) -> Result<(), Failure> {
    let at = Connection::open(global)?;
    let report = if at.kubernetes {
        let url = crate::connection::url(global)?;
        cluster::test(&at, &url, args).await?
    } else {
        host::test(&at, args).await?
    };
    report.print(global.output.format())
}

/// How long the asking of a test may take before an answer counts as none.
fn limit(args: &cli::ConnectivityTest) -> Duration {
    Duration::from_millis(args.timeout)
}

/// Does something that can be interrupted (SIGINT, SIGTERM): it is dropped then, and the caller cleans up.
async fn or_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(Failure::Failed(INTERRUPTED.into())),
        _ = terminate.recv() => Err(Failure::Failed(INTERRUPTED.into())),
    }
}
