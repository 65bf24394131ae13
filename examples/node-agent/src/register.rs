//! This node in the datastore: its Node object with its addresses, which no other node may have.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use ocicat_datastore::model::{Node, NodeAddress, NodeBgp};
use ocicat_datastore::{Metadata, Store, StoreError};
use tokio::sync::watch;

use crate::startup::Place;

/// How far the agent is with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registration {
    /// The datastore has this node's address.
    pub(crate) done: bool,
    /// Why not, after the first attempt.
    pub(crate) problem: Option<String>,
}

/// Writes the node's addresses into its Node object, which is made when it is missing. Labels and everything else that
/// is there stay. Tries until the datastore answers.
///
/// # Errors
/// When another node has the address, or the object cannot be read: an agent must not run then.
pub(crate) async fn register(
    store: &Store,
    name: &str,
    place: &Place,
    progress: &watch::Sender<Registration>,
) -> Result<(), StoreError> {
    let mut pause = Duration::from_millis(100);
    loop {
        let again = match attempt(store, name, place).await {
            Ok(()) => {
                progress.send_replace(Registration {
                    done: true,
                    problem: None,
                });
                return Ok(());
            }
            Err(error) if error.is_conflict() => error,
            Err(error @ (StoreError::Invalid { .. } | StoreError::Malformed { .. })) => {
                return Err(error);
            }
            Err(error) => error,
        };
        tracing::warn!(error = %again, "the Node object could not be written; tried again");
        progress.send_replace(Registration {
            done: false,
            problem: Some(format!("Node {name} could not be written: {again}")),
        });
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

async fn attempt(store: &Store, name: &str, place: &Place) -> Result<(), StoreError> {
    for address in place.addresses() {
        refuse_duplicate(store, name, address.ip()).await?;
    }
    let Some(mut node) = store.get::<Node>(name).await? else {
        let mut node = Node {
            metadata: Metadata {
                name: name.to_owned(),
                ..Metadata::default()
            },
            ..Node::default()
        };
        state_addresses(&mut node, place);
        store.create(node).await?;
        return Ok(());
    };
    let before = node.spec.clone();
    state_addresses(&mut node.value, place);
    if node.spec != before {
        store.update(node).await?;
    }
    Ok(())
}

/// What is there is no reason to write: an address of a family that this node has none of is taken away.
fn state_addresses(node: &mut Node, place: &Place) {
    let of = |ipv4: bool| {
        let mut addresses = place.addresses();
        let found = addresses.find(|address| address.is_ipv4() == ipv4);
        found.map(|address| address.to_string())
    };
    let bgp = node.spec.bgp.get_or_insert_with(NodeBgp::default);
    (bgp.ipv4_address, bgp.ipv6_address) = (of(true), of(false));
    let stated = place.addresses().map(|address| NodeAddress {
        address: address.to_string(),
        r#type: Some("CalicoNodeIP".to_owned()),
    });
    node.spec.addresses = stated.collect();
}

/// Two nodes with one address would steal each other's sessions and packets.
async fn refuse_duplicate(store: &Store, name: &str, address: IpAddr) -> Result<(), StoreError> {
    for other in &store.list::<Node>().await? {
        let bgp = other.spec.bgp.as_ref();
        let (field, stated) = if address.is_ipv4() {
            let stated = bgp.and_then(|bgp| bgp.ipv4_address.as_ref());
            ("spec.bgp.ipv4Address", stated)
        } else {
            let stated = bgp.and_then(|bgp| bgp.ipv6_address.as_ref());
            ("spec.bgp.ipv6Address", stated)
        };
        let stated: Option<IpNetwork> = stated.and_then(|text| text.parse().ok());
        if other.metadata.name != name && stated.is_some_and(|stated| stated.ip() == address) {
            return Err(StoreError::Invalid {
                key: None,
                field: field.to_owned(),
                reason: format!(
                    "{address} is the address of Node {} already; delete that object if the node is gone, or set [node] address-detection",
                    other.metadata.name
                ),
            });
        }
    }
    Ok(())
}
