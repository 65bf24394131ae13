//! Where the agent stands: which of the host's addresses is the node's.

use std::time::Duration;

use ocicat_dataplane::interfaces::Interface;
use ocicat_dataplane::linux;
use ocicat_datastore::Store;

use super::AgentError;
use crate::config::Config;
use crate::detect::Method;
use crate::kubernetes;
use crate::snapshot::Snapshot;
use crate::startup::{self, Place};

/// The node's addresses: those that Kubernetes knows it by, where there is Kubernetes and nobody says otherwise.
pub(super) async fn place(
    config: &Config,
    store: &Store,
    node: &str,
    snapshot: Option<&Snapshot>,
    interfaces: &[Interface],
) -> Result<Place, AgentError> {
    let stated = &config.node;
    let method = match stated.address_detection.as_deref() {
        None if config.datastore.url.starts_with("kubernetes:") => Method::KubernetesInternalIp,
        text => Method::parse(text.unwrap_or_default())?,
    };
    let method = match method {
        Method::KubernetesInternalIp => known(store, node, snapshot).await,
        method => method,
    };
    let v6 = match stated.address_detection_v6.as_deref() {
        Some("none") => None,
        Some(text) => Some(Method::parse(text)?),
        // One address says nothing about the other family.
        None if matches!(method, Method::Fixed(_)) => Some(Method::FirstFound),
        None => Some(method.clone()),
    };
    let source = match method {
        Method::CanReach(address) => linux::way_to(address)
            .ok()
            .flatten()
            .and_then(|way| way.source),
        _ => None,
    };
    let found = startup::place((&method, v6.as_ref()), interfaces, source);
    if found.is_err() && matches!(method, Method::Known(_)) {
        tracing::warn!(
            ?method,
            "no interface has an address that Kubernetes knows the node by"
        );
        let first = Method::FirstFound;
        return Ok(startup::place((&first, Some(&first)), interfaces, None)?);
    }
    Ok(found?)
}

/// What Kubernetes knows the node by; while it does not answer, what it was at the last run.
async fn known(store: &Store, node: &str, snapshot: Option<&Snapshot>) -> Method {
    let mut pause = Duration::from_millis(200);
    loop {
        let error = match kubernetes::internal_addresses(store, node).await {
            Ok(addresses) if addresses.is_empty() => return Method::FirstFound,
            Ok(addresses) => return Method::Known(addresses),
            Err(error) => error,
        };
        let before = snapshot
            .map(|snapshot| snapshot.addresses())
            .unwrap_or_default();
        if !before.is_empty() && pause > Duration::from_secs(1) {
            return Method::Known(before);
        }
        tracing::warn!(%error, node, "Kubernetes does not say which address the node has; asked again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}
