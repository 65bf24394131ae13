//! A scenario: what a lab's cluster is made of, read from a file and checked before anything is built.

mod addresses;
mod check;
mod model;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

pub use model::{Host, Namespace, Node, Pod, Pool, Port, Protocol, Rack, ServiceAccount};
use ocicatctl::{Document, Fault};

/// A checked scenario: every reference resolves, every node and router has its address.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The lab's name; two labs with different names run side by side.
    pub name: String,
    /// The AS of the cluster.
    pub as_number: u32,
    /// Whether the underlay's router speaks BGP and peers with every node.
    pub router: bool,
    /// The underlay subnets.
    pub racks: Vec<Rack>,
    /// The nodes, each with one IPv4 address.
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
            router: model.bgp.router,
            racks: model.racks,
            nodes: model.nodes,
            hosts: model.hosts,
            pools: model.pools,
            namespaces,
            service_accounts: model.service_accounts,
            pods: model.pods,
            apply: model.apply,
        }
    }

    /// The rack of that name.
    #[must_use]
    pub fn rack(&self, name: &str) -> Option<&Rack> {
        self.racks.iter().find(|rack| rack.name == name)
    }

    /// Whether `address` is in use by a node, a rack's router or a host.
    fn underlay_owner(&self, address: IpAddr) -> Option<String> {
        let racks = self
            .racks
            .iter()
            .filter_map(|rack| Some((rack.router()?, format!("the router of rack {}", rack.name))));
        let nodes = self.nodes.iter().flat_map(|node| {
            node.ip
                .iter()
                .map(|ip| (*ip, format!("node {}", node.name)))
        });
        let hosts = self
            .hosts
            .iter()
            .map(|host| (host.ip, format!("host {}", host.name)));
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
