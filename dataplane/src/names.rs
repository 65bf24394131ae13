//! The names and numbers by which the parts of a node recognise each other's work in the kernel: Calico's own.

use std::net::{Ipv4Addr, Ipv6Addr};

use sha1::{Digest, Sha1};

use crate::state::{LinkName, LinkNameError, MacAddr};

/// The protocol number that our routes carry (`ip route show proto 80`): what has it is ours, what has not is never
/// changed.
pub const ROUTE_PROTOCOL: u8 = 80;

/// The hardware address of the host side of every pod's link, so that the pod's neighbour entry for its gateway
/// outlives the link.
pub const HOST_MAC: MacAddr = MacAddr([0xee; 6]);

/// The gateway in every pod's namespace: link-local, the same everywhere, on no interface.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The gateway for IPv6 in every pod's namespace: the link-local address that [`HOST_MAC`] gives the host side.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// The alias of links that were made for a state, by which they are known as ours.
pub const LINK_ALIAS: &str = "ocicat";

/// How the names of all pods' host-side links start.
pub const WORKLOAD_PREFIX: &str = "cali";

/// The name of the VXLAN device for IPv4 underlays.
pub const VXLAN_LINK: &str = "vxlan.calico";

/// The name of the VXLAN device for IPv6 underlays.
pub const VXLAN_LINK_V6: &str = "vxlan-v6.calico";

/// The kernel's fallback IPIP device.
pub const IPIP_LINK: &str = "tunl0";

/// The VXLAN network identifier.
pub const VXLAN_VNI: u32 = 4096;

/// The UDP port of VXLAN (IANA).
pub const VXLAN_PORT: u16 = 4789;

/// The host-side link of a Kubernetes pod: `cali` and the first 11 hexadecimal digits of SHA-1("namespace.pod").
///
/// ```
/// let link = ocicat_dataplane::names::pod_link("default", "web");
/// assert_eq!(link.as_str(), "cali68caf03a5f4");
/// ```
#[must_use]
pub fn pod_link(namespace: &str, pod: &str) -> LinkName {
    workload_link(&[namespace, ".", pod])
}

/// The host-side link of a container outside Kubernetes: `cali` and the first 11 hexadecimal digits of
/// SHA-1("network.containerid.ifname").
#[must_use]
pub fn container_link(network: &str, container_id: &str, interface: &str) -> LinkName {
    workload_link(&[network, ".", container_id, ".", interface])
}

/// The alias (`IFLA_IFALIAS`) of a host-side link: `containerid/ifname`. It tells which sandbox the link is of, so
/// that a late removal of an old container leaves the new one's link alone.
#[must_use]
pub fn alias(container_id: &str, interface: &str) -> String {
    format!("{container_id}/{interface}")
}

/// The hardware address of a node's VXLAN device for IPv4 underlays, as Calico derives it: the byte 0x66 (`f`) and
/// the first five of SHA-1(node name). 0x66 makes it unicast and locally administered.
///
/// Every node computes its peers' addresses the same way, unless a Node object gives one.
#[must_use]
pub fn vtep_mac(node: &str) -> MacAddr {
    mac_of(Sha1::digest(node.as_bytes()).as_slice())
}

/// As [`vtep_mac`], for IPv6 underlays: SHA-1(node name + `-v6`).
#[must_use]
pub fn vtep_mac_v6(node: &str) -> MacAddr {
    mac_of(
        Sha1::new()
            .chain_update(node)
            .chain_update("-v6")
            .finalize()
            .as_slice(),
    )
}

/// A link name that is known to be good, such as this module's constants.
///
/// # Errors
/// [`LinkNameError`] when it is not.
pub fn link(name: &str) -> Result<LinkName, LinkNameError> {
    LinkName::new(name)
}

fn workload_link(parts: &[&str]) -> LinkName {
    let mut hasher = Sha1::new();
    for part in parts {
        hasher.update(part.as_bytes());
    }
    let mut name = String::with_capacity(22 + WORKLOAD_PREFIX.len());
    name.push_str(WORKLOAD_PREFIX);
    for byte in hasher.finalize().iter().take(6) {
        for nibble in [byte >> 4, byte & 15] {
            name.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    name.truncate(WORKLOAD_PREFIX.len() + 11);
    LinkName::known(name)
}

fn mac_of(hash: &[u8]) -> MacAddr {
    let mut bytes = [b'f'; 6];
    for (byte, from) in bytes.iter_mut().skip(1).zip(hash) {
        *byte = *from;
    }
    MacAddr(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_calico_gives() {
        // sha1sum of the joined text, taken with coreutils.
        assert_eq!(pod_link("default", "web").as_str(), "cali68caf03a5f4");
        assert_eq!(
            container_link("k8s-pod-network", "abc", "eth0").as_str(),
            "cali21d4d621c64"
        );
        assert_eq!(vtep_mac("node1").to_string(), "66:f9:37:c3:7e:94");
        assert_eq!(vtep_mac_v6("node1").to_string(), "66:0f:35:f2:60:df");
        assert_eq!(alias("abc", "eth0"), "abc/eth0");
    }
}
