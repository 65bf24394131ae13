//! Which links, routes and neighbours a node needs, given what the cluster and its peers say. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use ocicat_dataplane::hop::{Encapsulation, Toward, When, toward};
use ocicat_dataplane::state::{Fdb, Hop, Link, LinkName, MacAddr, Neighbour, Route, RouteKey};
use ocicat_dataplane::{Prefix, names};

/// A pool, as far as routes depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// Its range.
    pub range: Prefix,
    /// When its packets between nodes are put into a tunnel.
    pub encapsulation: Encapsulation,
    /// Whether its packets to the world leave with the node's address.
    pub nat_outgoing: bool,
    /// Whether it is out of use: it gives no new addresses, the old ones live on.
    pub disabled: bool,
    /// Whether its blocks are announced to BGP peers.
    pub export: bool,
}

/// A node, as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its addresses with their subnets' prefix lengths, at most one of each family.
    pub addresses: Vec<IpNetwork>,
    /// The address and the hardware address of its VXLAN device.
    pub vtep: Option<(IpAddr, MacAddr)>,
    /// Likewise of the device for IPv6 underlays.
    pub vtep_v6: Option<(IpAddr, MacAddr)>,
    /// The address of its IP in IP device.
    pub ipip: Option<IpAddr>,
}

impl NodeView {
    /// The node's address of one family.
    #[must_use]
    pub fn address(&self, ipv4: bool) -> Option<IpNetwork> {
        self.addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == ipv4)
    }

    /// The VXLAN device that packets of one family go through.
    #[must_use]
    pub const fn vtep(&self, ipv4: bool) -> Option<(IpAddr, MacAddr)> {
        if ipv4 { self.vtep } else { self.vtep_v6 }
    }

    /// The addresses of its tunnel devices.
    pub fn tunnel_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let vteps = [self.vtep, self.vtep_v6].into_iter().flatten();
        vteps.map(|(address, _)| address).chain(self.ipip)
    }
}

/// The link that the node reaches others by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub name: LinkName,
    /// Its largest packet, in bytes.
    pub mtu: u32,
}

/// What BGP peers say about a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The best next hops.
    pub hops: Vec<IpAddr>,
    /// Whether it came from a peer outside the cluster. What nodes announce is only believed inside pools.
    pub external: bool,
}

/// Tunnels that are kept although no pool asks for them any more, since other nodes may not know that yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// IP in IP.
    pub ipip: bool,
    /// VXLAN between IPv4 addresses.
    pub vxlan: bool,
    /// VXLAN between IPv6 addresses.
    pub vxlan_v6: bool,
}

impl Tunnels {
    /// Those that pools ask for.
    #[must_use]
    pub fn of(pools: &BTreeMap<String, PoolView>) -> Self {
        let any = |wants: fn(&PoolView) -> bool| pools.values().any(wants);
        Self {
            ipip: any(|pool| pool.encapsulation.ipip != When::Never && pool.range.is_ipv4()),
            vxlan: any(|pool| pool.encapsulation.vxlan != When::Never && pool.range.is_ipv4()),
            vxlan_v6: any(|pool| pool.encapsulation.vxlan != When::Never && !pool.range.is_ipv4()),
        }
    }

    /// Those in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            ipip: self.ipip || other.ipip,
            vxlan: self.vxlan || other.vxlan,
            vxlan_v6: self.vxlan_v6 || other.vxlan_v6,
        }
    }
}

/// Everything that the plan depends on.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// This node.
    pub own: &'a NodeView,
    /// This node's name, which the hardware addresses of its tunnels derive from.
    pub name: &'a str,
    /// The link with this node's address.
    pub uplink: Option<&'a Uplink>,
    /// The link with this node's IPv6 address, where that is another one.
    pub uplink_v6: Option<&'a Uplink>,
    /// Tunnels to have beside those that pools ask for.
    pub lingering: Tunnels,
    /// The other nodes.
    pub nodes: &'a BTreeMap<String, NodeView>,
    /// All pools.
    pub pools: &'a BTreeMap<String, PoolView>,
    /// Blocks with a confirmed affinity to this node.
    pub own_blocks: &'a BTreeSet<Prefix>,
    /// Blocks with a confirmed affinity to another node, and which.
    pub blocks: &'a BTreeMap<Prefix, String>,
    /// Addresses that are in use on another node than their block belongs to, and on which.
    pub borrowed: &'a BTreeMap<IpAddr, String>,
    /// The addresses of pods on this node, and their links.
    pub pods: &'a BTreeMap<IpAddr, LinkName>,
    /// What BGP peers announce: the best next hops of each prefix.
    pub learned: &'a BTreeMap<Prefix, Learned>,
    /// How the kernel reaches next hops that are no neighbours.
    pub gateways: &'a BTreeMap<IpAddr, Hop>,
    /// What parameters say about the MTU of tunnels.
    pub mtus: ocicat_dataplane::mtu::Overrides,
}

impl Inputs<'_> {
    /// The link with this node's address of one family.
    fn uplink(&self, ipv4: bool) -> Option<&Uplink> {
        if ipv4 {
            self.uplink
        } else {
            self.uplink_v6.or(self.uplink)
        }
    }

    /// Whether an address is another node's: only nodes take packets out of tunnels.
    fn is_node(&self, address: IpAddr) -> bool {
        let mut nodes = self.nodes.values();
        nodes.any(|node| node.addresses.iter().any(|own| own.ip() == address))
    }
}

/// What the node needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// Tunnel devices.
    pub links: BTreeMap<LinkName, Arc<Link>>,
    /// Routes.
    pub routes: BTreeMap<RouteKey, Route>,
    /// Permanent neighbours on tunnel devices.
    pub neighbours: BTreeMap<Neighbour, MacAddr>,
    /// Permanent forwarding entries.
    pub fdb: BTreeMap<Fdb, IpAddr>,
    /// Blocks and addresses of VXLAN pools whose node has no tunnel yet: what BGP says serves until then.
    waiting: BTreeSet<Prefix>,
    /// Next hops of routes that had to be left out, since the kernel's way to them is not known yet.
    pub unresolved: BTreeSet<IpAddr>,
}

/// What the node needs, given the inputs.
#[must_use]
pub fn plan(inputs: &Inputs<'_>) -> Network {
    let mut network = Network::default();
    network.own_routes(inputs);
    network.tunnel_links(inputs);
    network.store_routes(inputs);
    network.learned_routes(inputs);
    network
}

/// The pool that a prefix lies in.
#[must_use]
pub fn pool_of(pools: &BTreeMap<String, PoolView>, prefix: Prefix) -> Option<&PoolView> {
    pools
        .values()
        .filter(|pool| pool.range.covers(&prefix))
        .max_by_key(|pool| pool.range.length())
}

/// The key of the route that throws away what is free in an own block. Its metric is worse than that of a connected
/// route (0 for IPv4, 256 for IPv6): a bridge or another link with the block's subnet, whose containers have their addresses
/// from the block, wins.
pub(crate) fn own_block(block: Prefix) -> RouteKey {
    RouteKey {
        metric: 1024,
        ..RouteKey::main(block)
    }
}

impl Network {
    /// Whether there is a route for a prefix, or the prefix is an own block.
    fn has(&self, prefix: Prefix) -> bool {
        self.routes.contains_key(&RouteKey::main(prefix))
            || self.routes.contains_key(&own_block(prefix))
    }

    /// Own pods, and what is free in own blocks. A block of a single address has no blackhole: it would be the pod's.
    fn own_routes(&mut self, inputs: &Inputs<'_>) {
        for block in inputs.own_blocks.iter().filter(|block| !block.is_host()) {
            let route = Route {
                hops: vec![Hop::Blackhole],
                source: None,
            };
            self.routes.insert(own_block(*block), route);
        }
        for (address, link) in inputs.pods {
            self.add(Prefix::host(*address), Hop::Link(link.clone()));
        }
    }

    /// Blocks and borrowed addresses of VXLAN pools: the datastore knows them, BGP is not needed.
    fn store_routes(&mut self, inputs: &Inputs<'_>) {
        let blocks = inputs.blocks.iter().map(|(block, node)| (*block, node));
        let borrowed = inputs
            .borrowed
            .iter()
            .map(|(address, node)| (Prefix::host(*address), node));
        for (prefix, name) in blocks.chain(borrowed) {
            let Some(pool) = pool_of(inputs.pools, prefix) else {
                continue;
            };
            if pool.encapsulation.vxlan == When::Never || self.has(prefix) {
                continue;
            }
            let Some(node) = inputs.nodes.get(name) else {
                continue;
            };
            let Some(underlay) = node.address(prefix.is_ipv4()) else {
                continue;
            };
            match toward(pool.encapsulation, &inputs.own.addresses, underlay.ip()) {
                Toward::Vxlan => match self.vxlan_hop(node, prefix.is_ipv4()) {
                    Some(hop) => self.add(prefix, hop),
                    None => drop(self.waiting.insert(prefix)),
                },
                _ => self.add_toward(prefix, underlay.ip(), inputs),
            }
        }
    }

    fn learned_routes(&mut self, inputs: &Inputs<'_>) {
        for (prefix, learned) in inputs.learned {
            let pool = pool_of(inputs.pools, *prefix);
            let from_store = pool.is_some_and(|pool| pool.encapsulation.vxlan != When::Never)
                && !self.waiting.contains(prefix);
            let astray = pool.is_none() && !learned.external;
            if from_store || astray || self.has(*prefix) {
                continue;
            }
            let encapsulation = pool.map(|pool| pool.encapsulation).unwrap_or_default();
            for hop in &learned.hops {
                let tunnelled = toward(encapsulation, &inputs.own.addresses, *hop) == Toward::Ipip
                    && inputs.is_node(*hop);
                match names::link(names::IPIP_LINK) {
                    Ok(link) if tunnelled => self.add(*prefix, onlink(*hop, link)),
                    _ => self.add_toward(*prefix, *hop, inputs),
                }
            }
        }
    }

    /// Without a tunnel: straight to a neighbour, else by the gateway that the kernel uses for it.
    fn add_toward(&mut self, prefix: Prefix, to: IpAddr, inputs: &Inputs<'_>) {
        let near = inputs.own.addresses.iter().any(|own| own.contains(to));
        if near {
            let link = inputs.uplink(to.is_ipv4());
            let link = link.map(|uplink| uplink.name.clone());
            self.add(
                prefix,
                Hop::Via {
                    gateway: to,
                    link,
                    onlink: false,
                },
            );
        } else if let Some(hop) = inputs.gateways.get(&to) {
            self.add(prefix, hop.clone());
        } else {
            self.unresolved.insert(to);
        }
    }

    fn add(&mut self, prefix: Prefix, hop: Hop) {
        let route = self.routes.entry(RouteKey::main(prefix));
        let hops = &mut route
            .or_insert_with(|| Route {
                hops: Vec::new(),
                source: None,
            })
            .hops;
        if let Err(place) = hops.binary_search(&hop) {
            hops.insert(place, hop);
        }
    }
}

/// By way of a gateway that is taken for a neighbour on a tunnel's link.
fn onlink(gateway: IpAddr, link: LinkName) -> Hop {
    Hop::Via {
        gateway,
        link: Some(link),
        onlink: true,
    }
}

mod tunnels;

#[cfg(test)]
mod tests;
