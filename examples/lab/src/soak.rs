//! Random churn for as long as it is asked for, and what must be true all the same.
//!
//! Pods, policies and nodes come and go, agents are killed and restarted, etcd is killed. Between bouts everything is let
//! settle, and then packets must find what policy says, addresses must be those of the pods that there are, and no
//! process or routing table may have grown beyond what it was at the first such moment.

mod churn;
mod growth;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cluster::Cluster;
use crate::demo::report::Report;
use crate::demo::{judge, shown, until};
use crate::launch::{Launch, Soak};
use crate::output::Output;
use crate::scenario::Scenario;
use crate::table::{self, Judged};
use churn::Churn;
use growth::Growth;

/// How long things are churned before everything must be right again.
const BOUT: Duration = Duration::from_secs(12);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a soak; the exit code is 4 when something is not as it must be.
pub async fn run(launch: &Launch, options: Soak, output: &Output) -> u8 {
    let mut report = Report::new(output.clone());
    if let Err(error) = all(launch, options, &mut report).await {
        report.broken(&error);
    }
    if report.end() { 0 } else { 4 }
}

async fn all(launch: &Launch, options: Soak, report: &mut Report) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let file = &launch.bundle.scenario;
    let scenario = Scenario::parse(&file.name, &file.text)?;
    report.step(1, &format!("The cluster is built; seed {}", options.seed));
    let pods = scenario.pods.clone();
    let mut cluster = Cluster::build(scenario).await?;
    cluster.start_agents()?;
    cluster.agents_ready().await?;
    let written = cluster.add_pods(pods).await?;
    cluster.enforce(&written).await?;
    settle(&cluster, report).await?;
    let mut churn = Churn::new(options.seed);
    let mut growth = Growth::default();
    let mut bout = 1;
    while Instant::now() < until {
        bout += 1;
        let left = until.saturating_duration_since(Instant::now());
        report.step(bout, &format!("Churn; {} left", shown(left)));
        let end = Instant::now() + BOUT.min(left);
        while Instant::now() < end {
            churn.one(&mut cluster).await?;
        }
        let done = churn.recover(&mut cluster).await?;
        report.say(done);
        settle(&cluster, report).await?;
        right(&cluster, report).await?;
        growth.look(&cluster).await?;
    }
    report.step(bout + 1, "Nothing has grown");
    growth.judge(report);
    report.figure("bouts", bout - 1);
    for (name, count) in churn.counts() {
        report.figure(name, count);
    }
    Ok(())
}

/// Every session is up, every pod has a route everywhere, and nothing is in the kernel that is not wanted.
async fn settle(cluster: &Cluster, report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let sessions = until(PATIENCE, || cluster.sessions_established()).await?;
    let routes = cluster.converged(PATIENCE).await;
    let seen = match (&sessions, &routes) {
        (None, _) => "not every BGP session is established".to_owned(),
        (_, Err(error)) => format!("{error:#}"),
        _ => shown(began.elapsed()),
    };
    let good = sessions.is_some() && routes.is_ok();
    report.check(good, "sessions and routes are there", seen);
    Ok(())
}

async fn right(cluster: &Cluster, report: &mut Report) -> Result<()> {
    let probes = cluster.all_pairs();
    let expected = cluster.expected(&probes).await?;
    let judged = judge(cluster, probes, expected).await?;
    let wrong: Vec<&Judged> = judged.iter().filter(|one| !one.holds()).collect();
    let first = wrong.iter().take(6).map(|one| table::answer(&one.answer));
    let first = first.collect::<Vec<_>>().join("; ");
    let seen = format!("{} of {} differ {first}", wrong.len(), judged.len());
    report.check(wrong.is_empty(), "packets find what policy says", seen);
    let leaks = cluster.leaks().await?;
    let wanted: usize = cluster.pods.values().map(|pod| pod.addresses.len()).sum();
    let held = cluster.held_addresses().await?.len();
    let findings = leaks.findings.iter().take(5).map(ToString::to_string);
    let findings = findings.collect::<Vec<_>>().join("; ");
    let seen = format!("{held} held for {wanted} of pods {findings}");
    let clean = leaks.is_clean() && held == wanted;
    report.check(clean, "no address is leaked", seen);
    Ok(())
}
