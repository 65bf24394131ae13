//! Step 8: a node is removed, another dies without a word, then everything is taken down.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ocicat_dataplane::names;
use ocicat_datastore::model::{IpamBlock, IpamHandle};

use super::{Demo, shown, until};
use crate::cluster::Cluster;
use crate::counters;
use crate::sandbox::NETNS;
use crate::wire::{OCICAT, Wire};

/// The node that is removed in good order.
const REMOVED: &str = "node2";
/// The node that dies.
const KILLED: &str = "node3";
/// How long the others may know a removed node's routes and session.
const FORGET: Duration = Duration::from_secs(2);
/// Three keepalives, then the restart time: how long a dead node's routes are kept. A second more for timers' jitter.
const DEATH: Duration = Duration::from_millis(3000 + 5000 + 1000);

/// A node is drained, its objects deleted, its machine taken away.
pub(super) async fn removed(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    let blocks = cluster.blocks_of(REMOVED).await?;
    let address = cluster
        .scenario
        .nodes
        .iter()
        .find(|node| node.name == REMOVED)
        .and_then(|node| node.ip.first());
    let address = address.context("the node has an address")?.to_string();
    cluster.remove_pods(&pods_on(cluster, REMOVED)).await?;
    let began = Instant::now();
    cluster.forget_node(REMOVED).await?;
    cluster.remove_machine(REMOVED).await?;
    let patience = FORGET.saturating_sub(began.elapsed());
    let routes = until(patience, || async {
        Ok(cluster.routed(&blocks).await?.is_empty())
    })
    .await?;
    let took = began.elapsed();
    let left = cluster.routed(&blocks).await?;
    let seen = if left.is_empty() {
        shown(took)
    } else {
        left.join(", ")
    };
    demo.report.check(
        routes.is_some(),
        format!("{REMOVED} is removed; within 2 s nobody has a route to it"),
        seen,
    );
    let patience = FORGET.saturating_sub(began.elapsed());
    let sessions = until(patience, || no_session(cluster, &address)).await?;
    demo.report.check(
        sessions.is_some(),
        "within 2 s nobody has a session with it",
        shown(began.elapsed()),
    );
    demo.report.time("removed_node_forgotten_ms", took);
    Ok(())
}

async fn no_session(cluster: &Cluster, address: &str) -> Result<bool> {
    for agent in cluster.agents.values() {
        if agent
            .status()
            .await?
            .peers
            .iter()
            .any(|peer| peer.address == address)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn pods_on(cluster: &Cluster, node: &str) -> Vec<String> {
    cluster
        .pods
        .values()
        .filter(|pod| pod.wanted.node == node)
        .map(|pod| pod.wanted.id())
        .collect()
}

/// A node dies: nobody is told, its routes go when its time is over.
pub(super) async fn killed(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    // Blocks of pools with tunnels are routed from the datastore, which still has them; BGP's are those without.
    let plain = |block: &String| {
        let block: Option<ocicat_dataplane::Prefix> = block.parse().ok();
        let pools = cluster
            .scenario
            .pools
            .iter()
            .filter(|pool| pool.vxlan_mode.as_deref().unwrap_or("Never") == "Never");
        block.is_some_and(|block| pools.into_iter().any(|pool| pool.cidr.covers(&block)))
    };
    let blocks: Vec<String> = cluster
        .blocks_of(KILLED)
        .await?
        .iter()
        .filter(|block| plain(block))
        .cloned()
        .collect();
    demo.report.check(
        !blocks.is_empty(),
        format!("{KILLED} has blocks that only BGP tells of"),
        blocks.join(", "),
    );
    let began = Instant::now();
    cluster.kill_machine(KILLED).await?;
    let kept = !cluster.routed(&blocks).await?.is_empty();
    demo.report.check(
        kept,
        format!("{KILLED} dies without a word; its routes are kept at first"),
        "",
    );
    let gone = until(DEATH.saturating_sub(began.elapsed()), || async {
        Ok(cluster.routed(&blocks).await?.is_empty())
    })
    .await?;
    let seen = if gone.is_some() {
        shown(began.elapsed())
    } else {
        cluster.routed(&blocks).await?.join(", ")
    };
    demo.report.check(
        gone.is_some(),
        "its routes go after hold and restart time (3 s + 5 s)",
        seen,
    );
    demo.report.time("dead_node_forgotten_ms", began.elapsed());
    Ok(())
}

/// All pods go; then nothing may be left of them.
pub(super) async fn everything(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    let dead = pods_on(cluster, KILLED);
    cluster.remove_pods(&dead).await?;
    cluster.forget_node(KILLED).await?;
    let ids: Vec<String> = cluster.pods.keys().cloned().collect();
    let link = |pod: &crate::pod::Pod| {
        names::pod_link(&pod.wanted.namespace, &pod.wanted.name).to_string()
    };
    let links: Vec<String> = cluster.pods.values().map(link).collect();
    let written = cluster.remove_pods(&ids).await?;
    cluster.enforce(&written).await?;
    let held = cluster.held_addresses().await?;
    demo.report.check(
        held.is_empty(),
        "all pods are deleted; every address is back",
        held.join(", "),
    );
    let nodes: Vec<String> = cluster.underlay.nodes.keys().cloned().collect();
    let left = until(Duration::from_secs(2), || async {
        Ok(leftovers(cluster, &links).await?.is_empty())
    })
    .await?;
    let seen = if left.is_some() {
        String::new()
    } else {
        leftovers(cluster, &links).await?.join(", ")
    };
    demo.report.check(
        left.is_some(),
        "no veth, route or rule of a pod stays on a node that lives",
        seen,
    );
    for node in &nodes {
        cluster.forget_node(node).await?;
        cluster.remove_machine(node).await?;
    }
    nothing_left(demo, cluster).await
}

/// The kernel has no namespace of a pod or node any more, the datastore no address.
async fn nothing_left(demo: &mut Demo, cluster: &Cluster) -> Result<()> {
    let named = |entry: std::io::Result<std::fs::DirEntry>| {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    let mut places = std::fs::read_dir(NETNS)?
        .map(named)
        .collect::<Result<Vec<String>>>()?;
    let own = [cluster.underlay.router.name(), crate::cluster::LAB];
    places.retain(|name| !own.contains(&name.as_str()) && !name.starts_with("host:"));
    demo.report.check(
        places.is_empty(),
        "no namespace of a pod or node stays",
        places.join(", "),
    );
    let blocks = cluster.store.list::<IpamBlock>().await?;
    let handles = cluster.store.list::<IpamHandle>().await?;
    let seen = format!("{} blocks, {} handles", blocks.len(), handles.len());
    let empty = blocks.is_empty() && handles.is_empty();
    demo.report
        .check(empty, "the datastore has no block and no handle left", seen);
    Ok(())
}

/// What is left of pods, by the names of their links, on the nodes that live.
async fn leftovers(cluster: &Cluster, pods: &[String]) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for node in cluster.underlay.nodes.values() {
        let wire = Wire::open(node).await?;
        let links = wire.links().await?;
        left.extend(
            links
                .into_iter()
                .filter(|link| link.starts_with("cali"))
                .map(|link| format!("{link} on {}", node.name())),
        );
        let routes = wire.routes().await?;
        let addresses = routes
            .iter()
            .filter(|route| route.protocol == OCICAT && route.to.is_host());
        left.extend(addresses.map(|route| format!("{} on {}", route.to, node.name())));
        let table = counters::table(node)?;
        let named = pods.iter().filter(|link| table.contains(link.as_str()));
        left.extend(named.map(|link| format!("rules for {link} on {}", node.name())));
    }
    Ok(left)
}
