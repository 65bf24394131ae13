//! The library under `ocicatctl`, and what the lab and the policy tests share with it: manifests read from files with
//! the line of every field, checked, and written to a store.

pub mod change;
pub mod cli;
pub mod columns;
pub mod connection;
pub mod connectivity;
pub mod document;
pub mod export;
pub mod failure;
pub mod files;
pub mod get;
pub mod ipam;
pub mod kinds;
pub mod manifest;
mod native;
pub mod node;
pub mod output;
pub mod policy;
pub mod pools;
pub mod run;
pub mod table;
pub mod trace;
pub mod unknown;
pub mod whole;
pub mod write;

pub use document::{Document, Fault};
pub use failure::Failure;
pub use manifest::{Manifest, WriteError, Written};
pub use native::native;
