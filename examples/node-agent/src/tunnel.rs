//! The addresses of the node's tunnel devices: taken from pools that the tunnels serve, and written into the Node object.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocicat_dataplane::names;
use ocicat_datastore::Store;
use ocicat_datastore::model::{IpPoolSpec, Node, NodeBgp};
use ocicat_ipam::{Family, Ipam, Prefix, Tunnel};
use ocicat_selectors::Selector;
use tokio::sync::watch;

use crate::drive::chain;
use crate::facts::{Facts, TunnelPools};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The tunnels that the dataplane makes.
const TUNNELS: [Tunnel; 3] = [Tunnel::Ipip, Tunnel::Vxlan, Tunnel::VxlanV6];

/// Keeps the addresses in step with the pools, until the sender of facts is gone.
pub(crate) async fn follow(
    store: Store,
    ipam: Arc<Ipam>,
    node: String,
    mut facts: watch::Receiver<Arc<Facts>>,
) {
    let mut done: Option<TunnelPools> = None;
    let mut retry = Duration::from_millis(200);
    loop {
        let wanted = facts.borrow_and_update().tunnel_pools.clone();
        if let Some(pools) = wanted.filter(|wanted| done.as_ref() != Some(wanted)) {
            match ensure(&store, &ipam, &node, &pools).await {
                Ok(()) => (done, retry) = (Some(pools), Duration::from_millis(200)),
                Err(error) => {
                    tracing::warn!(
                        error = chain(&*error),
                        "no address for a tunnel device yet; tried again"
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

/// Every tunnel is tried; the first failure is what the answer is.
async fn ensure(
    store: &Store,
    ipam: &Ipam,
    node: &str,
    wanted: &TunnelPools,
) -> Result<(), Failure> {
    let Some(object) = store.get::<Node>(node).await? else {
        return Ok(());
    };
    let mut first = None;
    for tunnel in TUNNELS {
        let pools = ranges(tunnel, wanted);
        if let Err(error) = ensure_one(store, ipam, &object, tunnel, &pools).await {
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

async fn ensure_one(
    store: &Store,
    ipam: &Ipam,
    node: &Node,
    tunnel: Tunnel,
    pools: &[Prefix],
) -> Result<(), Failure> {
    let (name, now) = (node.metadata.name.as_str(), SystemTime::now());
    let current = stated(node, tunnel);
    let address = if pools.is_empty() {
        None
    } else {
        let given = ipam
            .tunnel_address(name, tunnel, current, pools, now)
            .await?;
        Some(given.address)
    };
    if address != current {
        store
            .modify::<Node>(name, |node| state(node, tunnel, address))
            .await?;
    }
    if address.is_none() {
        // After it is gone from the Node: nobody sends to an address that another may get. Also where the Node has
        // none: it may have been taken and never written.
        ipam.release_tunnel_address(name, tunnel, now).await?;
    }
    Ok(())
}

/// What the Node object says about a tunnel's address.
fn stated(node: &Node, tunnel: Tunnel) -> Option<IpAddr> {
    let bgp = node.spec.bgp.as_ref();
    let text = match tunnel {
        Tunnel::Ipip => bgp.and_then(|bgp| bgp.ipv4_ipip_tunnel_addr.as_deref()),
        Tunnel::Vxlan => node.spec.ipv4_vxlan_tunnel_addr.as_deref(),
        Tunnel::VxlanV6 => node.spec.ipv6_vxlan_tunnel_addr.as_deref(),
        _ => None,
    };
    text.and_then(|text| text.parse().ok())
}

/// Writes a tunnel's address into the Node object, with the hardware address where the device has one.
fn state(node: &mut Node, tunnel: Tunnel, address: Option<IpAddr>) {
    let name = node.metadata.name.clone();
    let text = address.map(|one| one.to_string());
    let (mac, derived) = match tunnel {
        Tunnel::Ipip => {
            let bgp = node.spec.bgp.get_or_insert_with(NodeBgp::default);
            bgp.ipv4_ipip_tunnel_addr = text;
            return;
        }
        Tunnel::Vxlan => {
            node.spec.ipv4_vxlan_tunnel_addr = text;
            let derived = names::vtep_mac(&name);
            (&mut node.spec.vxlan_tunnel_mac_addr, derived)
        }
        Tunnel::VxlanV6 => {
            node.spec.ipv6_vxlan_tunnel_addr = text;
            let derived = names::vtep_mac_v6(&name);
            (&mut node.spec.vxlan_tunnel_mac_addr_v6, derived)
        }
        _ => return,
    };
    match address {
        None => *mac = None,
        // One that somebody stated stays.
        Some(_) => drop(mac.get_or_insert_with(|| derived.to_string())),
    }
}

/// The ranges of enabled pools with this tunnel that select the node and allow tunnels.
fn ranges(tunnel: Tunnel, wanted: &TunnelPools) -> Vec<Prefix> {
    let usable = wanted.pools.iter().filter(|spec| {
        !spec.disabled
            && uses(spec, tunnel)
            && (spec.allowed_uses.is_empty() || spec.allowed_uses.iter().any(|one| one == "Tunnel"))
            && match spec.node_selector.as_deref() {
                None | Some("") => true,
                Some(text) => text
                    .parse()
                    .is_ok_and(|selector: Selector| selector.matches(&wanted.labels)),
            }
    });
    let ranges = usable.filter_map(|spec| spec.cidr.parse().ok());
    ranges
        .filter(|range: &Prefix| (tunnel.family() == Family::V4) == range.address().is_ipv4())
        .collect()
}

fn uses(pool: &IpPoolSpec, tunnel: Tunnel) -> bool {
    let mode = match tunnel {
        Tunnel::Ipip => &pool.ipip_mode,
        _ => &pool.vxlan_mode,
    };
    mode.as_deref()
        .is_some_and(|mode| !matches!(mode, "" | "Never"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(cidr: &str, ipip: &str, vxlan: &str, selector: &str) -> Arc<IpPoolSpec> {
        let spec = serde_json::json!({"cidr": cidr, "ipipMode": ipip, "vxlanMode": vxlan, "nodeSelector": selector});
        serde_json::from_value::<IpPoolSpec>(spec).unwrap().into()
    }

    #[test]
    fn each_tunnel_takes_its_address_from_pools_that_use_it() {
        let pools = [
            pool("10.0.0.0/16", "Always", "Never", "all()"),
            pool("10.1.0.0/16", "Never", "CrossSubnet", ""),
            pool("fd00:1::/48", "Never", "Always", "all()"),
            pool("10.2.0.0/16", "Never", "Always", "rack == 'b'"),
            pool("10.3.0.0/16", "Never", "Never", "all()"),
        ];
        let wanted = TunnelPools {
            pools: pools.to_vec(),
            ..TunnelPools::default()
        };
        for (tunnel, expected) in [
            (Tunnel::Ipip, "10.0.0.0/16"),
            (Tunnel::Vxlan, "10.1.0.0/16"),
            (Tunnel::VxlanV6, "fd00:1::/48"),
        ] {
            let found = ranges(tunnel, &wanted);
            assert_eq!(found, [expected.parse().unwrap()], "{tunnel:?}");
        }
    }

    #[test]
    fn a_hardware_address_that_somebody_stated_stays() {
        let mut node = Node::default();
        node.metadata.name = "node1".to_owned();
        node.spec.vxlan_tunnel_mac_addr = Some("66:00:00:00:00:01".to_owned());
        for tunnel in TUNNELS {
            let address: IpAddr = match tunnel.family() {
                Family::V4 => "10.0.0.1".parse().unwrap(),
                Family::V6 => "fd00::1".parse().unwrap(),
            };
            state(&mut node, tunnel, Some(address));
            assert_eq!(stated(&node, tunnel), Some(address));
        }
        let mac = |node: &Node| node.spec.vxlan_tunnel_mac_addr.clone();
        assert_eq!(mac(&node).as_deref(), Some("66:00:00:00:00:01"));
        let v6 = node.spec.vxlan_tunnel_mac_addr_v6.clone();
        assert_eq!(v6, Some(names::vtep_mac_v6("node1").to_string()));
        for tunnel in TUNNELS {
            state(&mut node, tunnel, None);
            assert_eq!(stated(&node, tunnel), None);
        }
        assert_eq!(mac(&node), None);
    }
}
