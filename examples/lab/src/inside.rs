//! The inside process: builds a cluster and serves commands, or runs the demo.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::launch::{Launch, Soak};
use crate::output::Output;
use crate::scenario::Scenario;
use crate::serve::Server;
use crate::{background, demo, soak, trial};

/// How long routes may take to be everywhere after the last pod has been made.
const CONVERGE: Duration = Duration::from_secs(20);

/// Does what the outer process asked for.
///
/// # Errors
/// When there is no order, or threads cannot be started.
pub fn main() -> Result<ExitCode> {
    let launch = Launch::load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()?;
    runtime.block_on(run(launch))
}

async fn run(launch: Launch) -> Result<ExitCode> {
    let output = if launch.attached {
        Output::silent()
    } else {
        Output::stdout()
    };
    let server = match launch.attached {
        true => Some(Server::start(background::listener()?, output.clone())?),
        false => None,
    };
    if launch.attached {
        wait_for_attachment(&output).await;
    }
    let (cluster, code) = match launch.demo {
        None if launch.soak.is_some() => {
            let options = launch.soak.unwrap_or(Soak {
                seconds: 0,
                seed: 1,
            });
            (None, soak::run(&launch, options, &output).await)
        }
        None if launch.test => (None, trial::run(&launch, &output).await),
        Some(options) => demo::run(&launch, options, &output).await,
        None => up(&launch, &output).await,
    };
    match server {
        Some(server) if cluster.is_some() => {
            server.up(cluster, code).await;
            std::future::pending::<()>().await;
        }
        Some(server) => {
            server.up(None, code).await;
            server.told().await;
        }
        None => {}
    }
    Ok(ExitCode::from(code))
}

/// The command that started the lab listens before the first line is said, so that none is lost.
async fn wait_for_attachment(output: &Output) {
    let attached = Arc::clone(output.attached());
    let _ = tokio::time::timeout(Duration::from_secs(5), attached.notified()).await;
}

async fn up(launch: &Launch, output: &Output) -> (Option<Cluster>, u8) {
    match build(launch, output).await {
        Ok(cluster) => (Some(cluster), 0),
        Err(error) => {
            output.line(format!("{error:#}"));
            (None, 1)
        }
    }
}

async fn build(launch: &Launch, output: &Output) -> Result<Cluster> {
    let file = &launch.bundle.scenario;
    let scenario = Scenario::parse(&file.name, &file.text)?;
    let (name, pods) = (scenario.name.clone(), scenario.pods.clone());
    let mut cluster = Cluster::build(scenario).await?;
    output.timed(format!(
        "{} nodes, {} hosts and a router are wired",
        cluster.underlay.nodes.len(),
        cluster.underlay.hosts.len()
    ));
    cluster.start_agents()?;
    cluster.agents_ready().await?;
    output.timed("every agent is ready");
    let mut written = Vec::new();
    for file in &launch.bundle.manifests {
        written.extend(
            cluster
                .apply(&ocicatctl::manifest::read(&file.name, &file.text)?)
                .await?,
        );
    }
    written.extend(cluster.add_pods(pods).await?);
    output.timed(format!("{} pods run", cluster.pods.len()));
    cluster.enforce(&written).await?;
    cluster.converged(CONVERGE).await?;
    output.timed("every policy is in force, every pod has a route everywhere");
    output.line(explore(&name));
    Ok(cluster)
}

/// How to look around in a lab that runs.
#[must_use]
pub fn explore(name: &str) -> String {
    format!(
        "lab {name} is up:\n  ocicat-lab exec --name {name} node:NODE -- ip route\n  ocicat-lab exec --name {name} NAMESPACE/POD -- sh\n  \
         ocicat-lab probe --name {name}\n  ocicat-lab apply --name {name} -f POLICY\n  ocicat-lab down {name}"
    )
}
