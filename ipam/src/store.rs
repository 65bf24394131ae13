use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Block, BlockAffinity, Handle, HandleId, IpamConfig, Owner, Pool, Prefix, StoreError};

mod memory;

pub use self::memory::MemoryStore;

/// The version of a stored record. Only the store that made it can read it; an update hands it back.
#[derive(Clone)]
pub struct Revision {
    number: u64,
    origin: Option<Arc<dyn Any + Send + Sync>>,
}

impl Revision {
    /// The version of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self {
            number,
            origin: None,
        }
    }

    /// Carries what the store wants to have back at an update, such as the record as it was read with fields that
    /// this crate does not know.
    #[must_use]
    pub fn with_origin(mut self, origin: Arc<dyn Any + Send + Sync>) -> Self {
        self.origin = Some(origin);
        self
    }

    /// The number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What the store attached.
    #[must_use]
    pub fn origin<T: Any>(&self) -> Option<&T> {
        self.origin.as_deref()?.downcast_ref()
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.number, f)
    }
}

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The record.
    pub value: T,
    /// Its version, for the next write.
    pub revision: Revision,
}

/// What the store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A block.
    Block(Block),
    /// A claim on a block.
    Affinity(BlockAffinity),
    /// The index of a handle.
    Handle(Handle),
}

impl Record {
    /// The record's name.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Block(block) => RecordKey::Block(block.cidr()),
            Self::Affinity(affinity) => RecordKey::Affinity(affinity.owner.clone(), affinity.block),
            Self::Handle(handle) => RecordKey::Handle(handle.id.clone()),
        }
    }
}

/// The name of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordKey {
    /// A block, by its range.
    Block(Prefix),
    /// A claim, by who claims what.
    Affinity(Owner, Prefix),
    /// A handle, by its name.
    Handle(HandleId),
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(block) => write!(f, "block {block}"),
            Self::Affinity(owner, block) => write!(f, "affinity of {owner} for {block}"),
            Self::Handle(id) => write!(f, "handle {id}"),
        }
    }
}

/// One write. There is none that overwrites what it has not read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Write {
    /// Stores a record that must not exist.
    Create(Record),
    /// Replaces a record that must still be at this version.
    Update(Record, Revision),
    /// Deletes a record that must still be at this version.
    Delete(RecordKey, Revision),
}

impl Write {
    /// The name of the record that is written.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Create(record) | Self::Update(record, _) => record.key(),
            Self::Delete(key, _) => key.clone(),
        }
    }
}

/// For whom pools are asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Audience {
    /// The host, whose labels pools select.
    pub owner: Owner,
    /// The pod's namespace, whose labels pools select; `None` counts as a namespace without labels.
    pub namespace: Option<String>,
}

impl Audience {
    /// Pods of a namespace, or nothing of any, on a host.
    #[must_use]
    pub const fn new(owner: Owner, namespace: Option<String>) -> Self {
        Self { owner, namespace }
    }
}

/// The compare-and-swap port: where blocks, claims and handles are kept. [`MemoryStore`] is one.
///
/// Single records are linearisable: a write that was acknowledged is seen by every read after it, and of two
/// writes to one version at most one succeeds. Nothing is asked of several records together.
///
/// # Cancel safety
/// A dropped call may or may not have written; the allocator copes with both.
#[async_trait]
pub trait IpamStore: Send + Sync {
    /// The cluster-wide settings; the default where none are stored.
    ///
    /// # Errors
    /// When the store fails.
    async fn config(&self) -> Result<IpamConfig, StoreError>;

    /// Every pool, disabled ones too, sorted by name; whether their selectors match is decided for whom they are asked for.
    ///
    /// # Errors
    /// When the store fails. A pool that cannot be read must not be left out silently when it is the only one.
    async fn pools(&self, audience: &Audience) -> Result<Vec<Pool>, StoreError>;

    /// Ranges from which nothing is assigned.
    ///
    /// # Errors
    /// When the store fails, or a reservation cannot be read: guessing would give its addresses away.
    async fn reservations(&self) -> Result<Vec<Prefix>, StoreError>;

    /// The blocks of these ranges, in their order; `None` for one that does not exist.
    ///
    /// # Errors
    /// When the store fails or one of them cannot be read.
    async fn blocks(&self, cidrs: &[Prefix]) -> Result<Vec<Option<Stored<Block>>>, StoreError>;

    /// Every block.
    ///
    /// # Errors
    /// When the store fails. Blocks that cannot be read are listed as such.
    async fn all_blocks(&self) -> Result<Listing<Block>, StoreError>;

    /// The claims of one owner, or of all.
    ///
    /// # Errors
    /// When the store fails.
    async fn affinities(&self, owner: Option<&Owner>)
    -> Result<Listing<BlockAffinity>, StoreError>;

    /// One claim.
    ///
    /// # Errors
    /// When the store fails or it cannot be read.
    async fn affinity(
        &self,
        owner: &Owner,
        block: Prefix,
    ) -> Result<Option<Stored<BlockAffinity>>, StoreError>;

    /// The handles of these names, in their order; `None` for one that does not exist.
    ///
    /// # Errors
    /// When the store fails or one of them cannot be read.
    async fn handles(&self, ids: &[HandleId]) -> Result<Vec<Option<Stored<Handle>>>, StoreError>;

    /// Every handle.
    ///
    /// # Errors
    /// When the store fails. Handles that cannot be read are listed as such.
    async fn all_handles(&self) -> Result<Listing<Handle>, StoreError>;

    /// Does independent writes, with a result for each, in their order: the record's new version.
    async fn write(&self, writes: Vec<Write>) -> Vec<Result<Revision, StoreError>>;

    /// Whether [`write_in_order`](Self::write_in_order) costs no more than one write: then a handle and its block are
    /// written with one call. Default false.
    fn is_ordered(&self) -> bool {
        false
    }

    /// Does writes one after the other and stops at the first that fails: a result for each that was tried. Whatever
    /// happens, none is done without those before it.
    async fn write_in_order(&self, writes: Vec<Write>) -> Vec<Result<Revision, StoreError>> {
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            let key = write.key();
            let result = self.write(vec![write]).await.pop();
            let result = result.unwrap_or(Err(StoreError::Missing(key)));
            let failed = result.is_err();
            results.push(result);
            if failed {
                break;
            }
        }
        results
    }
}

/// Everything of one kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listing<T> {
    /// What could be read, sorted by name.
    pub records: Vec<Stored<T>>,
    /// What could not.
    pub unreadable: Vec<Unreadable>,
}

/// A record that is there and cannot be understood. It is in nobody's way: its name is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// The record's name in the store.
    pub key: String,
    /// The block's range, where at least that can be told; nobody may claim it.
    pub block: Option<Prefix>,
    /// What is wrong with it, and in which field.
    pub reason: String,
}

impl<T> Listing<T> {
    /// A list of records, all of which could be read.
    #[must_use]
    pub const fn new(records: Vec<Stored<T>>) -> Self {
        Self {
            records,
            unreadable: Vec::new(),
        }
    }
}

impl Unreadable {
    /// A record that cannot be understood, and why.
    #[must_use]
    pub const fn new(key: String, block: Option<Prefix>, reason: String) -> Self {
        Self { key, block, reason }
    }
}
