//! The CNI plugins of the reference assembly, as a library so that tests can call them in process.
//!
//! Both are thin: what they are asked goes to the node agent over its socket, and what it answers is printed. They
//! hold no credentials and keep nothing but notes of what was detached while the agent was down.
//!
//! - [`Network`] (program `ocicat`): the plugin of a network whose pods the agent attaches.
//! - [`Ipam`] (program `ocicat-ipam`): addresses for other plugins, such as `ptp`, `bridge` and `macvlan`.
//!
//! With the feature `direct` there is a third, which needs no agent and is not thin: `Direct` (program `ocicat-direct`) attaches pods
//! of a single host itself, with addresses from a datastore.

mod config;
#[cfg(feature = "direct")]
mod direct;
mod ipam;
mod network;

pub use config::Config;
#[cfg(feature = "direct")]
pub use direct::{Direct, DirectConfig};
pub use ipam::Ipam;
pub use network::Network;

use std::process::ExitCode;

use ocicat_cni::Plugin;

/// A program's `main`: answers `--version`, else serves the call of a runtime.
pub fn main<P: Plugin>(plugin: &P) -> ExitCode {
    let wants_version = std::env::args()
        .nth(1)
        .is_some_and(|arg| arg == "--version" || arg == "-v");
    if wants_version {
        println!("{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    ocicat_cni::run_process(plugin)
}
