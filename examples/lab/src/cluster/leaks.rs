//! Whether what address management has stored agrees with itself and with what runs.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::model::{Node, WorkloadEndpoint};
use ocicat_ipam::{BlockAffine, Census, CheckReport, InUse, Ipam, Tunnel};

use super::Cluster;

impl Cluster {
    /// Compares every address that is held with the endpoints and tunnels that there are.
    ///
    /// # Errors
    /// When the datastore cannot be read.
    pub async fn leaks(&self) -> Result<CheckReport> {
        let mut used = Vec::new();
        for endpoint in &self.store.list::<WorkloadEndpoint>().await? {
            let spec = &endpoint.value.spec;
            let container = spec.container_id.as_deref().unwrap_or_default();
            for text in &spec.ip_networks {
                let by = format!("WorkloadEndpoint {}", endpoint.value.metadata.name);
                let handle = format!("{}.{container}", crate::pod::NETWORK);
                used.extend(address(text).map(|one| InUse::new(one, by).held_by(handle.as_str())));
            }
        }
        let nodes = self.store.list::<Node>().await?;
        for node in &nodes {
            let (name, spec) = (node.value.metadata.name.as_str(), &node.value.spec);
            let ipip = spec
                .bgp
                .as_ref()
                .and_then(|bgp| bgp.ipv4_ipip_tunnel_addr.as_deref());
            let tunnels = [
                (Tunnel::Ipip, ipip),
                (Tunnel::Vxlan, spec.ipv4_vxlan_tunnel_addr.as_deref()),
                (Tunnel::VxlanV6, spec.ipv6_vxlan_tunnel_addr.as_deref()),
            ];
            for (tunnel, text) in tunnels {
                let by = format!("{tunnel:?} tunnel of {name}");
                let found = text.and_then(address);
                used.extend(found.map(|one| InUse::new(one, by).held_by(tunnel.handle(name))));
            }
        }
        let names = nodes.iter().map(|node| node.value.metadata.name.clone());
        let census = Census::new(used, names.collect::<Vec<_>>());
        let ipam = Ipam::new(
            Arc::new(StoreIpam::new(self.store.clone())),
            Box::new(BlockAffine),
        );
        ipam.check(&census).await.context("checking addresses")
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}
