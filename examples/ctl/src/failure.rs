//! Why a command failed, and the exit code that says so.

use ocicat_datastore::StoreError;
use serde_json::json;

use crate::document::Fault;
use crate::manifest::WriteError;

/// Why a command did not do what it was asked. Each kind has an exit code of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It failed (1).
    #[error("{0}")]
    Failed(String),
    /// The arguments make no sense together (2).
    #[error("{0}")]
    Usage(String),
    /// What was asked for does not exist (3).
    #[error("{0}")]
    NotFound(String),
    /// A check, a test or a comparison found something; what it found has been printed (4).
    #[error("{0}")]
    Found(String),
    /// Somebody else wrote the object, or it exists already (5).
    #[error("{0}")]
    Conflict(String),
    /// The datastore or the agent does not answer (6).
    #[error("{0}")]
    Unavailable(String),
}

impl Failure {
    /// The exit code of the program.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Found(_) => 4,
            Self::Conflict(_) => 5,
            Self::Unavailable(_) => 6,
        }
    }

    /// One JSON object, for `-o json`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let reason = match self {
            Self::Failed(_) => "failed",
            Self::Usage(_) => "usage",
            Self::NotFound(_) => "not-found",
            Self::Found(_) => "found",
            Self::Conflict(_) => "conflict",
            Self::Unavailable(_) => "unavailable",
        };
        json!({"error": self.to_string(), "reason": reason, "code": self.code()})
    }

    /// A failure that says what was being done.
    #[must_use]
    pub fn failed(context: &str, error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{context}: {error}"))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::Missing { .. } => Self::NotFound(text),
            StoreError::Exists { .. } | StoreError::Conflict { .. } => Self::Conflict(text),
            StoreError::Unavailable { .. } => Self::Unavailable(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<ocicat_ipam::StoreError> for Failure {
    fn from(error: ocicat_ipam::StoreError) -> Self {
        if error.is_conflict() {
            Self::Conflict(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.to_string())
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Fault(fault) => fault.into(),
            WriteError::Store(error) => error.into(),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ocicat_node::control::ControlError> for Failure {
    fn from(error: ocicat_node::control::ControlError) -> Self {
        use std::error::Error;
        let why = error.source().map(|source| format!(": {source}"));
        Self::Unavailable(format!("{error}{}", why.unwrap_or_default()))
    }
}
