#![doc = include_str!("../README.md")]

mod backend;
mod error;
#[cfg(feature = "ipam")]
pub mod ipam;
pub mod model;
mod object;
mod store;

pub use backend::{Backend, Change, Listing, Op, Watch};
pub use error::StoreError;
pub use model::{Kind, Metadata, Resource};
pub use object::{Key, Object, Revision, Scope};
pub use store::{Listed, Name, Store, Versioned};
