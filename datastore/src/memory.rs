//! A store in memory, with history, watch, compaction and failures on demand.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_core::Stream;

use crate::backend::{Backend, Change, Listing, Op, Watch};
use crate::error::StoreError;
use crate::feed::{Entry, Feed, Next};
use crate::identity::{Open, keep};
use crate::object::{Key, Object, Revision, Scope, take_version};

/// A call that reaches a [`Memory`] store; a hook decides what becomes of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Call<'a> {
    /// An object is read.
    Get(&'a Key),
    /// Objects are listed.
    List(&'a Scope),
    /// One operation of a write.
    Write(&'a Op),
    /// A watch begins.
    Watch(&'a Scope),
}

/// What becomes of a [`Call`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fate {
    /// It is done.
    Proceed,
    /// It fails, and nothing happens.
    Fail(StoreError),
    /// It is done, and its answer is lost: the caller gets this error.
    LoseAnswer(StoreError),
}

type Hook = Box<dyn FnMut(Call<'_>) -> Fate + Send>;

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Object>,
    revision: Revision,
    hook: Option<Hook>,
}

/// A store in memory: the [`Backend`] of tests and simulations, which keeps all its history until [`Memory::compact`].
///
/// Nothing of it waits for anything but a watch for the next change, and it needs no runtime. Calls are made to
/// fail by [`Memory::set_hook`] and [`Memory::fail_next`], watches by [`Memory::disconnect`].
pub struct Memory {
    state: Mutex<State>,
    feed: Arc<Feed<Change>>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            feed: Arc::new(Feed::new(Revision::NONE)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision of the last write.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.lock().revision
    }

    /// Forgets the history up to a revision: a watch from before it gets [`StoreError::Compacted`].
    pub fn compact(&self, upto: Revision) {
        self.feed.compact(upto);
    }

    /// Ends every watch with an error, as a server that restarts does.
    pub fn disconnect(&self, error: &StoreError) {
        self.feed.close(error);
    }

    /// Asks `hook` about every call from now on, in place of an earlier hook.
    pub fn set_hook(&self, hook: impl FnMut(Call<'_>) -> Fate + Send + 'static) {
        self.lock().hook = Some(Box::new(hook));
    }

    /// Lets every call happen again.
    pub fn clear_hook(&self) {
        self.lock().hook = None;
    }

    /// Fails the next `count` calls with this error, and lets later ones happen.
    pub fn fail_next(&self, count: usize, error: StoreError) {
        let mut left = count;
        self.set_hook(move |_| {
            if left == 0 {
                return Fate::Proceed;
            }
            left -= 1;
            Fate::Fail(error.clone())
        });
    }
}

impl State {
    fn fate(&mut self, call: Call<'_>) -> Fate {
        self.hook.as_mut().map_or(Fate::Proceed, |hook| hook(call))
    }

    /// Does one operation; the answer, and what a watch sees.
    fn apply(&mut self, op: Op) -> Result<(Object, Change), StoreError> {
        let key = op.key();
        key.check()?;
        let there = self.objects.get(&key);
        let found = there.map(|object| object.revision);
        let next = Revision(self.revision.0 + 1);
        let mut object = match (op, found) {
            (Op::Create(_), Some(_)) => return Err(StoreError::Exists { key }),
            (Op::Update(_) | Op::Delete { .. }, None) => return Err(StoreError::Missing { key }),
            (Op::Update(object), Some(found)) if object.revision != found => {
                return Err(StoreError::Conflict {
                    key,
                    expected: object.revision,
                });
            }
            (
                Op::Delete {
                    revision: Some(expected),
                    ..
                },
                Some(found),
            ) if expected != found => {
                return Err(StoreError::Conflict { key, expected });
            }
            (Op::Delete { .. }, Some(_)) => {
                self.revision = next;
                let removed = self.objects.remove(&key);
                let gone = removed.ok_or_else(|| StoreError::Missing { key: key.clone() })?;
                let change = Change::Deleted {
                    key,
                    revision: next,
                };
                return Ok((
                    Object {
                        revision: next,
                        ..gone
                    },
                    change,
                ));
            }
            (Op::Create(object) | Op::Update(object) | Op::Put(object), _) => object,
        };
        take_version(&mut object.value);
        object.stamp();
        if let (Some(open), Some(there)) = (Open::complete(&mut object), there) {
            keep(&mut object.value, &open.kept(&there.value));
        }
        object.revision = next;
        self.revision = next;
        self.objects.insert(key, object.clone());
        Ok((object.clone(), Change::Put(object)))
    }
}

#[async_trait]
impl Backend for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Object>, StoreError> {
        let mut state = self.lock();
        match state.fate(Call::Get(key)) {
            Fate::Proceed => Ok(state.objects.get(key).cloned()),
            Fate::Fail(error) | Fate::LoseAnswer(error) => Err(error),
        }
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, StoreError> {
        let mut state = self.lock();
        if let Fate::Fail(error) | Fate::LoseAnswer(error) = state.fate(Call::List(scope)) {
            return Err(error);
        }
        let covered = state.objects.iter().filter(|(key, _)| scope.covers(key));
        let objects = covered.map(|(_, object)| object.clone()).collect();
        Ok(Listing {
            objects,
            revision: state.revision,
        })
    }

    async fn write(&self, ops: Vec<Op>) -> Vec<Result<Object, StoreError>> {
        let mut state = self.lock();
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        for op in ops {
            let fate = state.fate(Call::Write(&op));
            if let Fate::Fail(error) = fate {
                answers.push(Err(error));
                continue;
            }
            let answer = state.apply(op).map(|(object, change)| {
                let (revision, kind) = (object.revision, object.kind);
                changes.push(Entry {
                    revision,
                    kind,
                    change: Arc::new(change),
                });
                object
            });
            answers.push(match fate {
                Fate::LoseAnswer(error) => Err(error),
                _ => answer,
            });
        }
        // Under the lock, so that the feed has the order of the revisions.
        if !changes.is_empty() {
            self.feed.append(changes, state.revision);
        }
        answers
    }

    async fn watch(&self, scope: &Scope, since: Revision) -> Result<Watch, StoreError> {
        let mut state = self.lock();
        if let Fate::Fail(error) | Fate::LoseAnswer(error) = state.fate(Call::Watch(scope)) {
            return Err(error);
        }
        let oldest = self.feed.floor();
        if since < oldest || since > state.revision {
            return Err(StoreError::Compacted { since, oldest });
        }
        let id = self.feed.subscribe(scope.kind, since);
        Ok(Box::pin(Changes {
            feed: Arc::clone(&self.feed),
            id,
            scope: scope.clone(),
            over: false,
        }))
    }
}

struct Changes {
    feed: Arc<Feed<Change>>,
    id: u64,
    scope: Scope,
    over: bool,
}

impl Stream for Changes {
    type Item = Result<Change, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.over {
            let item = match self.feed.poll_next(self.id, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Next::Change(change)) => {
                    let covered = match &*change {
                        Change::Put(object) => self.scope.covers(&object.key()),
                        Change::Deleted { key, .. } => self.scope.covers(key),
                        Change::Bookmark(_) => true,
                    };
                    if !covered {
                        continue;
                    }
                    Ok((*change).clone())
                }
                Poll::Ready(Next::Behind(since)) => {
                    let oldest = self.feed.floor();
                    Err(StoreError::Compacted { since, oldest })
                }
                Poll::Ready(Next::Closed(error)) => Err(error),
            };
            self.over = item.is_err();
            return Poll::Ready(Some(item));
        }
        Poll::Ready(None)
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.feed.unsubscribe(self.id);
    }
}
