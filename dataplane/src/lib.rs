#![doc = include_str!("../README.md")]

mod prefix;
pub mod state;

pub use ipnetwork;
pub use prefix::{Prefix, PrefixError};
pub use state::State;
