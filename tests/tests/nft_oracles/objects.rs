//! Tables, chains, sets and elements made by `nftnl` from the facts, not from our messages.

use nftnl::{ChainType, Hook};

use crate::by_nftnl;
use crate::ours::messages;
use crate::tree::{Message, assert_same};

/// `NFT_MSG_NEW*`.
const TABLE: u8 = 0;
const CHAIN: u8 = 3;
const SET: u8 = 9;
const ELEMENTS: u8 = 12;

/// The first message of a kind with a name, of the family inet.
fn ours(kind: u8, name: (u16, &str)) -> Message {
    let all = messages();
    let found = all.into_iter().map(|(_, message)| message).find(|message| {
        message.kind == kind && message.family == 1 && message.text(name.0) == name.1
    });
    found.unwrap_or_else(|| panic!("no message {kind} for {}", name.1))
}

fn same(ours: Message, theirs: &[u8], apart: &[u16]) {
    let mut theirs = Message::read(theirs);
    // The library asks for new objects only, and does not say so for tables; ours may be there.
    theirs.flags = ours.flags;
    let ours = ours.without(apart);
    assert_same(&ours, &theirs.without(apart), "nftnl");
}

#[test]
fn tables_and_chains() {
    same(ours(TABLE, (1, "ocicat")), &by_nftnl::new_table(), &[2]);
    let chains = [
        (
            "raw-prerouting",
            Some((Hook::PreRouting, -300, ChainType::Filter)),
        ),
        ("forward", Some((Hook::Forward, -10, ChainType::Filter))),
        ("input", Some((Hook::In, -10, ChainType::Filter))),
        ("output", Some((Hook::Out, -10, ChainType::Filter))),
        (
            "nat-postrouting",
            Some((Hook::PostRouting, 100, ChainType::Nat)),
        ),
        ("from-pods", None),
        ("policy-in/oracle", None),
    ];
    for (name, hook) in chains {
        same(
            ours(CHAIN, (3, name)),
            &by_nftnl::new_chain(name, hook),
            &[],
        );
    }
}

#[test]
fn sets_and_elements() {
    let members = ["10.0.0.2", "10.0.0.3"].map(|text| text.parse().unwrap());
    let [set, elements] = by_nftnl::new_set("ip4/s.friends", &members);
    // Ours says that it has no flags, and in which order of bytes nft should show the elements.
    same(ours(SET, (2, "ip4/s.friends")), &set, &[3, 13]);
    // The library names the set twice: also by its number in the transaction.
    same(ours(ELEMENTS, (2, "ip4/s.friends")), &elements, &[4]);
}
