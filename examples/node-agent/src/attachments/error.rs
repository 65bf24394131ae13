use ocicat_dataplane::AttachError;
use ocicat_dataplane::state::LinkNameError;
use ocicat_datastore::StoreError;
use ocicat_ipam::{AssignError, ReleaseError};

/// Why a pod could not be added or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachmentError {
    /// The agent is not ready.
    #[error("the node agent is not ready: {0}")]
    NotReady(String),
    /// The interface's name cannot be one.
    #[error(transparent)]
    Interface(#[from] LinkNameError),
    /// No address.
    #[error("no address: {0}")]
    Assign(#[from] AssignError),
    /// An address could not be given back.
    #[error("an address could not be released: {0}")]
    Release(#[from] ReleaseError),
    /// No link.
    #[error("the interface could not be made or removed: {0}")]
    Attach(#[from] AttachError),
    /// The datastore failed.
    #[error("the datastore failed: {0}")]
    Store(#[from] StoreError),
    /// The records of addresses could not be read.
    #[error("the datastore failed: {0}")]
    Records(#[from] ocicat_ipam::StoreError),
    /// Others changed the endpoint again and again.
    #[error("WorkloadEndpoint {0} is changed by others all the time")]
    Contention(String),
    /// The agent is stopping.
    #[error("the node agent is stopping")]
    Stopping(#[from] tokio::task::JoinError),
    /// The agent is stopping.
    #[error("the node agent is stopping")]
    Ending,
    /// An error, and what went wrong while it was being undone.
    #[error("{first}; and while undoing: {then}")]
    Undoing {
        /// What happened first.
        first: Box<Self>,
        /// What happened then.
        then: Box<Self>,
    },
}

impl AttachmentError {
    /// Whether the same request may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NotReady(_) | Self::Contention(_) | Self::Stopping(_) | Self::Ending => true,
            Self::Interface(_) => false,
            Self::Assign(error) => error.is_transient(),
            Self::Release(_) => true,
            Self::Attach(error) => error.is_transient(),
            Self::Store(error) => error.is_transient() || error.is_conflict(),
            Self::Records(error) => error.is_transient(),
            Self::Undoing { first, .. } => first.is_transient(),
        }
    }
}
