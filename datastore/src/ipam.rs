//! Address management over any store (feature `ipam`).
//!
//! [`StoreIpam`] is the port of `ocicat-ipam` over a [`Store`]: blocks, claims and handles are the records that Calico
//! keeps, and which pools serve a node and a namespace is decided by their selectors.

mod convert;
mod merge;
mod pools;
mod settings;
#[cfg(all(test, feature = "memory"))]
mod tests;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ocicat_ipam::{
    Audience, Block, BlockAffinity, Handle, HandleId, IpamConfig, IpamStore, Listing, Owner, Pool,
    Prefix, Record, RecordKey, Revision, StoreError as PortError, Stored, Unreadable, Write,
};

use crate::error::StoreError;
use crate::join;
use crate::model::{self, Resource, names};
use crate::object::{Key, Object, Scope};
use crate::store::{Store, Versioned};
use crate::{Kind, Op};

/// How many records are read at a time.
const SIDE_BY_SIDE: usize = 64;

/// The port of `ocicat-ipam` over a [`Store`].
///
/// ```
/// # use std::sync::Arc;
/// # use ocicat_datastore::{Store, ipam::StoreIpam};
/// use ocicat_ipam::{BlockAffine, Ipam};
///
/// # fn over(store: Store) -> Ipam {
/// Ipam::new(Arc::new(StoreIpam::new(store)), Box::new(BlockAffine))
/// # }
/// ```
///
/// A record is updated in the JSON that was read: fields that nobody here knows stay. A pool with the annotation
/// [`LEASE_ANNOTATION`](crate::LEASE_ANNOTATION) keeps addresses for the workloads that had them.
#[derive(Debug)]
pub struct StoreIpam {
    store: Store,
    remembers: bool,
    memory: Mutex<Memory>,
}

/// What outlives a bad version of an object.
#[derive(Debug, Default)]
struct Memory {
    /// The ranges of each reservation, as they were last understood.
    reservations: BTreeMap<String, Vec<Prefix>>,
    problems: BTreeSet<String>,
    settings: settings::Settings,
}

impl StoreIpam {
    /// The port over a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            remembers: false,
            memory: Mutex::default(),
        }
    }

    /// What could not be understood when pools and reservations were last read, each as a sentence that names the
    /// object and the field. Such a pool serves nobody; such a reservation is what it last was.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.memory().problems.iter().cloned().collect()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read<R: Resource, T>(
        &self,
        name: &str,
        convert: fn(&R) -> Result<T, convert::Unsound>,
    ) -> Result<Option<Stored<T>>, PortError> {
        let key = Key::cluster(R::KIND, name);
        let object = self.store.backend().get(&key).await.map_err(outage)?;
        let Some(object) = object else {
            return Ok(None);
        };
        match understand(object, convert) {
            Ok(Read::Record(stored)) => Ok(Some(stored)),
            Ok(Read::Deleted(revision)) => {
                // The second half of a deletion, which whoever meets it completes.
                let revision = Some(revision);
                let _ = self
                    .store
                    .backend()
                    .write(vec![Op::Delete { key, revision }])
                    .await;
                Ok(None)
            }
            Err(unreadable) => Err(PortError::Malformed {
                key: unreadable.key,
                reason: unreadable.reason,
            }),
        }
    }

    /// Reads many, side by side.
    async fn read_all<R: Resource, T: Send>(
        &self,
        names: Vec<String>,
        convert: fn(&R) -> Result<T, convert::Unsound>,
    ) -> Result<Vec<Option<Stored<T>>>, PortError> {
        let mut names = names.into_iter().peekable();
        let mut found = Vec::new();
        while names.peek().is_some() {
            let reads = names.by_ref().take(SIDE_BY_SIDE).map(|name| {
                let read = async move { self.read(&name, convert).await };
                Box::pin(read) as Pin<Box<dyn Future<Output = _> + Send + '_>>
            });
            for read in join::all(reads.collect()).await {
                found.push(read?);
            }
        }
        Ok(found)
    }

    async fn list<R: Resource, T>(
        &self,
        scope: &Scope,
        convert: fn(&R) -> Result<T, convert::Unsound>,
    ) -> Result<Listing<T>, PortError> {
        let listing = self.store.backend().list(scope).await.map_err(outage)?;
        let mut found = Listing::new(Vec::with_capacity(listing.objects.len()));
        for object in listing.objects {
            match understand(object, convert) {
                Ok(Read::Record(stored)) => found.records.push(stored),
                Ok(Read::Deleted(_)) => {}
                Err(unreadable) => found.unreadable.push(unreadable),
            }
        }
        Ok(found)
    }
}

enum Read<T> {
    Record(Stored<T>),
    /// Marked as deleted, at this revision.
    Deleted(crate::Revision),
}

/// A record of an object; the object goes with its revision, for the update.
fn understand<R: Resource, T>(
    object: Object,
    convert: fn(&R) -> Result<T, convert::Unsound>,
) -> Result<Read<T>, Unreadable> {
    if convert::is_deleted(&object) {
        return Ok(Read::Deleted(object.revision));
    }
    let unreadable = |reason: String| {
        let block = names::block_cidr(&object.name).and_then(|cidr| cidr.parse().ok());
        Unreadable::new(object.key().to_string(), block, reason)
    };
    let resource: R = object
        .decode()
        .map_err(|error| unreadable(error.to_string()))?;
    let value = convert(&resource).map_err(|unsound| unreadable(unsound.to_string()))?;
    Ok(Read::Record(Stored {
        value,
        revision: revision(object),
    }))
}

fn revision(object: Object) -> Revision {
    Revision::new(object.revision.0).with_origin(Arc::new(object) as Arc<dyn Any + Send + Sync>)
}

fn outage(error: StoreError) -> PortError {
    match error {
        StoreError::Malformed { key, field, reason } => PortError::Malformed {
            key: key.to_string(),
            reason: format!("{field}: {reason}"),
        },
        StoreError::Unavailable { .. } => PortError::Unavailable(Arc::new(error)),
        _ => PortError::Refused(Arc::new(error)),
    }
}

fn write_error(key: RecordKey, error: StoreError) -> PortError {
    match error {
        StoreError::Exists { .. } => PortError::Exists(key),
        StoreError::Missing { .. } => PortError::Missing(key),
        StoreError::Conflict { .. } => PortError::Conflict(key),
        other => outage(other),
    }
}

/// The write as the backend wants it.
fn operation(write: Write) -> Result<Op, StoreError> {
    Ok(match write {
        Write::Create(record) => Op::Create(encoded(&record)?),
        Write::Update(record, revision) => {
            let mut object = match (record, revision.origin::<Object>()) {
                (record, None) => encoded(&record)?,
                (Record::Block(block), Some(origin)) => merge::block(origin, &block),
                (Record::Affinity(claim), Some(origin)) => {
                    merged(origin, |read: &mut model::BlockAffinity| {
                        convert::store_affinity(&claim, read);
                    })?
                }
                (Record::Handle(handle), Some(origin)) => {
                    merged(origin, |read: &mut model::IpamHandle| {
                        convert::store_handle(&handle, read);
                    })?
                }
                (record, Some(_)) => encoded(&record)?,
            };
            object.revision = crate::Revision(revision.number());
            Op::Update(object)
        }
        Write::Delete(key, revision) => Op::Delete {
            key: key_of(&key)?,
            revision: Some(crate::Revision(revision.number())),
        },
        _ => return Err(unknown()),
    })
}

fn merged<R: Resource>(origin: &Object, change: impl FnOnce(&mut R)) -> Result<Object, StoreError> {
    let mut read = Versioned::<R>::decode(origin.clone())?;
    change(&mut read.value);
    read.merged()
}

fn encoded(record: &Record) -> Result<Object, StoreError> {
    let mut object = match record {
        Record::Block(block) => {
            let mut fresh = model::IpamBlock::default();
            convert::store_block(block, &mut fresh);
            Object::encode(&fresh)?
        }
        Record::Affinity(claim) => {
            let mut fresh = model::BlockAffinity::default();
            convert::store_affinity(claim, &mut fresh);
            Object::encode(&fresh)?
        }
        Record::Handle(handle) => {
            let mut fresh = model::IpamHandle::default();
            convert::store_handle(handle, &mut fresh);
            Object::encode(&fresh)?
        }
        _ => return Err(unknown()),
    };
    object.name = key_of(&record.key())?.name;
    object.stamp();
    Ok(object)
}

fn key_of(key: &RecordKey) -> Result<Key, StoreError> {
    Ok(match key {
        RecordKey::Block(cidr) => {
            Key::cluster(Kind::IpamBlock, names::block_name(&cidr.to_string()))
        }
        RecordKey::Affinity(owner, cidr) => {
            let name = names::affinity_name(owner.kind(), owner.name(), &cidr.to_string());
            Key::cluster(Kind::BlockAffinity, name)
        }
        RecordKey::Handle(id) => Key::cluster(Kind::IpamHandle, id.as_str()),
        _ => return Err(unknown()),
    })
}

/// For kinds of records and writes that a later `ocicat-ipam` may have.
fn unknown() -> StoreError {
    StoreError::Invalid {
        key: None,
        field: String::new(),
        reason: "is a record that this version cannot store".to_owned(),
    }
}

#[async_trait]
impl IpamStore for StoreIpam {
    async fn config(&self) -> Result<IpamConfig, PortError> {
        let known = self.memory().settings.config.clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let moment = self.moment();
        let found = self.store.get::<model::IpamConfig>("default").await;
        let found = found.map_err(outage)?;
        let config = found.map_or_else(IpamConfig::default, |found| {
            convert::config(&found.value.spec)
        });
        self.keep(moment, |settings| settings.config = Some(config.clone()));
        Ok(config)
    }

    async fn pools(&self, audience: &Audience) -> Result<Vec<Pool>, PortError> {
        let known = self.memory().settings.pools.get(audience).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let moment = self.moment();
        let pools = self.pools_for(audience).await.map_err(outage)?;
        self.keep(moment, |settings| {
            settings.pools.insert(audience.clone(), pools.clone());
        });
        Ok(pools)
    }

    async fn reservations(&self) -> Result<Vec<Prefix>, PortError> {
        let known = self.memory().settings.reservations.clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let moment = self.moment();
        let ranges = self.reserved().await.map_err(outage)?;
        self.keep(moment, |settings| {
            settings.reservations = Some(ranges.clone());
        });
        Ok(ranges)
    }

    async fn blocks(&self, cidrs: &[Prefix]) -> Result<Vec<Option<Stored<Block>>>, PortError> {
        let mut names = Vec::with_capacity(cidrs.len());
        for cidr in cidrs {
            names.push(names::block_name(&cidr.to_string()));
        }
        self.read_all(names, convert::block).await
    }

    async fn all_blocks(&self) -> Result<Listing<Block>, PortError> {
        self.list(&Scope::all(Kind::IpamBlock), convert::block)
            .await
    }

    async fn affinities(&self, owner: Option<&Owner>) -> Result<Listing<BlockAffinity>, PortError> {
        let all = Scope::all(Kind::BlockAffinity);
        let scope = match owner {
            Some(owner) => all.with_prefix(names::affinity_prefix(owner.kind(), owner.name())),
            None => all,
        };
        self.list(&scope, convert::affinity).await
    }

    async fn affinity(
        &self,
        owner: &Owner,
        block: Prefix,
    ) -> Result<Option<Stored<BlockAffinity>>, PortError> {
        let name = names::affinity_name(owner.kind(), owner.name(), &block.to_string());
        self.read(&name, convert::affinity).await
    }

    async fn handles(&self, ids: &[HandleId]) -> Result<Vec<Option<Stored<Handle>>>, PortError> {
        let names = ids.iter().map(ToString::to_string).collect();
        self.read_all(names, convert::handle).await
    }

    async fn all_handles(&self) -> Result<Listing<Handle>, PortError> {
        self.list(&Scope::all(Kind::IpamHandle), convert::handle)
            .await
    }

    async fn write(&self, writes: Vec<Write>) -> Vec<Result<Revision, PortError>> {
        let keys: Vec<_> = writes.iter().map(Write::key).collect();
        let mut results: Vec<Result<Revision, PortError>> = Vec::with_capacity(keys.len());
        let (mut operations, mut places) = (Vec::new(), Vec::new());
        for (at, write) in writes.into_iter().enumerate() {
            match operation(write) {
                Ok(operation) => {
                    operations.push(operation);
                    places.push(at);
                    results.push(Err(PortError::Missing(keys[at].clone())));
                }
                Err(error) => results.push(Err(outage(error))),
            }
        }
        let answers = self.store.backend().write(operations).await;
        for (at, answer) in places.into_iter().zip(answers) {
            let key = keys[at].clone();
            results[at] = answer
                .map(revision)
                .map_err(|error| write_error(key, error));
        }
        results
    }

    fn is_ordered(&self) -> bool {
        self.store.backend().is_ordered()
    }

    async fn write_in_order(&self, writes: Vec<Write>) -> Vec<Result<Revision, PortError>> {
        let mut keys = Vec::with_capacity(writes.len());
        let mut operations = Vec::with_capacity(writes.len());
        let mut refused = None;
        for write in writes {
            let key = write.key();
            match operation(write) {
                Ok(operation) => operations.push(operation),
                Err(error) => {
                    refused = Some(Err(outage(error)));
                    break;
                }
            }
            keys.push(key);
        }
        let answers = self.store.backend().write_in_order(operations).await;
        let all_done = answers.len() == keys.len() && answers.iter().all(Result::is_ok);
        let results = keys.into_iter().zip(answers).map(|(key, answer)| {
            let error = |error| write_error(key, error);
            answer.map(revision).map_err(error)
        });
        let mut results: Vec<_> = results.collect();
        results.extend(refused.filter(|_| all_done));
        results
    }
}
