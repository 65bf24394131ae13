//! The library under `ocicatctl`, and what the lab shares with it: manifests read from files with the line of every
//! field, checked, and written to a store.

pub mod document;
pub mod manifest;
mod native;

pub use document::{Document, Fault};
pub use manifest::{Manifest, WriteError, Written};
pub use native::native;
