#![doc = include_str!("../README.md")]

mod attach;
mod counters;
mod dataplane;
pub mod hop;
pub mod interfaces;
mod kernel;
#[cfg(any(feature = "attach", feature = "linux"))]
pub mod linux;
pub mod mtu;
pub mod names;
#[cfg(any(feature = "attach", feature = "linux"))]
mod netlink;
pub mod nft;
mod prefix;
mod report;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verdict;

pub use attach::{Attach, AttachError, Attached, Attachment, Detachment, Difference};
pub use counters::{Count, Counters, Direction};
pub use dataplane::Dataplane;
pub use ipnetwork;
pub use kernel::{KernelError, Refusal};
#[cfg(feature = "attach")]
pub use linux::LinuxAttach;
#[cfg(feature = "linux")]
pub use linux::LinuxDataplane;
pub use prefix::{Prefix, PrefixError};
pub use report::{ApplyError, Failure, Fault, Object, OpenError, Report};
pub use state::State;
