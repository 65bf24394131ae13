//! The Linux kernel over netlink: pods' links, the node's interfaces, and the kernel that follows a state.
//!
//! Everything works in the network namespace of the thread that opens it, and needs `CAP_NET_ADMIN` in the user
//! namespace that owns it: root of a user namespace will do.

#[cfg(feature = "attach")]
mod attach;
mod interfaces;
#[cfg(feature = "attach")]
mod netns;
mod sysctl;

#[cfg(feature = "attach")]
pub use attach::LinuxAttach;
pub use interfaces::interfaces;
