//! Real packets under real policies: resources go through `policy`'s graph into the kernel's table, packets of every
//! kind go from everybody to everybody, and what arrives must be what `policy`'s evaluator says of the same resources.
//!
//! Needs root, or `unshare -Urnm`, and nft(8) and ip(8). The links and the raw packets are those of the dataplane's
//! own tests.

#[allow(dead_code, reason = "shared with the dataplane's tests")]
#[path = "../../dataplane/tests/nft/lab.rs"]
mod lab;
#[path = "../../dataplane/tests/common/namespaces.rs"]
mod namespaces;
#[path = "../../dataplane/tests/common/netfilter.rs"]
mod netfilter;
#[allow(dead_code, reason = "shared with the dataplane's tests")]
#[path = "../../dataplane/tests/nft/wire.rs"]
mod wire;

#[path = "policy_packets/hosts.rs"]
mod hosts;
#[path = "policy_packets/kinds.rs"]
mod kinds;
#[path = "policy_packets/log.rs"]
mod log;
#[path = "policy_packets/random.rs"]
mod random;
#[path = "policy_packets/scenarios.rs"]
mod scenarios;
#[path = "policy_packets/services.rs"]
mod services;
#[path = "policy_packets/world.rs"]
mod world;
