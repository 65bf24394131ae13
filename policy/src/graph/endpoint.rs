//! Endpoints, network sets and slices of services as the graph keeps them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ocicat_dataplane::Prefix;
use ocicat_dataplane::state::{LinkName, Protocol};
use ocicat_datastore::Key;
use ocicat_datastore::model::{
    EndpointSlice, HostEndpoint, IntOrString, Metadata, NetworkSetSpec, WorkloadEndpoint,
};

use super::Graph;
use super::facts::{Facts, Port};
use super::sets::Backend;
use crate::compile::Fault;
use crate::labels;
use crate::{Effect, Reason, nets};

/// The label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// An endpoint of this node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Local {
    pub(super) target: Target,
    pub(super) profiles: Vec<Arc<str>>,
}

/// Where an endpoint's policy goes in the state.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    Workload {
        link: LinkName,
        addresses: Vec<IpAddr>,
        allowed_sources: Vec<Prefix>,
    },
    Host {
        /// `None` is every interface that is no pod's.
        link: Option<LinkName>,
    },
}

/// A host endpoint whose interface is found by its addresses.
#[derive(Clone, Debug)]
pub(super) struct Sought {
    expected: Vec<IpAddr>,
    labels: BTreeMap<String, String>,
    profiles: Vec<Arc<str>>,
}

impl Graph {
    pub(super) fn workload(&mut self, key: Key, value: Option<&WorkloadEndpoint>) {
        let Some(endpoint) = value else {
            self.remove_endpoint(key);
            return;
        };
        let spec = &endpoint.spec;
        let mut faults = Vec::new();
        let own = read_nets("ipNetworks", &spec.ip_networks, &mut faults);
        let namespace = key.namespace.as_deref().unwrap_or_default();
        let mut facts = vec![
            (labels::NAMESPACE, namespace),
            (labels::ORCHESTRATOR, spec.orchestrator.as_str()),
        ];
        if let Some(account) = &spec.service_account_name {
            facts.push((labels::SERVICE_ACCOUNT, account));
        }
        let item_labels =
            labels::namespaced(&endpoint.metadata.labels, Some(&spec.orchestrator), facts);
        let ports = spec
            .ports
            .iter()
            .filter_map(|port| named(port.name.as_ref()?, &port.protocol, port.port));
        let item = Facts::new(&own, ports.collect());
        let here = *spec.node == *self.node;
        let local = here.then(|| {
            let allowed = &spec.allow_spoofed_source_prefixes;
            let allowed_sources = read_nets("allowSpoofedSourcePrefixes", allowed, &mut faults);
            let name = spec.interface_name.clone().unwrap_or_default();
            let link = link("interfaceName", &name, &mut faults)?;
            Some(Local {
                target: Target::Workload {
                    link,
                    addresses: own.iter().map(Prefix::address).collect(),
                    allowed_sources,
                },
                profiles: shared(&spec.profiles),
            })
        });
        let parents = shared(&spec.profiles);
        self.set_endpoint(
            Arc::new(key),
            item_labels,
            parents,
            item,
            local.flatten(),
            here.then_some(faults),
        );
    }

    pub(super) fn host(&mut self, key: Key, value: Option<&HostEndpoint>) {
        let Some(endpoint) = value else {
            self.remove_endpoint(key);
            return;
        };
        let spec = &endpoint.spec;
        let mut faults = Vec::new();
        let ports = spec
            .ports
            .iter()
            .filter_map(|port| named(&port.name, &port.protocol, port.port));
        let nets = read_nets("expectedIPs", &spec.expected_ips, &mut faults);
        let item = Facts::new(&nets, ports.collect());
        let id = Arc::new(key);
        let here = *spec.node == *self.node;
        let labels = endpoint.metadata.labels.clone();
        let profiles = shared(&spec.profiles);
        self.sought.remove(&id);
        let target = match spec.interface_name.as_deref() {
            _ if !here => None,
            None | Some("") => {
                let expected: Vec<IpAddr> = nets.iter().map(Prefix::address).collect();
                let target = self.interface_with(&expected, &mut faults);
                let sought = Sought {
                    expected,
                    labels: labels.clone(),
                    profiles: profiles.clone(),
                };
                self.sought.insert(id.clone(), sought);
                target
            }
            Some("*") => Some(Target::Host { link: None }),
            Some(name) => link("interfaceName", name, &mut faults)
                .map(|link| Target::Host { link: Some(link) }),
        };
        let local = target.map(|target| Local {
            target,
            profiles: profiles.clone(),
        });
        self.set_endpoint(id, labels, profiles, item, local, here.then_some(faults));
    }

    /// Finds the interfaces of host endpoints again.
    pub(super) fn seek(&mut self) {
        for (id, sought) in self.sought.clone() {
            let mut faults = Vec::new();
            let target = self.interface_with(&sought.expected, &mut faults);
            self.report((*id).clone(), faults);
            let local = target.map(|target| Local {
                target,
                profiles: sought.profiles.clone(),
            });
            self.set_local(&id, local, sought.labels, sought.profiles);
        }
    }

    /// The first interface that has one of the addresses.
    fn interface_with(&self, expected: &[IpAddr], faults: &mut Vec<Fault>) -> Option<Target> {
        let mut interfaces = self.interfaces.iter();
        let Some((link, _)) =
            interfaces.find(|(_, has)| expected.iter().any(|address| has.contains(address)))
        else {
            faults.push(Fault {
                field: "expectedIPs".into(),
                reason: Reason::Needs("an interface of the node that has one of them"),
                effect: Effect::NotEnforced,
            });
            return None;
        };
        Some(Target::Host {
            link: Some(link.clone()),
        })
    }

    pub(super) fn network_set(&mut self, key: Key, value: Option<(&Metadata, &NetworkSetSpec)>) {
        let Some((metadata, spec)) = value else {
            self.report(key.clone(), Vec::new());
            self.sets.remove_item(&key);
            return;
        };
        let mut faults = Vec::new();
        let nets = read_nets("nets", &spec.nets, &mut faults);
        let item = Facts::new(&nets, Vec::new());
        let (item_labels, parents) = match &key.namespace {
            Some(namespace) => {
                let facts = [(labels::NAMESPACE, namespace.as_str())];
                let profile = ocicat_datastore::model::names::namespace_profile(namespace);
                (
                    labels::namespaced(&metadata.labels, None, facts),
                    shared(&[profile]),
                )
            }
            None => (metadata.labels.clone(), Vec::new()),
        };
        self.sets.set_item(&key, item_labels, parents, item);
        self.report(key, faults);
    }

    pub(super) fn slice(&mut self, key: &Key, value: Option<&EndpointSlice>) {
        let slice = value.and_then(|slice| {
            let service = slice.metadata.labels.get(SERVICE_NAME)?;
            let namespace = key.namespace.clone().unwrap_or_default();
            Some(((namespace, service.clone()), backends(slice)))
        });
        self.sets.set_slice(key, slice);
    }

    /// The endpoint's entry in the state has to be worked out again.
    pub(super) fn touch(&mut self, endpoint: &Arc<Key>) {
        match self.locals.get(endpoint).map(|local| &local.target) {
            Some(Target::Workload { link, .. }) => {
                self.dirty.links.insert(link.clone());
            }
            Some(Target::Host { .. }) => {
                self.dirty.hosts.insert(endpoint.clone());
            }
            None => {}
        }
    }

    /// `faults` is none for another node's endpoint: what is wrong with it is that node's to say.
    fn set_endpoint(
        &mut self,
        id: Arc<Key>,
        labels: BTreeMap<String, String>,
        profiles: Vec<Arc<str>>,
        facts: Facts,
        local: Option<Local>,
        faults: Option<Vec<Fault>>,
    ) {
        self.report((*id).clone(), faults.unwrap_or_default());
        self.sets
            .set_item(&id, labels.clone(), profiles.clone(), facts);
        self.set_local(&id, local, labels, profiles);
    }

    fn remove_endpoint(&mut self, key: Key) {
        self.report(key.clone(), Vec::new());
        let id = Arc::new(key);
        self.sought.remove(&id);
        self.set_local(&id, None, BTreeMap::new(), Vec::new());
        self.sets.remove_item(&id);
    }

    /// Puts an endpoint of this node in its place, or takes it away.
    fn set_local(
        &mut self,
        id: &Arc<Key>,
        local: Option<Local>,
        labels: BTreeMap<String, String>,
        profiles: Vec<Arc<str>>,
    ) {
        let is_local = local.is_some();
        if !is_local {
            self.applies.remove_item(id);
            self.follow();
        }
        self.place(id, local);
        if is_local {
            self.applies.set_item(id.clone(), labels, profiles);
            self.follow();
        }
    }

    fn place(&mut self, id: &Arc<Key>, local: Option<Local>) {
        if self.locals.get(id) == local.as_ref() {
            return;
        }
        self.touch(id);
        for profile in local.iter().flat_map(|local| &local.profiles) {
            self.use_profile(profile);
        }
        let link_of = |local: Option<&Local>| match local.map(|local| &local.target) {
            Some(Target::Workload { link, .. }) => Some(link.clone()),
            _ => None,
        };
        let new = link_of(local.as_ref());
        let old = match local {
            Some(local) => self.locals.insert(id.clone(), local),
            None => self.locals.remove(id),
        };
        let left = link_of(old.as_ref()).filter(|link| Some(link) != new.as_ref());
        if let Some(link) = left
            && let Some(claims) = self.links.get_mut(&link)
        {
            claims.remove(id);
            if claims.is_empty() {
                self.links.remove(&link);
            }
        }
        if let Some(link) = new {
            self.links.entry(link).or_default().insert(id.clone());
        }
        for profile in old.iter().flat_map(|local| &local.profiles) {
            self.leave_profile(profile);
        }
        self.touch(id);
    }

    fn use_profile(&mut self, name: &Arc<str>) {
        let entry = self.profiles.entry(name.clone()).or_default();
        entry.users += 1;
        if entry.users == 1 {
            self.dirty.profiles.insert(name.clone());
            if let Some(rules) = &entry.rules {
                self.sets.acquire(&rules.sets);
            }
        }
    }

    fn leave_profile(&mut self, name: &Arc<str>) {
        let Some(entry) = self.profiles.get_mut(name) else {
            return;
        };
        entry.users -= 1;
        if entry.users == 0 {
            self.dirty.profiles.insert(name.clone());
            match &entry.rules {
                Some(rules) => self.sets.release(&rules.sets),
                None => {
                    self.profiles.remove(name);
                }
            }
        }
    }
}

fn link(field: &str, name: &str, faults: &mut Vec<Fault>) -> Option<LinkName> {
    let link = LinkName::new(name);
    if link.is_err() {
        faults.push(Fault {
            field: field.into(),
            reason: Reason::Link(name.to_owned()),
            effect: Effect::NotEnforced,
        });
    }
    link.ok()
}

fn shared(profiles: &[String]) -> Vec<Arc<str>> {
    profiles.iter().map(|name| name.as_str().into()).collect()
}

/// The ranges that can be read, in order, without repetition.
fn read_nets(field: &str, texts: &[String], faults: &mut Vec<Fault>) -> Vec<Prefix> {
    let mut out = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match nets::parse(text) {
            Some(net) if out.contains(&net) => {}
            Some(net) => out.push(net),
            None => faults.push(Fault {
                field: format!("{field}[{i}]"),
                reason: Reason::Net(text.clone()),
                effect: Effect::ValueLeftOut,
            }),
        }
    }
    out
}

fn named(name: &str, protocol: &IntOrString, number: u16) -> Option<Port> {
    let protocol = protocol.protocol().ok()?;
    Some((name.to_owned(), Protocol(protocol.0), number))
}

/// The backends of a slice that take connections.
fn backends(slice: &EndpointSlice) -> Vec<Backend> {
    let port = |port: &ocicat_datastore::model::SlicePort| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let protocol = IntOrString::from(protocol).protocol().ok()?;
        Some((Protocol(protocol.0), port.port?))
    };
    let ports: Vec<(Protocol, u16)> = slice.ports.iter().filter_map(port).collect();
    slice
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.conditions.ready != Some(false))
        .flat_map(|endpoint| &endpoint.addresses)
        .filter_map(|address| Some((address.parse().ok()?, ports.clone())))
        .collect()
}
