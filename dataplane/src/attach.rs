use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::KernelError;
use crate::state::{LinkName, MacAddr};

/// Connects a container's network namespace to the node and disconnects it.
///
/// Synchronous: an attachment is a few milliseconds of kernel work, and a CNI plugin is one short process. An async
/// caller uses a blocking thread.
pub trait Attach: Send + Sync {
    /// Makes the link between the node and the namespace, with addresses, routes and settings on both sides.
    ///
    /// Idempotent: an attachment with the same alias is brought to what is asked for. A link of the same name whose
    /// alias is another's is of an earlier sandbox of the same pod, and is replaced.
    ///
    /// # Errors
    /// What could not be done; nothing is left behind.
    fn attach(&self, attachment: &Attachment) -> Result<Attached, AttachError>;

    /// Removes the link; its other end, its addresses and routes go with it. False when there is no such link, or
    /// its alias is not the one given: it belongs to a newer container.
    ///
    /// # Errors
    /// The kernel refused.
    fn detach(&self, detachment: &Detachment) -> Result<bool, AttachError>;

    /// As [`detach`](Self::detach), and calls `gone` as soon as nobody sees the link any more, which may be before the
    /// kernel answers; never when it fails. The default calls it at the end.
    ///
    /// # Errors
    /// The kernel refused.
    fn detach_telling(
        &self,
        detachment: &Detachment,
        gone: Box<dyn FnOnce() + Send>,
    ) -> Result<bool, AttachError> {
        let removed = self.detach(detachment)?;
        gone();
        Ok(removed)
    }

    /// Compares what is there with what [`attach`](Self::attach) would make; empty when they are equal.
    ///
    /// # Errors
    /// The kernel could not be read.
    fn check(&self, attachment: &Attachment) -> Result<Vec<Difference>, AttachError>;
}

/// What to attach, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attachment {
    /// The container's network namespace.
    pub namespace: Arc<OwnedFd>,
    /// The name of the link in the container, such as `eth0`.
    pub container_link: LinkName,
    /// The name of the link on the node: [`names::pod_link`](crate::names::pod_link).
    pub host_link: LinkName,
    /// Whose link it is: [`names::alias`](crate::names::alias). At most 255 bytes.
    pub alias: String,
    /// The container's addresses: /32 each, or /128.
    pub addresses: Vec<IpAddr>,
    /// The hardware address of the container's end; `None` leaves it to the kernel.
    pub mac: Option<MacAddr>,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// How many queues each end of a new pair has, in each direction. Default 1, as Calico's: a veth hands packets over on
    /// the sender's processor whatever their number, and each costs memory and time to make. More are for XDP.
    pub queues: u32,
    /// Whether the container forwards packets between its own links. Default false.
    pub ip_forward: bool,
    /// The protocol number of the routes to the container. Default
    /// [`names::ROUTE_PROTOCOL`](crate::names::ROUTE_PROTOCOL).
    pub route_protocol: u8,
}

impl Attachment {
    /// An attachment without addresses, with an MTU of 1500 bytes.
    #[must_use]
    pub fn new(
        namespace: impl Into<Arc<OwnedFd>>,
        container_link: LinkName,
        host_link: LinkName,
        alias: impl Into<String>,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            container_link,
            host_link,
            alias: alias.into(),
            addresses: Vec::new(),
            mac: None,
            mtu: 1500,
            queues: 1,
            ip_forward: false,
            route_protocol: crate::names::ROUTE_PROTOCOL,
        }
    }

    /// Gives the container these addresses.
    #[must_use]
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// Gives the container's end this hardware address.
    #[must_use]
    pub fn mac(mut self, mac: Option<MacAddr>) -> Self {
        self.mac = mac;
        self
    }

    /// Sets the largest packet, in bytes.
    #[must_use]
    pub const fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Sets how many queues each end of a new pair has, in each direction; 0 is taken for 1, and the kernel refuses more than
    /// 4096.
    #[must_use]
    pub const fn queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
    }

    /// Whether the container forwards packets between its own links.
    #[must_use]
    pub const fn ip_forward(mut self, ip_forward: bool) -> Self {
        self.ip_forward = ip_forward;
        self
    }

    /// Whether the container has an address of this family.
    #[must_use]
    pub fn has_family(&self, v4: bool) -> bool {
        self.addresses.iter().any(|address| address.is_ipv4() == v4)
    }
}

/// What to detach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detachment {
    /// The name of the link on the node.
    pub host_link: LinkName,
    /// Whose link it must be.
    pub alias: String,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// The hardware address of the node's end.
    pub host_mac: MacAddr,
    /// The hardware address of the container's end.
    pub container_mac: MacAddr,
    /// The largest packet, in bytes.
    pub mtu: u32,
}

impl Attached {
    /// What an implementation of [`Attach`] answers.
    #[must_use]
    pub const fn new(host_mac: MacAddr, container_mac: MacAddr, mtu: u32) -> Self {
        Self {
            host_mac,
            container_mac,
            mtu,
        }
    }
}

/// One thing that is not as an attachment would make it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {found} instead of {expected}")]
pub struct Difference {
    /// The thing, such as `address of eth0`.
    pub what: String,
    /// How it should be.
    pub expected: String,
    /// How it is.
    pub found: String,
}

/// Why something could not be attached, detached or checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The container has a link of that name already, and it is not the other end of ours.
    #[error("the container has a link {link} already")]
    Exists {
        /// The name in the container.
        link: LinkName,
    },
    /// A link that is no pod's has the node's name for it.
    #[error("link {link} is there and is of kind {found:?}, not veth")]
    Foreign {
        /// The name on the node.
        link: LinkName,
        /// The other link's kind.
        found: String,
    },
    /// The file descriptor is not of a network namespace, or is of the node's own.
    #[error("not a container's network namespace: {why}")]
    Namespace {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Somebody else has a route to one of the addresses.
    #[error("a route to {address} of protocol {protocol} is there already")]
    RouteTaken {
        /// The address.
        address: IpAddr,
        /// The protocol number of the other's route.
        protocol: u8,
    },
    /// An alias longer than the kernel's 255 bytes.
    #[error("the alias {0:?} is longer than 255 bytes")]
    Alias(String),
    /// A setting under /proc/sys could not be written or read.
    #[error("{path}")]
    Sysctl {
        /// The file.
        path: String,
        /// What the kernel said.
        #[source]
        source: KernelError,
    },
    /// The kernel refused a step.
    #[error("{step}")]
    Kernel {
        /// The step, in words.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: KernelError,
    },
}

impl AttachError {
    /// Whether the same call may succeed a moment later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Kernel { source, .. } | Self::Sysctl { source, .. } => source.is_transient(),
            _ => false,
        }
    }
}
