//! The address of the node's VXLAN device: taken from a pool that the tunnel serves, and written into the Node object.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocicat_dataplane::names;
use ocicat_datastore::model::{IpPool, Node};
use ocicat_datastore::{Store, StoreError};
use ocicat_ipam::{AssignRequest, Family, HandleId, Ipam, Owner, PoolRef, Use};
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
    let handle = HandleId::from(format!("vxlan-tunnel-addr-{node}").as_str());
    let pools = pools(store, &object).await?;
    let held = ipam.addresses_of(&handle).await?;
    let good = |address: &IpAddr| pools.iter().any(|(_, range)| range.contains(*address));
    let address = match held.iter().find(|address| good(address)) {
        Some(address) => Some(*address),
        None => {
            if !held.is_empty() {
                ipam.release_handle(&handle, SystemTime::now()).await?;
            }
            assign(ipam, node, &handle, &pools).await?
        }
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

async fn assign(
    ipam: &Ipam,
    node: &str,
    handle: &HandleId,
    pools: &[(String, ipnetwork::IpNetwork)],
) -> Result<Option<IpAddr>, Failure> {
    if pools.is_empty() {
        return Ok(None);
    }
    let request = AssignRequest::new(Owner::host(node), handle.as_str())
        .v4(1)
        .pools(
            Family::V4,
            pools.iter().map(|(name, _)| PoolRef::Name(name.clone())),
        )
        .intended_use(Use::Tunnel)
        .attribute("node", node)
        .attribute("type", "vxlanTunnelAddress");
    let assignment = ipam.assign(&request, SystemTime::now()).await?;
    Ok(assignment.addresses.first().map(|one| one.address))
}

/// Enabled IPv4 pools with VXLAN that select this node and allow tunnels.
async fn pools(
    store: &Store,
    node: &Node,
) -> Result<Vec<(String, ipnetwork::IpNetwork)>, StoreError> {
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
        .filter_map(|pool| Some((pool.metadata.name.clone(), pool.spec.cidr.parse().ok()?)))
        .filter(|(_, range): &(String, ipnetwork::IpNetwork)| range.is_ipv4())
        .collect())
}
