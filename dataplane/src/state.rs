//! The vocabulary of a node's desired state: what the network should look like, not how to get there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod host;
mod link;
mod net;
mod policy;
mod set;

pub use host::{RoutingAction, RoutingRule, Setting, SettingError};
pub use link::{Link, LinkKind, Namespace};
pub use net::{
    Address, Fdb, Hop, LinkName, LinkNameError, MacAddr, MacAddrError, Neighbour, Route, RouteKey,
};
pub use policy::{
    Action, Denied, EndTier, EndpointId, EndpointToHost, FailsafePort, HostEndpoint, HostRules,
    Icmp, IpVersion, Logging, Nat, OpenConnections, Policy, PolicyId, PortRange, ProfileId,
    Protocol, Rule, Side, Tier, TunnelGuard, Workload,
};
pub use set::{Member, Members, Moment, Set, SetChange, SetId};

/// Everything that a node's kernel should hold for pods: links, routes, sets, policies, endpoints.
///
/// Built whole and compared with what is there; parts are shared (`Arc`), so that a clone is cheap and a part that
/// did not change is recognised by its pointer. Only what the state names is ever touched in the kernel, and only
/// what carries our marks (route protocol, nft table, link names) is ever removed from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Links that we own, such as `vxlan.calico`. Pods' links are made by an `Attach`, not by the state.
    pub links: BTreeMap<LinkName, Arc<Link>>,
    /// Routes that we own, by the kernel's own key.
    pub routes: Arc<BTreeMap<RouteKey, Route>>,
    /// Permanent neighbours (ARP, ND) on links that we own.
    pub neighbours: Arc<BTreeMap<Neighbour, MacAddr>>,
    /// Permanent forwarding entries of VXLAN links: which remote node has a MAC address.
    pub fdb: Arc<BTreeMap<Fdb, std::net::IpAddr>>,
    /// Rules that choose the routing table, ours by their protocol number.
    pub rules: Arc<BTreeSet<RoutingRule>>,
    /// Settings of the network namespace. One that is no longer named keeps its value: what it was before is not known.
    pub settings: Arc<BTreeMap<Setting, Box<str>>>,
    /// Named sets that rules refer to.
    pub sets: BTreeMap<SetId, Set>,
    /// Policies that apply to an endpoint of this node.
    pub policies: BTreeMap<PolicyId, Arc<Policy>>,
    /// Profiles of endpoints of this node.
    pub profiles: BTreeMap<ProfileId, Arc<Policy>>,
    /// Pods' interfaces, by the name of their host side.
    pub workloads: BTreeMap<LinkName, Arc<Workload>>,
    /// The node's own interfaces under policy.
    pub hosts: BTreeMap<EndpointId, Arc<HostEndpoint>>,
    /// Rules of the node as a whole.
    pub host: Arc<HostRules>,
    /// Source address translation of traffic that leaves the cluster.
    pub nat: Arc<Nat>,
    /// The state is not whole yet, as after a start without a datastore: what it names is made and changed, but
    /// nothing that it does not name is removed from the kernel. Of policy, sets only grow, and chains that were found in
    /// the kernel stay as they are, since their rules may depend on what is not known yet.
    pub incomplete: bool,
}
