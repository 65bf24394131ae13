use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures_util::future::join_all;
use ocicat_node::control::Written as Asked;
use ocicatctl::Written;

use super::Cluster;
use crate::agent::Agent;

/// How long an agent may take to enforce what was written.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it took until every agent enforced what was written.
#[derive(Clone, Debug)]
pub struct Enforced {
    /// Until the last one.
    pub took: Duration,
    /// The slowest node.
    pub last: Option<String>,
}

impl Cluster {
    /// Waits until every agent enforces what was written.
    ///
    /// # Errors
    /// Names every agent that is down, and those that take longer than 30 seconds.
    pub async fn enforce(&self, written: &[Written]) -> Result<Enforced> {
        self.enforce_on(self.agents.values(), written).await
    }

    /// The same, but for agents that were killed.
    ///
    /// # Errors
    /// As [`Cluster::enforce`].
    pub async fn enforce_where_agents_run(&self, written: &[Written]) -> Result<Enforced> {
        let running = self.agents.values().filter(|agent| agent.id().is_some());
        self.enforce_on(running, written).await
    }

    async fn enforce_on(
        &self,
        agents: impl Iterator<Item = &Arc<Agent>>,
        written: &[Written],
    ) -> Result<Enforced> {
        let began = Instant::now();
        let asked: Vec<Asked> = written.iter().map(asked).collect();
        let waits = agents.map(|agent| {
            let asked = asked.clone();
            async move {
                (
                    agent.node(),
                    agent.wait(asked, PATIENCE).await,
                    began.elapsed(),
                )
            }
        });
        let mut late = Vec::new();
        let mut enforced = Enforced {
            took: Duration::ZERO,
            last: None,
        };
        for (node, waited, took) in join_all(waits).await {
            if let Err(error) = waited {
                late.push(format!("{error:#}"));
            }
            if took > enforced.took {
                enforced = Enforced {
                    took,
                    last: Some(node.to_owned()),
                };
            }
        }
        if late.is_empty() {
            Ok(enforced)
        } else {
            bail!("{}", late.join("\n"))
        }
    }
}

fn asked(written: &Written) -> Asked {
    Asked {
        kind: written.key.kind.to_string(),
        namespace: written.key.namespace.clone(),
        name: written.key.name.clone(),
        revision: written.revision.0,
    }
}
