//! The node's links with their addresses: what address detection and MTU detection look at.

use crate::state::{Address, LinkName, MacAddr};

/// One link of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// The kernel's index.
    pub index: u32,
    /// The name.
    pub name: LinkName,
    /// The kind, such as `veth` or `vxlan`; empty for hardware and for the loopback.
    pub kind: String,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// The hardware address, where the link has one of six bytes.
    pub mac: Option<MacAddr>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// The alias (`IFLA_IFALIAS`): for a pod's link `containerid/ifname`.
    pub alias: Option<String>,
    /// Its addresses with their prefix lengths, in the kernel's order. Deprecated and tentative ones are left out.
    pub addresses: Vec<Address>,
}

impl Interface {
    /// A link of this name that is up, with an MTU of 1500 bytes and no address: for tests and for other kernels.
    #[must_use]
    pub fn new(index: u32, name: LinkName) -> Self {
        Self {
            index,
            name,
            kind: String::new(),
            mtu: 1500,
            mac: None,
            up: true,
            loopback: false,
            alias: None,
            addresses: Vec::new(),
        }
    }

    /// Whether the link is one that no node address is looked for on: pods' links, tunnels, bridges of container
    /// runtimes, the loopback (Calico's list).
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        const STARTS: [&str; 16] = [
            "docker",
            "cbr",
            "dummy",
            "podman",
            "virbr",
            "lxcbr",
            "veth",
            "br-",
            "cali",
            "tunl",
            "flannel",
            "kube-ipvs",
            "cni",
            "vxlan.calico",
            "vxlan-v6.calico",
            "wireguard.cali",
        ];
        let name = self.name.as_str();
        self.loopback
            || name == "lo"
            || name == "nodelocaldns"
            || STARTS.iter().any(|start| name.starts_with(start))
    }
}
