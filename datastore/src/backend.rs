//! What a store must be able to do.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_core::Stream;

use crate::error::StoreError;
use crate::object::{Key, Object, Revision, Scope};

/// One write. Writes of one call are independent of each other: some can fail and others succeed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Makes an object that must not exist; else [`StoreError::Exists`]. Its revision is ignored.
    Create(Object),
    /// Replaces an object that must still have the revision of this one; else [`StoreError::Conflict`], or
    /// [`StoreError::Missing`] when there is none.
    Update(Object),
    /// Creates or replaces an object, whatever is there. Its revision is ignored.
    Put(Object),
    /// Deletes an object.
    Delete {
        /// Which one; [`StoreError::Missing`] when it does not exist.
        key: Key,
        /// The revision that it must still have, else [`StoreError::Conflict`]; any when none.
        revision: Option<Revision>,
    },
}

impl Op {
    /// The object that is written.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Create(object) | Self::Update(object) | Self::Put(object) => object.key(),
            Self::Delete { key, .. } => key.clone(),
        }
    }
}

/// All objects of a scope at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The objects, sorted by namespace and name.
    pub objects: Vec<Object>,
    /// When this was so; a watch since this revision sees everything later.
    pub revision: Revision,
}

/// A listing in parts, so that its reader need not hold all of it: each part has some of the objects, none comes twice,
/// and the revision of the last part is that of the whole. Ends after an error, and is then no listing at all.
pub type Parts = Pin<Box<dyn Stream<Item = Result<Listing, StoreError>> + Send>>;

/// A listing that is one part.
struct Whole(Option<Listing>);

impl Stream for Whole {
    type Item = Result<Listing, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

/// What a watch reports.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// The object was created or replaced; its revision says when.
    Put(Object),
    /// The object was deleted.
    Deleted {
        /// Which object.
        key: Key,
        /// When.
        revision: Revision,
    },
    /// Everything up to this revision has been reported.
    Bookmark(Revision),
}

impl Change {
    /// When it happened.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        match self {
            Self::Put(object) => object.revision,
            Self::Deleted { revision, .. } | Self::Bookmark(revision) => *revision,
        }
    }
}

/// Changes as they happen, in the order of their revisions, none left out. Ends after an error; dropping it
/// ends the watch.
pub type Watch = Pin<Box<dyn Stream<Item = Result<Change, StoreError>> + Send>>;

/// A store of objects with compare-and-swap and watch.
///
/// This is the seam for a store of one's own; `backend_kit` of the feature `testing` says whether it holds. Programs use the
/// typed [`Store`](crate::Store) over it.
///
/// What is written is read back with equal meaning, whatever its fields are. A write that was answered is seen by
/// every later read, and lists and watches never show a state that was not.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Reads an object; `None` when it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unauthorised`], [`StoreError::NoSuchKind`], and
    /// [`StoreError::Malformed`] when what is stored is no JSON object.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    async fn get(&self, key: &Key) -> Result<Option<Object>, StoreError>;

    /// Reads all objects of a scope, sorted by namespace and name. What is stored and cannot be read is left out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unauthorised`], [`StoreError::NoSuchKind`].
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    async fn list(&self, scope: &Scope) -> Result<Listing, StoreError>;

    /// As [`Backend::list`], but what the store had at `oldest` or at any later moment will do: what a follower wants, who sees
    /// the rest by watching on. [`Revision::NONE`] asks for whatever is at hand.
    ///
    /// The default lists as it is now. In Kubernetes it is what the API server has in memory, which costs etcd nothing.
    ///
    /// # Errors
    /// As for [`Backend::list`].
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    async fn list_since(&self, scope: &Scope, oldest: Revision) -> Result<Listing, StoreError> {
        // The newest is never too old.
        let _ = oldest;
        self.list(scope).await
    }

    /// As [`Backend::list_since`], in parts and in no particular order: what `follow` reads by. The parts are of one moment.
    ///
    /// The default is one part. In Kubernetes a part is a page of the API server's, and is asked for when it is polled for.
    ///
    /// # Errors
    /// As for [`Backend::list`], here or as the last item of the stream.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    async fn list_in_parts(&self, scope: &Scope, oldest: Revision) -> Result<Parts, StoreError> {
        let listing = self.list_since(scope, oldest).await?;
        Ok(Box::pin(Whole(Some(listing))))
    }

    /// What the store is, in one line for people, without secrets: `kubernetes: (projectcalico.org/v3)`.
    ///
    /// # Errors
    /// As for [`Backend::get`], where it has to be found out.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    async fn describe(&self) -> Result<String, StoreError> {
        Ok("a store of its own".to_owned())
    }

    /// Writes; one result for each operation, in their order.
    ///
    /// An answer is the object as it is stored, with its new revision; that of a deletion is the object as it
    /// was, with the revision of the deletion. Operations on one object are done in their order.
    ///
    /// # Cancel safety
    /// A call that is dropped may have written all, some or nothing.
    async fn write(&self, ops: Vec<Op>) -> Vec<Result<Object, StoreError>>;

    /// Whether [`write_in_order`](Self::write_in_order) costs no more than one write. Default false.
    fn is_ordered(&self) -> bool {
        false
    }

    /// Writes one after the other and stops at the first that fails: one result for each operation that was tried.
    /// Whatever happens, none is done without those before it.
    ///
    /// # Cancel safety
    /// As for [`write`](Self::write).
    async fn write_in_order(&self, ops: Vec<Op>) -> Vec<Result<Object, StoreError>> {
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            let mut answers = self.write(vec![op]).await;
            let failed = answers.iter().any(Result::is_err);
            results.append(&mut answers);
            if failed {
                break;
            }
        }
        results
    }

    /// Reports every change of the scope's objects after `since`, which a [`Listing`] or an earlier change gave.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the history since then is gone (here, or as an item of the stream), and as
    /// for [`Backend::list`].
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    async fn watch(&self, scope: &Scope, since: Revision) -> Result<Watch, StoreError>;
}
