//! Route netlink (rtnetlink(7)) over one blocking socket: requests, dumps that know when they were overtaken, and many
//! messages in one datagram.
//!
//! The kernel does the work of a route netlink request inside `send`, so a blocking socket waits for nothing else;
//! what is read afterwards is there already.

// Each of the two features uses a part of what both need.
#![cfg_attr(not(all(feature = "attach", feature = "linux")), allow(dead_code))]

pub(crate) mod address;
mod batch;
pub(crate) mod codec;
#[cfg(feature = "linux")]
mod ethtool;
pub(crate) mod link;
#[cfg(feature = "linux")]
pub(crate) mod namespace;
pub(crate) mod neighbour;
pub(crate) mod netconf;
pub(crate) mod route;
#[cfg(feature = "linux")]
pub(crate) mod rule;
mod socket;
mod wire;

pub(crate) use batch::Batch;
pub(crate) use batch::message;
#[cfg(feature = "linux")]
pub(crate) use ethtool::Ethtool;
pub(crate) use socket::Socket;
#[cfg_attr(not(feature = "linux"), allow(unused_imports))]
pub(crate) use wire::{Notice, Object, notices};
