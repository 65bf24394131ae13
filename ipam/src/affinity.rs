use std::fmt;
use std::str::FromStr;

use crate::{Owner, Prefix};

/// How far a claim of a block has got. Only [`Confirmed`](Self::Confirmed) means ownership: nobody may route,
/// blackhole or announce a block on the strength of another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AffinityState {
    /// The claim has begun; the block may not exist yet, or be another's.
    Pending,
    /// The block names this owner. Stored data without a state means this too.
    #[default]
    Confirmed,
    /// The owner, or somebody on its behalf, is giving the block up.
    PendingDeletion,
}

/// The text is no state of an affinity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no state of an affinity: expected pending, confirmed or pendingDeletion")]
pub struct AffinityStateError {
    /// What was given.
    pub text: String,
}

impl AffinityState {
    /// The stored form: `pending`, `confirmed` or `pendingDeletion`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::PendingDeletion => "pendingDeletion",
        }
    }
}

impl fmt::Display for AffinityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AffinityState {
    type Err = AffinityStateError;

    fn from_str(text: &str) -> Result<Self, AffinityStateError> {
        match text {
            "pending" => Ok(Self::Pending),
            "confirmed" | "" => Ok(Self::Confirmed),
            "pendingDeletion" => Ok(Self::PendingDeletion),
            _ => Err(AffinityStateError {
                text: text.to_owned(),
            }),
        }
    }
}

/// The claim of one owner on one block. There may be several claims on a block; the block names the one that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockAffinity {
    /// Who claims.
    pub owner: Owner,
    /// The block that is claimed.
    pub block: Prefix,
    /// How far the claim has got.
    pub state: AffinityState,
}
