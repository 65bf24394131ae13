//! A cluster as policy sees it, out of manifests or out of a store.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ocicat_dataplane::state::Protocol;
use ocicat_datastore::model::{
    Namespace, Pod, PodIp, Profile, ServiceAccount, WorkloadEndpoint, names,
};
use ocicat_datastore::{Key, Kind, Metadata};
use ocicat_policy::{Flow, Model, Trace, Update, kubernetes};

use super::case::{Case, is_by, place};
use super::report::Outcome;
use crate::document::{Document, Fault};
use crate::manifest::Manifest;

/// The label that the API server gives every namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Where pods without an address get one: a range that is set aside for tests (RFC 2544).
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Where pods without a node are.
const NODE: &str = "node";

/// What manifests would make of a cluster, as far as policy sees it.
///
/// What an API server and a scheduler would add is added: a pod that names no node is on one, a pod without an address
/// gets one of 198.18.0.0/15 (in the order of the manifests), one without a service account has that called `default`;
/// every namespace is there and has its `kubernetes.io/metadata.name`.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    model: Model,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// `namespace/pod` of each endpoint, `namespace/name`.
    pods: BTreeMap<String, String>,
}

impl Cluster {
    /// A cluster to which the manifests have been applied. Kinds that policy does not read are passed over.
    ///
    /// # Errors
    /// A [`Fault`] at an object that does not decode, and at a pod that is there twice.
    pub fn of(manifests: &[Manifest]) -> Result<Self, Fault> {
        let mut cluster = Self::default();
        let mut profiles = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        let mut made = 0;
        for manifest in manifests {
            let object = &manifest.object;
            let located = |error| manifest.located(&error);
            match object.kind {
                Kind::Pod => {
                    let mut pod: Pod = object.decode().map_err(located)?;
                    made += u32::from(complete(&mut pod, made));
                    let Some(endpoint) = kubernetes::workload_endpoint(&pod) else {
                        continue;
                    };
                    wanted.insert((pod.metadata.namespace.clone(), None));
                    wanted.insert((pod.metadata.namespace, pod.spec.service_account_name));
                    cluster.add(object.key(), endpoint, manifest)?;
                }
                Kind::WorkloadEndpoint => {
                    cluster.add(object.key(), object.decode().map_err(located)?, manifest)?;
                }
                Kind::Profile => {
                    let mut profile: Profile = object.decode().map_err(located)?;
                    name_namespace(&mut profile);
                    profiles.insert(object.key(), profile);
                }
                _ => {
                    let update = Update::of(object).map_err(located)?;
                    update.into_iter().for_each(|u| cluster.model.update(u));
                }
            }
        }
        for profile in wanted.into_iter().map(implied) {
            let key = Key::cluster(Kind::Profile, profile.metadata.name.clone());
            profiles.entry(key).or_insert(profile);
        }
        for (key, profile) in profiles {
            cluster
                .model
                .update(Update::Profile(key, Some(Arc::new(profile))));
        }
        Ok(cluster)
    }

    fn add(&mut self, key: Key, endpoint: WorkloadEndpoint, from: &Manifest) -> Result<(), Fault> {
        let namespace = key.namespace.as_deref().unwrap_or_default();
        let pod = endpoint.spec.pod.as_deref().unwrap_or(&key.name);
        let name = format!("{namespace}/{pod}");
        let endpoint_name = format!("{namespace}/{}", key.name);
        self.pods.insert(endpoint_name, name.clone());
        let mut addresses = Vec::new();
        for text in &endpoint.spec.ip_networks {
            let address = text.split('/').next().unwrap_or_default().parse();
            addresses.push(address.map_err(|_| from.fault("", format!("{text} is no address")))?);
        }
        if self.addresses.insert(name.clone(), addresses).is_some() {
            return Err(from.fault("metadata.name", format!("{name} is there twice")));
        }
        self.model
            .update(Update::WorkloadEndpoint(key, Some(Arc::new(endpoint))));
        Ok(())
    }

    /// What the cluster is to policy.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// What users call an endpoint: `namespace/pod`; anything else is called what it is.
    #[must_use]
    pub fn called<'a>(&'a self, endpoint: &'a str) -> &'a str {
        self.pods.get(endpoint).map_or(endpoint, String::as_str)
    }

    /// The addresses of a pod, `namespace/pod`; empty when there is no such pod.
    #[must_use]
    pub fn pod(&self, name: &str) -> &[IpAddr] {
        self.addresses.get(name).map_or(&[], Vec::as_slice)
    }

    /// What becomes of a case. Where both sides have addresses of both families, it has to hold in both.
    ///
    /// # Errors
    /// A [`Fault`] of `document`, where the case is from: a pod that is not there, or has no address that the other side
    /// could reach.
    pub fn check(&self, case: &Case, document: &Document) -> Result<Outcome, Fault> {
        let (from, to) = (
            self.addresses_of("from", &case.from, document)?,
            self.addresses_of("to", &case.to, document)?,
        );
        let mut traces = Vec::new();
        for source in &from {
            let same_family = |to: &&IpAddr| to.is_ipv4() == source.is_ipv4();
            for destination in to.iter().filter(same_family) {
                let protocol = case.protocol().unwrap_or(Protocol::TCP);
                let flow = flow(protocol, case.port, *source, *destination);
                traces.push(self.model.evaluate(&flow));
            }
        }
        let wrong = traces.iter().position(|trace| !holds(case, trace));
        let Some(shown) = traces.get(wrong.unwrap_or_default()) else {
            let both = format!("{} and {}", case.from, case.to);
            return Err(document.fault("to", format!("{both} have no address of the same family")));
        };
        Ok(Outcome {
            name: case.name.clone(),
            passed: wrong.is_none(),
            expect: case.expect,
            by: case.by.clone(),
            decided_by: shown.deciding().map_or_else(|| "nobody".into(), place),
            trace: shown.clone(),
        })
    }

    fn addresses_of(&self, field: &str, side: &str, case: &Document) -> Result<Vec<IpAddr>, Fault> {
        if let Ok(address) = side.parse() {
            return Ok(vec![address]);
        }
        match self.addresses.get(side) {
            None => Err(case.fault(field, format!("there is no pod {side} in the manifests"))),
            Some(addresses) if addresses.is_empty() => {
                Err(case.fault(field, format!("{side} has no address")))
            }
            Some(addresses) => Ok(addresses.clone()),
        }
    }
}

fn holds(case: &Case, trace: &Trace) -> bool {
    let by = match (&case.by, trace.deciding()) {
        (None, _) => true,
        (Some(by), Some(decision)) => is_by(by, decision),
        (Some(_), None) => false,
    };
    by && case.expect.is(trace.verdict())
}

/// The packet that opens a connection.
pub(crate) fn flow(
    protocol: Protocol,
    port: Option<u16>,
    source: IpAddr,
    destination: IpAddr,
) -> Flow {
    match protocol {
        Protocol::ICMP | Protocol::ICMPV6 => Flow::ping(source, destination),
        protocol => Flow::new(source, destination, protocol, port.unwrap_or_default()),
    }
}

/// Fills in what a pod's manifest leaves to the cluster; true when it took one of the addresses, of which `made` are
/// taken.
fn complete(pod: &mut Pod, made: u32) -> bool {
    let spec = &mut pod.spec;
    spec.node_name.get_or_insert_with(|| NODE.into());
    spec.service_account_name
        .get_or_insert_with(|| "default".into());
    let addressed = kubernetes::workload_endpoint(pod)
        .is_none_or(|endpoint| !endpoint.spec.ip_networks.is_empty());
    let status = &mut pod.status;
    if addressed || status.phase.as_deref().is_some_and(|p| p != "Running") {
        return false;
    }
    let ip = Ipv4Addr::from(u32::from(FIRST_ADDRESS) + made).to_string();
    status.pod_ips = vec![PodIp { ip }];
    true
}

/// The profile of a namespace, or of a service account in one, that no manifest makes.
fn implied((namespace, account): (Option<String>, Option<String>)) -> Profile {
    let namespace = namespace.unwrap_or_default();
    let mut profile = match account {
        Some(account) => kubernetes::service_account(&ServiceAccount {
            metadata: Metadata::namespaced(namespace, account),
        }),
        None => kubernetes::namespace(&Namespace {
            metadata: Metadata::named(namespace),
            ..Namespace::default()
        }),
    };
    name_namespace(&mut profile);
    profile
}

/// Gives a namespace's profile the label that the API server gives the namespace.
fn name_namespace(profile: &mut Profile) {
    let Some(namespace) = profile
        .metadata
        .name
        .strip_prefix(&names::namespace_profile(""))
    else {
        return;
    };
    let namespace = namespace.to_owned();
    let labels = &mut profile.spec.labels_to_apply;
    labels
        .entry(format!("pcns.{NAME_LABEL}"))
        .or_insert(namespace);
}
