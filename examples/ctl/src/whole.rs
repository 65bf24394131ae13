//! Commands about the cluster as a whole.

pub mod migrate;
pub mod version;
