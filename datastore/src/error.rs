//! What can go wrong.

use crate::model::Kind;
use crate::object::{Key, Revision};

/// Why an operation on a store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The object to create is there already.
    #[error("{key} exists already")]
    Exists {
        /// Which object.
        key: Key,
    },
    /// The object to read, update or delete is not there.
    #[error("{key} does not exist")]
    Missing {
        /// Which object.
        key: Key,
    },
    /// The object was written since it was read.
    #[error("{key} was changed: expected revision {expected}")]
    Conflict {
        /// Which object.
        key: Key,
        /// The revision that the caller had read.
        expected: Revision,
    },
    /// The history that a watch asked for is gone; list again.
    #[error("revision {since} is gone: the history begins at {oldest}")]
    Compacted {
        /// Where the watch wanted to begin.
        since: Revision,
        /// The oldest revision that a watch can begin at, or [`Revision::NONE`] where it is not known.
        oldest: Revision,
    },
    /// The store refuses the caller.
    #[error("not allowed: {reason}")]
    Unauthorised {
        /// What the store says.
        reason: String,
    },
    /// The store cannot be reached or does not answer; the operation may or may not have happened.
    #[error("the datastore is unavailable: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// What is stored cannot be read.
    #[error("{key}: {field}: {reason}")]
    Malformed {
        /// Which object.
        key: Key,
        /// The path of the field that cannot be read.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What is to be stored is refused.
    #[error("{}{field}: {reason}", .key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
    Invalid {
        /// Which object, where it is known.
        key: Option<Key>,
        /// The path of the field that is wrong.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store does not know this kind, such as a Kubernetes cluster without the definition.
    #[error("the datastore has no objects of kind {kind}: {reason}")]
    NoSuchKind {
        /// Which kind.
        kind: Kind,
        /// What the store says.
        reason: String,
    },
    /// The store cannot do this with objects of the kind, such as making a Kubernetes pod for an endpoint.
    #[error("{key} {reason}")]
    Unsupported {
        /// Which object.
        key: Key,
        /// Why, and what can be done.
        reason: String,
    },
    /// The store cannot be opened as asked.
    #[error("{url}: {reason}")]
    Open {
        /// What was to be opened, without secrets.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    /// Whether somebody else was faster: reading again and trying again can help.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Exists { .. })
    }

    /// Whether the same operation may succeed later without anything else being done.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
