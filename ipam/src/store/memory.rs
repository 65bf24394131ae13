use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Audience, IpamStore, Listing, Record, RecordKey, Revision, Stored, Write};
use crate::{Block, BlockAffinity, Handle, HandleId, IpamConfig, Owner, Pool, Prefix, StoreError};

/// A store in memory, for tests and for programs that need no other: the semantics of the port, without I/O.
///
/// Every call is ready at once and waits for nothing but a lock that is held for the length of the call.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    config: IpamConfig,
    pools: BTreeMap<String, (Pool, Selection)>,
    reservations: BTreeSet<Prefix>,
    blocks: BTreeMap<Prefix, Stored<Block>>,
    affinities: BTreeMap<(Owner, Prefix), Stored<BlockAffinity>>,
    handles: BTreeMap<HandleId, Stored<Handle>>,
}

/// Whom a pool serves; empty means everybody.
#[derive(Debug, Default)]
struct Selection {
    owners: BTreeSet<Owner>,
    namespaces: BTreeSet<String>,
}

impl MemoryStore {
    /// A store without pools.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store with these pools.
    #[must_use]
    pub fn with_pools(pools: impl IntoIterator<Item = Pool>) -> Self {
        let store = Self::new();
        for pool in pools {
            store.set_pool(pool);
        }
        store
    }

    /// Adds or replaces a pool that serves everybody.
    pub fn set_pool(&self, pool: Pool) {
        self.state()
            .pools
            .insert(pool.name.clone(), (pool, Selection::default()));
    }

    /// Adds or replaces a pool that serves these hosts and these namespaces; an empty list means all.
    pub fn set_pool_for(&self, pool: Pool, owners: &[Owner], namespaces: &[&str]) {
        let selection = Selection {
            owners: owners.iter().cloned().collect(),
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
        };
        self.state()
            .pools
            .insert(pool.name.clone(), (pool, selection));
    }

    /// Removes a pool; its blocks stay.
    pub fn remove_pool(&self, name: &str) {
        self.state().pools.remove(name);
    }

    /// Replaces the cluster-wide settings.
    pub fn set_config(&self, config: IpamConfig) {
        self.state().config = config;
    }

    /// Reserves a range.
    pub fn reserve(&self, range: Prefix) {
        self.state().reservations.insert(range);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl IpamStore for MemoryStore {
    async fn config(&self) -> Result<IpamConfig, StoreError> {
        Ok(self.state().config.clone())
    }

    async fn pools(&self, audience: &Audience) -> Result<Vec<Pool>, StoreError> {
        let state = self.state();
        let pools = state.pools.values().map(|(pool, selection)| {
            let Selection { owners, namespaces } = selection;
            let namespace = audience.namespace.as_ref();
            Pool {
                selects_owner: pool.selects_owner
                    && (owners.is_empty() || owners.contains(&audience.owner)),
                selects_namespace: pool.selects_namespace
                    && (namespaces.is_empty() || namespace.is_some_and(|n| namespaces.contains(n))),
                ..pool.clone()
            }
        });
        Ok(pools.collect())
    }

    async fn reservations(&self) -> Result<Vec<Prefix>, StoreError> {
        Ok(self.state().reservations.iter().copied().collect())
    }

    async fn blocks(&self, cidrs: &[Prefix]) -> Result<Vec<Option<Stored<Block>>>, StoreError> {
        let state = self.state();
        Ok(cidrs
            .iter()
            .map(|cidr| state.blocks.get(cidr).cloned())
            .collect())
    }

    async fn all_blocks(&self) -> Result<Listing<Block>, StoreError> {
        Ok(Listing::new(
            self.state().blocks.values().cloned().collect(),
        ))
    }

    async fn affinities(
        &self,
        owner: Option<&Owner>,
    ) -> Result<Listing<BlockAffinity>, StoreError> {
        let state = self.state();
        let asked =
            |stored: &&Stored<BlockAffinity>| owner.is_none_or(|o| stored.value.owner == *o);
        Ok(Listing::new(
            state.affinities.values().filter(asked).cloned().collect(),
        ))
    }

    async fn affinity(
        &self,
        owner: &Owner,
        block: Prefix,
    ) -> Result<Option<Stored<BlockAffinity>>, StoreError> {
        Ok(self
            .state()
            .affinities
            .get(&(owner.clone(), block))
            .cloned())
    }

    async fn handles(&self, ids: &[HandleId]) -> Result<Vec<Option<Stored<Handle>>>, StoreError> {
        let state = self.state();
        Ok(ids
            .iter()
            .map(|id| state.handles.get(id).cloned())
            .collect())
    }

    async fn all_handles(&self) -> Result<Listing<Handle>, StoreError> {
        Ok(Listing::new(
            self.state().handles.values().cloned().collect(),
        ))
    }

    async fn write(&self, writes: Vec<Write>) -> Vec<Result<Revision, StoreError>> {
        let mut state = self.state();
        writes.into_iter().map(|write| state.write(write)).collect()
    }
}

impl State {
    fn write(&mut self, write: Write) -> Result<Revision, StoreError> {
        let key = write.key();
        let found = match &key {
            RecordKey::Block(block) => self.blocks.get(block).map(|s| s.revision.number()),
            RecordKey::Affinity(owner, block) => {
                let at = (owner.clone(), *block);
                self.affinities.get(&at).map(|s| s.revision.number())
            }
            RecordKey::Handle(id) => self.handles.get(id).map(|s| s.revision.number()),
        };
        let expected = match &write {
            Write::Create(_) => None,
            Write::Update(_, revision) | Write::Delete(_, revision) => Some(revision.number()),
        };
        match (expected, found) {
            (None, Some(_)) => return Err(StoreError::Exists(key)),
            (Some(_), None) => return Err(StoreError::Missing(key)),
            (Some(expected), Some(found)) if expected != found => {
                return Err(StoreError::Conflict(key));
            }
            _ => {}
        }
        self.revision += 1;
        let revision = Revision::new(self.revision);
        match write {
            Write::Create(record) | Write::Update(record, _) => {
                self.put(record, revision.clone());
            }
            Write::Delete(..) => self.remove(key),
        }
        Ok(revision)
    }

    fn put(&mut self, record: Record, revision: Revision) {
        match record {
            Record::Block(value) => {
                self.blocks.insert(value.cidr(), Stored { value, revision });
            }
            Record::Affinity(value) => {
                let key = (value.owner.clone(), value.block);
                self.affinities.insert(key, Stored { value, revision });
            }
            Record::Handle(value) => {
                self.handles
                    .insert(value.id.clone(), Stored { value, revision });
            }
        }
    }

    fn remove(&mut self, key: RecordKey) {
        match key {
            RecordKey::Block(block) => {
                self.blocks.remove(&block);
            }
            RecordKey::Affinity(owner, block) => {
                self.affinities.remove(&(owner, block));
            }
            RecordKey::Handle(id) => {
                self.handles.remove(&id);
            }
        }
    }
}
