//! What the agent knows of the cluster: projections of the datastore's objects, as far as this node needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ocicat_bgp::filter::RuleSet;
use ocicat_dataplane::Prefix;
use ocicat_dataplane::state::LinkName;
use ocicat_datastore::model::{
    BgpConfiguration, BgpPeer, BlockAffinity, ClusterInformation, FelixConfiguration, IpPool,
    IpPoolSpec, Kind, Node, Profile,
};
use ocicat_datastore::{Key, Object, StoreError};

use crate::network::{NodeView, PoolView};
use crate::peers::{BgpNode, BgpSettings, LocalWorkload};
use crate::services::{EXCLUDED, Services};

mod read;
mod touched;
mod usage;

pub use touched::Touched;
use touched::changed;
pub use usage::PoolUse;

/// The kinds that the agent follows.
pub const KINDS: [Kind; 21] = [
    Kind::ClusterInformation,
    Kind::Node,
    Kind::IpPool,
    Kind::IpReservation,
    Kind::IpamConfig,
    Kind::BlockAffinity,
    Kind::IpamBlock,
    Kind::BgpConfiguration,
    Kind::BgpPeer,
    Kind::BgpFilter,
    Kind::FelixConfiguration,
    Kind::Profile,
    Kind::Tier,
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::KubeNetworkPolicy,
    Kind::ClusterNetworkPolicy,
    Kind::NetworkSet,
    Kind::GlobalNetworkSet,
    Kind::WorkloadEndpoint,
    Kind::HostEndpoint,
];

/// The kinds that the agent follows as well where addresses of services are to be announced.
pub const SERVICE_KINDS: [Kind; 2] = [Kind::Service, Kind::EndpointSlice];

/// The name of the one ClusterInformation that there is.
const CLUSTER: &str = "default";

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The node's end of its link.
    pub link: LinkName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Name and content of its endpoint-status file.
    pub status_file: (String, String),
}

/// What the agent knows.
#[derive(Debug, Default)]
pub struct World {
    own: String,
    /// Whether the datastore is locked: nothing may be written to it.
    pub locked: bool,
    /// Nodes, as routes see them.
    pub nodes: BTreeMap<String, NodeView>,
    /// Whose an address is.
    node_addresses: BTreeMap<IpAddr, String>,
    /// Nodes, as BGP sees them.
    pub bgp_nodes: BTreeMap<String, BgpNode>,
    /// Pools by name.
    pub pools: BTreeMap<String, PoolView>,
    /// The same, as they are written.
    pub pool_specs: BTreeMap<String, Arc<IpPoolSpec>>,
    /// Confirmed blocks of this node.
    pub own_blocks: BTreeSet<Prefix>,
    /// Confirmed blocks of other nodes.
    pub blocks: BTreeMap<Prefix, String>,
    /// Borrowed addresses of each block: address and node.
    borrowed: BTreeMap<String, Vec<(IpAddr, String)>>,
    /// Blocks of this node by object name, and how many of their addresses are in use.
    own_used: BTreeMap<String, (Prefix, usize)>,
    /// Affinities by object name, to know what a deletion takes away.
    affinities: BTreeMap<String, (Prefix, String)>,
    /// Claims of this node that were begun and are not confirmed, by object name.
    unsettled: BTreeSet<String>,
    /// Pods of this node, by namespace and name of the endpoint.
    pub local_pods: BTreeMap<(String, String), LocalPod>,
    /// Annotations of namespaces, kept on their profiles.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// BGP settings: `default` and `node.<name>`.
    bgp_configurations: BTreeMap<String, BgpConfiguration>,
    /// What they say together for this node.
    pub bgp: BgpSettings,
    /// What is wrong with them.
    pub bgp_problems: Vec<String>,
    /// BGP peers by name.
    pub bgp_peers: BTreeMap<String, BgpPeer>,
    /// BGPFilters by name.
    pub bgp_filters: BTreeMap<String, RuleSet>,
    /// Services, where they are followed.
    services: Services,
    /// Felix's parameters: `default`, `node.<name>`, and others with a selector.
    felix: BTreeMap<String, FelixConfiguration>,
    /// What they say for this node, the strongest object first.
    pub felix_layers: Vec<(String, BTreeMap<String, String>)>,
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
            Kind::ClusterInformation => {
                let information: ClusterInformation = object.decode()?;
                // A cluster that does not say is a new one.
                if name == CLUSTER {
                    self.locked = information.spec.datastore_ready == Some(false);
                }
                Touched::default()
            }
            Kind::Node => self.put_node(&name, &object.decode()?),
            Kind::IpPool => {
                let pool: IpPool = object.decode()?;
                let view = read::pool_view(object, &pool)?;
                self.pool_specs.insert(name.clone(), Arc::new(pool.spec));
                changed(
                    self.pools.insert(name, view.clone()).as_ref() != Some(&view),
                    // What is announced to whom depends on pools.
                    Touched::ALL,
                )
            }
            Kind::BlockAffinity => self.put_affinity(object, &object.decode()?)?,
            Kind::IpamBlock => self.put_block(object, &object.decode()?)?,
            Kind::BgpConfiguration => {
                self.bgp_configurations.insert(name, object.decode()?);
                self.read_bgp()
            }
            Kind::BgpFilter => {
                let rules = read::rules(object)?;
                let before = self.bgp_filters.insert(name, rules.clone());
                changed(before != Some(rules), Touched::PEERS)
            }
            Kind::Service => changed(
                self.services.put_service(&object.decode()?),
                Touched::ORIGINATIONS,
            ),
            Kind::EndpointSlice => changed(
                self.services.put_slice(&self.own, &object.decode()?),
                Touched::ORIGINATIONS,
            ),
            Kind::BgpPeer => {
                self.bgp_peers.insert(name, object.decode()?);
                Touched::PEERS
            }
            Kind::FelixConfiguration => {
                self.felix.insert(name, object.decode()?);
                self.read_felix();
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
            Kind::WorkloadEndpoint => self.put_endpoint(object)?,
            _ => Touched::default(),
        })
    }

    /// Takes an object out.
    pub fn delete(&mut self, key: &Key) -> Touched {
        let name = key.name.as_str();
        match key.kind {
            Kind::ClusterInformation => {
                self.locked &= name != CLUSTER;
                Touched::default()
            }
            Kind::Node => {
                self.bgp_nodes.remove(name);
                self.forget_addresses(name);
                changed(self.nodes.remove(name).is_some(), Touched::ALL)
            }
            Kind::IpPool => {
                self.pool_specs.remove(name);
                changed(self.pools.remove(name).is_some(), Touched::ALL)
            }
            Kind::BlockAffinity => {
                self.unsettled.remove(name);
                changed(self.remove_affinity(name), Touched::NETWORK)
            }
            Kind::IpamBlock => {
                self.own_used.remove(name);
                changed(self.borrowed.remove(name).is_some(), Touched::NETWORK)
            }
            Kind::BgpConfiguration => {
                self.bgp_configurations.remove(name);
                self.read_bgp()
            }
            Kind::BgpFilter => changed(self.bgp_filters.remove(name).is_some(), Touched::PEERS),
            Kind::Service => changed(
                self.services.remove_service(&full_name(key)),
                Touched::ORIGINATIONS,
            ),
            Kind::EndpointSlice => changed(
                self.services.remove_slice(&full_name(key)),
                Touched::ORIGINATIONS,
            ),
            Kind::BgpPeer => changed(self.bgp_peers.remove(name).is_some(), Touched::PEERS),
            Kind::FelixConfiguration => {
                let gone = self.felix.remove(name).is_some();
                self.read_felix();
                changed(gone, Touched::NETWORK)
            }
            Kind::Profile => {
                if let Some(namespace) = name.strip_prefix("kns.") {
                    self.namespaces.remove(namespace);
                }
                Touched::default()
            }
            Kind::WorkloadEndpoint => changed(
                self.local_pods.remove(&full_name(key)).is_some(),
                Touched::PODS,
            ),
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
        let pods = self.local_pods.values();
        pods.flat_map(|pod| pod.addresses.iter().map(|one| (*one, pod.link.clone())))
            .collect()
    }

    /// The pods of this node, as BGP sees them.
    #[must_use]
    pub fn workloads(&self) -> Vec<LocalWorkload> {
        let pods = self.local_pods.iter();
        pods.map(|((namespace, name), pod)| LocalWorkload {
            name: format!("{namespace}/{name}"),
            addresses: pod.addresses.clone(),
            labels: pod.labels.clone(),
        })
        .collect()
    }

    /// How many pods this node has.
    #[must_use]
    pub fn pod_count(&self) -> usize {
        self.local_pods.len()
    }

    /// The annotations of namespaces.
    #[must_use]
    pub const fn all_namespaces(&self) -> &BTreeMap<String, BTreeMap<String, String>> {
        &self.namespaces
    }

    /// The addresses of services that this node announces.
    #[must_use]
    pub fn services(&self) -> BTreeSet<Prefix> {
        let labels = self.bgp_nodes.get(&self.own).map(|node| &node.labels);
        if labels.is_some_and(|labels| labels.contains_key(EXCLUDED)) {
            return BTreeSet::new();
        }
        self.services.announced(&self.bgp.services)
    }

    /// Whether an address is another node's.
    #[must_use]
    pub fn is_node(&self, address: IpAddr) -> bool {
        self.node_of(address).is_some()
    }

    /// The node that has an address.
    #[must_use]
    pub fn node_of(&self, address: IpAddr) -> Option<&str> {
        self.node_addresses.get(&address).map(String::as_str)
    }

    fn read_bgp(&mut self) -> Touched {
        let own = self.bgp_configurations.get(&format!("node.{}", self.own));
        let cluster = self.bgp_configurations.get("default");
        let (settings, problems) = BgpSettings::read(cluster, own);
        self.bgp_problems = problems;
        let before = std::mem::replace(&mut self.bgp, settings);
        changed(before != self.bgp, Touched::ALL)
    }

    /// What FelixConfigurations say for this node, the strongest first: the node's own, those that select it, the
    /// cluster's. Names of parameters are in lower case.
    fn read_felix(&mut self) {
        let own = format!("node.{}", self.own);
        let labels = self
            .bgp_nodes
            .get(&self.own)
            .map(|node| node.labels.clone());
        let labels = labels.unwrap_or_default();
        let strength = |name: &str, one: &FelixConfiguration| {
            if name == own {
                return Some(0);
            }
            if name == "default" {
                return Some(2);
            }
            let selector: ocicat_selectors::Selector =
                one.spec.node_selector.as_ref()?.parse().ok()?;
            selector.matches(&labels).then_some(1)
        };
        let mut layers: Vec<_> = self
            .felix
            .iter()
            .filter_map(|(name, one)| Some((strength(name, one)?, name.clone(), read::texts(one))))
            .collect();
        layers.sort_by_key(|(strength, ..)| *strength);
        self.felix_layers = layers
            .into_iter()
            .map(|(_, name, texts)| (name, texts))
            .collect();
    }

    fn put_node(&mut self, name: &str, node: &Node) -> Touched {
        let (view, speaker) = read::node(name, node);
        let mut touched = Touched::default();
        if self.bgp_nodes.get(name) != Some(&speaker) {
            touched.add(Touched::PEERS);
            self.bgp_nodes.insert(name.to_owned(), speaker);
            if name == self.own {
                self.read_felix();
                touched.add(Touched::NETWORK);
            }
        }
        if self.nodes.get(name) != Some(&view) {
            touched.add(Touched::NETWORK);
            self.forget_addresses(name);
            let addresses = view.addresses.iter().map(ipnetwork::IpNetwork::ip);
            self.node_addresses
                .extend(addresses.map(|address| (address, name.to_owned())));
            self.nodes.insert(name.to_owned(), view);
        }
        touched
    }

    fn forget_addresses(&mut self, name: &str) {
        if self.nodes.contains_key(name) {
            self.node_addresses.retain(|_, node| node != name);
        }
    }

    /// Only a confirmed affinity is ownership: a pending one must never make a route.
    fn put_affinity(
        &mut self,
        object: &Object,
        affinity: &BlockAffinity,
    ) -> Result<Touched, StoreError> {
        let claim = read::claim(object, affinity)?;
        if claim.is_none() && affinity.spec.node == self.own {
            self.unsettled.insert(object.name.clone());
        } else {
            self.unsettled.remove(&object.name);
        }
        let old = self.affinities.get(&object.name).cloned();
        let new = claim;
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

    /// Endpoints of other nodes are policy's business alone, and there are many: they are not even decoded here.
    fn put_endpoint(&mut self, object: &Object) -> Result<Touched, StoreError> {
        let key = full_name(&object.key());
        if object.value["spec"]["node"].as_str() != Some(&self.own) {
            let gone = self.local_pods.remove(&key).is_some();
            return Ok(changed(gone, Touched::PODS));
        }
        let pod = read::pod(object, &object.decode()?)?;
        let before = self.local_pods.insert(key, pod.clone());
        Ok(changed(before.as_ref() != Some(&pod), Touched::PODS))
    }
}

fn full_name(key: &Key) -> (String, String) {
    (key.namespace.clone().unwrap_or_default(), key.name.clone())
}
