//! What every backend must be able to do, as checks that a store of one's own can run, too.

pub mod backend_kit;
#[cfg(feature = "apiserver")]
pub mod kubernetes;
