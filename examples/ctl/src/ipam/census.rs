//! Which addresses are in use, and which nodes there are: what `ipam check` compares with.

use std::net::IpAddr;

use ocicat_datastore::model::{IpPool, Node, Service, WorkloadEndpoint};
use ocicat_ipam::{Census, InUse, Prefix};

use crate::connection::Connection;
use crate::failure::Failure;

/// Reads endpoints, nodes and, where there are any, services.
///
/// # Errors
/// When the datastore fails, and when an object cannot be read: with it missing, a check would call its addresses leaks.
pub(super) async fn take(at: &Connection) -> Result<Census, Failure> {
    let mut used = Vec::new();
    let endpoints = at.store.list::<WorkloadEndpoint>().await?;
    let nodes = at.store.list::<Node>().await?;
    if let Some(error) = endpoints.malformed.iter().chain(&nodes.malformed).next() {
        return Err(Failure::Failed(error.to_string()));
    }
    for endpoint in &endpoints {
        let key = endpoint.raw().key();
        let addresses = endpoint.spec.ip_networks.iter();
        used.extend(addresses.filter_map(|text| Some(InUse::new(address(text)?, key.to_string()))));
    }
    for node in &nodes {
        used.extend(tunnels(&node.value));
    }
    if at.kubernetes {
        let pools = pools(at).await?;
        for service in &at.store.list::<Service>().await? {
            // An address that another load balancer gave is not ours to judge.
            let ours = |one: &InUse| pools.iter().any(|pool| pool.contains(one.address));
            used.extend(balancers(&service.value).filter(ours));
        }
    }
    let names = nodes.iter().map(|node| node.metadata.name.clone());
    Ok(Census::new(used, names))
}

async fn pools(at: &Connection) -> Result<Vec<Prefix>, Failure> {
    let pools = at.store.list::<IpPool>().await?;
    let ranges = pools.iter().map(|pool| pool.spec.cidr.parse());
    Ok(ranges.filter_map(Result::ok).collect())
}

fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

/// The tunnel addresses of a node, each under Calico's handle for it.
fn tunnels(node: &Node) -> impl Iterator<Item = InUse> + '_ {
    let bgp = node.spec.bgp.as_ref();
    let wireguard = node.spec.wireguard.as_ref();
    let name = &node.metadata.name;
    let devices = [
        (
            "tunl0",
            bgp.and_then(|bgp| bgp.ipv4_ipip_tunnel_addr.as_ref()),
        ),
        ("vxlan.calico", node.spec.ipv4_vxlan_tunnel_addr.as_ref()),
        ("vxlan-v6.calico", node.spec.ipv6_vxlan_tunnel_addr.as_ref()),
        (
            "wireguard.cali",
            wireguard.and_then(|one| one.interface_ipv4_address.as_ref()),
        ),
        (
            "wg-v6.cali",
            wireguard.and_then(|one| one.interface_ipv6_address.as_ref()),
        ),
    ];
    devices.into_iter().filter_map(move |(device, text)| {
        Some(InUse::new(address(text?)?, format!("{device} of {name}")))
    })
}

fn balancers(service: &Service) -> impl Iterator<Item = InUse> + '_ {
    let metadata = &service.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let ingress = service
        .status
        .iter()
        .flat_map(|status| &status.load_balancer.ingress);
    ingress.filter_map(move |one| {
        let address = one.ip.as_deref()?.parse().ok()?;
        Some(InUse::new(
            address,
            format!("Service/{namespace}/{}", metadata.name),
        ))
    })
}
