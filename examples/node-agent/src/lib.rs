//! The reference node agent: claims address blocks, speaks BGP, programs routes and policy, and serves the CNI plugin.
//!
//! [`agent::Agent`] is the whole, with every part replaceable. The modules beside it are its deciding parts, pure
//! functions from what is known to what should be.

pub mod agent;
mod assigner;
mod attachments;
mod cni;
pub mod config;
pub mod control;
mod core;
pub mod detect;
mod drain;
mod drive;
pub mod events;
pub mod facts;
mod filters;
pub mod host;
pub mod network;
pub mod originate;
pub mod peers;
pub mod pod;
mod register;
mod secrets;
pub mod services;
pub mod snapshot;
mod speaker;
mod startup;
mod tunnel;
pub mod world;
