//! What processes and routing tables use, from one quiet moment to the next.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::demo::report::Report;
use crate::soak::churn::Churn;
use crate::wire::{OCICAT, Wire};

/// More descriptors than this above the first count are growth: sockets of sessions that are being made come and go.
const DESCRIPTORS: usize = 12;
/// More memory than this above the first look is growth, in KiB: allocators keep what a burst needed.
const MEMORY: u64 = 24 << 10;

/// What one process used at its first quiet moment, and at its last.
#[derive(Clone, Copy, Debug)]
struct Used {
    descriptors: (usize, usize),
    memory: (u64, u64),
    looks: u32,
}

/// The same for the medians of the first and the second half of the looks at an agent that was never killed, which do not
/// move with single bursts.
const SLOW_DESCRIPTORS: u64 = 4;
const SLOW_MEMORY: u64 = 8 << 10;
/// So many looks at it are needed for an answer: fewer have no halves.
const LOOKS: usize = 4;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// The agent that lives through all of it: its process, and descriptors, memory and routes at each look.
    steady: Option<(String, u32, Vec<[u64; 3]>)>,
    processes: BTreeMap<(String, u32), Used>,
    /// Routes beyond those that pods and blocks account for, by machine: the last look.
    extra: BTreeMap<String, Vec<String>>,
}

impl Growth {
    /// Looks at every agent and every machine's routes.
    pub(super) async fn look(&mut self, cluster: &Cluster) -> Result<()> {
        self.look_at_steady(cluster).await?;
        for (node, agent) in &cluster.agents {
            let Some(id) = agent.id() else { continue };
            let (descriptors, memory) = (descriptors(id)?, memory(id)?);
            let used = self.processes.entry((node.clone(), id)).or_insert(Used {
                descriptors: (descriptors, descriptors),
                memory: (memory, memory),
                looks: 0,
            });
            (used.descriptors.1, used.memory.1) = (descriptors, memory);
            used.looks += 1;
        }
        let mut blocks = Vec::new();
        for node in cluster.underlay.nodes.keys() {
            blocks.extend(cluster.blocks_of(node).await?);
        }
        let addresses: Vec<_> = cluster
            .pods
            .values()
            .flat_map(|pod| &pod.addresses)
            .collect();
        self.extra.clear();
        for (name, place) in &cluster.underlay.nodes {
            let routes = Wire::open(place).await?.routes().await?;
            let extra = routes.iter().filter(|route| {
                let known = blocks.iter().any(|block| *block == route.to.to_string())
                    || addresses
                        .iter()
                        .any(|one| route.to.is_host() && route.to.contains(**one));
                route.protocol == OCICAT && !known
            });
            let extra: Vec<String> = extra.map(|route| route.to.to_string()).collect();
            if !extra.is_empty() {
                self.extra.insert(name.clone(), extra);
            }
        }
        Ok(())
    }

    /// Looks at the agent that is never killed.
    async fn look_at_steady(&mut self, cluster: &Cluster) -> Result<()> {
        let node = Churn::steady(cluster).context("the scenario has pods")?;
        let agent = cluster.agents.get(&node).context("it has an agent")?;
        let id = agent.id().context("which is never killed")?;
        let place = cluster.underlay.nodes.get(&node);
        let routes = Wire::open(place.context("it is a machine")?)
            .await?
            .routes()
            .await?;
        let own = routes.iter().filter(|route| route.protocol == OCICAT);
        let look = [descriptors(id)? as u64, memory(id)?, own.count() as u64];
        let (_, first, looks) = self.steady.get_or_insert_with(|| (node, id, Vec::new()));
        ensure!(
            *first == id,
            "the agent that is never killed is another process"
        );
        looks.push(look);
        Ok(())
    }

    /// Says whether the agent that lived through all of it uses more and more.
    fn judge_steady(&self, report: &mut Report) {
        let Some((node, _, looks)) = &self.steady else {
            return;
        };
        let all = |place: usize| -> Vec<u64> { looks.iter().map(|look| look[place]).collect() };
        let grown = |place| {
            let values = all(place);
            let (first, second) = values.split_at(values.len() / 2);
            median(second).saturating_sub(median(first))
        };
        let few = looks.len() < LOOKS;
        let good = few || grown(0) <= SLOW_DESCRIPTORS && grown(1) <= SLOW_MEMORY;
        let seen = format!(
            "{node}, descriptors {:?}, KiB {:?}, routes {:?}",
            all(0),
            all(1),
            all(2)
        );
        report.check(good, "an agent that was never killed stays as it is", seen);
    }

    /// Says what has grown.
    pub(super) fn judge(&self, report: &mut Report) {
        self.judge_steady(report);
        let mut grown = Vec::new();
        let mut most = (0, 0, 0);
        for ((node, _), used) in &self.processes {
            let descriptors = used.descriptors.1.saturating_sub(used.descriptors.0);
            let memory = used.memory.1.saturating_sub(used.memory.0);
            most = (
                most.0.max(descriptors),
                most.1.max(memory),
                most.2.max(used.looks),
            );
            if descriptors > DESCRIPTORS || memory > MEMORY {
                grown.push(format!("{node}: {used:?}"));
            }
        }
        let (descriptors, memory, looks) = most;
        let seen = if grown.is_empty() {
            format!(
                "{} processes, the oldest seen {looks} times; at most {descriptors} descriptors and {memory} KiB more",
                self.processes.len()
            )
        } else {
            grown.join("; ")
        };
        report.check(
            grown.is_empty(),
            "no agent's descriptors or memory grew",
            seen,
        );
        let extra: Vec<String> = self
            .extra
            .iter()
            .map(|(node, routes)| format!("{node}: {}", routes.join(" ")))
            .collect();
        report.check(extra.is_empty(), "no route is left over", extra.join("; "));
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn descriptors(id: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{id}/fd"))?.count())
}

/// What is resident, in KiB.
fn memory(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.and_then(|number| number.parse().ok()).unwrap_or(0))
}
