//! The reference node agent: claims address blocks, speaks BGP, programs routes and policy, and serves the CNI plugin.

pub mod config;
pub mod control;
pub mod detect;
pub mod events;
pub mod host;
pub mod network;
pub mod originate;
pub mod peers;
pub mod pod;
pub mod world;
