use std::net::IpAddr;
use std::sync::Arc;

use crate::{Family, HandleId, Kept, Owner, PoolRef, Prefix, RecordKey, Shortfall, Timestamp, Use};

/// Any error, shared.
pub type SharedError = Arc<dyn std::error::Error + Send + Sync>;

/// Why the store did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A record to be created is there already.
    #[error("{0} exists already")]
    Exists(RecordKey),
    /// A record to be updated or deleted is gone.
    #[error("{0} does not exist")]
    Missing(RecordKey),
    /// A record has been written since it was read.
    #[error("{0} was changed by somebody else")]
    Conflict(RecordKey),
    /// A stored record cannot be understood.
    #[error("{key} cannot be read: {reason}")]
    Malformed {
        /// The record's name in the store.
        key: String,
        /// What is wrong with it, and in which field.
        reason: String,
    },
    /// The store did not answer. Whether a write happened is not known.
    #[error("the store is unavailable")]
    Unavailable(#[source] SharedError),
    /// The store refused for a reason that does not pass by itself.
    #[error("the store refused")]
    Refused(#[source] SharedError),
}

impl StoreError {
    /// Whether somebody else was faster: reading again and trying again may succeed.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Exists(_) | Self::Missing(_) | Self::Conflict(_))
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.is_conflict() || matches!(self, Self::Unavailable(_))
    }
}

/// Why no address was assigned. Whatever had been taken for the request has been released, or, where the store
/// did not allow it, is found by a release of its handle.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssignError {
    /// There is no enabled pool of the family at all.
    #[error("no pools are configured for {owner} ({family})")]
    NoPools {
        /// For whom addresses were wanted.
        owner: Owner,
        /// The address family.
        family: Family,
    },
    /// There are pools, and none of them serves this host, namespace and use.
    #[error("no {family} pool serves {owner} for {}", intended_use.as_str())]
    NoQualifiedPool {
        /// For whom addresses were wanted.
        owner: Owner,
        /// The address family.
        family: Family,
        /// What they were wanted for.
        intended_use: Use,
    },
    /// A pool that the request names does not exist.
    #[error("pool {0} does not exist")]
    UnknownPool(PoolRef),
    /// A pool that the request names is disabled or being deleted.
    #[error("pool {0} is disabled")]
    DisabledPool(PoolRef),
    /// A pool that the request names is of the other family.
    #[error("pool {pool} has no {family} addresses")]
    WrongFamily {
        /// The pool.
        pool: PoolRef,
        /// The family for which it was named.
        family: Family,
    },
    /// Fewer addresses were found than wanted.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Short(Vec<Shortfall>),
    /// The chosen address lies in no enabled pool.
    #[error("{0} is not in a configured pool")]
    OutsidePools(IpAddr),
    /// The chosen address is reserved.
    #[error("{0} is reserved")]
    Reserved(IpAddr),
    /// The chosen address is held already, or cools down.
    #[error("{address} is assigned already")]
    Taken {
        /// The address.
        address: IpAddr,
        /// By which handle it is held; a caller that repeats its request finds its own here.
        handle: Option<HandleId>,
    },
    /// The chosen address is kept for a workload that had it, and the request is not of that one.
    #[error("{address} is kept for {} until {}", kept.workload, Timestamp(kept.until))]
    Kept {
        /// The address.
        address: IpAddr,
        /// For whom, and until when.
        kept: Kept,
    },
    /// The chosen address lies in a block of another host, and affinity is strict.
    #[error("{address} is in {block}, which belongs to another host, and affinity is strict")]
    ForeignBlock {
        /// The address.
        address: IpAddr,
        /// Its block.
        block: Prefix,
    },
    /// Hosts do not claim blocks by themselves, and the chosen address has no block.
    #[error("{block} has not been claimed, and blocks are not allocated automatically")]
    NoBlock {
        /// The block that the address would be in.
        block: Prefix,
    },
    /// Others were faster in every attempt.
    #[error("gave up after {attempts} attempts in which others were faster")]
    Contention {
        /// How many attempts were made.
        attempts: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AssignError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Contention { .. } => true,
            _ => false,
        }
    }
}

/// Why addresses or blocks were not released.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The address is held by another handle than the caller expected. Nothing in its block was released.
    #[error("{address} is held by {}", held_by.as_ref().map_or("nobody known", HandleId::as_str))]
    BadHandle {
        /// The address.
        address: IpAddr,
        /// Who holds it.
        held_by: Option<HandleId>,
    },
    /// The address was taken again since the caller looked. Nothing in its block was released.
    #[error("{address} was taken by write {found}, not {expected}")]
    BadSequence {
        /// The address.
        address: IpAddr,
        /// The number that the caller saw.
        expected: u64,
        /// The number of the write that took it.
        found: u64,
    },
    /// The block must be empty to be given up, and is not.
    #[error("{block} holds {held} addresses")]
    NotEmpty {
        /// The block.
        block: Prefix,
        /// How many addresses are held in it or cool down.
        held: u16,
    },
    /// The block has been written since the caller looked.
    #[error("{block} changed")]
    Changed {
        /// The block.
        block: Prefix,
    },
    /// The block belongs to somebody else.
    #[error("{block} does not belong to {owner}")]
    NotOwner {
        /// The block.
        block: Prefix,
        /// Who was said to own it.
        owner: Owner,
    },
    /// The range is smaller than a block of its pool, or in no pool.
    #[error("{0} does not span a block of a pool")]
    NoBlocks(Prefix),
    /// Others were faster in every attempt.
    #[error("gave up after {attempts} attempts in which others were faster")]
    Contention {
        /// How many attempts were made.
        attempts: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
