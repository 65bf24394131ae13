use std::time::Duration;

use crate::{BlockSizeError, Family, Prefix};

/// What addresses of a pool may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Use {
    /// Pods and other workloads.
    Workload,
    /// The tunnel devices of nodes.
    Tunnel,
    /// Services of type LoadBalancer.
    LoadBalancer,
}

impl Use {
    /// The stored form: `Workload`, `Tunnel`, `LoadBalancer`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "Workload",
            Self::Tunnel => "Tunnel",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Whether a pool serves everybody that it selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AssignmentMode {
    /// Requests that name no pool may be served from it.
    #[default]
    Automatic,
    /// Only requests that name it are.
    Manual,
}

/// An address pool as one (host, namespace) sees it: whether its selectors match has been decided by the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pool {
    /// The pool's name.
    pub name: String,
    /// The addresses of the pool.
    pub cidr: Prefix,
    /// The prefix length of its blocks: 20 to 32, or 116 to 128.
    pub block_size: u8,
    /// Whether requests that do not name the pool may use it.
    pub assignment_mode: AssignmentMode,
    /// What its addresses may be used for.
    pub uses: Vec<Use>,
    /// For how long after its release an address is kept for the workload that had it, when its request
    /// [named the workload](crate::AssignRequest::workload). Default none: an address is free for anybody.
    pub lease: Option<Duration>,
    /// Disabled, being deleted, or found not allocatable: nothing is assigned from it.
    pub disabled: bool,
    /// Whether its node selector matches the host for which the pools were asked for.
    pub selects_owner: bool,
    /// Whether its namespace selector matches the namespace for which they were.
    pub selects_namespace: bool,
}

impl Pool {
    /// The block size of a pool that does not state one: /26, or /122 for IPv6.
    #[must_use]
    pub const fn default_block_size(family: Family) -> u8 {
        match family {
            Family::V4 => 26,
            Family::V6 => 122,
        }
    }

    /// An enabled pool with the default block size, for workloads and tunnels, that selects everybody.
    #[must_use]
    pub fn new(name: &str, cidr: Prefix) -> Self {
        Self {
            name: name.to_owned(),
            cidr,
            block_size: Self::default_block_size(cidr.family()),
            assignment_mode: AssignmentMode::Automatic,
            uses: vec![Use::Workload, Use::Tunnel],
            lease: None,
            disabled: false,
            selects_owner: true,
            selects_namespace: true,
        }
    }

    /// With blocks of another size.
    ///
    /// # Errors
    /// [`BlockSizeError`] when the length is not one of a block, or shorter than the pool's.
    pub fn with_block_size(mut self, length: u8) -> Result<Self, BlockSizeError> {
        let family = self.cidr.family();
        if length < family.bits() - 12 || length > family.bits() || length < self.cidr.length() {
            return Err(BlockSizeError { family, length });
        }
        self.block_size = length;
        Ok(self)
    }

    /// With another assignment mode.
    #[must_use]
    pub const fn with_mode(mut self, mode: AssignmentMode) -> Self {
        self.assignment_mode = mode;
        self
    }

    /// For other uses.
    #[must_use]
    pub fn with_uses(mut self, uses: &[Use]) -> Self {
        self.uses = uses.to_vec();
        self
    }

    /// Whose addresses are kept for so long for the workloads that had them; zero keeps nothing.
    #[must_use]
    pub const fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Whether it has a lease.
    pub(crate) fn keeps(&self) -> bool {
        self.lease.is_some_and(|lease| !lease.is_zero())
    }

    /// The address family of the pool.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.cidr.family()
    }

    /// How many blocks the pool has; a pool smaller than a block has none.
    #[must_use]
    pub fn block_count(&self) -> u128 {
        match self.block_size.checked_sub(self.cidr.length()) {
            None => 0,
            Some(128) => u128::MAX,
            Some(bits) => 1 << bits,
        }
    }

    /// The block at an index of the pool; `None` past its end.
    #[must_use]
    pub fn block_at(&self, index: u128) -> Option<Prefix> {
        let host_bits = u32::from(self.family().bits().checked_sub(self.block_size)?);
        let address = self
            .cidr
            .first()
            .checked_add(index.checked_mul(1 << host_bits)?)?;
        (index < self.block_count() && address <= self.cidr.last())
            .then(|| Prefix::containing(self.family().address(address), self.block_size).ok())?
    }

    /// Whether a range is one of the pool's blocks.
    #[must_use]
    pub fn has_block(&self, block: &Prefix) -> bool {
        block.length() == self.block_size && self.cidr.covers(block)
    }
}
