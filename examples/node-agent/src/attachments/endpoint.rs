//! The pod's WorkloadEndpoint in the datastore.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ocicat_dataplane::Attached;
use ocicat_dataplane::state::LinkName;
use ocicat_datastore::model::names::{namespace_profile, service_account_profile};
use ocicat_datastore::model::{WorkloadEndpoint, WorkloadEndpointPort};
use ocicat_datastore::{Metadata, Revision, StoreError};

use super::{AttachmentError, Attachments};
use crate::pod::{NAMESPACE_PREFIX, Pod};

/// The annotation with the name of the CNI network: what collecting the network's garbage goes by.
pub(super) const NETWORK: &str = "ocicat/network";

impl Attachments {
    /// Writes the endpoint. `first` when there was none a moment ago: that saves reading it.
    pub(super) async fn write_endpoint(
        &self,
        pod: &Pod,
        addresses: &[IpAddr],
        host_link: &LinkName,
        attached: &Attached,
        name: &str,
        first: bool,
    ) -> Result<Revision, AttachmentError> {
        let mut endpoint = WorkloadEndpoint {
            metadata: Metadata {
                name: name.to_owned(),
                namespace: Some(pod.namespace.clone()),
                labels: labels(pod),
                annotations: BTreeMap::from([(NETWORK.to_owned(), pod.network.clone())]),
                ..Metadata::default()
            },
            ..WorkloadEndpoint::default()
        };
        let spec = &mut endpoint.spec;
        pod.orchestrator.clone_into(&mut spec.orchestrator);
        spec.node.clone_from(&self.node);
        spec.container_id = Some(pod.container.clone());
        if pod.is_kubernetes() {
            spec.pod = Some(pod.name.clone());
        } else {
            spec.workload = Some(pod.name.clone());
        }
        spec.endpoint.clone_from(&pod.interface);
        spec.service_account_name
            .clone_from(&pod.wishes.service_account);
        spec.ip_networks = addresses
            .iter()
            .map(|one| format!("{one}/{}", if one.is_ipv4() { 32 } else { 128 }))
            .collect();
        spec.profiles = profiles(pod);
        spec.allow_spoofed_source_prefixes
            .clone_from(&pod.wishes.allowed_sources);
        spec.interface_name = Some(host_link.to_string());
        spec.mac = Some(attached.container_mac.to_string());
        spec.ports = pod
            .wishes
            .ports
            .iter()
            .map(|port| WorkloadEndpointPort {
                name: Some(port.name.clone()),
                protocol: port.protocol.as_str().into(),
                port: port.port,
                ..WorkloadEndpointPort::default()
            })
            .collect();
        if first {
            match self.store.create(endpoint.clone()).await {
                Err(StoreError::Exists { .. }) => {}
                created => return Ok(created?.revision),
            }
        }
        Ok(self.store.put(endpoint).await?.revision)
    }

    /// Deletes the endpoint if it is this container's: an old container's removal leaves the new one's alone.
    pub(super) async fn remove_endpoint(
        &self,
        pod: &Pod,
        name: &str,
    ) -> Result<(), AttachmentError> {
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
}

pub(super) fn addresses_of(endpoint: &WorkloadEndpoint) -> Vec<IpAddr> {
    let texts = endpoint.spec.ip_networks.iter();
    texts
        .filter_map(|text| text.split('/').next()?.parse().ok())
        .collect()
}

/// The pod's own labels and those that identify it, as Calico writes them. Where there is no namespace of Kubernetes the
/// endpoint brings its namespace's along, its name among them, which is what selectors of namespaces read.
fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.wishes.labels.clone();
    if !pod.is_kubernetes() {
        let name = ("projectcalico.org/name".to_owned(), pod.namespace.clone());
        let all = [name]
            .into_iter()
            .chain(pod.wishes.namespace_labels.clone());
        labels.extend(all.map(|(key, value)| (format!("{NAMESPACE_PREFIX}{key}"), value)));
    }
    let mut set = |key: &str, value: &str| {
        labels.insert(format!("projectcalico.org/{key}"), value.to_owned())
    };
    set("namespace", &pod.namespace);
    set("orchestrator", pod.orchestrator);
    if let Some(account) = pod
        .wishes
        .service_account
        .as_deref()
        .filter(|account| account.len() < 63)
    {
        set("serviceaccount", account);
    }
    labels
}

fn profiles(pod: &Pod) -> Vec<String> {
    if !pod.is_kubernetes() {
        return vec![pod.network.clone()];
    }
    let account = pod.wishes.service_account.as_deref().unwrap_or("default");
    vec![
        namespace_profile(&pod.namespace),
        service_account_profile(&pod.namespace, account),
    ]
}
