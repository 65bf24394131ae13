//! Pods come and go: an address, a link, an endpoint in the datastore, and its policy in the kernel.
//!
//! Every step has its undoing; an error undoes what was done, last first. What is undone is found by name (network,
//! container, interface), so that a removal needs no memory of the addition.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ocicat_dataplane::state::LinkName;
use ocicat_dataplane::{Attach, Attached, Attachment, Detachment, names};
use ocicat_datastore::model::names::{namespace_profile, service_account_profile};
use ocicat_datastore::model::{Kind, WorkloadEndpoint, WorkloadEndpointPort};
use ocicat_datastore::{Metadata, Revision, Store, StoreError};
use ocicat_ipam::{AssignIp, AssignRequest, Family, Ipam, Owner, PoolRef, Use};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::assigner::Assigner;
use crate::control::{Question, Written};
use crate::events::Events;
use crate::facts::Facts;
use crate::pod::Pod;

mod error;
mod ledger;

pub(crate) use error::AttachmentError;

/// Adds and removes pods' attachments to this node.
pub(crate) struct Attachments {
    pub(crate) node: String,
    pub(crate) store: Store,
    pub(crate) ipam: Arc<Ipam>,
    pub(crate) assigner: Assigner,
    pub(crate) attach: Arc<dyn Attach>,
    pub(crate) facts: watch::Receiver<Arc<Facts>>,
    pub(crate) core: mpsc::Sender<Question>,
    pub(crate) events: Events,
    /// One change of an endpoint at a time.
    pub(crate) busy: Busy,
}

/// Locks by endpoint, kept only while somebody holds or wants them.
#[derive(Debug, Default)]
pub(crate) struct Busy(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Busy {
    async fn lock(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}

/// What an addition made.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) host_link: LinkName,
    pub(crate) attached: Attached,
}

impl Attachments {
    /// Adds a pod. `wanted_mtu` is the configuration's; without, the node's is used.
    ///
    /// Once begun it must not be dropped half-way: the caller lets it end and removes what is no longer wanted.
    pub(crate) async fn add(
        &self,
        pod: &Pod,
        namespace: OwnedFd,
        wanted_mtu: Option<u32>,
        deadline: Instant,
    ) -> Result<Added, AttachmentError> {
        let facts = self.facts.borrow().clone();
        if !facts.ready {
            return Err(AttachmentError::NotReady(facts.reasons.join("; ")));
        }
        let endpoint = pod.endpoint_name(&self.node);
        let _turn = self.busy.lock(&endpoint).await;
        let existing = self
            .store
            .get::<WorkloadEndpoint>((pod.namespace.as_str(), endpoint.as_str()))
            .await?;
        let own = existing
            .as_ref()
            .filter(|old| old.spec.container_id.as_deref() == Some(&pod.container));
        let addresses = match own.map(|old| addresses_of(old)) {
            // The same container again: it keeps what it has.
            Some(addresses) if !addresses.is_empty() => addresses,
            _ if !pod.delegated.is_empty() => pod.delegated.clone(),
            _ => self.assign(pod, existing.as_deref()).await?,
        };
        let mtu = wanted_mtu.unwrap_or(facts.mtu);
        let made = self
            .connect(pod, namespace, &addresses, mtu, &endpoint, deadline)
            .await;
        match made {
            Ok(added) => Ok(added),
            Err(error) if own.is_some() => Err(error),
            Err(error) => Err(self.undo(pod, error).await),
        }
    }

    /// Removes a pod's attachment; what is not there counts as removed. Goes on after errors and returns the first.
    pub(crate) async fn remove(&self, pod: &Pod) -> Result<(), AttachmentError> {
        let endpoint = pod.endpoint_name(&self.node);
        let _turn = self.busy.lock(&endpoint).await;
        self.dismantle(pod, &endpoint).await
    }

    /// The link's name on the node.
    pub(crate) fn host_link(pod: &Pod) -> LinkName {
        if pod.orchestrator == "k8s" && pod.interface == "eth0" {
            names::pod_link(&pod.namespace, &pod.name)
        } else {
            names::container_link(&pod.network, &pod.container, &pod.interface)
        }
    }

    async fn connect(
        &self,
        pod: &Pod,
        namespace: OwnedFd,
        addresses: &[IpAddr],
        mtu: u32,
        endpoint: &str,
        deadline: Instant,
    ) -> Result<Added, AttachmentError> {
        let host_link = Self::host_link(pod);
        let attached = self.attach(pod, namespace, addresses, mtu).await?;
        let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        self.events.publish(
            "veth-made",
            &[
                ("pod", &format!("{}/{}", pod.namespace, pod.name)),
                ("link", &host_link),
                ("address", &shown.join(" ")),
            ],
        );
        let written = self
            .write_endpoint(pod, addresses, &host_link, &attached, endpoint)
            .await?;
        self.wait(pod, endpoint, written, deadline).await;
        Ok(Added {
            addresses: addresses.to_vec(),
            host_link,
            attached,
        })
    }

    async fn assign(
        &self,
        pod: &Pod,
        existing: Option<&WorkloadEndpoint>,
    ) -> Result<Vec<IpAddr>, AttachmentError> {
        let now = SystemTime::now();
        if pod.addresses.is_empty() {
            let pools = |names: &[String]| {
                names
                    .iter()
                    .map(|name| PoolRef::from(name.as_str()))
                    .collect::<Vec<_>>()
            };
            let mut request = AssignRequest::new(Owner::host(&self.node), pod.handle().as_str())
                .v4(u32::from(pod.wants_v4))
                .v6(u32::from(pod.wants_v6))
                .pools(Family::V4, pools(&pod.pools_v4))
                .pools(Family::V6, pools(&pod.pools_v6))
                .namespace(&pod.namespace);
            request.attributes = self.attributes(pod);
            let assignment = self
                .assigner
                .assign(request)
                .await
                .ok_or(AttachmentError::Ending)??;
            return Ok(assignment.addresses.iter().map(|one| one.address).collect());
        }
        if let Some(old) = existing.filter(|old| {
            addresses_of(old)
                .iter()
                .any(|one| pod.addresses.contains(one))
        }) {
            // A new container of the same pod with a fixed address: the old one's hold on it ends here.
            if let Some(container) = &old.spec.container_id {
                self.release(&crate::pod::handle(&pod.network, container, &pod.interface))
                    .await?;
            }
        }
        for address in &pod.addresses {
            let mut request =
                AssignIp::new(*address, Owner::host(&self.node), pod.handle().as_str())
                    .intended_use(Use::Workload);
            request.attributes = self.attributes(pod);
            if let Err(error) = self.ipam.assign_ip(&request, now).await {
                self.release(&pod.handle()).await?;
                return Err(error.into());
            }
        }
        Ok(pod.addresses.clone())
    }

    fn attributes(&self, pod: &Pod) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::from([("node".to_owned(), self.node.clone())]);
        if pod.orchestrator == "k8s" {
            attributes.insert("pod".to_owned(), pod.name.clone());
            attributes.insert("namespace".to_owned(), pod.namespace.clone());
        }
        attributes
    }

    async fn attach(
        &self,
        pod: &Pod,
        namespace: OwnedFd,
        addresses: &[IpAddr],
        mtu: u32,
    ) -> Result<Attached, AttachmentError> {
        let container_link = LinkName::new(&*pod.interface)?;
        let alias = names::alias(&pod.container, &pod.interface);
        let attachment = Attachment::new(namespace, container_link, Self::host_link(pod), alias)
            .addresses(addresses.iter().copied())
            .mtu(mtu);
        let attach = Arc::clone(&self.attach);
        Ok(tokio::task::spawn_blocking(move || attach.attach(&attachment)).await??)
    }

    async fn detach(&self, pod: &Pod) -> Result<(), AttachmentError> {
        let alias = names::alias(&pod.container, &pod.interface);
        let detachment = Detachment {
            host_link: Self::host_link(pod),
            alias,
        };
        let attach = Arc::clone(&self.attach);
        tokio::task::spawn_blocking(move || attach.detach(&detachment)).await??;
        Ok(())
    }

    async fn write_endpoint(
        &self,
        pod: &Pod,
        addresses: &[IpAddr],
        host_link: &LinkName,
        attached: &Attached,
        name: &str,
    ) -> Result<Revision, AttachmentError> {
        let mut endpoint = WorkloadEndpoint {
            metadata: Metadata {
                name: name.to_owned(),
                namespace: Some(pod.namespace.clone()),
                labels: labels(pod),
                ..Metadata::default()
            },
            ..WorkloadEndpoint::default()
        };
        let spec = &mut endpoint.spec;
        pod.orchestrator.clone_into(&mut spec.orchestrator);
        spec.node.clone_from(&self.node);
        spec.container_id = Some(pod.container.clone());
        if pod.orchestrator == "k8s" {
            spec.pod = Some(pod.name.clone());
        } else {
            spec.workload = Some(pod.name.clone());
        }
        spec.endpoint.clone_from(&pod.interface);
        spec.service_account_name.clone_from(&pod.service_account);
        spec.ip_networks = addresses
            .iter()
            .map(|one| format!("{one}/{}", if one.is_ipv4() { 32 } else { 128 }))
            .collect();
        spec.profiles = profiles(pod);
        spec.interface_name = Some(host_link.to_string());
        spec.mac = Some(attached.container_mac.to_string());
        spec.ports = pod
            .ports
            .iter()
            .map(|port| WorkloadEndpointPort {
                name: Some(port.name.clone()),
                protocol: port.protocol.as_str().into(),
                port: port.port,
                ..WorkloadEndpointPort::default()
            })
            .collect();
        Ok(self.store.put(endpoint).await?.revision)
    }

    /// Deletes the endpoint if it is this container's: an old container's removal leaves the new one's alone.
    async fn remove_endpoint(&self, pod: &Pod, name: &str) -> Result<(), AttachmentError> {
        let key = (pod.namespace.as_str(), name);
        for _ in 0..5 {
            let Some(endpoint) = self.store.get::<WorkloadEndpoint>(key).await? else {
                return Ok(());
            };
            if endpoint.spec.container_id.as_deref() != Some(&pod.container) {
                return Ok(());
            }
            match self
                .store
                .delete::<WorkloadEndpoint>(key, Some(endpoint.revision))
                .await
            {
                Ok(_) | Err(StoreError::Missing { .. }) => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AttachmentError::Contention(name.to_owned()))
    }

    /// Waits until the endpoint's policy is in the kernel, but not past the deadline: then default deny is in force,
    /// and the pod starts all the same.
    async fn wait(&self, pod: &Pod, name: &str, written: Revision, deadline: Instant) {
        let (answer, question) = oneshot::channel();
        let object = Written {
            kind: Kind::WorkloadEndpoint.to_string(),
            namespace: Some(pod.namespace.clone()),
            name: name.to_owned(),
            revision: written.0,
        };
        let limit = deadline
            .checked_sub(Duration::from_millis(100))
            .unwrap_or(deadline);
        let asked = self
            .core
            .send(Question::Wait {
                objects: vec![object],
                limit,
                answer,
            })
            .await
            .is_ok();
        match question.await {
            Ok(waited) if asked && waited.ok => {}
            Ok(waited) => {
                let error = waited.error.unwrap_or_default();
                tracing::warn!(
                    endpoint = name,
                    error,
                    "started before its policy is in force; it is denied until then"
                );
            }
            Err(_) => tracing::warn!(endpoint = name, "started while the agent is stopping"),
        }
    }
}

fn addresses_of(endpoint: &WorkloadEndpoint) -> Vec<IpAddr> {
    let texts = endpoint.spec.ip_networks.iter();
    texts
        .filter_map(|text| text.split('/').next()?.parse().ok())
        .collect()
}

/// The pod's own labels and those that identify it, as Calico writes them.
fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.labels.clone();
    let mut set = |key: &str, value: &str| {
        labels.insert(format!("projectcalico.org/{key}"), value.to_owned())
    };
    set("namespace", &pod.namespace);
    set("orchestrator", pod.orchestrator);
    if let Some(account) = pod
        .service_account
        .as_deref()
        .filter(|account| account.len() < 63)
    {
        set("serviceaccount", account);
    }
    labels
}

fn profiles(pod: &Pod) -> Vec<String> {
    if pod.orchestrator != "k8s" {
        return vec![pod.network.clone()];
    }
    let account = pod.service_account.as_deref().unwrap_or("default");
    vec![
        namespace_profile(&pod.namespace),
        service_account_profile(&pod.namespace, account),
    ]
}
