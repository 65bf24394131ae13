use ocicat_dataplane::names::pod_link;
use ocicat_datastore::model::{Pod, WorkloadEndpoint};

/// The endpoint of a pod, as [`WorkloadEndpoint::of_pod`] says, with its interface on the node, `cali...`; `None` where it
/// has none: it is on no node yet, or uses the node's own network.
///
/// An address that cannot be read is kept as it is, and reported by [`Graph`](crate::Graph).
#[must_use]
pub fn workload_endpoint(pod: &Pod) -> Option<WorkloadEndpoint> {
    let mut endpoint = WorkloadEndpoint::of_pod(pod)?;
    let metadata = &pod.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    endpoint.spec.interface_name = Some(pod_link(namespace, &metadata.name).to_string());
    Some(endpoint)
}
