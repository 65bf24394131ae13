//! Commands about the cluster as a whole.

pub mod connectivity;
pub mod migrate;
pub mod version;
