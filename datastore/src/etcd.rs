//! etcd.

mod changes;
mod connection;
mod endpoints;

use std::fmt;

use async_trait::async_trait;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse,
    WatchOptions,
};

use crate::backend::{Backend, Listing, Op, Watch};
use crate::error::StoreError;
use crate::identity::{Open, keep};
use crate::join;
use crate::layout::{self, Layout};
use crate::object::{Key, Object, Revision, Scope, take_version};
use connection::Connection;

/// Where an etcd cluster is, and how to be let in.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EtcdOptions {
    /// Members, such as `https://10.0.0.1:2379`. Those that do not answer are passed over.
    pub endpoints: Vec<String>,
    /// The file of the authority that signed the members' certificates (PEM).
    pub ca: Option<std::path::PathBuf>,
    /// The files of the own certificate and its key (PEM).
    pub identity: Option<(std::path::PathBuf, std::path::PathBuf)>,
    /// The user, and the file of the password.
    pub user: Option<(String, std::path::PathBuf)>,
    /// The beginning of all keys; `/calico` unless another product shares the cluster.
    pub prefix: String,
}

impl EtcdOptions {
    /// A cluster with these members, without TLS and user.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            ca: None,
            identity: None,
            user: None,
            prefix: layout::PREFIX.to_owned(),
        }
    }
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A store in etcd, at Calico's keys and in Calico's JSON.
///
/// The connection is made when it is first needed, again after errors, and again when the files of certificates, key or
/// password have been replaced. It is to one endpoint at a time, the first that answers from any one on; a read that loses it
/// is made again over the next, a write is not, since nobody knows whether it happened. A watch ends with an error when its connection is lost, and can be begun again from where it was;
/// `follow` does so. Needs a tokio runtime with time and I/O.
pub struct Etcd {
    connection: Connection,
    layout: Layout,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("options", self.connection.options())
            .finish_non_exhaustive()
    }
}

/// How many objects are read at a time.
const PAGE: i64 = 1000;

impl Etcd {
    /// A store in a cluster. Nothing is connected yet.
    ///
    /// # Errors
    /// [`StoreError::Open`] when there is no endpoint, or a prefix that does not begin with a slash.
    pub fn new(options: EtcdOptions) -> Result<Self, StoreError> {
        let refused = |reason: &str| StoreError::Open {
            url: format!("etcd:{}", options.endpoints.join(",")),
            reason: reason.to_owned(),
        };
        if options.endpoints.is_empty() {
            return Err(refused("has no endpoints"));
        }
        if !options.prefix.starts_with('/') {
            return Err(refused("the prefix must begin with a slash"));
        }
        let layout = Layout::new(&options.prefix);
        Ok(Self {
            connection: Connection::new(options),
            layout,
        })
    }

    /// Forgets the history up to a revision: a watch from before it gets [`StoreError::Compacted`]. Concerns everybody who
    /// uses the cluster; etcd's own automatic compaction is the usual way.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unauthorised`].
    ///
    /// # Cancel safety
    /// A call that is dropped may have compacted or not.
    pub async fn compact(&self, upto: Revision) -> Result<(), StoreError> {
        let revision = upto.0.cast_signed();
        self.connection
            .call(|client| async move { client.kv_client().compact(revision, None).await })
            .await
            .map(drop)
    }

    async fn read(&self, path: &str) -> Result<Option<KeyValue>, StoreError> {
        let path = path.to_owned();
        let call = self.connection.ask(move |client| {
            let path = path.clone();
            async move { client.kv_client().get(path, None).await }
        });
        Ok(call.await?.take_kvs().pop())
    }

    /// All keys below a prefix, as they were at a revision (now when none).
    async fn range(
        &self,
        prefix: &str,
        at: Revision,
    ) -> Result<(Vec<KeyValue>, Revision), StoreError> {
        let end = after_prefix(prefix.as_bytes());
        let mut start = prefix.as_bytes().to_vec();
        let (mut found, mut at) = (Vec::new(), at);
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE)
                .with_revision(at.0.cast_signed());
            let call = self.connection.ask(|client| {
                let (from, options) = (start.clone(), options.clone());
                async move { client.kv_client().get(from, Some(options)).await }
            });
            let mut answer = call.await?;
            if at == Revision::NONE {
                at = revision(answer.header().map_or(0, |header| header.revision()));
            }
            let more = answer.more();
            found.append(&mut answer.take_kvs());
            match found.last() {
                Some(last) if more => {
                    start = last.key().to_vec();
                    start.push(0);
                }
                _ => return Ok((found, at)),
            }
        }
    }

    async fn operate(&self, op: Op) -> Result<Object, StoreError> {
        let key = op.key();
        let path = self.layout.path(&key)?;
        let (mut object, created) = match op {
            Op::Delete { revision, .. } => return self.delete(key, path, revision).await,
            Op::Put(object) => return self.put(path, object).await,
            // Revision 0 would be that of an object that is not there.
            Op::Update(object) if object.revision == Revision::NONE => {
                return Err(self.refusal(key, &path, Revision::NONE).await);
            }
            Op::Create(object) => (object, true),
            Op::Update(object) => (object, false),
        };
        let expected = object.revision;
        let open = complete(&mut object);
        let compare = match created {
            true => Compare::create_revision(path.clone(), CompareOp::Equal, 0),
            false => {
                // That of this revision, or the write fails.
                if let Some(open) = open
                    && let Some(there) = self.read(&path).await?
                {
                    keep_identity(&mut object, open, &there);
                }
                let expected = expected.0.cast_signed();
                Compare::mod_revision(path.clone(), CompareOp::Equal, expected)
            }
        };
        match self.swap(&path, &object, Some(compare)).await? {
            Swap::Done(revision) => Ok(Object { revision, ..object }),
            Swap::Other(_) if created => Err(StoreError::Exists { key }),
            Swap::Other(Some(_)) => Err(StoreError::Conflict { key, expected }),
            Swap::Other(None) => Err(StoreError::Missing { key }),
        }
    }

    /// Writes whatever is there. One that is there keeps its identity where the new one says nothing of it.
    async fn put(&self, path: String, mut object: Object) -> Result<Object, StoreError> {
        let open = complete(&mut object);
        let absent = || Compare::create_revision(path.clone(), CompareOp::Equal, 0);
        let mut compare = open.map(|_| absent());
        loop {
            let there = match self.swap(&path, &object, compare).await? {
                Swap::Done(revision) => return Ok(Object { revision, ..object }),
                Swap::Other(there) => there,
            };
            compare = Some(match (open, there) {
                (Some(open), Some(there)) => {
                    keep_identity(&mut object, open, &there);
                    let found = there.mod_revision();
                    Compare::mod_revision(path.clone(), CompareOp::Equal, found)
                }
                _ => absent(),
            });
        }
    }

    /// Writes an object where the comparison holds, or gets what is there.
    async fn swap(
        &self,
        path: &str,
        object: &Object,
        compare: Option<Compare>,
    ) -> Result<Swap, StoreError> {
        let put = TxnOp::put(path, layout::stored(object), None);
        let transaction = Txn::new().when(Vec::from_iter(compare)).and_then([put]);
        let transaction = transaction.or_else([TxnOp::get(path, None)]);
        let call = self
            .connection
            .call(|client| async move { client.kv_client().txn(transaction).await });
        let answer = call.await?;
        if answer.succeeded() {
            let written = answer.header().map_or(0, |header| header.revision());
            return Ok(Swap::Done(revision(written)));
        }
        let there = answer
            .op_responses()
            .into_iter()
            .find_map(|answer| match answer {
                TxnOpResponse::Get(mut found) => found.take_kvs().pop(),
                _ => None,
            });
        Ok(Swap::Other(there))
    }

    async fn delete(
        &self,
        key: Key,
        path: String,
        expected: Option<Revision>,
    ) -> Result<Object, StoreError> {
        let compare = match expected {
            Some(expected) => {
                Compare::mod_revision(path.clone(), CompareOp::Equal, expected.0.cast_signed())
            }
            None => Compare::create_revision(path.clone(), CompareOp::Greater, 0),
        };
        let options = DeleteOptions::new().with_prev_key();
        let delete = TxnOp::delete(path.clone(), Some(options));
        let transaction = Txn::new().when([compare]).and_then([delete]);
        let call = self
            .connection
            .call(|client| async move { client.kv_client().txn(transaction).await });
        let answer = call.await?;
        let when = revision(answer.header().map_or(0, |header| header.revision()));
        let mut gone = None;
        for response in answer.op_responses() {
            if let TxnOpResponse::Delete(mut response) = response {
                gone = response.take_prev_kvs().pop();
            }
        }
        match gone {
            Some(gone) => {
                let object = layout::object(key.clone(), gone.value(), when);
                // What could not be read is gone all the same.
                Ok(object.unwrap_or_else(|_| empty(key, when)))
            }
            None => Err(self.refusal(key, &path, expected.unwrap_or_default()).await),
        }
    }

    /// Why a compare-and-swap did not happen.
    async fn refusal(&self, key: Key, path: &str, expected: Revision) -> StoreError {
        match self.read(path).await {
            Ok(Some(_)) => StoreError::Conflict { key, expected },
            Ok(None) => StoreError::Missing { key },
            Err(error) => error,
        }
    }
}

/// What became of a compare-and-swap.
enum Swap {
    /// It was done at this revision.
    Done(Revision),
    /// The comparison did not hold; what is there.
    Other(Option<KeyValue>),
}

/// Makes an object ready to be written as a new one.
fn complete(object: &mut Object) -> Option<Open> {
    take_version(&mut object.value);
    object.stamp();
    Open::complete(object)
}

fn keep_identity(object: &mut Object, open: Open, there: &KeyValue) {
    if let Ok(there) = serde_json::from_slice(there.value()) {
        keep(&mut object.value, &open.kept(&there));
    }
}

fn empty(key: Key, revision: Revision) -> Object {
    let Key {
        kind,
        namespace,
        name,
    } = key;
    Object {
        kind,
        namespace,
        name,
        value: serde_json::Value::Null,
        revision,
    }
}

fn revision(number: i64) -> Revision {
    Revision(number.cast_unsigned())
}

/// The first key that does not begin with `prefix`.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[async_trait]
impl Backend for Etcd {
    async fn get(&self, key: &Key) -> Result<Option<Object>, StoreError> {
        let path = self.layout.path(key)?;
        let found = self.read(&path).await?;
        let object = |found: KeyValue| {
            layout::object(key.clone(), found.value(), revision(found.mod_revision()))
        };
        found.map(object).transpose()
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, StoreError> {
        let mut at = Revision::NONE;
        let mut objects = Vec::new();
        for prefix in self.layout.scope(scope) {
            let (found, now) = self.range(&prefix, at).await?;
            at = now;
            objects.extend(found.into_iter().filter_map(|found| {
                let key = self.layout.key(found.key_str().ok()?)?;
                let covered = scope.covers(&key);
                let object = layout::object(key, found.value(), revision(found.mod_revision()));
                object.ok().filter(|_| covered)
            }));
        }
        objects.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(Listing {
            objects,
            revision: at,
        })
    }

    /// Operations on different objects are sent side by side.
    async fn write(&self, ops: Vec<Op>) -> Vec<Result<Object, StoreError>> {
        join::by_object(ops, |op| Box::pin(self.operate(op))).await
    }

    async fn watch(&self, scope: &Scope, since: Revision) -> Result<Watch, StoreError> {
        let prefixes = self.layout.scope(scope);
        let (Some(first), Some(last)) = (prefixes.first(), prefixes.last()) else {
            return Ok(changes::nothing());
        };
        let options = WatchOptions::new()
            .with_range(after_prefix(last.as_bytes()))
            .with_start_revision(since.0.cast_signed().saturating_add(1))
            .with_progress_notify();
        let first = first.clone();
        let call = self
            .connection
            .call(|client| async move { client.watch_client().watch(first, Some(options)).await });
        let stream = call.await?;
        Ok(changes::changes(
            stream,
            self.layout.clone(),
            scope.clone(),
            since,
        ))
    }
}
