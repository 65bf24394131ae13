//! The reference node agent: claims address blocks, speaks BGP, programs routes and policy, and serves the CNI plugin.
//!
//! [`agent::Agent`] is the whole, with every part replaceable. The modules beside it are its deciding parts, pure
//! functions from what is known to what should be.

pub mod agent;
mod assigner;
mod attachments;
mod census;
mod cni;
mod collect;
pub mod config;
pub mod control;
mod core;
pub mod detect;
mod drain;
mod drive;
mod endpoint_status;
pub mod events;
pub mod facts;
mod figures;
mod filters;
mod health;
pub mod host;
mod install;
mod kubernetes;
mod lease;
pub mod log;
mod metrics;
pub mod network;
mod node_status;
pub mod originate;
pub mod parameters;
pub mod peers;
pub mod pod;
mod pools;
mod register;
mod secrets;
pub mod services;
pub mod snapshot;
mod speaker;
mod startup;
mod tunnel;
pub mod uninstall;
mod uphold;
pub mod world;
