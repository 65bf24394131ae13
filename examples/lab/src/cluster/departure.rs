//! Nodes that go: drained and removed, or dead without a word.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use ocicat_datastore::StoreError;
use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::model::{BgpPeer, BlockAffinity, IpamBlock, Node, WorkloadEndpoint};
use ocicat_ipam::{BlockAffine, Ipam, Owner};

use super::Cluster;
use crate::resources::peer_name;

/// How long an agent may take to end a session.
const LEAVE: Duration = Duration::from_secs(2);

impl Cluster {
    /// The address blocks that a node owns.
    ///
    /// # Errors
    /// When the datastore cannot be read.
    pub async fn blocks_of(&self, node: &str) -> Result<Vec<String>> {
        let affinities = self.store.list::<BlockAffinity>().await?;
        let own = affinities
            .iter()
            .filter(|affinity| affinity.value.spec.node == node);
        Ok(own
            .map(|affinity| affinity.value.spec.cidr.clone())
            .collect())
    }

    /// How many addresses are held by pods: in blocks, tunnels' own addresses not counted.
    ///
    /// # Errors
    /// When the datastore cannot be read.
    pub async fn held_addresses(&self) -> Result<Vec<String>> {
        let mut held = Vec::new();
        for block in &self.store.list::<IpamBlock>().await? {
            let spec = &block.value.spec;
            for (ordinal, attribute) in spec.allocations.iter().enumerate() {
                let Some(attribute) =
                    attribute.and_then(|index| spec.attributes.get(index as usize))
                else {
                    continue;
                };
                let handle = attribute.handle_id.as_deref().unwrap_or("no handle");
                if !handle.contains("tunnel-addr") {
                    held.push(format!("number {ordinal} of {} by {handle}", spec.cidr));
                }
            }
        }
        Ok(held)
    }

    /// Deletes what the datastore knows about a node: its Node object, its session with the router, its pods' endpoints;
    /// releases its addresses and blocks.
    ///
    /// # Errors
    /// When the datastore fails.
    pub async fn forget_node(&self, node: &str) -> Result<()> {
        self.leave_router(node).await?;
        gone(self.store.delete::<Node>(node, None).await)?;
        for endpoint in &self.store.list::<WorkloadEndpoint>().await? {
            let metadata = &endpoint.value.metadata;
            if endpoint.value.spec.node == node {
                let namespace = metadata.namespace.as_deref().unwrap_or("default");
                gone(
                    self.store
                        .delete::<WorkloadEndpoint>((namespace, metadata.name.as_str()), None)
                        .await,
                )?;
            }
        }
        let ipam = Ipam::new(
            Arc::new(StoreIpam::new(self.store.clone())),
            Box::new(BlockAffine),
        );
        let owner = Owner::host(node);
        ipam.remove_host(&owner, SystemTime::now())
            .await
            .with_context(|| format!("releasing the addresses of {node}"))?;
        Ok(())
    }

    /// Ends the session between a node and the router, and lets a living agent say so: the router forgets its routes at
    /// once then, and would keep them for the restart time if the session only broke.
    async fn leave_router(&self, node: &str) -> Result<()> {
        let name = peer_name(node);
        let Some(peer) = self.store.get::<BgpPeer>(name.as_str()).await? else {
            return Ok(());
        };
        gone(self.store.delete::<BgpPeer>(name.as_str(), None).await)?;
        let (Some(agent), Some(router)) = (self.agents.get(node), peer.value.spec.peer_ip) else {
            return Ok(());
        };
        let until = Instant::now() + LEAVE;
        while let Ok(status) = agent.status().await {
            if !status.peers.iter().any(|peer| peer.address == router) || Instant::now() > until {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Takes a node's machine away: the agent ends, then its namespaces go.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_machine(&mut self, node: &str) -> Result<()> {
        if let Some(agent) = self.agents.remove(node) {
            agent.terminate().await?;
        }
        self.underlay.remove_node(node).await
    }

    /// Kills a node without a word: its cable is cut, then its agent killed, then its namespaces go.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn kill_machine(&mut self, node: &str) -> Result<()> {
        self.underlay.cut(node).await?;
        if let Some(agent) = self.agents.remove(node) {
            agent.kill()?;
        }
        self.underlay.remove_node(node).await
    }

    /// Brings a machine of the scenario in that was taken away: namespaces, objects, agent; returns when it is ready.
    ///
    /// # Errors
    /// When the kernel or the datastore refuses something, or the agent is late.
    pub async fn add_machine(&mut self, name: &str) -> Result<()> {
        let scenario = self.scenario.clone();
        let node = scenario.nodes.iter().find(|node| node.name == name);
        let node = node.with_context(|| format!("there is no node {name}"))?;
        let rack = scenario.rack(&node.rack);
        let rack = rack.context("a checked scenario has every rack")?;
        self.underlay.add_node(node, rack).await?;
        let ops = crate::resources::of_node(&scenario, node)?;
        let ops = ops.into_iter().map(ocicat_datastore::Op::Put).collect();
        for outcome in self.store.backend().write(ops).await {
            outcome.context("writing the node's objects")?;
        }
        let place = self.underlay.nodes.get(name).context("it was just made")?;
        let agent = crate::agent::Agent::start(place.clone(), &self.url)?;
        agent.ready(super::START).await?;
        self.agents.insert(name.to_owned(), Arc::new(agent));
        Ok(())
    }

    /// The machines, the router included, that have a route of ocicat into one of these ranges.
    ///
    /// # Errors
    /// When netlink fails.
    pub async fn routed(&self, ranges: &[String]) -> Result<Vec<String>> {
        let ranges: Vec<ocicat_dataplane::Prefix> = ranges
            .iter()
            .filter_map(|range| range.parse().ok())
            .collect();
        let mut found = Vec::new();
        for machine in self.underlay.nodes.values().chain([&self.underlay.router]) {
            let routes = crate::wire::Wire::open(machine).await?.routes().await?;
            let into = routes
                .iter()
                .filter(|route| route.protocol == crate::wire::OCICAT);
            let into = into.filter(|route| ranges.iter().any(|range| range.covers(&route.to)));
            found.extend(into.map(|route| format!("{} to {}", machine.name(), route.to)));
        }
        Ok(found)
    }
}

/// Something that is gone already has been deleted.
fn gone(deleted: Result<ocicat_datastore::Revision, StoreError>) -> Result<()> {
    match deleted {
        Ok(_) | Err(StoreError::Missing { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
