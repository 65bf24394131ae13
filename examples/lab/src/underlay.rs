//! What the cluster stands on: a router, a bridge per rack, nodes behind the bridges, hosts behind the router.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
/// Likewise for IPv6.
const HOST_GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// The machines of the underlay.
#[derive(Debug)]
pub struct Underlay {
    /// The router between the racks and the hosts.
    pub router: Arc<Place>,
    /// The nodes by name.
    pub nodes: BTreeMap<String, Arc<Place>>,
    /// The hosts by name.
    pub hosts: BTreeMap<String, Arc<Place>>,
    /// netlink in the router.
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
        parameter(&router, "ipv6/conf/all/forwarding", "1").await?;
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
        for (address, length) in rack.routers() {
            self.wire.address(&bridge, address, length).await?;
        }
        Ok(())
    }

    /// Makes a node's machine and joins it to its rack.
    ///
    /// # Errors
    /// When the kernel refuses a namespace, a link, an address or a route.
    pub async fn add_node(&mut self, node: &Node, rack: &Rack) -> Result<()> {
        let place = Place::machine(&node.name).await?;
        prepare(&place).await?;
        let port = self.port_of(&node.name, "n");
        self.wire.veth(&port, &place, UPLINK).await?;
        self.wire.join(&port, &bridge_of(rack)).await?;
        let wire = Wire::open(&place).await?;
        wire.up("lo").await?;
        wire.up(UPLINK).await?;
        for address in &node.ip {
            let subnet = rack.subnet_of(*address).unwrap_or(rack.cidr);
            wire.address(UPLINK, *address, subnet.length()).await?;
        }
        for (router, _) in rack.routers() {
            wire.route(default_route(router), Some(router), UPLINK)
                .await?;
        }
        self.nodes.insert(node.name.clone(), place);
        Ok(())
    }

    async fn add_host(&mut self, host: &Host) -> Result<()> {
        let place = Place::network(&format!("host:{}", host.name)).await?;
        prepare(&place).await?;
        self.attach(&host.name, &place, &host.ip).await?;
        let identity = format!("host:{}", host.name);
        self._servers
            .push(Servers::start(&place, &identity, &host.ports).await?);
        self.hosts.insert(host.name.clone(), place);
        Ok(())
    }

    /// Hangs a place on the router, by a link of its own.
    ///
    /// # Errors
    /// When the kernel refuses a link, an address or a route.
    pub async fn attach(&self, name: &str, place: &Place, addresses: &[IpAddr]) -> Result<()> {
        let port = self.port_of(name, "h");
        self.wire.veth(&port, place, UPLINK).await?;
        self.wire.address(&port, HOST_GATEWAY, 32).await?;
        self.wire.address(&port, HOST_GATEWAY_V6, 64).await?;
        self.wire.up(&port).await?;
        let wire = Wire::open(place).await?;
        wire.up("lo").await?;
        wire.up(UPLINK).await?;
        for ip in addresses {
            let (gateway, length) = if ip.is_ipv4() {
                (HOST_GATEWAY, 32)
            } else {
                (HOST_GATEWAY_V6, 128)
            };
            wire.address(UPLINK, *ip, length).await?;
            wire.route(default_route(gateway), Some(gateway), UPLINK)
                .await?;
            self.wire.route((*ip, length), None, &port).await?;
        }
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

/// Everything of a gateway's family.
fn default_route(gateway: IpAddr) -> (IpAddr, u8) {
    match gateway {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), 0),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), 0),
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
    // Addresses are used at once: nobody else has them.
    for file in ["all", "default"] {
        parameter(place, &format!("ipv6/conf/{file}/accept_dad"), "0").await?;
        parameter(place, &format!("ipv6/conf/{file}/dad_transmits"), "0").await?;
    }
    parameter(place, "ipv6/icmp/ratelimit", "0").await?;
    parameter(place, "ipv4/icmp_ratelimit", "0").await
}
