//! What the cluster stands on: a router, a bridge per rack, nodes behind the bridges, hosts behind the router.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::place::Place;
use crate::probe::Servers;
use crate::scenario::{Host, Node, Rack, Scenario};
use crate::wire::{Wire, parameter};

/// The name of the router's place.
pub const ROUTER: &str = "router";
/// The link by which nodes and hosts hang on the underlay.
pub const UPLINK: &str = "eth0";
/// The gateway of hosts: an address that only the link to the router knows.
const HOST_GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 0, 1));

/// The machines of the underlay.
#[derive(Debug)]
pub struct Underlay {
    /// The router between the racks and the hosts.
    pub router: Arc<Place>,
    /// The nodes by name.
    pub nodes: BTreeMap<String, Arc<Place>>,
    /// The hosts by name.
    pub hosts: BTreeMap<String, Arc<Place>>,
    wire: Wire,
    _servers: Vec<Servers>,
}

impl Underlay {
    /// Builds everything that a scenario stands on.
    ///
    /// # Errors
    /// When the kernel refuses a namespace, a link, an address or a route.
    pub async fn build(scenario: &Scenario) -> Result<Self> {
        let router = Place::machine(ROUTER).await?;
        prepare(&router).await?;
        parameter(&router, "ipv4/ip_forward", "1").await?;
        let wire = Wire::open(&router).await?;
        wire.up("lo").await?;
        let mut underlay = Self {
            router,
            nodes: BTreeMap::new(),
            hosts: BTreeMap::new(),
            wire,
            _servers: Vec::new(),
        };
        for rack in &scenario.racks {
            underlay.add_rack(rack).await?;
        }
        for node in &scenario.nodes {
            let rack = scenario
                .rack(&node.rack)
                .context("a checked scenario has every rack")?;
            underlay.add_node(node, rack).await?;
        }
        for host in &scenario.hosts {
            underlay.add_host(host).await?;
        }
        for rack in &scenario.racks {
            if scenario.nodes.iter().any(|node| node.rack == rack.name) {
                underlay.wire.carries(&bridge_of(rack)).await?;
            }
        }
        Ok(underlay)
    }

    async fn add_rack(&self, rack: &Rack) -> Result<()> {
        let bridge = bridge_of(rack);
        self.wire.bridge(&bridge).await?;
        if let Some(address) = rack.router() {
            self.wire
                .address(&bridge, address, rack.cidr.length())
                .await?;
        }
        Ok(())
    }

    async fn add_node(&mut self, node: &Node, rack: &Rack) -> Result<()> {
        let place = Place::machine(&node.name).await?;
        prepare(&place).await?;
        let port = self.port_of(&node.name, "n");
        self.wire.veth(&port, &place, UPLINK).await?;
        self.wire.join(&port, &bridge_of(rack)).await?;
        let wire = Wire::open(&place).await?;
        wire.up("lo").await?;
        wire.up(UPLINK).await?;
        for address in &node.ip {
            wire.address(UPLINK, *address, rack.cidr.length()).await?;
        }
        wire.route((Ipv4Addr::UNSPECIFIED.into(), 0), rack.router(), UPLINK)
            .await?;
        self.nodes.insert(node.name.clone(), place);
        Ok(())
    }

    async fn add_host(&mut self, host: &Host) -> Result<()> {
        let place = Place::network(&format!("host:{}", host.name)).await?;
        prepare(&place).await?;
        let port = self.port_of(&host.name, "h");
        self.wire.veth(&port, &place, UPLINK).await?;
        self.wire.address(&port, HOST_GATEWAY, 32).await?;
        self.wire.up(&port).await?;
        let wire = Wire::open(&place).await?;
        wire.up("lo").await?;
        wire.up(UPLINK).await?;
        wire.address(UPLINK, host.ip, 32).await?;
        wire.route(
            (Ipv4Addr::UNSPECIFIED.into(), 0),
            Some(HOST_GATEWAY),
            UPLINK,
        )
        .await?;
        self.wire.route((host.ip, 32), None, &port).await?;
        let identity = format!("host:{}", host.name);
        self._servers
            .push(Servers::start(&place, &identity, &host.ports).await?);
        self.hosts.insert(host.name.clone(), place);
        Ok(())
    }

    /// Cuts a node off the underlay, as a pulled cable does.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn cut(&self, node: &str) -> Result<()> {
        self.wire.remove(&self.port_of(node, "n")).await
    }

    /// Takes a node's machine away, namespaces included. Its programs must have ended.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn remove_node(&mut self, node: &str) -> Result<()> {
        self.cut(node).await?;
        match self.nodes.remove(node) {
            Some(place) => place.remove(),
            None => Ok(()),
        }
    }

    /// The router's end of the link to a machine: link names have 15 characters at most.
    fn port_of(&self, name: &str, prefix: &str) -> String {
        if name.len() + prefix.len() < 15 {
            return format!("{prefix}-{name}");
        }
        use std::hash::{DefaultHasher, Hasher};
        let mut hasher = DefaultHasher::new();
        hasher.write(name.as_bytes());
        format!("{prefix}-{:012x}", hasher.finish() & 0xffff_ffff_ffff)
    }
}

fn bridge_of(rack: &Rack) -> String {
    format!("rack-{}", rack.name)
}

/// What every machine of the lab wants from its kernel: probes by ping sockets, and an answer to every closed port.
///
/// # Errors
/// When a network parameter cannot be written.
pub async fn prepare(place: &Place) -> Result<()> {
    parameter(place, "ipv4/ping_group_range", "0 0").await?;
    parameter(place, "ipv4/icmp_ratelimit", "0").await
}
