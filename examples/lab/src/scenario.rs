//! A scenario: what a lab's cluster is made of, read from a file and checked before anything is built.

mod addresses;
mod check;
mod model;
mod step;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

pub use model::{
    Datastore, Host, Namespace, Node, Pod, Pool, Port, Protocol, Rack, Router, ServiceAccount,
    Topology,
};
use ocicatctl::{Document, Fault};
pub use step::{Agents, Asked, Exec, Expected, Flow, Patch, Step, Store};

/// A checked scenario: every reference resolves, every node and router has its address.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The lab's name; two labs with different names run side by side.
    pub name: String,
    /// The AS of the cluster.
    pub as_number: u32,
    /// Where the cluster's objects are kept.
    pub datastore: Datastore,
    /// How nodes learn each other's routes.
    pub topology: Topology,
    /// The nodes that reflect routes, with that topology.
    pub reflectors: Vec<String>,
    /// Seconds between two keepalives of the nodes' sessions; three times this without a word ends one.
    pub keepalive: u64,
    /// What speaks BGP on the underlay's router, and peers with every node.
    pub router: Router,
    /// The underlay subnets.
    pub racks: Vec<Rack>,
    /// The nodes, each with an address of every family that its rack has.
    pub nodes: Vec<Node>,
    /// Machines outside the cluster.
    pub hosts: Vec<Host>,
    /// The address pools.
    pub pools: Vec<Pool>,
    /// The namespaces, those that only pods name included.
    pub namespaces: Vec<Namespace>,
    /// The service accounts.
    pub service_accounts: Vec<ServiceAccount>,
    /// The pods.
    pub pods: Vec<Pod>,
    /// The manifests to apply, relative to the scenario's file.
    pub apply: Vec<String>,
    /// What `ocicat-lab test` does with the cluster, and what it expects.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// Reads a scenario; `file` is what errors call it, and the default of the lab's name.
    ///
    /// # Errors
    /// The first [`Fault`] in the order of the file: an unknown or unsupported key, a bad value, a reference to nothing.
    pub fn parse(file: &str, text: &str) -> Result<Self, Fault> {
        let documents = ocicatctl::document::parse(file, text)?;
        let document = match documents.as_slice() {
            [document] => document,
            [] => return Err(Fault::of_file(file, "the file is empty")),
            [_, second, ..] => {
                return Err(second.fault("", "a scenario is one document, this is the second"));
            }
        };
        check::unsupported(document)?;
        let file_model: model::File = document.decode()?;
        let mut scenario = Self::from_model(file, file_model);
        check::all(document, &scenario)?;
        addresses::assign(document, &mut scenario)?;
        Ok(scenario)
    }

    fn from_model(file: &str, model: model::File) -> Self {
        let stem = || {
            Path::new(file)
                .file_stem()
                .map_or_else(|| "lab".into(), |stem| stem.to_string_lossy())
        };
        let mut namespaces = model.namespaces;
        for pod in &model.pods {
            if !namespaces.iter().any(|known| known.name == pod.namespace) {
                namespaces.push(Namespace::named(&pod.namespace));
            }
        }
        Self {
            name: model.name.unwrap_or_else(|| stem().into_owned()),
            as_number: model.bgp.as_number,
            datastore: model.datastore,
            topology: model.bgp.topology,
            reflectors: model.bgp.reflectors,
            router: model.bgp.router,
            keepalive: model.bgp.keepalive,
            racks: model.racks,
            nodes: model.nodes,
            hosts: model.hosts,
            pools: model.pools,
            namespaces,
            service_accounts: model.service_accounts,
            pods: model.pods,
            apply: model.apply,
            steps: model.steps,
        }
    }

    /// Which families of addresses a pod gets that says nothing about it: those that there are pools of.
    #[must_use]
    pub fn pod_families(&self) -> [bool; 2] {
        let any = |ipv4: bool| self.pools.iter().any(|pool| pool.cidr.is_ipv4() == ipv4);
        [any(true) || !any(false), any(false)]
    }

    /// The rack of that name.
    #[must_use]
    pub fn rack(&self, name: &str) -> Option<&Rack> {
        self.racks.iter().find(|rack| rack.name == name)
    }

    /// Whether `address` is in use by a node, a rack's router or a host.
    fn underlay_owner(&self, address: IpAddr) -> Option<String> {
        let racks = self.racks.iter().flat_map(|rack| {
            let name = format!("the router of rack {}", rack.name);
            rack.routers()
                .map(move |(address, _)| (address, name.clone()))
        });
        let nodes = self.nodes.iter().flat_map(|node| {
            node.ip
                .iter()
                .map(|ip| (*ip, format!("node {}", node.name)))
        });
        let hosts = self.hosts.iter().flat_map(|host| {
            host.ip
                .iter()
                .map(|ip| (*ip, format!("host {}", host.name)))
        });
        let owners: BTreeMap<IpAddr, String> = hosts.chain(nodes).chain(racks).collect();
        owners.get(&address).cloned()
    }
}

/// A fault that no line can be given to: the scenario was made by a program.
pub(crate) fn fault(document: &Document, field: &str, message: impl std::fmt::Display) -> Fault {
    document.fault(field, message)
}

#[cfg(test)]
mod tests;
