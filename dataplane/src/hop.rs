//! Which way packets to another node's pods go: straight, or in a tunnel.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// When a pool's packets between nodes are put into a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum When {
    /// Never: the network between the nodes knows the way to pods.
    #[default]
    Never,
    /// Between any two nodes.
    Always,
    /// Only between nodes that are not in one subnet.
    CrossSubnet,
}

/// The encapsulation of a pool (`ipipMode` and `vxlanMode` of an `IPPool`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Encapsulation {
    /// IP in IP (RFC 2003); IPv4 only.
    pub ipip: When,
    /// VXLAN (RFC 7348). Where both are asked for, which the resource forbids, VXLAN is taken.
    pub vxlan: When,
}

impl Encapsulation {
    /// Whether the kernel can do this for addresses of a family.
    ///
    /// ```
    /// use ocicat_dataplane::hop::{Encapsulation, When};
    ///
    /// let pool = Encapsulation { ipip: When::Always, ..Encapsulation::default() };
    /// assert!(pool.check(true).is_ok());
    /// let why = pool.check(false).unwrap_err().to_string();
    /// assert_eq!(why, "IP in IP carries IPv4 alone: an IPv6 pool can have VXLAN, or no encapsulation");
    /// ```
    ///
    /// # Errors
    /// What it cannot do, by name, and what it can instead.
    pub const fn check(self, v4: bool) -> Result<(), EncapsulationError> {
        match self.ipip {
            When::Always | When::CrossSubnet if !v4 => Err(EncapsulationError::IpipOverIpv6),
            _ => Ok(()),
        }
    }
}

/// An encapsulation that the kernel cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncapsulationError {
    /// IP in IP (RFC 2003) for an IPv6 pool.
    #[error("IP in IP carries IPv4 alone: an IPv6 pool can have VXLAN, or no encapsulation")]
    IpipOverIpv6,
}

/// The way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Toward {
    /// By way of the node's own address, which is a neighbour on one of our links.
    Neighbour,
    /// By way of the node's own address or whatever BGP says, through routers between us.
    Routed,
    /// In IP in IP, to the node's address.
    Ipip,
    /// In VXLAN, to the node's VTEP.
    Vxlan,
}

/// The way to the pods of the node at `remote`, for a pool with this encapsulation, from a node whose own addresses
/// (with their prefix lengths, as on the interface) are `own`.
///
/// A remote address counts as in our subnet when one of our own holds it in its prefix; with a /32 or /128 nothing
/// but ourselves is.
///
/// ```
/// use ocicat_dataplane::hop::{Encapsulation, Toward, When, toward};
///
/// let own = ["192.168.10.11/24".parse()?];
/// let pool = Encapsulation { vxlan: When::CrossSubnet, ..Encapsulation::default() };
/// assert_eq!(toward(pool, &own, "192.168.10.12".parse()?), Toward::Neighbour);
/// assert_eq!(toward(pool, &own, "192.168.20.12".parse()?), Toward::Vxlan);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn toward(pool: Encapsulation, own: &[IpNetwork], remote: IpAddr) -> Toward {
    let near = own.iter().any(|address| address.contains(remote));
    let tunnelled = |when| match when {
        When::Never => false,
        When::Always => true,
        When::CrossSubnet => !near,
    };
    if tunnelled(pool.vxlan) {
        Toward::Vxlan
    } else if tunnelled(pool.ipip) && remote.is_ipv4() {
        Toward::Ipip
    } else if near {
        Toward::Neighbour
    } else {
        Toward::Routed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Toward::{Ipip, Neighbour, Routed, Vxlan};
    use When::{Always, CrossSubnet, Never};

    #[test]
    fn every_mode_near_and_far() {
        let own = [
            "192.168.10.11/24".parse().unwrap(),
            "fd00:10::11/64".parse().unwrap(),
        ];
        for (ipip, vxlan, near, far) in [
            (Never, Never, Neighbour, Routed),
            (Never, Always, Vxlan, Vxlan),
            (Never, CrossSubnet, Neighbour, Vxlan),
            (Always, Never, Ipip, Ipip),
            (CrossSubnet, Never, Neighbour, Ipip),
            (Always, Always, Vxlan, Vxlan),
        ] {
            let pool = Encapsulation { ipip, vxlan };
            assert_eq!(
                toward(pool, &own, "192.168.10.12".parse().unwrap()),
                near,
                "{pool:?}"
            );
            assert_eq!(
                toward(pool, &own, "192.168.20.12".parse().unwrap()),
                far,
                "{pool:?}"
            );
        }
        let ipip = Encapsulation {
            ipip: Always,
            vxlan: Never,
        };
        assert_eq!(
            toward(ipip, &own, "fd00:20::1".parse().unwrap()),
            Routed,
            "IPIP carries IPv4 alone"
        );
        let cross = Encapsulation {
            ipip: Never,
            vxlan: CrossSubnet,
        };
        assert_eq!(
            toward(
                cross,
                &["10.0.0.1/32".parse().unwrap()],
                "10.0.0.2".parse().unwrap()
            ),
            Vxlan
        );
    }
}
