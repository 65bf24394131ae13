//! A cluster in network namespaces, on one machine, without root.

pub mod cli;
pub mod place;
pub mod probe;
pub mod sandbox;
pub mod scenario;
pub mod underlay;
pub mod wire;
