use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::{Family, HandleId, Owner, Prefix, Refusal, Use};

/// A pool as a request names it: by name or by its range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolRef {
    /// The pool of this name.
    Name(String),
    /// The pool with exactly this range.
    Cidr(Prefix),
}

impl From<&str> for PoolRef {
    /// A range where the text is one, else a name; no pool's name can hold a slash.
    fn from(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Cidr)
    }
}

impl fmt::Display for PoolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Cidr(cidr) => fmt::Display::fmt(cidr, f),
        }
    }
}

/// What a request wants of one address family.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Wanted {
    /// How many addresses. Default 0.
    pub count: u32,
    /// The pools to use, in this order; empty for every pool that selects the host and the namespace. Selectors
    /// and the assignment mode do not matter for a pool that is named.
    pub pools: Vec<PoolRef>,
}

/// Addresses at each end of a block that the host keeps for itself, as Windows does (3 first, 1 last).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HostReserved {
    /// How many at the start of a block.
    pub first: u16,
    /// How many at its end.
    pub last: u16,
}

impl HostReserved {
    /// The handle under which such addresses are held.
    pub const HANDLE: &'static str = "windows-reserved-ipam-handle";

    /// So many at the start and at the end of a block.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Self {
        Self { first, last }
    }
}

/// A request for addresses of one or both families under one handle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssignRequest {
    /// The host for which addresses are taken, and which claims blocks for it.
    pub owner: Owner,
    /// The handle by which they are released.
    pub handle: HandleId,
    /// What is stored with each address; the allocator adds `node` for a host where it is missing.
    pub attributes: BTreeMap<String, String>,
    /// IPv4 addresses.
    pub v4: Wanted,
    /// IPv6 addresses.
    pub v6: Wanted,
    /// The namespace of the pod, for pools that select by namespace.
    pub namespace: Option<String>,
    /// The name of the workload, such as `shop/web-0`, which gets the same addresses back within the lease of a pool
    /// that has one ([`Pool::lease`](crate::Pool::lease)). Default none: whatever is free.
    pub workload: Option<String>,
    /// What the addresses are for. Default [`Use::Workload`].
    pub intended_use: Use,
    /// The most blocks of a family that the host may own, when smaller than the configured number.
    pub max_blocks: Option<u32>,
    /// The most addresses of a family under the handle: where it has that many, those are the answer. This makes
    /// a repeated request idempotent, and costs a read. Default: no limit.
    pub max_per_handle: Option<u32>,
    /// Addresses that the host keeps at the ends of the blocks that it claims.
    pub host_reserved: HostReserved,
    /// Whether fewer addresses than wanted are a success. Default false: then whatever was taken, of either
    /// family, is released again.
    pub partial: bool,
}

impl AssignRequest {
    /// A request of `owner` that holds under `handle` and wants nothing yet.
    #[must_use]
    pub fn new(owner: impl Into<Owner>, handle: impl Into<HandleId>) -> Self {
        Self {
            owner: owner.into(),
            handle: handle.into(),
            attributes: BTreeMap::new(),
            v4: Wanted::default(),
            v6: Wanted::default(),
            namespace: None,
            workload: None,
            intended_use: Use::Workload,
            max_blocks: None,
            max_per_handle: None,
            host_reserved: HostReserved::default(),
            partial: false,
        }
    }

    /// Wants so many IPv4 addresses.
    #[must_use]
    pub const fn v4(mut self, count: u32) -> Self {
        self.v4.count = count;
        self
    }

    /// Wants so many IPv6 addresses.
    #[must_use]
    pub const fn v6(mut self, count: u32) -> Self {
        self.v6.count = count;
        self
    }

    /// Takes addresses of a family from these pools only.
    #[must_use]
    pub fn pools(mut self, family: Family, pools: impl IntoIterator<Item = PoolRef>) -> Self {
        match family {
            Family::V4 => self.v4.pools = pools.into_iter().collect(),
            Family::V6 => self.v6.pools = pools.into_iter().collect(),
        }
        self
    }

    /// Stores an attribute with each address.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), value.to_owned());
        self
    }

    /// For a pod of this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// For the workload of this name, which gets its addresses back from pools with a lease.
    #[must_use]
    pub fn workload(mut self, name: &str) -> Self {
        self.workload = Some(name.to_owned());
        self
    }

    /// For another use than workloads.
    #[must_use]
    pub const fn intended_use(mut self, intended_use: Use) -> Self {
        self.intended_use = intended_use;
        self
    }

    /// Fewer addresses than wanted are a success.
    #[must_use]
    pub const fn partial(mut self) -> Self {
        self.partial = true;
        self
    }

    /// With at most so many addresses of a family under the handle.
    #[must_use]
    pub const fn max_per_handle(mut self, limit: u32) -> Self {
        self.max_per_handle = Some(limit);
        self
    }

    /// What is wanted of a family.
    #[must_use]
    pub const fn wanted(&self, family: Family) -> &Wanted {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// A request for one address that the caller chose.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssignIp {
    /// The address.
    pub address: IpAddr,
    /// The host that uses it, and that claims its block when there is none yet.
    pub owner: Owner,
    /// The handle by which it is released.
    pub handle: HandleId,
    /// What is stored with the address.
    pub attributes: BTreeMap<String, String>,
    /// The pool must allow this use; `None` allows any.
    pub intended_use: Option<Use>,
    /// The name of the workload, for which the address may be kept, as in [`AssignRequest::workload`].
    pub workload: Option<String>,
}

impl AssignIp {
    /// A request of `owner` for `address` under `handle`.
    #[must_use]
    pub fn new(address: IpAddr, owner: impl Into<Owner>, handle: impl Into<HandleId>) -> Self {
        Self {
            address,
            owner: owner.into(),
            handle: handle.into(),
            attributes: BTreeMap::new(),
            intended_use: None,
            workload: None,
        }
    }

    /// Stores an attribute with the address.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), value.to_owned());
        self
    }

    /// For the workload of this name.
    #[must_use]
    pub fn workload(mut self, name: &str) -> Self {
        self.workload = Some(name.to_owned());
        self
    }

    /// The pool must allow this use.
    #[must_use]
    pub const fn intended_use(mut self, intended_use: Use) -> Self {
        self.intended_use = Some(intended_use);
        self
    }
}

/// An address that a request got.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assigned {
    /// The address.
    pub address: IpAddr,
    /// Its block.
    pub block: Prefix,
    /// The name of its pool; empty for an address whose pool is gone.
    pub pool: String,
    /// Whether the block belongs to another host: then the address needs a route of its own.
    pub borrowed: bool,
}

/// Why a request got fewer addresses than it wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Every address of these pools is held, reserved or cooling down.
    Exhausted {
        /// The ranges of the pools, in the order of their use.
        pools: Vec<Prefix>,
    },
    /// The host's blocks are full and it may not borrow.
    StrictAffinity,
    /// The host's blocks are full and it has as many as it may have.
    BlockLimit {
        /// The most blocks that it may have.
        limit: u32,
    },
    /// The strategy proposed what is not allowed; nothing was done.
    Refused(Refusal),
    /// The strategy proposed so many steps without end that it was stopped.
    Restless,
    /// A strategy's own reason.
    Other(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { pools } => write!(f, "no addresses available in pools: {pools:?}"),
            Self::StrictAffinity => {
                f.write_str("no more free affine blocks and strict affinity enabled")
            }
            Self::BlockLimit { limit } => {
                write!(f, "the host has as many blocks as it may have ({limit})")
            }
            Self::Refused(refusal) => write!(f, "the strategy was refused: {refusal}"),
            Self::Restless => f.write_str("the strategy did not come to an end"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

/// One family of a request that was not served in full.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortfall {
    /// The address family.
    pub family: Family,
    /// How many addresses were wanted.
    pub wanted: u32,
    /// How many were found.
    pub found: u32,
    /// Why there were no more.
    pub reason: Reason,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family,
            wanted,
            found,
            reason,
        } = self;
        write!(f, "found {found} of {wanted} {family} addresses: {reason}")
    }
}

/// What a request got.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Assignment {
    /// The addresses, IPv4 first.
    pub addresses: Vec<Assigned>,
    /// The families that were not served in full; empty unless the request allowed that.
    pub shortfalls: Vec<Shortfall>,
}

impl Assignment {
    /// The addresses of a family.
    pub fn of(&self, family: Family) -> impl Iterator<Item = &Assigned> + '_ {
        self.addresses
            .iter()
            .filter(move |one| Family::of(one.address) == family)
    }
}
