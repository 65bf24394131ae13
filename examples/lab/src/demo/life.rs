//! Steps 1 to 4: machines, agents, pods.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ocicat_dataplane::names;
use serde_json::{Value, json};

use super::{Demo, events, judge_as_policy, shown, until};
use crate::cluster::Cluster;
use crate::probe::{End, Probe};
use crate::scenario::{Pod, Protocol, Router};
use crate::wire::Wire;

/// How many ADDs the latency is measured over.
const ADDS: usize = 50;
/// The pod that step 4 shows: the first of its pool on its node, so that a block has to be claimed.
const SHOWN: &str = "blue/b3";

/// Step 1: every node reaches every other machine by ICMP, through the router where racks differ.
pub(super) async fn wiring(demo: &mut Demo, cluster: &Cluster) -> Result<()> {
    let nodes: Vec<End> = cluster
        .underlay
        .nodes
        .keys()
        .cloned()
        .map(End::Node)
        .collect();
    let hosts = cluster.underlay.hosts.keys().cloned().map(End::Host);
    let machines: Vec<End> = nodes.iter().cloned().chain(hosts).collect();
    let mut probes = Vec::new();
    for from in &nodes {
        for to in machines.iter().filter(|to| *to != from) {
            probes.push(Probe {
                from: from.clone(),
                to: to.clone(),
                port: None,
                protocol: Protocol::Icmp,
                family: None,
            });
        }
    }
    let judged = judge_as_policy(cluster, probes).await?;
    for node in &cluster.scenario.nodes {
        let address = node.ip.first().map(ToString::to_string).unwrap_or_default();
        demo.report
            .say(format!("{} in rack {}, {address}", node.name, node.rack));
    }
    demo.check_judged(
        &judged,
        "nodes, router and the server outside reach each other",
    );
    Ok(())
}

/// Step 2: agents start, become ready, and every session is established.
pub(super) async fn agents(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    let began = Instant::now();
    cluster.start_agents()?;
    cluster.agents_ready().await?;
    demo.report.time("agents_ready_ms", began.elapsed());
    for agent in cluster.agents.values() {
        demo.events.listen(&agent.client())?;
    }
    let router = usize::from(cluster.scenario.router != Router::None);
    let wanted = cluster.agents.len() - 1 + router;
    let established = until(Duration::from_secs(15), || all_established(cluster, wanted)).await?;
    demo.report.time("sessions_established_ms", began.elapsed());
    let mut sessions = 0;
    for agent in cluster.agents.values() {
        let status = agent.status().await?;
        let peers = status
            .peers
            .iter()
            .map(|peer| format!("{} {}", peer.address, peer.state));
        demo.report.say(format!(
            "{}: {}",
            agent.node(),
            peers.collect::<Vec<_>>().join(", ")
        ));
        sessions += status.peers.len();
    }
    demo.report.figure(
        "bgp_sessions",
        (sessions + router * cluster.agents.len()) / 2,
    );
    demo.report.check(
        established.is_some(),
        "every BGP session is established",
        shown(began.elapsed()),
    );
    Ok(())
}

/// Whether every agent has this many peers, all established.
pub(super) async fn all_established(cluster: &Cluster, peers: usize) -> Result<bool> {
    for agent in cluster.agents.values() {
        agent.must_run()?;
        let status = agent.status().await?;
        let up = status
            .peers
            .iter()
            .filter(|peer| peer.state.eq_ignore_ascii_case("established"))
            .count();
        if up != peers || status.peers.len() != peers {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Step 3: all pods but one, then the latency of fifty ADDs.
pub(super) async fn pods(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    let began = Instant::now();
    let wanted: Vec<Pod> = cluster
        .scenario
        .pods
        .iter()
        .filter(|pod| pod.id() != SHOWN)
        .cloned()
        .collect();
    let written = cluster.add_pods(wanted).await?;
    let made = began.elapsed();
    for pod in cluster.pods.values() {
        demo.report.say(format!(
            "{:<10} {:<12} on {}, {}",
            pod.wanted.id(),
            pod.address,
            pod.wanted.node,
            shown(pod.took)
        ));
    }
    demo.report.data("pods", pods_as_data(cluster));
    demo.report.check(
        true,
        "every pod was added by the plugin",
        format!("{} pods in {}", cluster.pods.len(), shown(made)),
    );
    let wrong: Vec<String> = cluster
        .pods
        .values()
        .filter(|pod| !in_its_pool(cluster, pod))
        .map(|pod| pod.wanted.id())
        .collect();
    demo.report.check(
        wrong.is_empty(),
        "addresses come from the pool of rack, namespace or wish",
        wrong.join(", "),
    );
    let links = missing_links(cluster).await?;
    demo.report.check(
        links.is_empty(),
        "every pod has its link on its node",
        links.join(", "),
    );
    cluster.enforce(&written).await?;
    let converged = cluster.converged(Duration::from_secs(15)).await;
    demo.report.time("converged_ms", began.elapsed());
    let seen = converged
        .as_ref()
        .map_or_else(|error| format!("{error:#}"), |_| shown(began.elapsed()));
    demo.report.check(
        converged.is_ok(),
        "every machine has a route to every pod",
        format!("{seen} after the first ADD"),
    );
    latency(demo, cluster).await
}

fn pods_as_data(cluster: &Cluster) -> Vec<Value> {
    let data = |pod: &crate::pod::Pod| json!({"pod": pod.wanted.id(), "node": pod.wanted.node, "address": pod.address, "add_ms": pod.took.as_secs_f64() * 1000.0});
    cluster.pods.values().map(data).collect()
}

/// Whether a pod's address is from where its annotations, namespace and rack say.
fn in_its_pool(cluster: &Cluster, pod: &crate::pod::Pod) -> bool {
    if let Some(asked) = pod.wanted.ip.first() {
        return *asked == pod.address;
    }
    let node = cluster
        .scenario
        .nodes
        .iter()
        .find(|node| node.name == pod.wanted.node);
    let rack = node
        .map(|node| format!("rack-{}", node.rack))
        .unwrap_or_default();
    let name = if pod.wanted.namespace == "blue" {
        "blue"
    } else {
        rack.as_str()
    };
    let pool = cluster.scenario.pools.iter().find(|pool| pool.name == name);
    pool.is_some_and(|pool| pool.cidr.contains(pod.address))
}

async fn missing_links(cluster: &Cluster) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (name, node) in &cluster.underlay.nodes {
        let links = Wire::open(node).await?.links().await?;
        for pod in cluster.pods.values().filter(|pod| pod.wanted.node == *name) {
            let link = names::pod_link(&pod.wanted.namespace, &pod.wanted.name).to_string();
            if !links.contains(&link) {
                missing.push(format!("{link} on {name}"));
            }
        }
    }
    Ok(missing)
}

/// Fifty ADDs one after the other, and as many DELs.
async fn latency(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    let nodes: Vec<String> = cluster.underlay.nodes.keys().cloned().collect();
    let template = cluster
        .scenario
        .pods
        .first()
        .context("the scenario has pods")?
        .clone();
    let (mut adds, mut ids) = (Vec::new(), Vec::new());
    for number in 0..ADDS {
        let name = format!("load-{number}");
        let node = nodes[number % nodes.len()].clone();
        let pod = Pod {
            name,
            namespace: "ops".to_owned(),
            node,
            ports: Vec::new(),
            ..template.clone()
        };
        let id = pod.id();
        cluster.add_pods(vec![pod]).await?;
        adds.push(cluster.pods[&id].took);
        ids.push(id);
    }
    let began = Instant::now();
    cluster.remove_pods(&ids).await?;
    let deleted = began.elapsed();
    adds.sort_unstable();
    let (p50, p99) = (percentile(&adds, 50), percentile(&adds, 99));
    demo.report.time("add_p50_ms", p50);
    demo.report.time("add_p99_ms", p99);
    demo.report.check(
        true,
        format!("{ADDS} ADDs one after the other"),
        format!("p50 {}, p99 {}", shown(p50), shown(p99)),
    );
    let held = cluster.held_addresses().await?.len();
    let returned = held == cluster.pods.len();
    demo.report.check(
        returned,
        format!("{ADDS} DELs at the same time give the addresses back"),
        format!(
            "{}, {held} held for {} pods",
            shown(deleted),
            cluster.pods.len()
        ),
    );
    Ok(())
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied().unwrap_or_default()
}

/// What a pod's life begins with, in the words of the agents.
const TOLD: [&str; 4] = [
    "block-claimed",
    "veth-made",
    "route-announced",
    "route-learned",
];

/// Step 4: one pod more, with what every agent says about it.
pub(super) async fn one_pod(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    let pods = &cluster.scenario.pods;
    let pod = pods
        .iter()
        .find(|pod| pod.id() == SHOWN)
        .context("the scenario has the pod")?
        .clone();
    let (node, others) = (pod.node.clone(), cluster.agents.len() - 1);
    let began = events::now();
    let written = cluster.add_pods(vec![pod]).await?;
    let elsewhere = |event: &&events::Event| event.name == "route-learned" && event.node != node;
    let told_all = |seen: &[events::Event]| {
        TOLD.iter()
            .all(|name| seen.iter().any(|event| event.name == *name))
    };
    let complete =
        |seen: &[events::Event]| told_all(seen) && seen.iter().filter(elsewhere).count() >= others;
    let all = demo
        .events
        .since(began, Duration::from_secs(5), complete)
        .await;
    cluster.enforce(&written).await?;
    let mut told = Vec::new();
    for event in all
        .iter()
        .filter(|event| TOLD.contains(&event.name.as_str()))
    {
        let ms = event.ms.saturating_sub(began);
        demo.report
            .say(format!("{ms:>5} ms  {:<6} {}", event.node, event.words()));
        told.push(
            json!({"ms": ms, "node": event.node, "event": event.name, "text": event.words()}),
        );
    }
    demo.report.data("events", told);
    let missing: Vec<&str> = TOLD
        .into_iter()
        .filter(|name| !all.iter().any(|event| event.name == *name))
        .collect();
    demo.report.check(
        missing.is_empty(),
        "block claimed, veth made, route announced, route learned",
        missing.join(", "),
    );
    let everywhere = cluster.converged(Duration::from_secs(5)).await;
    let what = format!(
        "{SHOWN} ({}) has a route everywhere",
        cluster.pods[SHOWN].address
    );
    match everywhere {
        Ok(_) => demo.report.check(
            true,
            what,
            format!("{} ms after ADD began", events::now() - began),
        ),
        Err(error) => demo.report.check(false, what, format!("{error:#}")),
    }
    Ok(())
}
