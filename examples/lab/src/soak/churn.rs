//! One random change after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use ocicatctl::Written;

use crate::cluster::Cluster;
use crate::scenario::{Pod, Port, Protocol};

/// Pods beyond those of the scenario.
const PODS: usize = 24;
/// How long an agent may take to be ready again.
const READY: Duration = Duration::from_secs(60);
/// The values of the label that policies look at.
const TIERS: [&str; 4] = ["web", "app", "db", "none"];
/// Policies that come and go; each names a tier that it is for and one that it lets in.
const POLICY: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: churn-NUMBER}
spec:
  order: NUMBER
  selector: tier == 'TO'
  types: [Ingress]
  ingress:
    - {action: Allow, protocol: TCP, source: {selector: tier == 'FROM'}, destination: {ports: [8080]}}
    - {action: Allow, protocol: ICMP}
";

/// A seeded source of changes.
#[derive(Debug)]
pub(super) struct Churn {
    state: u64,
    made: u64,
    policies: BTreeMap<usize, String>,
    killed: Vec<String>,
    gone: Option<String>,
    /// What was written while an agent was dead, which could not be waited for.
    pending: Vec<Written>,
    counts: BTreeMap<&'static str, u64>,
    last: BTreeMap<&'static str, u64>,
}

impl Churn {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: seed | 1,
            made: 0,
            policies: BTreeMap::new(),
            killed: Vec::new(),
            gone: None,
            pending: Vec::new(),
            counts: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// How often each kind of change was made.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    /// xorshift64.
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 11).unwrap_or(0) % bound.max(1)
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        let index = self.below(all.len());
        all.get(index).cloned()
    }

    /// One change. Those that need an agent on a node go where one runs.
    pub(super) async fn one(&mut self, cluster: &mut Cluster) -> Result<()> {
        let (name, written) = match self.below(20) {
            0..=6 => ("pods_made", self.add(cluster).await?),
            7..=11 => ("pods_removed", self.remove(cluster).await?),
            12..=13 => ("pods_relabelled", self.relabel(cluster).await?),
            14..=15 => ("policies_written", self.policy(cluster).await?),
            16 => ("policies_deleted", self.withdraw(cluster).await?),
            17..=18 => ("agents_killed", self.kill(cluster).await?),
            _ => match self.below(3) {
                0 => ("etcd_killed", etcd(cluster).await?),
                _ => ("nodes_changed", self.node(cluster).await?),
            },
        };
        if self.killed.is_empty() {
            cluster.enforce(&written).await?;
        } else {
            self.pending.extend(written);
        }
        *self.counts.entry(name).or_default() += 1;
        *self.last.entry(name).or_default() += 1;
        Ok(())
    }

    /// Brings back what was killed; what was done since the last time, in words.
    pub(super) async fn recover(&mut self, cluster: &mut Cluster) -> Result<String> {
        for node in std::mem::take(&mut self.killed) {
            let agent = cluster
                .agents
                .get(&node)
                .context("a killed agent is known")?;
            agent.restart()?;
            agent.ready(READY).await?;
        }
        if let Some(node) = self.gone.take() {
            cluster.add_machine(&node).await?;
        }
        cluster.enforce(&std::mem::take(&mut self.pending)).await?;
        let done = std::mem::take(&mut self.last);
        let done: Vec<String> = done
            .iter()
            .map(|(name, count)| format!("{count} {}", name.replace('_', " ")))
            .collect();
        Ok(done.join(", "))
    }

    /// The node whose agent is never killed, so that slow growth has time to show.
    pub(super) fn steady(cluster: &Cluster) -> Option<String> {
        let pods = cluster.scenario.pods.iter();
        pods.map(|pod| pod.node.clone()).min()
    }

    /// The nodes whose agents run.
    fn alive(&self, cluster: &Cluster) -> Vec<String> {
        let nodes = cluster.agents.keys();
        nodes
            .filter(|node| !self.killed.contains(node))
            .cloned()
            .collect()
    }

    /// The nodes whose agents run and may be killed.
    fn mortal(&self, cluster: &Cluster) -> Vec<String> {
        let steady = Self::steady(cluster);
        let mut nodes = self.alive(cluster);
        nodes.retain(|node| Some(node) != steady.as_ref());
        nodes
    }

    async fn add(&mut self, cluster: &mut Cluster) -> Result<Vec<Written>> {
        let alive = self.alive(cluster);
        let Some(node) = self.pick(&alive).filter(|_| cluster.pods.len() < PODS) else {
            return Ok(Vec::new());
        };
        self.made += 1;
        let template = cluster
            .scenario
            .pods
            .first()
            .context("the scenario has a pod")?;
        let port = |port, protocol| {
            Some(Port {
                name: None,
                port: std::num::NonZeroU16::new(port)?,
                protocol,
            })
        };
        let pod = Pod {
            name: format!("churn-{}", self.made),
            namespace: template.namespace.clone(),
            node,
            labels: BTreeMap::from([("tier".to_owned(), TIERS[self.below(4)].to_owned())]),
            ip: Vec::new(),
            ports: [port(8080, Protocol::Tcp), port(9000, Protocol::Udp)]
                .into_iter()
                .flatten()
                .collect(),
            ..template.clone()
        };
        cluster.add_pods(vec![pod]).await
    }

    async fn remove(&mut self, cluster: &mut Cluster) -> Result<Vec<Written>> {
        let alive = self.alive(cluster);
        let pods = cluster.pods.values();
        let pods = pods.filter(|pod| pod.wanted.name.starts_with("churn-"));
        let pods = pods.filter(|pod| alive.contains(&pod.wanted.node));
        let ids: Vec<String> = pods.map(|pod| pod.wanted.id()).collect();
        match self.pick(&ids) {
            Some(id) => cluster.remove_pods(&[id]).await,
            None => Ok(Vec::new()),
        }
    }

    async fn relabel(&mut self, cluster: &mut Cluster) -> Result<Vec<Written>> {
        let ids: Vec<String> = cluster.pods.keys().cloned().collect();
        let Some(id) = self.pick(&ids) else {
            return Ok(Vec::new());
        };
        let labels = BTreeMap::from([("tier".to_owned(), TIERS[self.below(4)].to_owned())]);
        Ok(vec![cluster.relabel(&id, labels).await?])
    }

    async fn policy(&mut self, cluster: &mut Cluster) -> Result<Vec<Written>> {
        let number = self.below(6);
        let (to, from) = (TIERS[self.below(3)], TIERS[self.below(4)]);
        let text = POLICY
            .replace("NUMBER", &number.to_string())
            .replace("TO", to)
            .replace("FROM", from);
        let written = cluster
            .apply(&ocicatctl::manifest::read("churn", &text)?)
            .await?;
        self.policies.insert(number, text);
        Ok(written)
    }

    async fn withdraw(&mut self, cluster: &mut Cluster) -> Result<Vec<Written>> {
        let numbers: Vec<usize> = self.policies.keys().copied().collect();
        let Some(number) = self.pick(&numbers) else {
            return Ok(Vec::new());
        };
        let text = self.policies.remove(&number).unwrap_or_default();
        cluster
            .delete(&ocicatctl::manifest::read("churn", &text)?)
            .await
    }

    /// Kills an agent, or brings one back that was killed.
    async fn kill(&mut self, cluster: &Cluster) -> Result<Vec<Written>> {
        if let Some(node) = self.killed.pop() {
            let agent = cluster
                .agents
                .get(&node)
                .context("a killed agent is known")?;
            agent.restart()?;
            agent.ready(READY).await?;
        } else if let Some(node) = self.pick(&self.mortal(cluster)) {
            cluster
                .agents
                .get(&node)
                .context("a living agent is known")?
                .kill()?;
            self.killed.push(node);
        }
        Ok(Vec::new())
    }

    /// Takes a node without pods of the scenario away, in good order or not, or brings it back.
    async fn node(&mut self, cluster: &mut Cluster) -> Result<Vec<Written>> {
        if let Some(node) = self.gone.take() {
            cluster.add_machine(&node).await?;
            return Ok(Vec::new());
        }
        let busy = |node: &String| cluster.scenario.pods.iter().any(|pod| pod.node == *node);
        let nodes: Vec<String> = self
            .alive(cluster)
            .into_iter()
            .filter(|node| !busy(node))
            .collect();
        let Some(node) = self.pick(&nodes) else {
            return Ok(Vec::new());
        };
        let pods = cluster.pods.values().filter(|pod| pod.wanted.node == node);
        let pods: Vec<String> = pods.map(|pod| pod.wanted.id()).collect();
        if self.below(2) == 0 {
            cluster.remove_pods(&pods).await?;
            cluster.forget_node(&node).await?;
            cluster.remove_machine(&node).await?;
        } else {
            cluster.kill_machine(&node).await?;
            cluster.remove_pods(&pods).await?;
            cluster.forget_node(&node).await?;
        }
        self.gone = Some(node);
        Ok(Vec::new())
    }
}

async fn etcd(cluster: &Cluster) -> Result<Vec<Written>> {
    if let Some(etcd) = &cluster.etcd {
        etcd.stop()?;
        etcd.restart().await?;
    }
    Ok(Vec::new())
}
