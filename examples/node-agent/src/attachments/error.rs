use ocicat_dataplane::AttachError;
use ocicat_dataplane::state::LinkNameError;
use ocicat_datastore::StoreError;
use ocicat_ipam::{AssignError, ReleaseError};

use crate::facts::LOCKED;

/// Why a pod could not be added or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachmentError {
    /// The agent is not ready.
    #[error("the node agent is not ready: {0}")]
    NotReady(String),
    /// The datastore is locked.
    #[error("{LOCKED}")]
    Locked,
    /// The interface's name cannot be one.
    #[error(transparent)]
    Interface(#[from] LinkNameError),
    /// No address.
    #[error("no address: {0}")]
    Assign(#[from] AssignError),
    /// The configuration names another IPAM plugin, and its result is not there.
    #[error(
        "ipam.type names another plugin, which gave no address: is it the plugin ocicat that was called?"
    )]
    NoDelegated,
    /// `enforcePoolSelectors`: the pool is not for this pod.
    #[error(
        "IPPool {pool} may not be used here: its {field} does not select the {what} (ipam.enforcePoolSelectors)",
        what = if *field == "nodeSelector" { "node".to_owned() } else { format!("namespace {namespace}") }
    )]
    Forbidden {
        /// The pool.
        pool: String,
        /// The selector.
        field: &'static str,
        /// The pod's namespace.
        namespace: String,
    },
    /// There is no gateway to tell to the plugin that asked for an address.
    #[error(
        "block {block} has no gateway set aside: {why}; give the network a pool of its own (ipam.ipv4_pools), or say \"prefix\": \"host\" or \"pool\" under ipam"
    )]
    NoGateway {
        /// The block.
        block: ocicat_ipam::Prefix,
        /// Why not.
        why: &'static str,
    },
    /// A pool or block was removed a moment after the address was taken from it.
    #[error("the pool of {0} is gone")]
    Vanished(std::net::IpAddr),
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
    /// Nothing of the container is here: no link, no endpoint, no address.
    #[error("nothing of container {0} is here")]
    Unknown(String),
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
    /// With what went wrong while it was being undone.
    pub(crate) fn and(self, then: Self) -> Self {
        Self::Undoing {
            first: Box::new(self),
            then: Box::new(then),
        }
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NotReady(_)
            | Self::Locked
            | Self::Contention(_)
            | Self::Stopping(_)
            | Self::Ending => true,
            Self::Vanished(_) => true,
            Self::Interface(_) | Self::NoDelegated | Self::Unknown(_) => false,
            Self::Forbidden { .. } | Self::NoGateway { .. } => false,
            Self::Assign(error) => error.is_transient(),
            Self::Release(_) => true,
            Self::Attach(error) => error.is_transient(),
            Self::Store(error) => error.is_transient() || error.is_conflict(),
            Self::Records(error) => error.is_transient(),
            Self::Undoing { first, .. } => first.is_transient(),
        }
    }
}
