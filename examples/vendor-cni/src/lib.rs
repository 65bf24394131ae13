//! Manul: a CNI plugin of another vendor's, built on ocicat's crates. See README.md for the seams that it uses.

mod addresses;
mod bridge;
mod plugin;

use ocicat_cni::CniError;

pub use addresses::Sticky;
pub use plugin::{Config, Manul};

fn runtime() -> Result<tokio::runtime::Runtime, CniError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|cause| CniError::io("starting a runtime", cause))
}
