//! Objects and rules made by `nftnl`.

use std::ffi::CString;
use std::net::Ipv4Addr;

use nftnl::expr::{
    Bitwise, Cmp, CmpOp, Conntrack, Counter, Expression, IcmpCode, Lookup, Meta,
    NetworkHeaderField, Payload, RejectionType, TransportHeaderField, Verdict,
};
use nftnl::set::Set;
use nftnl::{Batch, Chain, ChainType, Hook, MsgType, NlMsg, Policy, ProtoFamily, Rule, Table};

use crate::rules::Word;
use crate::tree::split;

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn table() -> Table {
    Table::new(text("ocicat"), ProtoFamily::Inet)
}

/// The message as the library sends it.
fn message(object: &impl NlMsg, kind: MsgType) -> Vec<u8> {
    let mut batch = Batch::new();
    batch.add(object, kind);
    only(batch)
}

fn only(batch: Batch) -> Vec<u8> {
    let batch = batch.finalize();
    let mut all = Vec::new();
    for part in &batch {
        all.extend(split(part).into_iter().map(<[u8]>::to_vec));
    }
    assert_eq!(all.len(), 1, "messages");
    all.remove(0)
}

pub(crate) fn new_table() -> Vec<u8> {
    message(&table(), MsgType::Add)
}

/// A chain, with a hook, a priority and the type if it is a base chain; its policy is to accept.
pub(crate) fn new_chain(name: &str, hook: Option<(Hook, i32, ChainType)>) -> Vec<u8> {
    let table = table();
    let mut chain = Chain::new(text(name), &table);
    if let Some((hook, priority, kind)) = hook {
        chain.set_hook(hook, priority);
        chain.set_type(kind);
        chain.set_policy(Policy::Accept);
    }
    message(&chain, MsgType::Add)
}

/// A set of IPv4 addresses, and its elements.
pub(crate) fn new_set(name: &str, members: &[Ipv4Addr]) -> [Vec<u8>; 2] {
    let table = table();
    let mut set = Set::new_named(&text(name), 1, &table, ProtoFamily::Inet);
    for member in members {
        set.add(member);
    }
    let mut elements = Batch::new();
    elements.add_iter(set.elems_iter(), MsgType::Add);
    [message(&set, MsgType::Add), only(elements)]
}

/// A rule of these words; `None` when the library has no word for one.
pub(crate) fn rule(words: &[Word]) -> Option<Vec<u8>> {
    let table = table();
    let chain = Chain::new(text("any"), &table);
    let mut rule = Rule::new(&chain);
    let plain = words
        .iter()
        .all(|word| !matches!(word, Word::NotIn(_) | Word::ByMap(_)));
    if !plain {
        return None;
    }
    for word in words {
        say(&mut rule, &table, word);
    }
    Some(message(&rule, MsgType::Add))
}

fn say(rule: &mut Rule<'_>, table: &Table, word: &Word) {
    let raw_network = |offset_bits: u32, length_bits: u32| {
        Payload::Network(NetworkHeaderField::Raw {
            offset_bits,
            length_bits,
        })
    };
    let raw_transport = |offset_bits: u32, length_bits: u32| {
        Payload::Transport(TransportHeaderField::Raw {
            offset_bits,
            length_bits,
        })
    };
    let mut add = |expression: &dyn Expression| rule.add_expr(&Dynamic(expression));
    match word {
        Word::Version => add(&Meta::NfProto),
        Word::Protocol => add(&Meta::L4Proto),
        Word::Mark => add(&Meta::Mark { set: false }),
        Word::SetMark => add(&Meta::Mark { set: true }),
        Word::InName => add(&Meta::IifName),
        Word::OutName => add(&Meta::OifName),
        // The library calls them bits and hands them on as bytes.
        Word::Network(offset, length) => add(&raw_network(*offset, *length)),
        Word::Transport(offset, length) => add(&raw_transport(*offset, *length)),
        Word::CtState => add(&Conntrack::State),
        Word::CtMark => add(&Conntrack::Mark { set: false }),
        Word::Is(value) => add(&Cmp::new(CmpOp::Eq, value.as_slice())),
        Word::IsNot(value) => add(&Cmp::new(CmpOp::Neq, value.as_slice())),
        Word::Mask(mask, xor) => add(&Bitwise::new(mask.as_slice(), xor.as_slice())),
        Word::In(name) => {
            let set: Set<'_, Ipv4Addr> = Set::new_named(&text(name), 1, table, ProtoFamily::Inet);
            add(&Lookup::new(&set));
        }
        Word::Count => add(&Counter),
        Word::Accept => add(&Verdict::Accept),
        Word::Drop => add(&Verdict::Drop),
        Word::Return => add(&Verdict::Return),
        Word::Jump(name) => add(&Verdict::Jump { chain: text(name) }),
        Word::Reset => add(&Verdict::Reject(RejectionType::TcpRst)),
        Word::Prohibited => add(&Verdict::Reject(RejectionType::Icmp(
            IcmpCode::AdminProhibited,
        ))),
        Word::NotIn(_) | Word::ByMap(_) => panic!("the library has no word for it"),
    }
}

/// The library takes sized expressions only.
struct Dynamic<'a>(&'a dyn Expression);

impl Expression for Dynamic<'_> {
    fn to_expr(&self, rule: &Rule<'_>) -> std::ptr::NonNull<nftnl::nftnl_sys::nftnl_expr> {
        self.0.to_expr(rule)
    }
}
