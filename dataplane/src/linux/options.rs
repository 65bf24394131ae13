use std::collections::BTreeSet;

use crate::names;
use crate::state::LinkName;

/// What a [`LinuxDataplane`](super::LinuxDataplane) owns in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The protocol number of our routes: what carries it is ours. Default
    /// [`names::ROUTE_PROTOCOL`](crate::names::ROUTE_PROTOCOL).
    pub protocol: u8,
    /// Names of links that are removed when the state does not name them. Default `vxlan.calico` and
    /// `vxlan-v6.calico`. `tunl0` is the kernel's and cannot be removed.
    pub links: BTreeSet<LinkName>,
    /// Whether the state's sets, policies and endpoints are programmed (nftables table `inet ocicat`). Default true.
    pub policy: bool,
    /// Whether the node is made to forward packets (`ip_forward`, `ipv6/conf/all/forwarding`). Default true.
    pub forwarding: bool,
    /// Whether connections of addresses that leave a pod's link are forgotten
    /// ([`forget_connections`](super::forget_connections)). Default true.
    pub connections: bool,
}

impl Default for Options {
    fn default() -> Self {
        let links = [names::VXLAN_LINK, names::VXLAN_LINK_V6];
        Self {
            protocol: names::ROUTE_PROTOCOL,
            links: links
                .into_iter()
                .filter_map(|name| LinkName::new(name).ok())
                .collect(),
            policy: true,
            forwarding: true,
            connections: true,
        }
    }
}

impl Options {
    /// Routes of this protocol number and nothing else: for a router that has no pods.
    #[must_use]
    pub const fn routes_only(protocol: u8) -> Self {
        Self {
            protocol,
            links: BTreeSet::new(),
            policy: false,
            forwarding: false,
            connections: false,
        }
    }

    /// Sets whether sets, policies and endpoints are programmed.
    #[must_use]
    pub const fn policy(mut self, policy: bool) -> Self {
        self.policy = policy;
        self
    }

    /// Sets whether the node is made to forward packets.
    #[must_use]
    pub const fn forwarding(mut self, forwarding: bool) -> Self {
        self.forwarding = forwarding;
        self
    }
}
