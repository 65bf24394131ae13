//! The Linux kernel over netlink: pods' links, the node's interfaces, and the kernel that follows a state.
//!
//! Everything works in the network namespace of the thread that opens it, and needs `CAP_NET_ADMIN` in the user
//! namespace that owns it: root of a user namespace will do.

#[cfg(feature = "attach")]
mod attach;
#[cfg(feature = "linux")]
mod conntrack;
#[cfg(feature = "linux")]
mod dataplane;
#[cfg(feature = "linux")]
mod entries;
#[cfg(feature = "linux")]
mod follow;
mod interfaces;
#[cfg(feature = "linux")]
mod links;
#[cfg(feature = "linux")]
mod lookup;
#[cfg(feature = "linux")]
mod monitor;
mod netns;
#[cfg(feature = "linux")]
mod options;
#[cfg(feature = "linux")]
mod probe;
#[cfg(feature = "linux")]
mod recheck;
#[cfg(feature = "linux")]
mod routes;
#[cfg(feature = "linux")]
mod rules;
#[cfg(feature = "linux")]
mod settings;
mod sysctl;
#[cfg(feature = "linux")]
mod view;

#[cfg(feature = "attach")]
pub use attach::LinuxAttach;
#[cfg(feature = "linux")]
pub use conntrack::forget_connections;
#[cfg(feature = "linux")]
pub use dataplane::LinuxDataplane;
pub use interfaces::interfaces;
#[cfg(feature = "linux")]
pub use lookup::{Way, routes_of, way_to};
#[cfg(feature = "linux")]
pub use options::Options;
#[cfg(feature = "linux")]
pub use probe::{Feature, probe, probe_with};
#[cfg(feature = "linux")]
pub use recheck::{Rechecked, recheck_connections};
