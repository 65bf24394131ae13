//! Pods come and go: an address, a link, an endpoint in the datastore, and its policy in the kernel.
//!
//! Every step has its undoing; an error undoes what was done, last first. What is undone is found by name (network,
//! container, interface), so that a removal needs no memory of the addition.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ocicat_dataplane::state::LinkName;
use ocicat_dataplane::{Attach, Attached, Attachment, Detachment, names};
use ocicat_datastore::model::{Kind, Node, WorkloadEndpoint};
use ocicat_datastore::{Revision, Store};
use ocicat_ipam::Ipam;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::assigner::Assigner;
use crate::control::{Question, Written};
use crate::events::Events;
use crate::facts::Facts;
use crate::pod::{Known, Pod};

mod assign;
mod endpoint;
mod error;
mod ledger;
mod lend;

use endpoint::addresses_of;
pub(crate) use error::AttachmentError;
pub(crate) use ledger::Answered;
pub(crate) use lend::Form;

/// How long an addition waits for its policy when the configuration does not say (`policy_setup_timeout_seconds`): far
/// longer than a kernel needs, far shorter than kubelet's patience of two minutes.
const POLICY_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// What has happened since the start.
    pub(crate) counts: Counts,
}

/// Events that an operator should see growing. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Additions that were answered before their policy was in force.
    pub(crate) policy_late: Arc<AtomicU64>,
    /// Additions whose plugin was gone when they were done; they were undone.
    pub(crate) abandoned: Arc<AtomicU64>,
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

/// Whether anything can be added now.
fn admits(facts: &Facts) -> Result<(), AttachmentError> {
    if facts.locked {
        return Err(AttachmentError::Locked);
    }
    if !facts.ready {
        return Err(AttachmentError::NotReady(facts.reasons.join("; ")));
    }
    Ok(())
}

impl Attachments {
    /// Adds a pod.
    ///
    /// Once begun it must not be dropped half-way: the caller lets it end and removes what is no longer wanted.
    pub(crate) async fn add(
        &self,
        pod: &Pod,
        namespace: OwnedFd,
        deadline: Instant,
    ) -> Result<Added, AttachmentError> {
        let facts = self.facts.borrow().clone();
        admits(&facts)?;
        if !facts.limited.is_empty() {
            // Nothing would hold the pod to its policy, not even to none at all.
            return Err(AttachmentError::NotReady(facts.limited.join("; ")));
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
            _ => self.addresses(pod, existing.as_deref()).await?,
        };
        let mtu = pod.wishes.mtu.unwrap_or(facts.mtu);
        let made = self
            .connect(
                pod,
                namespace,
                &addresses,
                mtu,
                (&endpoint, existing.is_none()),
                deadline,
            )
            .await;
        match made {
            Ok(added) => Ok(added),
            Err(error) if own.is_some() => Err(error),
            Err(error) => Err(self.undo(pod, error).await),
        }
    }

    /// Whether the datastore answers.
    pub(crate) async fn reach(&self) -> Result<(), String> {
        let asked = self.store.get::<Node>(self.node.as_str());
        match tokio::time::timeout(Duration::from_secs(2), asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(crate::drive::chain(&error)),
            Err(_) => Err("no answer within 2 s".to_owned()),
        }
    }

    /// What the API knows of a pod, beside the request.
    pub(crate) async fn known(&self, pod: &Pod) -> Result<Known, AttachmentError> {
        let facts = self.facts.borrow().clone();
        let mut known = Known {
            namespace: facts
                .namespaces
                .get(&pod.namespace)
                .cloned()
                .unwrap_or_default(),
            source_spoofing: facts.source_spoofing,
            pod: None,
        };
        if pod.is_kubernetes() {
            let key = (pod.namespace.as_str(), pod.name.as_str());
            let found = self.store.get::<ocicat_datastore::model::Pod>(key).await?;
            known.pod = found.map(|found| found.value);
        }
        Ok(known)
    }

    /// Removes a pod's attachment; what is not there counts as removed. Goes on after errors and returns the first.
    pub(crate) async fn remove(&self, pod: &Pod) -> Result<(), AttachmentError> {
        let endpoint = pod.endpoint_name(&self.node);
        let _turn = self.busy.lock(&endpoint).await;
        self.dismantle(pod, &endpoint).await
    }

    /// The link's name on the node.
    pub(crate) fn host_link(pod: &Pod) -> LinkName {
        if pod.is_kubernetes() && pod.interface == "eth0" {
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
        (endpoint, first): (&str, bool),
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
            .write_endpoint(pod, addresses, &host_link, &attached, endpoint, first)
            .await?;
        self.wait(pod, endpoint, written, deadline).await;
        Ok(Added {
            addresses: addresses.to_vec(),
            host_link,
            attached,
        })
    }

    fn attachment(
        pod: &Pod,
        namespace: OwnedFd,
        addresses: &[IpAddr],
        mtu: u32,
    ) -> Result<Attachment, AttachmentError> {
        let container_link = LinkName::new(&*pod.interface)?;
        let alias = names::alias(&pod.container, &pod.interface);
        Ok(
            Attachment::new(namespace, container_link, Self::host_link(pod), alias)
                .addresses(addresses.iter().copied())
                .mac(pod.wishes.mac)
                .ip_forward(pod.wishes.ip_forward)
                .queues(pod.wishes.queues.unwrap_or(1))
                .mtu(mtu),
        )
    }

    async fn attach(
        &self,
        pod: &Pod,
        namespace: OwnedFd,
        addresses: &[IpAddr],
        mtu: u32,
    ) -> Result<Attached, AttachmentError> {
        let attachment = Self::attachment(pod, namespace, addresses, mtu)?;
        let attach = Arc::clone(&self.attach);
        Ok(tokio::task::spawn_blocking(move || attach.attach(&attachment)).await??)
    }

    /// Removes the link; done as soon as nobody sees it any more. The kernel then waits for a while of its own before it
    /// answers, which keeps a thread and nobody else.
    async fn detach(&self, pod: &Pod) -> Result<(), AttachmentError> {
        let alias = names::alias(&pod.container, &pod.interface);
        let detachment = Detachment {
            host_link: Self::host_link(pod),
            alias,
        };
        let attach = Arc::clone(&self.attach);
        let (told, gone) = oneshot::channel();
        let tell = Box::new(move || {
            // Whoever waits for it may have been dropped.
            let _ = told.send(());
        });
        let removal = tokio::task::spawn_blocking(move || attach.detach_telling(&detachment, tell));
        match gone.await {
            Ok(()) => Ok(()),
            // It failed, or there was nobody to say so.
            Err(_) => Ok(removal.await?.map(drop)?),
        }
    }

    /// Waits until the endpoint's policy is in the kernel, but not past the limit: then default deny is in force, and
    /// the pod starts all the same.
    async fn wait(&self, pod: &Pod, name: &str, written: Revision, deadline: Instant) {
        let (answer, question) = oneshot::channel();
        let object = Written {
            kind: Kind::WorkloadEndpoint.to_string(),
            namespace: Some(pod.namespace.clone()),
            name: name.to_owned(),
            revision: written.0,
        };
        let patience = pod.wishes.policy_timeout;
        let patience = patience.map_or(POLICY_TIMEOUT, Duration::from_secs);
        let limit = deadline
            .checked_sub(Duration::from_millis(100))
            .unwrap_or(deadline)
            .min(Instant::now() + patience);
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
                self.counts.policy_late.fetch_add(1, Ordering::Relaxed);
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
