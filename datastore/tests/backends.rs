//! The kit on our own backends, and on wrong ones that it must find out.

#[path = "common/folder.rs"]
#[allow(dead_code)]
mod folder;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use ocicat_datastore::testing::backend_kit::{self, Fixture};
use ocicat_datastore::{
    Backend, Change, Key, Listing, Memory, Object, Op, Revision, Scope, Sqlite, StoreError, Watch,
};

struct InMemory(Arc<Memory>);

#[async_trait]
impl Fixture for InMemory {
    async fn open(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.0) as Arc<dyn Backend>
    }

    async fn compact(&self) -> bool {
        self.0.compact(self.0.revision());
        true
    }
}

struct InSqlite(tempfile::TempDir);

#[async_trait]
impl Fixture for InSqlite {
    async fn open(&self) -> Arc<dyn Backend> {
        Arc::new(Sqlite::open(self.0.path().join("kit.db")).expect("the store opens"))
    }

    async fn compact(&self) -> bool {
        let store = Sqlite::open(self.0.path().join("kit.db")).expect("the store opens");
        store
            .compact(Revision(u64::MAX))
            .await
            .expect("a compaction");
        true
    }
}

fn report(result: Result<(), Vec<backend_kit::Failure>>) {
    if let Err(failures) = result {
        let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"));
    }
}

#[tokio::test]
async fn memory() {
    report(backend_kit::run(&InMemory(Arc::new(Memory::new()))).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let folder = folder::in_memory();
    report(backend_kit::run(&InSqlite(folder)).await);
}

/// What is wrong with a [`Wrong`] store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    ForgetsRevisions,
    UpdatesBlindly,
    ForgetsIdentities,
    CreatesOver,
    DeletesBlindly,
    LosesDeletions,
    LosesEveryTenth,
    TellsTwice,
    TellsOthers,
    ListsLate,
    DropsUnknownFields,
    StopsAtFirstError,
    NeverCompacted,
    IgnoresPrefixes,
}

struct Wrong {
    inner: Memory,
    fault: Fault,
    count: AtomicUsize,
}

impl Wrong {
    fn spoil(&self, op: Op) -> Op {
        match (self.fault, op) {
            (Fault::UpdatesBlindly, Op::Update(object)) => Op::Put(object),
            (Fault::ForgetsIdentities, Op::Update(mut object)) => {
                object.value["metadata"]["uid"] = "another".into();
                Op::Update(object)
            }
            (Fault::CreatesOver, Op::Create(object)) => Op::Put(object),
            (Fault::DeletesBlindly, Op::Delete { key, .. }) => Op::Delete {
                key,
                revision: None,
            },
            (Fault::DropsUnknownFields, Op::Create(mut object)) => {
                if let Some(spec) = object.value["spec"].as_object_mut() {
                    spec.remove("unknownHere");
                }
                Op::Create(object)
            }
            (_, op) => op,
        }
    }
}

#[async_trait]
impl Backend for Wrong {
    async fn get(&self, key: &Key) -> Result<Option<Object>, StoreError> {
        let found = self.inner.get(key).await?;
        Ok(found.map(|object| match self.fault {
            Fault::ForgetsRevisions => Object {
                revision: Revision(1),
                ..object
            },
            _ => object,
        }))
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, StoreError> {
        let scope = match self.fault {
            Fault::IgnoresPrefixes => scope.clone().with_prefix(""),
            _ => scope.clone(),
        };
        let mut listing = self.inner.list(&scope).await?;
        if self.fault == Fault::ListsLate {
            listing.revision = Revision(listing.revision.0.saturating_sub(3));
        }
        Ok(listing)
    }

    async fn write(&self, ops: Vec<Op>) -> Vec<Result<Object, StoreError>> {
        let count = ops.len();
        let mut answers = Vec::new();
        for op in ops {
            answers.extend(self.inner.write(vec![self.spoil(op)]).await);
            if self.fault == Fault::StopsAtFirstError && answers.last().is_some_and(Result::is_err)
            {
                let error = StoreError::Unavailable {
                    reason: "stopped".to_owned(),
                };
                answers.resize(count, Err(error));
                break;
            }
        }
        answers
    }

    async fn watch(&self, scope: &Scope, since: Revision) -> Result<Watch, StoreError> {
        let wide = match self.fault {
            Fault::TellsOthers => Scope::all(scope.kind),
            _ => scope.clone(),
        };
        let since = match self.fault {
            Fault::NeverCompacted => self.inner.revision(),
            _ => since,
        };
        let mut watch = self.inner.watch(&wide, since).await?;
        let (fault, start) = (self.fault, self.count.fetch_add(1, Ordering::Relaxed));
        let mut number = start;
        let mut again: Option<Change> = None;
        let stream = poll_fn_stream(move |context| {
            loop {
                if let Some(change) = again.take() {
                    return std::task::Poll::Ready(Some(Ok(change)));
                }
                let item = std::task::ready!(watch.as_mut().poll_next(context));
                number += 1;
                match (&item, fault) {
                    (Some(Ok(Change::Deleted { .. })), Fault::LosesDeletions) => {}
                    (Some(Ok(_)), Fault::LosesEveryTenth) if number % 10 == 0 => {}
                    (Some(Ok(change)), Fault::TellsTwice) => {
                        again = Some(change.clone());
                        return std::task::Poll::Ready(item);
                    }
                    _ => return std::task::Poll::Ready(item),
                }
            }
        });
        Ok(Box::pin(stream))
    }
}

struct PollFn<F>(F);

fn poll_fn_stream<F>(function: F) -> PollFn<F>
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Change, StoreError>>>
        + Unpin,
{
    PollFn(function)
}

impl<F> futures_core::Stream for PollFn<F>
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Change, StoreError>>>
        + Unpin,
{
    type Item = Result<Change, StoreError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        (self.0)(context)
    }
}

struct WrongFixture(Arc<Wrong>);

#[async_trait]
impl Fixture for WrongFixture {
    async fn open(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.0) as Arc<dyn Backend>
    }

    async fn compact(&self) -> bool {
        self.0.inner.compact(self.0.inner.revision());
        true
    }
}

/// Time is paused: what never comes is not waited for.
#[tokio::test(start_paused = true)]
async fn wrong_stores_are_found_out() {
    for fault in [
        Fault::ForgetsRevisions,
        Fault::UpdatesBlindly,
        Fault::ForgetsIdentities,
        Fault::CreatesOver,
        Fault::DeletesBlindly,
        Fault::LosesDeletions,
        Fault::LosesEveryTenth,
        Fault::TellsTwice,
        Fault::TellsOthers,
        Fault::ListsLate,
        Fault::DropsUnknownFields,
        Fault::StopsAtFirstError,
        Fault::NeverCompacted,
        Fault::IgnoresPrefixes,
    ] {
        let wrong = Wrong {
            inner: Memory::new(),
            fault,
            count: AtomicUsize::new(0),
        };
        let result = backend_kit::run(&WrongFixture(Arc::new(wrong))).await;
        assert!(result.is_err(), "a store that {fault:?} passes");
    }
}
