//! Comparing, collecting, and undoing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ocicat_dataplane::names;
use ocicat_datastore::model::WorkloadEndpoint;
use ocicat_ipam::Allocation;

use super::{AttachmentError, Attachments, addresses_of, assign, endpoint};
use crate::pod::Pod;

/// A container and its interface.
type Place = (String, String);

/// What ADD answered, as the runtime shows it to CHECK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// The hardware address of the container's end.
    pub(crate) mac: Option<String>,
}

impl Attachments {
    /// What is not as [`add`](Self::add) made and answered it: in the kernel, in the datastore, in the records of
    /// addresses.
    ///
    /// # Errors
    /// [`AttachmentError::Unknown`] when none of them has anything of the container; what could not be read.
    pub(crate) async fn check(
        &self,
        pod: &Pod,
        namespace: OwnedFd,
        answered: &Answered,
    ) -> Result<Vec<String>, AttachmentError> {
        let name = pod.endpoint_name(&self.node);
        let _turn = self.busy.lock(&name).await;
        let endpoint = self
            .store
            .get::<WorkloadEndpoint>((pod.namespace.as_str(), name.as_str()))
            .await?;
        let own = endpoint.filter(|one| one.spec.container_id.as_deref() == Some(&pod.container));
        let Some(endpoint) = own else {
            if self.held(pod).await?.is_empty() && !self.has_link(pod, namespace).await? {
                return Err(AttachmentError::Unknown(pod.container.clone()));
            }
            return Ok(vec![format!(
                "WorkloadEndpoint {}/{name}: missing",
                pod.namespace
            )]);
        };
        let addresses = addresses_of(&endpoint);
        let mut differences = against_answer(&endpoint, &addresses, answered);
        let host_link = Self::host_link(pod).to_string();
        let recorded = endpoint.spec.interface_name.as_deref().unwrap_or_default();
        if recorded != host_link {
            differences.push(format!(
                "WorkloadEndpoint {}/{name}: interfaceName: {recorded} instead of {host_link}",
                pod.namespace
            ));
        }
        if pod.wishes.delegated.is_empty() && !pod.wishes.foreign_ipam {
            let held = self.held(pod).await?;
            let lost = addresses.iter().filter(|address| !held.contains(address));
            differences.extend(lost.map(|address| format!("{address}: not held in IPAM")));
        }
        let mtu = pod.wishes.mtu.unwrap_or(self.facts.borrow().mtu);
        let mut attachment = Self::attachment(pod, namespace, &addresses, mtu)?;
        attachment.mac = endpoint
            .spec
            .mac
            .as_deref()
            .and_then(|mac| mac.parse().ok());
        let attach = Arc::clone(&self.attach);
        let found = tokio::task::spawn_blocking(move || attach.check(&attachment)).await??;
        differences.extend(found.iter().map(ToString::to_string));
        Ok(differences)
    }

    /// Whether the node has the link of the pod's name; another container's of the same pod counts.
    async fn has_link(&self, pod: &Pod, namespace: OwnedFd) -> Result<bool, AttachmentError> {
        let attachment = Self::attachment(pod, namespace, &[], self.facts.borrow().mtu)?;
        let attach = Arc::clone(&self.attach);
        let found = tokio::task::spawn_blocking(move || attach.check(&attachment)).await??;
        let link = Self::host_link(pod);
        let missing = |one: &ocicat_dataplane::Difference| {
            one.found == "missing" && one.what.contains(link.as_str())
        };
        Ok(!matches!(found.as_slice(), [one] if missing(one)))
    }

    /// Removes this node's attachments to a network, and the addresses held for it, that are in none of `keep`
    /// (container and interface). Goes on after errors and returns the first.
    pub(crate) async fn collect(
        &self,
        network: &str,
        keep: &BTreeSet<Place>,
    ) -> Result<(), AttachmentError> {
        let mut found = self.holders(network).await?;
        for endpoint in &self.store.list::<WorkloadEndpoint>().await? {
            let spec = &endpoint.spec;
            let Some(container) = spec.container_id.clone().filter(|_| spec.node == self.node)
            else {
                continue;
            };
            let place = (container, spec.endpoint.clone());
            if found.contains_key(&place) || is_of(network, endpoint, &place) {
                let pod = pod_of(endpoint, network, &place);
                found.insert(place, pod);
            }
        }
        let mut outcome = Ok(());
        for (place, gone) in found {
            if !keep.contains(&place) {
                tracing::info!(
                    network,
                    container = place.0,
                    interface = place.1,
                    "collected: the runtime has it no more"
                );
                outcome = outcome.and(self.remove(&gone).await);
            }
        }
        outcome
    }

    /// Who holds addresses of a network on this node, by the records of IPAM: a plugin or an agent that was killed between
    /// taking an address and writing the endpoint leaves nothing else, nor does a container of another plugin's.
    async fn holders(&self, network: &str) -> Result<BTreeMap<Place, Pod>, AttachmentError> {
        let blocks = self.ipam.store().all_blocks().await?;
        let mut found = BTreeMap::new();
        for block in &blocks.records {
            for (_, allocation) in block.value.held() {
                let here = allocation.attributes.get("node") == Some(&self.node);
                let Some((container, interface)) = place_of(network, allocation).filter(|_| here)
                else {
                    continue;
                };
                let attribute = |name| allocation.attributes.get(name).cloned();
                let mut pod = Pod {
                    orchestrator: "cni",
                    namespace: "default".to_owned(),
                    name: container.clone(),
                    container: container.clone(),
                    interface: interface.clone(),
                    network: network.to_owned(),
                    ..Pod::default()
                };
                if let (Some(name), Some(namespace)) = (attribute("pod"), attribute("namespace")) {
                    (pod.orchestrator, pod.name, pod.namespace) = ("k8s", name, namespace);
                }
                found.insert((container, interface), pod);
            }
        }
        Ok(found)
    }

    /// Takes everything of a pod away, by its names. Goes on after errors and returns the first.
    pub(super) async fn dismantle(&self, pod: &Pod, endpoint: &str) -> Result<(), AttachmentError> {
        // The kernel waits some milliseconds until nobody looks at a link any more. The address comes last: nobody gets it
        // while the link is there.
        let (forgotten, detached) =
            tokio::join!(self.remove_endpoint(pod, endpoint), self.detach(pod));
        let released = self.release(&pod.handle()).await;
        [forgotten, detached, released].into_iter().collect()
    }

    /// Undoes an addition that failed; the first error stays the first.
    pub(super) async fn undo(&self, pod: &Pod, first: AttachmentError) -> AttachmentError {
        match self.dismantle(pod, &pod.endpoint_name(&self.node)).await {
            Ok(()) => first,
            Err(then) => first.and(then),
        }
    }
}

fn against_answer(
    endpoint: &WorkloadEndpoint,
    addresses: &[IpAddr],
    answered: &Answered,
) -> Vec<String> {
    let lost = answered
        .addresses
        .iter()
        .filter(|one| !addresses.contains(one));
    let mut differences: Vec<String> = lost
        .map(|one| format!("{one}: answered to ADD, and not in the WorkloadEndpoint"))
        .collect();
    let recorded = endpoint.spec.mac.as_deref();
    if let (Some(told), Some(recorded)) = (answered.mac.as_deref(), recorded)
        && !told.eq_ignore_ascii_case(recorded)
    {
        differences.push(format!(
            "mac: {told} answered to ADD, {recorded} in the WorkloadEndpoint"
        ));
    }
    differences
}

/// The container and interface of an address that is held for a network. Where the network is not noted (Calico's own
/// records) the handle tells, as long as it can be read in one way only.
pub(super) fn place_of(network: &str, allocation: &Allocation) -> Option<Place> {
    let handle = allocation.handle.as_ref()?.as_str();
    let rest = handle.strip_prefix(network)?.strip_prefix('.')?;
    match allocation.attributes.get(assign::NETWORK) {
        Some(noted) if noted != network => None,
        // An interface's name can hold a dot, a container's id of every runtime cannot.
        Some(_) => match rest.split_once('.') {
            Some((container, interface)) => Some((container.to_owned(), interface.to_owned())),
            None => Some((rest.to_owned(), "eth0".to_owned())),
        },
        None if rest.contains('.') => None,
        None => Some((rest.to_owned(), "eth0".to_owned())),
    }
}

/// Whether an endpoint was made for a network: by its note, or by its link, whose name is made from the network's.
fn is_of(network: &str, endpoint: &WorkloadEndpoint, (container, interface): &Place) -> bool {
    match endpoint.metadata.annotations.get(endpoint::NETWORK) {
        Some(noted) => noted == network,
        None => {
            let link = names::container_link(network, container, interface);
            endpoint.spec.interface_name.as_deref() == Some(link.as_str())
        }
    }
}

fn pod_of(endpoint: &WorkloadEndpoint, network: &str, place: &Place) -> Pod {
    let spec = &endpoint.spec;
    let kubernetes = spec.orchestrator == "k8s";
    let name = spec.pod.clone().filter(|_| kubernetes);
    let (container, interface) = place.clone();
    Pod {
        orchestrator: if kubernetes { "k8s" } else { "cni" },
        namespace: endpoint.metadata.namespace.clone().unwrap_or_default(),
        name: name.unwrap_or_else(|| container.clone()),
        container,
        interface,
        network: network.to_owned(),
        ..Pod::default()
    }
}
