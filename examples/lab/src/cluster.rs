//! A running cluster: machines, datastore, agents and pods, and what commands do to it.

mod converge;
mod departure;
mod enforce;
mod etcd;
mod expect;
mod leaks;
mod questions;
mod router;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use futures_util::future::join_all;
use ocicat_datastore::model::WorkloadEndpoint;
use ocicat_datastore::model::names::workload_endpoint_name;
use ocicat_datastore::{Change, Key, Op, Resource, Revision, Scope, Store};
use ocicatctl::{Manifest, Written};

use crate::agent::Agent;
use crate::pod::{INTERFACE, Pod};
use crate::program::Program;
use crate::resources;
use crate::scenario::{Datastore, Pod as Wanted, Scenario};
use crate::underlay::Underlay;

pub use converge::is_reachable;
pub use enforce::Enforced;
pub use etcd::{ENDPOINT, Etcd, LAB};

/// How long a starting agent may take.
const START: Duration = Duration::from_secs(30);

/// The cluster of a lab.
#[derive(Debug)]
pub struct Cluster {
    /// What it was made of, changed by what was done to it since.
    pub scenario: Scenario,
    /// The machines.
    pub underlay: Underlay,
    /// The datastore.
    pub store: Store,
    /// The datastore's own URL, as nodes and commands name it.
    pub url: String,
    /// The lab's own etcd, where the scenario asks for one.
    pub etcd: Option<Etcd>,
    /// The agents that should be running, by node.
    pub agents: BTreeMap<String, Arc<Agent>>,
    /// The pods by `namespace/name`.
    pub pods: BTreeMap<String, Pod>,
    /// What has been written for the scenario and its manifests, by key, for the least change in `sync`.
    pub applied: BTreeMap<Key, serde_json::Value>,
    router: Vec<Program>,
}

/// The file that all nodes see.
const SQLITE: &str = "sqlite:/run/ocicat-lab/store/ocicat.db";

impl Cluster {
    /// Builds the machines and writes the scenario's objects; agents and pods come after.
    ///
    /// # Errors
    /// When the kernel or the datastore refuses something.
    pub async fn build(scenario: Scenario) -> Result<Self> {
        let mut underlay = Underlay::build(&scenario).await?;
        let etcd = match scenario.datastore {
            Datastore::Etcd => Some(Etcd::start(&mut underlay).await?),
            Datastore::Sqlite | Datastore::Elsewhere(_) => None,
        };
        let url = etcd.as_ref().map_or(SQLITE, |_| etcd::URL).to_owned();
        let store = Store::new(ocicat_datastore::open(&url).context("opening the datastore")?);
        let objects = resources::all(&scenario)?;
        let applied = resources::identities(&scenario)?
            .into_iter()
            .map(|object| (object.key(), object.value))
            .collect();
        let ops = objects.into_iter().map(Op::Put).collect();
        for outcome in store.backend().write(ops).await {
            outcome.context("writing the cluster's objects")?;
        }
        let router = router::start(&underlay.router, &scenario)?;
        Ok(Self {
            scenario,
            underlay,
            store,
            url,
            etcd,
            agents: BTreeMap::new(),
            pods: BTreeMap::new(),
            applied,
            router,
        })
    }

    /// Starts an agent on every node.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_agents(&mut self) -> Result<()> {
        for (name, place) in &self.underlay.nodes {
            self.agents.insert(
                name.clone(),
                Arc::new(Agent::start(place.clone(), &self.url)?),
            );
        }
        Ok(())
    }

    /// Waits until every agent says that it is ready.
    ///
    /// # Errors
    /// The first that ends or is late.
    pub async fn agents_ready(&mut self) -> Result<()> {
        for program in &mut self.router {
            program.must_run()?;
        }
        let agents = self.agents.values().map(|agent| agent.ready(START));
        join_all(agents)
            .await
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        Ok(())
    }

    /// Makes pods, all at the same time; the answer names their endpoints for [`Cluster::enforce`].
    ///
    /// # Errors
    /// The first failure; pods that came into being stay.
    pub async fn add_pods(&mut self, wanted: Vec<Wanted>) -> Result<Vec<Written>> {
        let mut making = Vec::new();
        for pod in wanted {
            let node = self.underlay.nodes.get(&pod.node).cloned();
            let node =
                node.with_context(|| format!("pod {}: node {} is not there", pod.id(), pod.node))?;
            let families = self.scenario.pod_families();
            making.push(async move { Pod::add(&node, pod, families).await });
        }
        let mut failure = None;
        let mut endpoints = Vec::new();
        for made in join_all(making).await {
            match made {
                Ok(pod) => {
                    endpoints.push(endpoint_key(&pod.wanted));
                    self.pods.insert(pod.wanted.id(), pod);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => self.written(endpoints).await,
        }
    }

    /// Takes pods away, all at the same time.
    ///
    /// # Errors
    /// The first failure, after all were tried.
    pub async fn remove_pods(&mut self, ids: &[String]) -> Result<Vec<Written>> {
        let mut removing = Vec::new();
        let mut keys = Vec::new();
        for id in ids {
            let pod = self
                .pods
                .remove(id)
                .with_context(|| format!("there is no pod {id}"))?;
            keys.push(endpoint_key(&pod.wanted));
            let node = self.underlay.nodes.get(&pod.wanted.node).cloned();
            removing.push(async move {
                match node {
                    Some(node) => pod.remove(&node).await.map(|_| ()),
                    None => pod.abandon(),
                }
            });
        }
        let before = self.store.list::<WorkloadEndpoint>().await?.revision;
        let removed: Result<Vec<()>> = join_all(removing).await.into_iter().collect();
        removed?;
        self.deleted(keys, before).await
    }

    /// The revisions at which endpoints were deleted since a revision; those that were gone before, or still are
    /// there because nobody told the datastore, are left out.
    async fn deleted(&self, mut keys: Vec<Key>, since: Revision) -> Result<Vec<Written>> {
        for known in &self.store.list::<WorkloadEndpoint>().await? {
            let there = known.raw().key();
            keys.retain(|key| *key != there);
        }
        let scope = Scope::all(WorkloadEndpoint::KIND);
        let mut changes = self.store.backend().watch(&scope, since).await?;
        let mut written = Vec::new();
        while !keys.is_empty() {
            let next = tokio::time::timeout(Duration::from_secs(1), changes.next());
            let Ok(Some(change)) = next.await else { break };
            if let Change::Deleted { key, revision } = change? {
                keys.retain(|wanted| *wanted != key);
                written.push(Written { key, revision });
            }
        }
        Ok(written)
    }

    /// Gives a pod other labels, as `kubectl label` does on a Kubernetes cluster.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn relabel(&mut self, id: &str, labels: BTreeMap<String, String>) -> Result<Written> {
        let pod = self
            .pods
            .get_mut(id)
            .with_context(|| format!("there is no pod {id}"))?;
        let key = endpoint_key(&pod.wanted);
        let old: Vec<String> = pod.wanted.labels.keys().cloned().collect();
        let name = (pod.wanted.namespace.as_str(), key.name.as_str());
        let written = self.store.modify::<WorkloadEndpoint>(name, |endpoint| {
            let known = &mut endpoint.metadata.labels;
            known.retain(|key, _| !old.contains(key));
            known.extend(labels.clone());
        });
        let revision = written.await?.revision;
        pod.wanted.labels = labels;
        Ok(Written { key, revision })
    }

    /// Creates or replaces the objects of manifests.
    ///
    /// # Errors
    /// The first that the datastore refuses, with its place in the file.
    pub async fn apply(&mut self, manifests: &[Manifest]) -> Result<Vec<Written>> {
        let written = ocicatctl::manifest::apply(&self.store, manifests).await?;
        let values = manifests
            .iter()
            .map(|manifest| (manifest.object.key(), manifest.object.value.clone()));
        self.applied.extend(values);
        Ok(written)
    }

    /// Deletes the objects that manifests name.
    ///
    /// # Errors
    /// The first that the datastore does not delete.
    pub async fn delete(&mut self, manifests: &[Manifest]) -> Result<Vec<Written>> {
        let written = ocicatctl::manifest::delete(&self.store, manifests).await?;
        for manifest in manifests {
            self.applied.remove(&manifest.object.key());
        }
        Ok(written)
    }

    /// The present revisions of objects.
    async fn written(&self, keys: Vec<Key>) -> Result<Vec<Written>> {
        let mut written = Vec::with_capacity(keys.len());
        for key in keys {
            match self.store.backend().get(&key).await? {
                Some(object) => written.push(Written {
                    key,
                    revision: object.revision,
                }),
                None => bail!("{key} is not in the datastore"),
            }
        }
        Ok(written)
    }
}

/// The name of a pod's endpoint in the datastore.
#[must_use]
pub fn endpoint_key(pod: &Wanted) -> Key {
    let name = workload_endpoint_name(&pod.node, "k8s", &pod.name, INTERFACE);
    Key::namespaced(WorkloadEndpoint::KIND, pod.namespace.clone(), name)
}
