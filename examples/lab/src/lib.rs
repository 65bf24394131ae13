//! A cluster in network namespaces, on one machine, without root.

pub mod agent;
pub mod background;
pub mod channel;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod counters;
pub mod demo;
pub mod inside;
pub mod launch;
pub mod monitor;
pub mod output;
pub mod place;
pub mod pod;
pub mod probe;
pub mod program;
pub mod resources;
pub mod sandbox;
pub mod scenario;
pub mod serve;
pub mod sync;
pub mod table;
pub mod traffic;
pub mod underlay;
pub mod wire;
