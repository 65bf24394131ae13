//! The kit that every [`Backend`] must pass.
//!
//! Give [`run`] a [`Fixture`] of your store; what it reports is what a node agent would stumble over. It writes objects whose
//! names begin with `kit` in namespaces `kit-a` and `kit-b`, and deletes what it finds there first.

mod basics;
mod identities;
mod lists;
mod records;
mod watches;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::backend::{Backend, Change, Op, Watch};
use crate::error::StoreError;
use crate::model::Kind;
use crate::object::{Key, Object, Revision, Scope};

/// How long a change may take until a watch reports it, or a call until it is answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store to be checked.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The store, opened once more, as another process would.
    async fn open(&self) -> Arc<dyn Backend>;

    /// Makes the store forget its history up to now; false when it cannot be made to.
    async fn compact(&self) -> bool;

    /// Whether the store keeps fields that the kind does not have; true when this is not given. False for one that has a schema,
    /// such as a Kubernetes cluster.
    fn keeps_unknown_fields(&self) -> bool {
        true
    }
}

/// A check that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{check}: {reason}")]
pub struct Failure {
    /// The check's name.
    pub check: &'static str,
    /// What was seen.
    pub reason: String,
}

type Outcome = Result<(), String>;
type Check = for<'a> fn(&'a Kit<'a>) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Every check with its name.
const CHECKS: &[(&str, Check)] = &[
    ("create", |kit| Box::pin(basics::create(kit))),
    ("update", |kit| Box::pin(basics::update(kit))),
    ("put", |kit| Box::pin(basics::put(kit))),
    ("identity", |kit| Box::pin(identities::stay(kit))),
    ("identity of records", |kit| {
        Box::pin(identities::not_of_records(kit))
    }),
    ("delete", |kit| Box::pin(basics::delete(kit))),
    ("created again", |kit| Box::pin(basics::created_again(kit))),
    ("values", |kit| Box::pin(basics::values(kit))),
    ("many", |kit| Box::pin(basics::many(kit))),
    ("bad keys", |kit| Box::pin(basics::bad_keys(kit))),
    ("compare and swap", |kit| {
        Box::pin(basics::compare_and_swap(kit))
    }),
    ("list", |kit| Box::pin(lists::list(kit))),
    ("list across handles", |kit| {
        Box::pin(lists::across_handles(kit))
    }),
    ("list then watch", |kit| Box::pin(lists::then_watch(kit))),
    ("watch", |kit| Box::pin(watches::order(kit))),
    ("watch scope", |kit| Box::pin(watches::scope(kit))),
    ("watch history", |kit| Box::pin(watches::history(kit))),
    ("watch alone", |kit| Box::pin(watches::alone(kit))),
    ("compaction", |kit| Box::pin(watches::compaction(kit))),
    ("ipam records", |kit| Box::pin(records::round_trip(kit))),
    ("affinities of a node", |kit| {
        Box::pin(records::of_a_node(kit))
    }),
];

/// Runs every check on a store. Needs a tokio runtime with time; takes seconds.
///
/// # Errors
/// Every check that did not hold.
pub async fn run(fixture: &dyn Fixture) -> Result<(), Vec<Failure>> {
    let mut failures = Vec::new();
    for (check, run) in CHECKS {
        let kit = Kit {
            fixture,
            store: fixture.open().await,
        };
        let outcome = match kit.clean().await {
            Ok(()) => run(&kit).await,
            Err(reason) => Err(format!("before the check: {reason}")),
        };
        if let Err(reason) = outcome {
            failures.push(Failure { check, reason });
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures)
    }
}

/// What the checks work with.
struct Kit<'a> {
    fixture: &'a dyn Fixture,
    store: Arc<dyn Backend>,
}

/// The kinds that the checks write.
const KINDS: &[Kind] = &[
    Kind::GlobalNetworkSet,
    Kind::NetworkSet,
    Kind::IpamBlock,
    Kind::BlockAffinity,
    Kind::IpamHandle,
];

impl Kit<'_> {
    /// Deletes what an earlier check left.
    async fn clean(&self) -> Outcome {
        let mut ops = Vec::new();
        for kind in KINDS {
            let listing = told("list", self.store.list(&Scope::all(*kind)).await)?;
            let ours = listing
                .objects
                .iter()
                .filter(|object| is_ours(&object.key()));
            ops.extend(ours.map(|object| Op::Delete {
                key: object.key(),
                revision: None,
            }));
        }
        for answer in self.store.write(ops).await {
            told("delete", answer)?;
        }
        Ok(())
    }

    async fn other(&self) -> Arc<dyn Backend> {
        self.fixture.open().await
    }

    async fn one(&self, op: Op) -> Result<Object, StoreError> {
        one(&*self.store, op).await
    }

    async fn created(&self, object: Object) -> Result<Object, String> {
        told("create", self.one(Op::Create(object)).await)
    }

    async fn found(&self, key: &Key) -> Result<Option<Object>, String> {
        told("get", self.store.get(key).await)
    }
}

fn is_ours(key: &Key) -> bool {
    match key.kind {
        Kind::IpamBlock => key.name.starts_with("198-18-"),
        Kind::BlockAffinity => key.name.starts_with("host:kit-"),
        _ => key.name.starts_with("kit"),
    }
}

async fn one(store: &dyn Backend, op: Op) -> Result<Object, StoreError> {
    let mut answers = store.write(vec![op]).await;
    match (answers.pop(), answers.is_empty()) {
        (Some(answer), true) => answer,
        _ => Err(StoreError::Unavailable {
            reason: "not one answer for one operation".to_owned(),
        }),
    }
}

/// A set of networks; `nets` makes one differ from another.
fn set(name: &str, nets: &[&str]) -> Object {
    object(Kind::GlobalNetworkSet, None, name, json!({ "nets": nets }))
}

fn set_in(namespace: &str, name: &str, nets: &[&str]) -> Object {
    object(
        Kind::NetworkSet,
        Some(namespace),
        name,
        json!({ "nets": nets }),
    )
}

fn object(kind: Kind, namespace: Option<&str>, name: &str, spec: Value) -> Object {
    let mut object = Object {
        kind,
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        value: json!({ "spec": spec }),
        revision: Revision::NONE,
    };
    object.stamp();
    object
}

/// The result, with what was tried in the reason.
fn told<T>(what: &str, result: Result<T, StoreError>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn check(holds: bool, reason: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(reason()) }
}

/// The result must be this error.
fn refused<T: std::fmt::Debug>(
    what: &str,
    result: Result<T, StoreError>,
    expected: impl FnOnce(&StoreError) -> bool,
) -> Outcome {
    match result {
        Err(error) if expected(&error) => Ok(()),
        other => Err(format!("{what}: got {other:?}")),
    }
}

/// The next change that is no bookmark.
async fn change(watch: &mut Watch) -> Result<Change, String> {
    loop {
        let next = std::future::poll_fn(|context| watch.as_mut().poll_next(context));
        match tokio::time::timeout(PATIENCE, next).await {
            Err(_) => return Err(format!("no change was reported within {PATIENCE:?}")),
            Ok(None) => return Err("the watch ended".to_owned()),
            Ok(Some(Err(error))) => return Err(format!("the watch failed: {error}")),
            Ok(Some(Ok(Change::Bookmark(_)))) => {}
            Ok(Some(Ok(change))) => return Ok(change),
        }
    }
}

/// The error that a watch begins with, or its call fails with.
async fn first_error(watch: Result<Watch, StoreError>) -> Result<StoreError, String> {
    let mut watch = match watch {
        Ok(watch) => watch,
        Err(error) => return Ok(error),
    };
    let next = std::future::poll_fn(|context| watch.as_mut().poll_next(context));
    match tokio::time::timeout(PATIENCE, next).await {
        Ok(Some(Err(error))) => Ok(error),
        Ok(other) => Err(format!("the watch reports {other:?}")),
        Err(_) => Err("the watch says nothing".to_owned()),
    }
}
