use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use super::{Address, LinkName, MacAddr};

/// A link that we own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// What kind of link, with the settings that cannot be changed on a live link.
    pub kind: LinkKind,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Exactly these addresses; others are removed (link-local IPv6 ones stay).
    pub addresses: BTreeSet<Address>,
    /// The bridge that the link is a port of; `None` takes it out of any.
    pub bridge: Option<LinkName>,
    /// Whether checksums of what is sent by this link may be left to hardware (`tx-checksum-ip-generic`); `None`, the
    /// default, leaves it as the kernel has it. Off for a VXLAN device over a network card that fills in wrong ones.
    pub checksum_offload: Option<bool>,
}

impl Link {
    /// A link without addresses, in no bridge, its checksums as the kernel has them. `mtu` is in bytes.
    #[must_use]
    pub const fn new(kind: LinkKind, mtu: u32) -> Self {
        Self {
            kind,
            mtu,
            addresses: BTreeSet::new(),
            bridge: None,
            checksum_offload: None,
        }
    }

    /// Gives the link exactly these addresses.
    #[must_use]
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// Makes the link a port of a bridge.
    #[must_use]
    pub fn bridge(mut self, bridge: Option<LinkName>) -> Self {
        self.bridge = bridge;
        self
    }

    /// Says whether checksums may be left to hardware; `None` leaves it as the kernel has it.
    #[must_use]
    pub const fn checksum_offload(mut self, offload: Option<bool>) -> Self {
        self.checksum_offload = offload;
        self
    }
}

/// The kinds of links that the state can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkKind {
    /// A VXLAN device without learning (RFC 7348).
    Vxlan {
        /// The network identifier, 24 bits. Calico's default is 4096.
        vni: u32,
        /// The UDP port. Calico's default is 4789.
        port: u16,
        /// The address that outer packets are sent from.
        local: IpAddr,
        /// The link that outer packets leave by.
        parent: Option<LinkName>,
        /// The hardware address, stable so that other nodes can have permanent entries for it.
        mac: MacAddr,
    },
    /// The kernel's IPIP device for any remote address (RFC 2003): [`names::IPIP_LINK`](crate::names::IPIP_LINK), no
    /// other name. It carries IPv4 alone.
    Ipip,
    /// A bridge. Links of the state become its ports by naming it; ports that the state does not name stay.
    Bridge {
        /// The hardware address; `None` leaves it to the kernel.
        mac: Option<MacAddr>,
    },
    /// One end of a pair of links. The other is made straight in a network namespace, up and with the same MTU; what
    /// else it has is that namespace's.
    Veth {
        /// The name of the other end.
        peer: LinkName,
        /// Where the other end is.
        namespace: Namespace,
    },
}

impl LinkKind {
    /// The kernel's word for it (`IFLA_INFO_KIND`).
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Vxlan { .. } => "vxlan",
            Self::Ipip => "ipip",
            Self::Bridge { .. } => "bridge",
            Self::Veth { .. } => "veth",
        }
    }
}

/// A network namespace, held by an open file of it: two are equal when they are the same namespace.
#[derive(Clone)]
pub struct Namespace {
    file: Arc<OwnedFd>,
    identity: (u64, u64),
}

impl Namespace {
    /// The namespace of a descriptor, such as of `/run/netns/NAME` or `/proc/PID/ns/net`. The namespace lives as long as
    /// this value.
    ///
    /// # Errors
    /// The descriptor could not be looked at.
    pub fn new(file: impl Into<Arc<OwnedFd>>) -> std::io::Result<Self> {
        let file = file.into();
        let found = std::fs::File::from(file.try_clone()?).metadata()?;
        let identity = (found.dev(), found.ino());
        Ok(Self { file, identity })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Namespace {}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.identity.1)
    }
}
