use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::names;
use crate::state::LinkName;

/// What a [`LinuxDataplane`](super::LinuxDataplane) owns in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The protocol number of our routes: what carries it is ours. Default
    /// [`names::ROUTE_PROTOCOL`](crate::names::ROUTE_PROTOCOL).
    pub protocol: u8,
    /// Names of VXLAN devices that are removed when the state does not name them, whoever made them. Default
    /// `vxlan.calico` and `vxlan-v6.calico`.
    pub links: BTreeSet<LinkName>,
    /// The alias (`IFLA_IFALIAS`) of links that were made for a state: what carries it is removed when the state does
    /// not name it, also after a restart. Two dataplanes of one namespace need two. `tunl0`, which is the kernel's, is
    /// brought down instead, without addresses. Default [`names::LINK_ALIAS`](crate::names::LINK_ALIAS).
    pub mark: Option<String>,
    /// Whether the state's sets, policies and endpoints are programmed (nftables table `inet ocicat`). Default true.
    pub policy: bool,
    /// Whether the node is made to forward packets (`ip_forward`, `ipv6/conf/all/forwarding`). Default true.
    pub forwarding: bool,
    /// Where the namespace's settings are found as files. Default `/proc/sys/net`. Another where that is read-only, as in
    /// a container without all privileges: the node's own, mounted at another place, will do, since its content is that
    /// of the namespace of whoever looks.
    pub sysctl: Option<PathBuf>,
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
            mark: Some(names::LINK_ALIAS.to_owned()),
            policy: true,
            forwarding: true,
            sysctl: None,
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
            mark: None,
            policy: false,
            forwarding: false,
            sysctl: None,
            connections: false,
        }
    }

    /// Sets whether sets, policies and endpoints are programmed.
    #[must_use]
    pub const fn policy(mut self, policy: bool) -> Self {
        self.policy = policy;
        self
    }

    /// Sets where the namespace's settings are found as files.
    #[must_use]
    pub fn sysctl(mut self, folder: impl Into<PathBuf>) -> Self {
        self.sysctl = Some(folder.into());
        self
    }

    /// Sets whether the node is made to forward packets.
    #[must_use]
    pub const fn forwarding(mut self, forwarding: bool) -> Self {
        self.forwarding = forwarding;
        self
    }
}
