//! Our nf_tables messages against other people's: `nftnl` over libnftnl, the C library that nft(8) has, and
//! `netlink-packet-netfilter`.
//!
//! A state with every kind of object and expression goes into a real kernel, and what was sent is kept. Then
//! - each message is read by both and written again: nothing may be lost or come out otherwise;
//! - tables, chains, sets and elements are made by `nftnl` from the same facts, and the rules that are spelled out in
//!   `rules.rs` by both, as far as each has words for them: every attribute must be the same;
//! - what the kernel shows of the table is read by both, and is what was sent.
//!
//! Needs root, or `unshare -Urnm`.

#[path = "nft_oracles/by_nftnl.rs"]
mod by_nftnl;
#[path = "nft_oracles/by_packet.rs"]
mod by_packet;
#[path = "nft_oracles/libnftnl.rs"]
mod libnftnl;
#[allow(dead_code, reason = "shared with the dataplane's tests")]
#[path = "../../dataplane/tests/common/namespaces.rs"]
mod namespaces;
#[path = "../../dataplane/tests/common/netfilter.rs"]
mod netfilter;
#[path = "nft_oracles/objects.rs"]
mod objects;
#[path = "nft_oracles/ours.rs"]
mod ours;
#[path = "nft_oracles/packet.rs"]
mod packet;
#[path = "nft_oracles/rules.rs"]
mod rules;
#[path = "nft_oracles/shown.rs"]
mod shown;
#[path = "nft_oracles/tree.rs"]
mod tree;
