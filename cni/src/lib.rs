#![doc = include_str!("../README.md")]

mod args;
mod config;
mod dispatch;
mod environment;
mod error;
mod exec;
mod identity;
mod plugin;
mod result;
mod rollback;
mod version;

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "testing")]
pub mod testing;

pub use args::{Args, ArgsError};
pub use config::{Bandwidth, NetworkConfig, PortMapping, RuntimeConfig};
pub use dispatch::{run, run_process};
pub use environment::{Command, Environment};
pub use error::CniError;
pub use exec::{Direct, Exec, Invocation};
pub use identity::{
    AttachmentId, ContainerId, IdentityError, InterfaceName, NetworkName, PluginName,
};
pub use ipnetwork;
pub use plugin::{Call, GcCall, Plugin, StatusCall};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use rollback::Rollback;
pub use version::{Version, VersionError};
