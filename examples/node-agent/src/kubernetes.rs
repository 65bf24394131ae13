//! What the agent asks of Kubernetes' own objects, and tells them. Elsewhere there are none, and nothing is asked.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocicat_datastore::model::{KubeCondition, KubeNode};
use ocicat_datastore::{Store, StoreError};
use ocicat_ipam::Timestamp;
use tokio::sync::watch;

use crate::facts::Facts;

/// The condition that the scheduler waits for.
const CONDITION: &str = "NetworkUnavailable";

/// The addresses that Kubernetes knows the node by; none where there is no such object.
pub(crate) async fn internal_addresses(
    store: &Store,
    node: &str,
) -> Result<Vec<IpAddr>, StoreError> {
    let found = match store.get::<KubeNode>(node).await {
        Err(StoreError::NoSuchKind { .. }) => None,
        found => found?,
    };
    let addresses = found
        .map(|node| node.value.status.addresses)
        .unwrap_or_default();
    let internal = addresses
        .iter()
        .filter(|one| one.r#type.as_deref() == Some("InternalIP"));
    Ok(internal
        .filter_map(|one| one.address.parse().ok())
        .collect())
}

/// Once the agent is ready, tells Kubernetes that the node's network can be used. Tries until it is told.
pub(crate) async fn tell_available(
    store: Store,
    node: String,
    mut facts: watch::Receiver<Arc<Facts>>,
) {
    if facts.wait_for(|facts| facts.ready).await.is_err() {
        return;
    }
    let mut pause = Duration::from_secs(1);
    loop {
        match tell(&store, &node, SystemTime::now()).await {
            Ok(()) | Err(StoreError::Missing { .. } | StoreError::NoSuchKind { .. }) => return,
            Err(error) => {
                tracing::warn!(%error, node, "the condition NetworkUnavailable could not be cleared; tried again")
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(60));
    }
}

async fn tell(store: &Store, node: &str, now: SystemTime) -> Result<(), StoreError> {
    let now = Timestamp(now).to_string();
    store
        .modify::<KubeNode>(node, |node| clear(&mut node.status.conditions, &now))
        .await?;
    Ok(())
}

/// Says that the network is there; a condition that says so already stays as it is.
fn clear(conditions: &mut Vec<KubeCondition>, now: &str) {
    let there = conditions.iter_mut().find(|one| one.r#type == CONDITION);
    if there.as_ref().is_some_and(|one| one.status == "False") {
        return;
    }
    let condition = KubeCondition {
        r#type: CONDITION.to_owned(),
        status: "False".to_owned(),
        reason: Some("OcicatIsUp".to_owned()),
        message: Some("ocicat is running on this node".to_owned()),
        last_heartbeat_time: Some(now.to_owned()),
        last_transition_time: Some(now.to_owned()),
    };
    match there {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use ocicat_datastore::Memory;
    use ocicat_datastore::model::NodeAddress;

    use super::*;

    #[tokio::test]
    async fn a_nodes_addresses_and_its_condition() {
        let store = Store::new(Arc::new(Memory::new()));
        assert_eq!(
            internal_addresses(&store, "a").await.unwrap(),
            Vec::<IpAddr>::new()
        );
        assert!(matches!(
            tell(&store, "a", SystemTime::UNIX_EPOCH).await,
            Err(StoreError::Missing { .. })
        ));
        let mut node = KubeNode::default();
        "a".clone_into(&mut node.metadata.name);
        node.status.addresses = [
            ("InternalIP", "10.0.0.1"),
            ("Hostname", "a"),
            ("InternalIP", "fd00::1"),
        ]
        .map(|(kind, address)| NodeAddress {
            address: address.to_owned(),
            r#type: Some(kind.to_owned()),
        })
        .to_vec();
        node.status.conditions.push(KubeCondition {
            r#type: CONDITION.to_owned(),
            status: "True".to_owned(),
            ..KubeCondition::default()
        });
        store.create(node).await.unwrap();
        let found = internal_addresses(&store, "a").await.unwrap();
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.1", "fd00::1"]
        );
        tell(&store, "a", SystemTime::UNIX_EPOCH).await.unwrap();
        let told = store.get::<KubeNode>("a").await.unwrap().unwrap();
        let [condition] = told.status.conditions.as_slice() else {
            panic!("{:?}", told.status.conditions)
        };
        assert_eq!(
            (
                condition.status.as_str(),
                condition.last_transition_time.as_deref()
            ),
            ("False", Some("1970-01-01T00:00:00Z"))
        );
        // Told once more, nothing is written.
        let revision = told.revision;
        tell(&store, "a", SystemTime::now()).await.unwrap();
        assert_eq!(
            store.get::<KubeNode>("a").await.unwrap().unwrap().revision,
            revision
        );
    }
}
