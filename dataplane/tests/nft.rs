//! The nftables table in a real kernel, in network namespaces without a name that go with their threads. Needs root,
//! or `unshare -Urnm`, and nft(8) to compare with.

#![cfg(feature = "linux")]

#[path = "common/namespaces.rs"]
mod namespaces;

#[path = "nft/adopt.rs"]
mod adopt;
#[path = "nft/hidden.rs"]
mod hidden;
#[path = "nft/hosts.rs"]
mod hosts;
#[path = "nft/lab.rs"]
mod lab;
#[path = "nft/loss.rs"]
mod loss;
#[path = "nft/newcomer.rs"]
mod newcomer;
#[path = "nft/obstacles.rs"]
mod obstacles;
#[path = "nft/packets.rs"]
mod packets;
#[path = "nft/random.rs"]
mod random;
#[path = "nft/recheck.rs"]
mod recheck;
#[path = "nft/rootless.rs"]
mod rootless;
#[path = "nft/shape.rs"]
mod shape;
#[path = "nft/spoof.rs"]
mod spoof;
#[path = "nft/updates.rs"]
mod updates;
#[path = "nft/wire.rs"]
mod wire;
