//! A store in one file that all processes of a host share.

mod changes;
mod readers;
mod signal;
mod table;
mod worker;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use futures_channel::oneshot;

use crate::backend::{Backend, Listing, Op, Watch};
use crate::error::StoreError;
use crate::feed::Feed;
use crate::identity::{Open, keep};
use crate::layout::{self, Layout};
use crate::object::{Key, Object, Revision, Scope, take_version};
use readers::Readers;
use signal::Waker;
use table::{Batch, Outcome, Row, Write};
use worker::Request;

/// How a [`Sqlite`] store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// The beginning of all keys; `/calico` unless another product shares the file.
    pub prefix: String,
    /// Whether every commit reaches the disk before it is answered (the default). Without, a power failure can undo
    /// the last commits; a crash of processes cannot.
    pub durable: bool,
    /// How many revisions of history are kept for watches; 10,000 unless stated.
    pub keep: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            prefix: layout::PREFIX.to_owned(),
            durable: true,
            keep: 10_000,
        }
    }
}

/// A store in one sqlite file, shared by all processes of one host that open it.
///
/// Objects lie at Calico's etcd keys, in Calico's JSON. Every write is a row of a log, whose number is the revision; that
/// is what watch and compare-and-swap are made of. Concurrent writes of one process share a commit. Other
/// processes hear of a commit through the file `PATH-notify`, within a millisecond or so.
///
/// Reads are made on the caller's thread, over connections of their own: a single object takes some microseconds of it, a
/// list as long as its objects need to be read. One thread per open store does all the rest; it is joined when the
/// store is dropped, and watches then end. The file must be on a local file system. Whoever needs the lock waits a minute
/// for others at most.
pub struct Sqlite {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the store, its watches and its thread have in common.
struct Shared {
    path: PathBuf,
    layout: Layout,
    requests: mpsc::Sender<Request>,
    waker: Waker,
    feed: Feed<Row>,
    readers: Readers,
    commits: Arc<AtomicU64>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the store in a file, which is made when it is missing (its folder must exist).
    ///
    /// # Errors
    /// [`StoreError::Open`] when the file cannot be opened, is no database, or was written by a newer version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, &SqliteOptions::default())
    }

    /// Opens the store in a file with options.
    ///
    /// # Errors
    /// As for [`Sqlite::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &SqliteOptions) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let failed = |reason: String| StoreError::Open {
            url: format!("sqlite:{}", path.display()),
            reason,
        };
        let table =
            table::Table::open(&path, options).map_err(|error| failed(error.to_string()))?;
        let (waker, signal) =
            signal::pair(&path).map_err(|error| failed(format!("cannot watch: {error}")))?;
        let (requests, received) = mpsc::channel();
        let head = table.head().map_err(|error| failed(error.to_string()))?;
        let shared = Arc::new(Shared {
            path: path.clone(),
            layout: Layout::new(&options.prefix),
            requests,
            waker,
            feed: Feed::new(head),
            readers: Readers::new(path.clone()),
            commits: table.commits(),
        });
        let worker = worker::Worker::new(table, signal, received, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("ocicat-sqlite".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| failed(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Forgets the history up to a revision: a watch from before it gets [`StoreError::Compacted`].
    ///
    /// The store does this by itself, see [`SqliteOptions::keep`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    ///
    /// # Cancel safety
    /// A call that is dropped may have compacted or not.
    pub async fn compact(&self, upto: Revision) -> Result<(), StoreError> {
        self.shared
            .ask(|reply| Request::Compact { upto, reply })
            .await
    }

    /// How many commits this process has made by writes through this store: fewer than writes where these came together.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Writes a copy of the store, as it is now, to another file, which must not exist. Others go on working.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] that says why.
    ///
    /// # Cancel safety
    /// A call that is dropped may have written the copy or not.
    pub async fn backup(&self, to: impl AsRef<Path> + Send) -> Result<(), StoreError> {
        let to = to.as_ref().to_path_buf();
        self.shared.ask(|reply| Request::Backup { to, reply }).await
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // Both fail only when the thread is gone already.
        let _ = self.shared.requests.send(Request::Stop);
        self.shared.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

fn stopped() -> StoreError {
    StoreError::Unavailable {
        reason: "the store was closed".to_owned(),
    }
}

impl Shared {
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        self.begin(request).await.map_err(|_| stopped())?
    }

    fn begin<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> oneshot::Receiver<Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(request(reply)).is_ok() {
            self.waker.wake();
        }
        answer
    }

    /// What the thread has to do for an operation, and the object that will be the answer.
    fn prepare(&self, op: Op) -> Result<(Write, Prepared), StoreError> {
        let key = op.key();
        let path = self.layout.path(&key)?;
        let mut write: fn(String, String, Revision, Option<Open>) -> Write =
            |path, value, _, open| Write::Put { path, value, open };
        let mut object = match op {
            Op::Delete { revision, .. } => {
                let expected = revision.unwrap_or_default();
                let write = Write::Delete {
                    path,
                    expected: revision,
                };
                return Ok((
                    write,
                    Prepared {
                        key,
                        expected,
                        object: None,
                    },
                ));
            }
            Op::Create(object) => {
                write = |path, value, _, _| Write::Create { path, value };
                object
            }
            Op::Update(object) => {
                write = |path, value, expected, open| Write::Update {
                    path,
                    value,
                    expected,
                    open,
                };
                object
            }
            Op::Put(object) => object,
        };
        take_version(&mut object.value);
        object.stamp();
        let open = Open::complete(&mut object);
        let expected = object.revision;
        let write = write(path, layout::stored(&object), expected, open);
        Ok((
            write,
            Prepared {
                key,
                expected,
                object: Some(object),
            },
        ))
    }
}

/// An operation whose outcome is awaited.
struct Prepared {
    key: Key,
    expected: Revision,
    object: Option<Object>,
}

impl Prepared {
    fn answer(self, outcome: Outcome) -> Result<Object, StoreError> {
        let Self {
            key,
            expected,
            object,
        } = self;
        match outcome {
            Outcome::Written(revision, kept) => {
                let mut object = object.ok_or_else(stopped)?;
                keep(&mut object.value, &kept);
                Ok(Object { revision, ..object })
            }
            Outcome::Deleted { revision, value } => {
                let gone = layout::object(key.clone(), value.as_bytes(), revision);
                // What could not be read is gone all the same.
                Ok(gone.unwrap_or_else(|_| {
                    let Key {
                        kind,
                        namespace,
                        name,
                    } = key;
                    let value = serde_json::Value::Null;
                    Object {
                        kind,
                        namespace,
                        name,
                        value,
                        revision,
                    }
                }))
            }
            Outcome::Exists => Err(StoreError::Exists { key }),
            Outcome::Missing => Err(StoreError::Missing { key }),
            Outcome::Conflict => Err(StoreError::Conflict { key, expected }),
        }
    }
}

impl Sqlite {
    async fn write_all(&self, ops: Vec<Op>, ordered: bool) -> Vec<Result<Object, StoreError>> {
        let mut writes = Vec::with_capacity(ops.len());
        let mut prepared = Vec::with_capacity(ops.len());
        for op in ops {
            let made = self.shared.prepare(op).map(|(write, prepared)| {
                writes.push(write);
                prepared
            });
            let failed = made.is_err();
            prepared.push(made);
            if ordered && failed {
                break;
            }
        }
        let batch = Batch { writes, ordered };
        let answer = match batch.writes.is_empty() {
            true => Ok(Vec::new()),
            false => {
                let request = |reply| Request::Write { batch, reply };
                self.shared.ask(request).await
            }
        };
        let (outcomes, error) = match answer {
            Ok(outcomes) => (outcomes, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut outcomes = outcomes.into_iter();
        let mut results = Vec::with_capacity(prepared.len());
        for prepared in prepared {
            results.push(match (prepared, &error) {
                (Err(refused), _) => Err(refused),
                (Ok(_), Some(error)) => Err(error.clone()),
                (Ok(prepared), None) => match outcomes.next() {
                    Some(outcome) => prepared.answer(outcome),
                    // Of an ordered batch that ended before.
                    None => break,
                },
            });
        }
        results
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn get(&self, key: &Key) -> Result<Option<Object>, StoreError> {
        let path = self.shared.layout.path(key)?;
        let found = self.shared.readers.read(|table| table.get(&path))?;
        found
            .map(|row| layout::object(key.clone(), row.value.as_bytes(), row.revision))
            .transpose()
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, StoreError> {
        let prefixes = self.shared.layout.scope(scope);
        let (rows, revision) = self.shared.readers.read(|table| table.list(&prefixes))?;
        let mut objects: Vec<Object> = rows
            .into_iter()
            .filter_map(|row| Some((self.shared.layout.key(&row.path)?, row)))
            .filter(|(key, _)| scope.covers(key))
            .filter_map(|(key, row)| layout::object(key, row.value.as_bytes(), row.revision).ok())
            .collect();
        objects.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(Listing { objects, revision })
    }

    async fn write(&self, ops: Vec<Op>) -> Vec<Result<Object, StoreError>> {
        self.write_all(ops, false).await
    }

    fn is_ordered(&self) -> bool {
        true
    }

    /// In one commit.
    async fn write_in_order(&self, ops: Vec<Op>) -> Vec<Result<Object, StoreError>> {
        self.write_all(ops, true).await
    }

    async fn watch(&self, scope: &Scope, since: Revision) -> Result<Watch, StoreError> {
        let kind = scope.kind;
        let id = self
            .shared
            .ask(|reply| Request::Watch { kind, since, reply })
            .await?;
        Ok(Box::pin(changes::Changes::new(
            Arc::clone(&self.shared),
            id,
            scope.clone(),
        )))
    }
}
