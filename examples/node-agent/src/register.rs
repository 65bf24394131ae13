//! This node in the datastore: its Node object with its addresses, which no other node may have.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use ocicat_dataplane::Prefix;
use ocicat_datastore::model::{AsNumber, ConfigMap, IpPool, Node, NodeAddress, NodeBgp};
use ocicat_datastore::{Metadata, Revision, Store, StoreError};
use ocicat_ipam::Ipam;
use tokio::sync::watch;

use crate::census::Census;
use crate::config::DefaultPools;
use crate::pools::{self, Host};
use crate::startup::Place;
use crate::uphold::Remains;

/// How far the agent is with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registration {
    /// The datastore has this node's address.
    pub(crate) done: bool,
    /// Endpoints that were written meanwhile: they have to be seen before anything is removed.
    pub(crate) endpoints: Revision,
    /// Why not, after the first attempt.
    pub(crate) problem: Option<String>,
}

/// What is to be written.
pub(crate) struct Registering {
    pub(crate) store: Store,
    pub(crate) ipam: Arc<Ipam>,
    pub(crate) node: String,
    pub(crate) place: Place,
    /// The node's AS, where the environment states one.
    pub(crate) as_number: Option<u32>,
    pub(crate) pools: DefaultPools,
    /// The host's networks, which no default pool touches.
    pub(crate) networks: Vec<IpNetwork>,
    /// Pods of the last run.
    pub(crate) remains: Remains,
    /// What the core has seen of nodes and pools.
    pub(crate) census: watch::Receiver<Option<Census>>,
}

impl Registering {
    /// Writes the node's addresses into its Node object, which is made when it is missing; labels and everything else
    /// that is there stay. Then the cluster's pools, if it has none, and what the datastore forgot of this node's pods.
    /// Tries until the datastore answers.
    ///
    /// # Errors
    /// When another node has the address, or the object cannot be read: an agent must not run then.
    pub(crate) async fn run(
        self,
        progress: &watch::Sender<Registration>,
    ) -> Result<(), StoreError> {
        let mut pause = Duration::from_millis(100);
        loop {
            let again = match self.once().await {
                Ok(endpoints) => {
                    progress.send_replace(Registration {
                        done: true,
                        endpoints,
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
            let node = &self.node;
            tracing::warn!(error = %again, node, "the node could not be registered; tried again");
            progress.send_replace(Registration {
                problem: Some(format!("Node {node} could not be registered: {again}")),
                ..Registration::default()
            });
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    async fn once(&self) -> Result<Revision, StoreError> {
        let census = self.census().await?;
        for (address, other) in &census.taken {
            refuse_duplicate(&self.store, other, *address).await?;
        }
        attempt(&self.store, &self.node, &self.place, self.as_number).await?;
        if !census.pools {
            self.make_pools().await?;
        }
        self.remains
            .restore(&self.store, &self.ipam, &self.node, census.unsettled)
            .await
    }

    /// Waits until what it is about is listed, and nobody has locked the datastore.
    async fn census(&self) -> Result<Census, StoreError> {
        let mut census = self.census.clone();
        let open = |census: &Option<Census>| census.as_ref().is_some_and(|census| !census.locked);
        let known = census.wait_for(open).await;
        let known = known.map_err(|_| StoreError::Unavailable {
            reason: "the agent ends".to_owned(),
        })?;
        Ok(known.clone().unwrap_or_default())
    }

    /// A cluster without a pool gets the default ones. That there is none has to be so now: what was listed at the start
    /// can be a moment old.
    async fn make_pools(&self) -> Result<(), StoreError> {
        if self.pools.none || !self.store.list::<IpPool>().await?.is_empty() {
            return Ok(());
        }
        let cluster = kubeadm(&self.store).await;
        let host = Host {
            cluster: &cluster,
            networks: &self.networks,
            ipv6: self.place.addresses().any(|address| address.is_ipv6()),
            random: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8),
        };
        let made = pools::defaults(&self.pools, &host).map_err(|error| StoreError::Invalid {
            key: None,
            field: "IPPool".to_owned(),
            reason: error.to_string(),
        })?;
        for pool in made {
            let (name, range) = (pool.metadata.name.clone(), pool.spec.cidr.clone());
            match self.store.create(pool).await {
                Ok(_) => tracing::info!(name, range, "the cluster had no pool: this one was made"),
                // Another node was faster.
                Err(StoreError::Exists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The pods' ranges that kubeadm was given.
async fn kubeadm(store: &Store) -> Vec<Prefix> {
    let found = store
        .get::<ConfigMap>(("kube-system", "kubeadm-config"))
        .await;
    let map = found.ok().flatten();
    let configuration = map.and_then(|map| map.data.get("ClusterConfiguration").cloned());
    pools::kubeadm_ranges(&configuration.unwrap_or_default())
}

async fn attempt(
    store: &Store,
    name: &str,
    place: &Place,
    as_number: Option<u32>,
) -> Result<(), StoreError> {
    let Some(mut node) = store.get::<Node>(name).await? else {
        let mut node = Node {
            metadata: Metadata {
                name: name.to_owned(),
                ..Metadata::default()
            },
            ..Node::default()
        };
        state_addresses(&mut node, place, as_number);
        store.create(node).await?;
        return Ok(());
    };
    let before = node.spec.clone();
    state_addresses(&mut node.value, place, as_number);
    if node.spec != before {
        store.update(node).await?;
    }
    Ok(())
}

/// What is there is no reason to write: an address of a family that this node has none of is taken away.
fn state_addresses(node: &mut Node, place: &Place, as_number: Option<u32>) {
    let of = |ipv4: bool| {
        let mut addresses = place.addresses();
        let found = addresses.find(|address| address.is_ipv4() == ipv4);
        found.map(|address| address.to_string())
    };
    let bgp = node.spec.bgp.get_or_insert_with(NodeBgp::default);
    (bgp.ipv4_address, bgp.ipv6_address) = (of(true), of(false));
    if let Some(number) = as_number {
        bgp.as_number = Some(AsNumber(number));
    }
    let stated = place.addresses().map(|address| NodeAddress {
        address: address.to_string(),
        r#type: Some("CalicoNodeIP".to_owned()),
    });
    node.spec.addresses = stated.collect();
}

/// Two nodes with one address would steal each other's sessions and packets. The other's object is looked at again, since
/// what was listed at the start can be a moment old.
async fn refuse_duplicate(store: &Store, other: &str, address: IpAddr) -> Result<(), StoreError> {
    let Some(other) = store.get::<Node>(other).await? else {
        return Ok(());
    };
    let bgp = other.spec.bgp.as_ref();
    let (field, stated) = if address.is_ipv4() {
        let stated = bgp.and_then(|bgp| bgp.ipv4_address.as_ref());
        ("spec.bgp.ipv4Address", stated)
    } else {
        let stated = bgp.and_then(|bgp| bgp.ipv6_address.as_ref());
        ("spec.bgp.ipv6Address", stated)
    };
    let stated: Option<IpNetwork> = stated.and_then(|text| text.parse().ok());
    if stated.is_none_or(|stated| stated.ip() != address) {
        return Ok(());
    }
    Err(StoreError::Invalid {
        key: None,
        field: field.to_owned(),
        reason: format!(
            "{address} is the address of Node {} already; delete that object if the node is gone, or set [node] address-detection",
            other.metadata.name
        ),
    })
}

#[cfg(test)]
mod tests;
