//! Tunnel devices, and how packets find other nodes' ends of them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use ocicat_dataplane::state::{Fdb, Hop, Link, LinkKind, Neighbour};
use ocicat_dataplane::{Prefix, mtu, names};

use super::{Inputs, Network, NodeView, Tunnels, onlink};

impl Network {
    /// The devices of the tunnels that pools ask for, or asked for a moment ago.
    ///
    /// A device is there before it has an address: other nodes send into the tunnel as soon as they see the address.
    pub(super) fn tunnel_links(&mut self, inputs: &Inputs<'_>) {
        let tunnels = Tunnels::of(inputs.pools).or(inputs.lingering);
        if tunnels.ipip {
            self.ipip_link(inputs);
        }
        if tunnels.vxlan {
            self.vxlan_link(inputs, true);
        }
        if tunnels.vxlan_v6 {
            self.vxlan_link(inputs, false);
        }
    }

    /// IP in IP needs no entries for other nodes: the gateway of a route is where packets go.
    fn ipip_link(&mut self, inputs: &Inputs<'_>) {
        let (Some(uplink), Ok(name)) = (inputs.uplink(true), names::link(names::IPIP_LINK)) else {
            return;
        };
        let plan = mtu::plan(uplink.mtu, mtu::InUse::default(), &inputs.mtus);
        let link =
            Link::new(LinkKind::Ipip, plan.ipip).addresses(inputs.own.ipip.map(IpNetwork::from));
        self.links.insert(name, Arc::new(link));
    }

    fn vxlan_link(&mut self, inputs: &Inputs<'_>, ipv4: bool) {
        let (device, derived) = if ipv4 {
            let mac = names::vtep_mac(inputs.name);
            (names::VXLAN_LINK, mac)
        } else {
            let mac = names::vtep_mac_v6(inputs.name);
            (names::VXLAN_LINK_V6, mac)
        };
        let (Some(uplink), Some(local), Ok(name)) = (
            inputs.uplink(ipv4),
            inputs.own.address(ipv4),
            names::link(device),
        ) else {
            return;
        };
        let vtep = inputs.own.vtep(ipv4);
        let address: Option<IpAddr> = vtep.map(|(address, _)| address);
        let kind = LinkKind::Vxlan {
            vni: names::VXLAN_VNI,
            port: names::VXLAN_PORT,
            local: local.ip(),
            parent: Some(uplink.name.clone()),
            mac: vtep.map_or(derived, |(_, mac)| mac),
        };
        let plan = mtu::plan(uplink.mtu, mtu::InUse::default(), &inputs.mtus);
        let largest = if ipv4 { plan.vxlan } else { plan.vxlan_v6 };
        let link = Link::new(kind, largest).addresses(address.map(IpNetwork::from));
        self.links.insert(name.clone(), Arc::new(link));
        for node in inputs.nodes.values() {
            let (Some(underlay), Some((vtep, mac))) = (node.address(ipv4), node.vtep(ipv4)) else {
                continue;
            };
            let neighbour = Neighbour {
                link: name.clone(),
                address: vtep,
            };
            self.neighbours.insert(neighbour, mac);
            if !ipv4 {
                // The kernel takes a gateway for a neighbour only where no other route of IPv6 covers it, and a block that
                // went straight until now does.
                self.add(Prefix::host(vtep), Hop::Link(name.clone()));
            }
            let link = name.clone();
            self.fdb.insert(Fdb { link, mac }, underlay.ip());
        }
    }

    /// The way through VXLAN to a node; none as long as either end has no tunnel.
    pub(super) fn vxlan_hop(&self, node: &NodeView, ipv4: bool) -> Option<Hop> {
        let device = if ipv4 {
            names::VXLAN_LINK
        } else {
            names::VXLAN_LINK_V6
        };
        let link = names::link(device).ok()?;
        let (vtep, _) = node.vtep(ipv4)?;
        self.links.contains_key(&link).then(|| onlink(vtep, link))
    }
}
