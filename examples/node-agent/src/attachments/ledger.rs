//! Addresses without links, comparing, collecting, and undoing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use ocicat_dataplane::state::LinkName;
use ocicat_dataplane::{Attachment, names};
use ocicat_datastore::model::WorkloadEndpoint;

use super::{AttachmentError, Attachments, addresses_of};
use crate::pod::{self, Pod};

impl Attachments {
    /// Takes addresses for a pod that another plugin connects.
    pub(crate) async fn lend(&self, pod: &Pod) -> Result<Vec<IpAddr>, AttachmentError> {
        let facts = self.facts.borrow().clone();
        if !facts.ready {
            return Err(AttachmentError::NotReady(facts.reasons.join("; ")));
        }
        self.assign(pod, None).await
    }

    /// Gives back the addresses of a pod that another plugin connected.
    pub(crate) async fn take_back(&self, pod: &Pod) -> Result<(), AttachmentError> {
        self.release(&pod.handle()).await
    }

    /// The addresses that are held for a pod.
    pub(crate) async fn held(&self, pod: &Pod) -> Result<Vec<IpAddr>, AttachmentError> {
        Ok(self
            .ipam
            .addresses_of(&pod.handle().as_str().into())
            .await?)
    }

    /// What is not as [`add`](Self::add) made it: in the kernel, in the datastore, in the records of addresses.
    pub(crate) async fn check(
        &self,
        pod: &Pod,
        namespace: OwnedFd,
    ) -> Result<Vec<String>, AttachmentError> {
        let name = pod.endpoint_name(&self.node);
        let endpoint = self
            .store
            .get::<WorkloadEndpoint>((pod.namespace.as_str(), name.as_str()))
            .await?;
        let own = endpoint.filter(|one| one.spec.container_id.as_deref() == Some(&pod.container));
        let Some(endpoint) = own else {
            return Ok(vec![format!(
                "WorkloadEndpoint {}/{name}: missing",
                pod.namespace
            )]);
        };
        let addresses = addresses_of(&endpoint);
        let held = self.held(pod).await?;
        let mut differences: Vec<String> = addresses
            .iter()
            .filter(|address| pod.delegated.is_empty() && !held.contains(address))
            .map(|address| format!("{address}: not held for the container"))
            .collect();
        let alias = names::alias(&pod.container, &pod.interface);
        let mtu = self.facts.borrow().mtu;
        let attachment = Attachment::new(
            namespace,
            LinkName::new(&*pod.interface)?,
            Self::host_link(pod),
            alias,
        )
        .addresses(addresses)
        .mtu(mtu);
        let attach = Arc::clone(&self.attach);
        let found = tokio::task::spawn_blocking(move || attach.check(&attachment)).await??;
        differences.extend(found.iter().map(ToString::to_string));
        Ok(differences)
    }

    /// Removes this node's attachments to a network that are in none of `keep` (container and interface). Goes on
    /// after errors and returns the first.
    pub(crate) async fn collect(
        &self,
        network: &str,
        keep: &BTreeSet<(String, String)>,
    ) -> Result<(), AttachmentError> {
        let mut outcome = Ok(());
        for endpoint in &self.store.list::<WorkloadEndpoint>().await? {
            let spec = &endpoint.spec;
            let Some(container) = spec.container_id.clone().filter(|_| spec.node == self.node)
            else {
                continue;
            };
            let handle = pod::handle(network, &container, &spec.endpoint);
            let of_network = !self
                .ipam
                .addresses_of(&handle.as_str().into())
                .await?
                .is_empty();
            if !of_network || keep.contains(&(container.clone(), spec.endpoint.clone())) {
                continue;
            }
            let kubernetes = spec.orchestrator == "k8s";
            let gone = Pod {
                orchestrator: if kubernetes { "k8s" } else { "cni" },
                namespace: endpoint.metadata.namespace.clone().unwrap_or_default(),
                name: spec
                    .pod
                    .clone()
                    .filter(|_| kubernetes)
                    .unwrap_or_else(|| container.clone()),
                container,
                interface: spec.endpoint.clone(),
                network: network.to_owned(),
                ..Pod::default()
            };
            outcome = outcome.and(self.remove(&gone).await);
        }
        outcome
    }

    /// Releases every address of a handle; none is fine.
    pub(super) async fn release(&self, handle: &str) -> Result<(), AttachmentError> {
        self.ipam
            .release_handle(&handle.into(), SystemTime::now())
            .await?;
        Ok(())
    }

    /// Takes everything of a pod away, by its names. Goes on after errors and returns the first.
    pub(super) async fn dismantle(&self, pod: &Pod, endpoint: &str) -> Result<(), AttachmentError> {
        let results = [
            self.remove_endpoint(pod, endpoint).await,
            self.detach(pod).await,
            self.release(&pod.handle()).await,
        ];
        results.into_iter().collect()
    }

    /// Undoes an addition that failed; the first error stays the first.
    pub(super) async fn undo(&self, pod: &Pod, first: AttachmentError) -> AttachmentError {
        match self.dismantle(pod, &pod.endpoint_name(&self.node)).await {
            Ok(()) => first,
            Err(then) => AttachmentError::Undoing {
                first: Box::new(first),
                then: Box::new(then),
            },
        }
    }
}
