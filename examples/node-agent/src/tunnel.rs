//! The address of the node's VXLAN device: taken from a pool that the tunnel serves, and written into the Node object.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocicat_dataplane::names;
use ocicat_datastore::model::{IpPool, Node};
use ocicat_datastore::{Store, StoreError};
use ocicat_ipam::{Ipam, Prefix, Tunnel};
use ocicat_selectors::Selector;
use tokio::sync::watch;

use crate::drive::chain;
use crate::facts::Facts;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Keeps the address in step with the pools, until the sender of facts is gone.
pub(crate) async fn follow(
    store: Store,
    ipam: Arc<Ipam>,
    node: String,
    mut facts: watch::Receiver<Arc<Facts>>,
) {
    let mut done: Option<Vec<String>> = None;
    let mut retry = Duration::from_millis(200);
    loop {
        let wanted = facts.borrow_and_update().vxlan_pools.clone();
        if wanted.is_some() && wanted != done {
            match ensure(&store, &ipam, &node).await {
                Ok(()) => (done, retry) = (wanted, Duration::from_millis(200)),
                Err(error) => {
                    tracing::warn!(
                        error = chain(&*error),
                        "no address for the VXLAN device yet; tried again"
                    );
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(Duration::from_secs(30));
                    continue;
                }
            }
        }
        if facts.changed().await.is_err() {
            return;
        }
    }
}

async fn ensure(store: &Store, ipam: &Ipam, node: &str) -> Result<(), Failure> {
    let Some(object) = store.get::<Node>(node).await? else {
        return Ok(());
    };
    let pools = pools(store, &object).await?;
    let now = SystemTime::now();
    let stated = object.spec.ipv4_vxlan_tunnel_addr.as_ref();
    let current: Option<IpAddr> = stated.and_then(|text| text.parse().ok());
    let address = if pools.is_empty() {
        ipam.release_tunnel_address(node, Tunnel::Vxlan, now)
            .await?;
        None
    } else {
        Some(
            ipam.tunnel_address(node, Tunnel::Vxlan, current, &pools, now)
                .await?
                .address,
        )
    };
    let (text, mac) = (
        address.map(|one| one.to_string()),
        address.map(|_| names::vtep_mac(node).to_string()),
    );
    if object.spec.ipv4_vxlan_tunnel_addr == text
        && object.spec.vxlan_tunnel_mac_addr.is_some() == mac.is_some()
    {
        return Ok(());
    }
    store
        .modify::<Node>(node, |node| {
            node.spec.ipv4_vxlan_tunnel_addr.clone_from(&text);
            if node.spec.vxlan_tunnel_mac_addr.is_none() || mac.is_none() {
                node.spec.vxlan_tunnel_mac_addr.clone_from(&mac);
            }
        })
        .await?;
    Ok(())
}

/// Enabled IPv4 pools with VXLAN that select this node and allow tunnels.
async fn pools(store: &Store, node: &Node) -> Result<Vec<Prefix>, StoreError> {
    let selects = |pool: &IpPool| match pool.spec.node_selector.as_deref() {
        None | Some("") => true,
        Some(text) => text
            .parse()
            .is_ok_and(|selector: Selector| selector.matches(&node.metadata.labels)),
    };
    let tunnels = |pool: &IpPool| {
        pool.spec.allowed_uses.is_empty()
            || pool.spec.allowed_uses.iter().any(|one| one == "Tunnel")
    };
    let vxlan = |pool: &IpPool| {
        pool.spec
            .vxlan_mode
            .as_deref()
            .is_some_and(|mode| !matches!(mode, "" | "Never"))
    };
    let listed = store.list::<IpPool>().await?;
    Ok(listed
        .iter()
        .filter(|pool| !pool.spec.disabled && vxlan(pool) && selects(pool) && tunnels(pool))
        .filter_map(|pool| pool.spec.cidr.parse().ok())
        .filter(|range: &Prefix| range.address().is_ipv4())
        .collect())
}
