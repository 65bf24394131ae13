//! Agents that begin again while everything goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{PATIENCE, Trial};
use crate::agent::Agent;
use crate::cluster::{Cluster, Etcd};
use crate::counters;
use crate::demo::{shown, until};
use crate::monitor::Monitor;

/// How long an agent may take to be ready.
pub(super) const READY: Duration = Duration::from_secs(30);
/// How long the other machines are watched after every session is back: longer than the sweep of what is stale takes.
const SETTLED: Duration = Duration::from_millis(1500);

impl Trial {
    /// Kills an agent and starts it again: nobody else may notice.
    pub(super) async fn replace(&mut self, cluster: &Cluster, agent: &Agent) -> Result<()> {
        let name = agent.node();
        let place = cluster.underlay.nodes.get(name);
        let place = place.with_context(|| format!("there is no node {name}"))?;
        let monitors = Monitor::everywhere_but(cluster, name).await?;
        let before = counters::of_rules(place)?;
        let began = Instant::now();
        agent.kill()?;
        self.report
            .say(format!("the agent of {name} is killed with SIGKILL"));
        agent.restart()?;
        self.is_back(cluster, agent, began).await?;
        tokio::time::sleep(SETTLED).await;
        let lines: Vec<String> = monitors.iter().flat_map(Monitor::lines).collect();
        let first = lines[..lines.len().min(4)].join("; ");
        let seen = if lines.is_empty() {
            "nothing".to_owned()
        } else {
            format!("{} lines: {first}", lines.len())
        };
        let what = "what ip monitor route prints on every other machine";
        self.report.check(lines.is_empty(), what, seen);
        let kept = counters::kept(&before, &counters::of_rules(place)?);
        let whole = kept == before.len() && kept > 0;
        let seen = format!("{kept} of {}", before.len());
        self.report
            .check(whole, "the counters of its rules are kept", seen);
        Ok(())
    }

    /// Waits until an agent that was started is ready, and every session is back.
    pub(super) async fn is_back(
        &mut self,
        cluster: &Cluster,
        agent: &Agent,
        began: Instant,
    ) -> Result<()> {
        // Without a datastore it lives by what it remembers, and says that it is not ready.
        if cluster.etcd.as_ref().is_none_or(Etcd::runs) {
            let ready = agent.ready(READY).await.err();
            let seen = ready.as_ref().map(|error| format!("{error:#}"));
            let seen = seen.unwrap_or_else(|| shown(began.elapsed()));
            let what = format!("the agent of {} is back", agent.node());
            self.report.check(ready.is_none(), what, seen);
        }
        let sessions = until(PATIENCE, || cluster.sessions_established()).await?;
        let seen = shown(began.elapsed());
        self.report
            .check(sessions.is_some(), "every session is established", seen);
        Ok(())
    }
}
