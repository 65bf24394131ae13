//! libnftnl reads a message into its own objects and writes it anew.

#![allow(unsafe_code, reason = "a C library")]

use nftnl::nftnl_sys as sys;

use crate::ours::messages;
use crate::tree::{Message, assert_same};

/// Room for the largest message, aligned as a netlink header.
const ROOM: usize = 128 << 10;
const HEADER: usize = 16;

/// `NFT_MSG_*` of what the library reads and writes.
const TABLE: [u8; 2] = [0, 2];
const CHAIN: [u8; 2] = [3, 5];
const RULE: [u8; 2] = [6, 8];
const SET: [u8; 2] = [9, 11];
const ELEMENTS: [u8; 2] = [12, 14];

/// The message as the library understands it; `None` when it does not.
pub(crate) fn again(bytes: &[u8]) -> Option<Vec<u8>> {
    let kind = bytes[4];
    let mut from = aligned(bytes);
    let mut to = vec![0_u64; ROOM / 8];
    let flags = u16::from_ne_bytes([bytes[6], bytes[7]]);
    let family = u16::from(bytes[HEADER]);
    let read = from.as_mut_ptr().cast();
    // SAFETY: `to` has room for the largest message, and is aligned for the header.
    let write = unsafe {
        sys::nftnl_nlmsg_build_hdr(to.as_mut_ptr().cast(), kind.into(), family, flags, 1)
    };
    // SAFETY: `from` is a whole message, and longer than the library reads; each object lives from its `alloc` to its
    // `free`, and is written to a header that has room for what was read from a message of at most 64 KiB.
    let code = unsafe {
        if TABLE.contains(&kind) {
            let object = sys::nftnl_table_alloc();
            let code = sys::nftnl_table_nlmsg_parse(read, object);
            sys::nftnl_table_nlmsg_build_payload(write, object);
            sys::nftnl_table_free(object);
            code
        } else if CHAIN.contains(&kind) {
            let object = sys::nftnl_chain_alloc();
            let code = sys::nftnl_chain_nlmsg_parse(read, object);
            sys::nftnl_chain_nlmsg_build_payload(write, object);
            sys::nftnl_chain_free(object);
            code
        } else if RULE.contains(&kind) {
            let object = sys::nftnl_rule_alloc();
            let code = sys::nftnl_rule_nlmsg_parse(read, object);
            sys::nftnl_rule_nlmsg_build_payload(write, object);
            sys::nftnl_rule_free(object);
            code
        } else if SET.contains(&kind) {
            let object = sys::nftnl_set_alloc();
            let code = sys::nftnl_set_nlmsg_parse(read, object);
            sys::nftnl_set_nlmsg_build_payload(write, object);
            sys::nftnl_set_free(object);
            code
        } else if ELEMENTS.contains(&kind) {
            let object = sys::nftnl_set_alloc();
            let code = sys::nftnl_set_elems_nlmsg_parse(read, object);
            sys::nftnl_set_elems_nlmsg_build_payload(write, object);
            sys::nftnl_set_free(object);
            code
        } else {
            panic!("message {kind}")
        }
    };
    let bytes: Vec<u8> = to.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap());
    let length = usize::try_from(length).unwrap();
    (code >= 0).then(|| bytes[..length].to_vec())
}

fn aligned(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    });
    // One more, of zeros, so that the end is not the end of the allocation.
    words.chain([0]).collect()
}

#[test]
fn reads_every_message_and_writes_the_same() {
    for (bytes, ours) in messages() {
        let again = again(&bytes).unwrap_or_else(|| panic!("libnftnl cannot read {ours:?}"));
        assert_same(&ours, &Message::read(&again), "libnftnl");
    }
}
