use std::fmt;

use crate::KernelError;
use crate::state::{
    Address, EndpointId, Fdb, LinkName, Neighbour, PolicyId, ProfileId, RouteKey, RoutingRule,
    SetId, Setting,
};

/// What one [`apply`](crate::Dataplane::apply) did and what it could not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Objects that were made, changed or removed; 0 when the kernel was as desired.
    pub changed: usize,
    /// Objects that are not as desired, with the reason. Each is tried again by the next `apply`.
    pub failed: Vec<Failure>,
}

impl Report {
    /// Whether the kernel is as desired now.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// Notes an object that is not as desired.
    pub fn fail(&mut self, object: Object, fault: Fault) {
        self.failed.push(Failure { object, fault });
    }
}

/// One object that is not as desired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {fault}")]
pub struct Failure {
    /// The object.
    pub object: Object,
    /// Why.
    #[source]
    pub fault: Fault,
}

/// An object of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// A link that we own.
    Link(LinkName),
    /// An address of a link that we own.
    Address(LinkName, Address),
    /// A route.
    Route(RouteKey),
    /// A permanent neighbour.
    Neighbour(Neighbour),
    /// A forwarding entry.
    Fdb(Fdb),
    /// A rule that chooses the routing table.
    Rule(RoutingRule),
    /// A setting of the network namespace.
    Setting(Setting),
    /// A set.
    Set(SetId),
    /// A policy.
    Policy(PolicyId),
    /// A profile.
    Profile(ProfileId),
    /// A pod's interface under policy.
    Workload(LinkName),
    /// An interface of the node under policy.
    HostEndpoint(EndpointId),
    /// The rules of the node as a whole.
    HostRules,
    /// Source address translation.
    Nat,
    /// Policy as a whole: the nftables table.
    Policies,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => write!(f, "link {name}"),
            Self::Address(link, address) => write!(f, "address {address} of {link}"),
            Self::Route(key) => write!(f, "route {} (table {})", key.prefix, key.table),
            Self::Neighbour(neighbour) => {
                write!(f, "neighbour {} of {}", neighbour.address, neighbour.link)
            }
            Self::Fdb(fdb) => write!(f, "forwarding entry {} of {}", fdb.mac, fdb.link),
            Self::Rule(rule) => write!(f, "rule {rule}"),
            Self::Setting(name) => write!(f, "setting {name}"),
            Self::Set(id) => write!(f, "set {id}"),
            Self::Policy(id) => write!(f, "policy {id}"),
            Self::Profile(id) => write!(f, "profile {id}"),
            Self::Workload(link) => write!(f, "workload {link}"),
            Self::HostEndpoint(id) => write!(f, "host endpoint {id}"),
            Self::HostRules => f.write_str("host rules"),
            Self::Nat => f.write_str("source address translation"),
            Self::Policies => f.write_str("the nftables table"),
        }
    }
}

/// Why an object is not as desired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The link that it needs is not there (yet): tried again when it appears.
    #[error("link {0} is not there")]
    LinkMissing(LinkName),
    /// The link that it needs is down: tried again when it comes up.
    #[error("link {0} is down")]
    LinkDown(LinkName),
    /// Somebody else has a route with the same prefix, table and metric, or a rule that says the same: it is left alone.
    #[error("one of protocol {protocol} is there already")]
    Taken {
        /// The protocol number of the other's (`ip route show proto`).
        protocol: u8,
    },
    /// Somebody else has a link of that name and another kind: it is left alone.
    #[error("a link of kind {found:?} has that name")]
    Foreign {
        /// The other link's kind.
        found: String,
    },
    /// This kernel cannot do it.
    #[error("this kernel has no {what}")]
    Unsupported {
        /// What is missing, such as `ipip (module ipip)`.
        what: &'static str,
    },
    /// The state asks for something that makes no sense.
    #[error("{why}")]
    Invalid {
        /// What is wrong.
        why: &'static str,
    },
    /// The table is not as desired; what was in force stays in force.
    #[error("{why}")]
    Policy {
        /// Why.
        why: String,
    },
    /// The kernel refused.
    #[error("the kernel refused: {0}")]
    Kernel(#[source] KernelError),
}

impl From<KernelError> for Fault {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

/// Why the kernel could not be read or written at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// Links, addresses or routes could not be read or written.
    #[error("the kernel's network could not be {doing}")]
    Network {
        /// What was being done, such as `read (routes)`.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: KernelError,
    },
    /// The nftables table could not be read or written.
    #[error("the nftables table could not be {doing}: {why}")]
    Policy {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        why: String,
    },
}

/// Why a kernel could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No netlink socket.
    #[error("a {what} socket could not be opened")]
    Socket {
        /// Which socket.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: KernelError,
    },
    /// No nftables.
    #[error("nftables cannot be used here: {why}")]
    Nftables {
        /// Why.
        why: String,
    },
}
