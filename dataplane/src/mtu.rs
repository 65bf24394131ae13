//! How large a pod's packets may be, given the node's links and the tunnels in use.

use crate::interfaces::Interface;

/// What IP in IP adds to a packet, in bytes: one IPv4 header.
pub const IPIP_OVERHEAD: u32 = 20;
/// What VXLAN over IPv4 adds to a packet, in bytes: Ethernet, VXLAN, UDP, IPv4.
pub const VXLAN_OVERHEAD: u32 = 50;
/// What VXLAN over IPv6 adds to a packet, in bytes.
pub const VXLAN_V6_OVERHEAD: u32 = 70;
/// What is assumed where no link tells: what most clouds' networks carry.
pub const FALLBACK: u32 = 1460;

/// The MTU of the node's uplinks: the smallest of the links that are up and look like hardware by their name
/// (Calico's pattern `^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)`), or [`FALLBACK`].
#[must_use]
pub fn of_host(interfaces: &[Interface]) -> u32 {
    interfaces
        .iter()
        .filter(|interface| interface.up && is_uplink(interface.name.as_str()))
        .map(|interface| interface.mtu)
        .min()
        .unwrap_or(FALLBACK)
}

/// Whether a link of this name is taken for an uplink when the MTU is detected.
#[must_use]
pub fn is_uplink(name: &str) -> bool {
    let plain = ["eth", "wlan", "wwan"];
    if plain.iter().any(|start| name.starts_with(start)) {
        return true;
    }
    ["en", "wl", "ww", "sl", "ib"].iter().any(|start| {
        name.strip_prefix(start)
            .and_then(|rest| rest.chars().next())
            .is_some_and(|c| "Pcopsvx".contains(c))
    })
}

/// The MTU for pods: the host's less the largest overhead of the tunnels that any pool uses.
#[must_use]
pub fn of_pods(host: u32, overheads: impl IntoIterator<Item = u32>) -> u32 {
    host.saturating_sub(overheads.into_iter().max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplinks_are_known_by_name() {
        for (name, uplink) in [
            ("eth0", true),
            ("ens3", true),
            ("enp1s0", true),
            ("wlan0", true),
            ("ibp3", true),
            ("en", false),
            ("enq1", false),
            ("cali123", false),
            ("vxlan.calico", false),
            ("lo", false),
            ("docker0", false),
        ] {
            assert_eq!(is_uplink(name), uplink, "{name}");
        }
    }

    #[test]
    fn pods_get_what_the_largest_tunnel_leaves() {
        assert_eq!(of_pods(1500, []), 1500);
        assert_eq!(of_pods(1500, [IPIP_OVERHEAD, VXLAN_OVERHEAD]), 1450);
        assert_eq!(of_host(&[]), FALLBACK);
    }
}
