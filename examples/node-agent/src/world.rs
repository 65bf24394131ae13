//! What the agent knows of the cluster: projections of the datastore's objects, as far as this node needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use ocicat_dataplane::Prefix;
use ocicat_dataplane::hop::{Encapsulation, When};
use ocicat_dataplane::names;
use ocicat_dataplane::state::{LinkName, MacAddr};
use ocicat_datastore::model::{
    BgpConfiguration, BgpPeer, BlockAffinity, FelixConfiguration, IpPool, IpamBlock, Kind, Node,
    Profile, WorkloadEndpoint,
};
use ocicat_datastore::{Key, Object, StoreError};

use crate::network::{NodeView, PoolView};
use crate::peers::BgpNode;

/// The kinds that the agent follows.
pub const KINDS: [Kind; 15] = [
    Kind::Node,
    Kind::IpPool,
    Kind::BlockAffinity,
    Kind::IpamBlock,
    Kind::BgpConfiguration,
    Kind::BgpPeer,
    Kind::FelixConfiguration,
    Kind::Profile,
    Kind::Tier,
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::NetworkSet,
    Kind::GlobalNetworkSet,
    Kind::WorkloadEndpoint,
    Kind::HostEndpoint,
];

/// Which parts of the desired state a change concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Links, routes, host rules, address translation.
    pub network: bool,
    /// BGP sessions.
    pub peers: bool,
    /// What the node announces.
    pub originations: bool,
}

impl Touched {
    const NETWORK: Self = Self {
        network: true,
        peers: false,
        originations: true,
    };
    const PEERS: Self = Self {
        network: false,
        peers: true,
        originations: false,
    };
    const ALL: Self = Self {
        network: true,
        peers: true,
        originations: true,
    };

    /// Both.
    pub const fn add(&mut self, other: Self) {
        self.network |= other.network;
        self.peers |= other.peers;
        self.originations |= other.originations;
    }
}

/// What the agent knows.
#[derive(Debug, Default)]
pub struct World {
    own: String,
    /// Nodes, as routes see them.
    pub nodes: BTreeMap<String, NodeView>,
    /// Nodes, as BGP sees them.
    pub bgp_nodes: BTreeMap<String, BgpNode>,
    /// Pools by name.
    pub pools: BTreeMap<String, PoolView>,
    /// Confirmed blocks of this node.
    pub own_blocks: BTreeSet<Prefix>,
    /// Confirmed blocks of other nodes.
    pub blocks: BTreeMap<Prefix, String>,
    /// Borrowed addresses of each block: address and node.
    borrowed: BTreeMap<String, Vec<(IpAddr, String)>>,
    /// Affinities by object name, to know what a deletion takes away.
    affinities: BTreeMap<String, (Prefix, String)>,
    /// Pods of this node: their addresses and links, by namespace and name of the endpoint.
    pods: BTreeMap<(String, String), (Vec<IpAddr>, LinkName)>,
    /// Annotations of namespaces, kept on their profiles.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// BGP settings: `default` and `node.<name>`.
    bgp_configurations: BTreeMap<String, BgpConfiguration>,
    /// BGP peers by name.
    pub bgp_peers: BTreeMap<String, BgpPeer>,
    /// Felix's parameters: `default` and `node.<name>`.
    felix: BTreeMap<String, FelixConfiguration>,
}

impl World {
    /// A world seen from a node.
    #[must_use]
    pub fn new(own: &str) -> Self {
        Self {
            own: own.to_owned(),
            ..Self::default()
        }
    }

    /// Takes an object in. One that does not decode leaves its last good version in force.
    ///
    /// # Errors
    /// [`StoreError::Malformed`], with the object and the field.
    pub fn put(&mut self, object: &Object) -> Result<Touched, StoreError> {
        let name = object.name.clone();
        Ok(match object.kind {
            Kind::Node => self.put_node(&name, &object.decode()?),
            Kind::IpPool => {
                let view = pool_view(object, &object.decode()?)?;
                changed(
                    self.pools.insert(name, view.clone()).as_ref() != Some(&view),
                    Touched::NETWORK,
                )
            }
            Kind::BlockAffinity => self.put_affinity(object, &object.decode()?)?,
            Kind::IpamBlock => {
                let list = borrowed(object, &object.decode()?)?;
                let old = if list.is_empty() {
                    self.borrowed.remove(&name).unwrap_or_default()
                } else {
                    self.borrowed.insert(name, list.clone()).unwrap_or_default()
                };
                changed(old != list, Touched::NETWORK)
            }
            Kind::BgpConfiguration => {
                self.bgp_configurations.insert(name, object.decode()?);
                Touched::PEERS
            }
            Kind::BgpPeer => {
                self.bgp_peers.insert(name, object.decode()?);
                Touched::PEERS
            }
            Kind::FelixConfiguration => {
                self.felix.insert(name, object.decode()?);
                Touched::NETWORK
            }
            Kind::Profile => {
                let profile: Profile = object.decode()?;
                if let Some(namespace) = name.strip_prefix("kns.") {
                    self.namespaces
                        .insert(namespace.to_owned(), profile.metadata.annotations);
                }
                Touched::default()
            }
            Kind::WorkloadEndpoint => self.put_endpoint(object, &object.decode()?)?,
            _ => Touched::default(),
        })
    }

    /// Takes an object out.
    pub fn delete(&mut self, key: &Key) -> Touched {
        let name = key.name.as_str();
        match key.kind {
            Kind::Node => {
                self.bgp_nodes.remove(name);
                changed(self.nodes.remove(name).is_some(), Touched::ALL)
            }
            Kind::IpPool => changed(self.pools.remove(name).is_some(), Touched::NETWORK),
            Kind::BlockAffinity => changed(self.remove_affinity(name), Touched::NETWORK),
            Kind::IpamBlock => changed(self.borrowed.remove(name).is_some(), Touched::NETWORK),
            Kind::BgpConfiguration => changed(
                self.bgp_configurations.remove(name).is_some(),
                Touched::PEERS,
            ),
            Kind::BgpPeer => changed(self.bgp_peers.remove(name).is_some(), Touched::PEERS),
            Kind::FelixConfiguration => {
                changed(self.felix.remove(name).is_some(), Touched::NETWORK)
            }
            Kind::Profile => {
                if let Some(namespace) = name.strip_prefix("kns.") {
                    self.namespaces.remove(namespace);
                }
                Touched::default()
            }
            Kind::WorkloadEndpoint => {
                let key = (key.namespace.clone().unwrap_or_default(), name.to_owned());
                changed(self.pods.remove(&key).is_some(), Touched::NETWORK)
            }
            _ => Touched::default(),
        }
    }

    /// This node, as others see it.
    #[must_use]
    pub fn own_node(&self) -> NodeView {
        self.nodes.get(&self.own).cloned().unwrap_or_default()
    }

    /// The other nodes.
    #[must_use]
    pub fn other_nodes(&self) -> BTreeMap<String, NodeView> {
        let others = self.nodes.iter().filter(|(name, _)| **name != self.own);
        others
            .map(|(name, node)| (name.clone(), node.clone()))
            .collect()
    }

    /// Addresses in use on another node than their block belongs to, and on which; this node's own are left out.
    #[must_use]
    pub fn borrowed(&self) -> BTreeMap<IpAddr, String> {
        let all = self.borrowed.values().flatten();
        all.filter(|(_, node)| *node != self.own).cloned().collect()
    }

    /// The addresses of this node's pods, and their links.
    #[must_use]
    pub fn pods(&self) -> BTreeMap<IpAddr, LinkName> {
        let pods = self.pods.values();
        pods.flat_map(|(addresses, link)| addresses.iter().map(|address| (*address, link.clone())))
            .collect()
    }

    /// How many pods this node has.
    #[must_use]
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// The annotations of namespaces.
    #[must_use]
    pub const fn all_namespaces(&self) -> &BTreeMap<String, BTreeMap<String, String>> {
        &self.namespaces
    }

    /// The BGP settings that hold for this node.
    #[must_use]
    pub fn bgp_configuration(&self) -> Option<&BgpConfiguration> {
        let own = self.bgp_configurations.get(&format!("node.{}", self.own));
        own.or_else(|| self.bgp_configurations.get("default"))
    }

    /// A parameter of Felix from the datastore: the node's own object wins over the cluster's.
    #[must_use]
    pub fn felix(&self, name: &str) -> Option<String> {
        let own = format!("node.{}", self.own);
        [own.as_str(), "default"].iter().find_map(|object| {
            let value = self.felix.get(*object)?.spec.parameters.get(name)?;
            Some(
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned),
            )
        })
    }

    fn put_node(&mut self, name: &str, node: &Node) -> Touched {
        let bgp = node.spec.bgp.clone().unwrap_or_default();
        let addresses: Vec<IpNetwork> = [&bgp.ipv4_address, &bgp.ipv6_address]
            .into_iter()
            .flatten()
            .filter_map(|text| text.parse().ok())
            .collect();
        let spec = &node.spec;
        let vtep = vtep(
            spec.ipv4_vxlan_tunnel_addr.as_deref(),
            spec.vxlan_tunnel_mac_addr.as_deref(),
            || names::vtep_mac(name),
        );
        let vtep_v6 = self::vtep(
            spec.ipv6_vxlan_tunnel_addr.as_deref(),
            spec.vxlan_tunnel_mac_addr_v6.as_deref(),
            || names::vtep_mac_v6(name),
        );
        let ipip = bgp.ipv4_ipip_tunnel_addr.as_deref().and_then(bare);
        let speaker = BgpNode {
            address: node
                .spec
                .bgp
                .as_ref()
                .and_then(|_| addresses.first())
                .map(IpNetwork::ip),
            as_number: bgp.as_number.map(|number| number.0),
            labels: node.metadata.labels.clone(),
            reflector: bgp.route_reflector_cluster_id,
        };
        let view = NodeView {
            addresses,
            vtep,
            vtep_v6,
            ipip,
        };
        let mut touched = Touched::default();
        if self.bgp_nodes.get(name) != Some(&speaker) {
            touched.add(Touched::PEERS);
            self.bgp_nodes.insert(name.to_owned(), speaker);
        }
        if self.nodes.get(name) != Some(&view) {
            touched.add(Touched::NETWORK);
            self.nodes.insert(name.to_owned(), view);
        }
        touched
    }

    /// Only a confirmed affinity is ownership: a pending one must never make a route.
    fn put_affinity(
        &mut self,
        object: &Object,
        affinity: &BlockAffinity,
    ) -> Result<Touched, StoreError> {
        let spec = &affinity.spec;
        let confirmed = (spec.state.is_empty() || spec.state == "confirmed") && !spec.deleted;
        let host = spec
            .r#type
            .as_deref()
            .is_none_or(|kind| kind.is_empty() || kind == "host");
        let range = prefix(object, "spec.cidr", &spec.cidr)?;
        let old = self.affinities.get(&object.name).cloned();
        let new = (confirmed && host).then(|| (range, spec.node.clone()));
        if old == new {
            return Ok(Touched::default());
        }
        self.remove_affinity(&object.name);
        if let Some((range, node)) = new {
            if node == self.own {
                self.own_blocks.insert(range);
            } else {
                self.blocks.insert(range, node.clone());
            }
            self.affinities.insert(object.name.clone(), (range, node));
        }
        Ok(Touched::NETWORK)
    }

    fn remove_affinity(&mut self, name: &str) -> bool {
        let Some((range, node)) = self.affinities.remove(name) else {
            return false;
        };
        if node == self.own {
            self.own_blocks.remove(&range);
        } else if self.blocks.get(&range) == Some(&node) {
            self.blocks.remove(&range);
        }
        true
    }

    fn put_endpoint(
        &mut self,
        object: &Object,
        endpoint: &WorkloadEndpoint,
    ) -> Result<Touched, StoreError> {
        let key = (
            object.namespace.clone().unwrap_or_default(),
            object.name.clone(),
        );
        if endpoint.spec.node != self.own {
            return Ok(changed(self.pods.remove(&key).is_some(), Touched::NETWORK));
        }
        let link = endpoint.spec.interface_name.clone().unwrap_or_default();
        let link =
            LinkName::new(link).map_err(|error| malformed(object, "spec.interfaceName", error))?;
        let addresses: Result<Vec<IpAddr>, _> = endpoint
            .spec
            .ip_networks
            .iter()
            .map(|text| {
                let network: Result<IpNetwork, _> = text.parse();
                network
                    .map(|network| network.ip())
                    .map_err(|error| malformed(object, "spec.ipNetworks", error))
            })
            .collect();
        let pod = (addresses?, link);
        Ok(changed(
            self.pods.insert(key, pod.clone()).as_ref() != Some(&pod),
            Touched::NETWORK,
        ))
    }
}

/// An address without the prefix length that may stand behind it.
fn bare(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

/// A node's VXLAN device, as its Node object describes it.
fn vtep(
    address: Option<&str>,
    mac: Option<&str>,
    derived: impl FnOnce() -> MacAddr,
) -> Option<(IpAddr, MacAddr)> {
    let address = address.and_then(bare)?;
    let mac = mac.and_then(|mac| mac.parse().ok());
    Some((address, mac.unwrap_or_else(derived)))
}

fn changed(changed: bool, touched: Touched) -> Touched {
    if changed { touched } else { Touched::default() }
}

fn malformed(object: &Object, field: &str, reason: impl ToString) -> StoreError {
    StoreError::Malformed {
        key: object.key(),
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

fn prefix(object: &Object, field: &str, text: &str) -> Result<Prefix, StoreError> {
    text.parse()
        .map_err(|error| malformed(object, field, error))
}

fn pool_view(object: &Object, pool: &IpPool) -> Result<PoolView, StoreError> {
    let when = |field: &str, mode: &Option<String>| match mode.as_deref() {
        None | Some("" | "Never") => Ok(When::Never),
        Some("Always") => Ok(When::Always),
        Some("CrossSubnet") => Ok(When::CrossSubnet),
        Some(other) => Err(malformed(
            object,
            field,
            format!("{other:?} is not Never, Always or CrossSubnet"),
        )),
    };
    Ok(PoolView {
        range: prefix(object, "spec.cidr", &pool.spec.cidr)?,
        encapsulation: Encapsulation {
            ipip: when("spec.ipipMode", &pool.spec.ipip_mode)?,
            vxlan: when("spec.vxlanMode", &pool.spec.vxlan_mode)?,
        },
        nat_outgoing: pool.spec.nat_outgoing,
        disabled: pool.spec.disabled,
        export: !pool.spec.disable_bgp_export,
    })
}

/// Addresses of a block that are in use on another node than the block belongs to.
fn borrowed(object: &Object, block: &IpamBlock) -> Result<Vec<(IpAddr, String)>, StoreError> {
    let spec = &block.spec;
    let range = prefix(object, "spec.cidr", &spec.cidr)?;
    let owner = spec
        .affinity
        .as_deref()
        .and_then(|affinity| affinity.strip_prefix("host:"));
    let mut found = Vec::new();
    for (ordinal, index) in spec.allocations.iter().enumerate() {
        let Some(attribute) = index.and_then(|index| spec.attributes.get(index as usize)) else {
            continue;
        };
        let Some(node) = attribute.secondary.get("node") else {
            continue;
        };
        if owner != Some(node.as_str())
            && attribute.released_at.is_none()
            && let Some(address) = nth(range.address(), ordinal)
        {
            found.push((address, node.clone()));
        }
    }
    Ok(found)
}

fn nth(first: IpAddr, ordinal: usize) -> Option<IpAddr> {
    match first {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_add(u32::try_from(ordinal).ok()?)
            .map(|sum| IpAddr::V4(sum.into())),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_add(ordinal as u128)
            .map(|sum| IpAddr::V6(sum.into())),
    }
}
