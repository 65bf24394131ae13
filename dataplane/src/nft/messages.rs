//! Operations as nf_tables messages, and messages as transactions that fit the socket.

use std::ops::Range;

use super::encode::verdict;
use super::plan::Op;
use super::ruleset::{Element, Family, Hook, Shape, TABLE};
use super::statement::Rule;
use super::wire::{Buffer, Kind, acknowledge_last, flags};

/// Elements in one message: a nest of attributes ends at 64 KiB.
const ELEMENTS: usize = 400;
/// The most bytes that an element takes: a link's name, and the verdict that leads to a chain of the longest name.
const LARGEST: usize = 512;
/// What a message has besides elements, at most.
const HEAD: usize = 512;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const SET_CONCAT: u32 = 0x80;
const ELEMENT_INTERVAL_END: u32 = 1;
/// nft's number for the type "verdict".
const VERDICT_TYPE: u32 = 0xffff_ff00;

/// A transaction's messages, without its begin and end.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) messages: Vec<u8>,
    /// The first sequence number: that of the begin; the messages follow, then the end.
    pub(crate) sequences: Range<u32>,
    /// For each message which operation of the group it is of, and which of its elements it has.
    pub(crate) operations: Vec<(usize, Range<usize>)>,
}

/// Room for a transaction's begin, with a generation, and its end.
const FRAME: usize = 64;

/// The messages of a group of operations, in as few transactions of at most `limit` bytes as they need; at most `each`
/// elements go into a message.
pub(crate) fn transactions(
    group: &[Op],
    limit: usize,
    each: usize,
    sequence: &mut u32,
) -> Vec<Transaction> {
    let each = each
        .min(limit.saturating_sub(HEAD) / LARGEST)
        .clamp(1, ELEMENTS);
    let mut all = Vec::new();
    let mut current = Vec::new();
    let mut operations = Vec::new();
    let mut begin = take(sequence);
    let mut buffer = Buffer::default();
    let mut close = |messages: &mut Vec<u8>,
                     operations: &mut Vec<(usize, Range<usize>)>,
                     sequence: &mut u32,
                     begin: &mut u32| {
        let end = take(sequence);
        let mut messages = std::mem::take(messages);
        acknowledge_last(&mut messages);
        all.push(Transaction {
            messages,
            sequences: *begin..end + 1,
            operations: std::mem::take(operations),
        });
        *begin = take(sequence);
    };
    for (at, op) in group.iter().enumerate() {
        for part in parts(op, each) {
            let start = buffer.len();
            // The number is given when it is known which transaction the message is in.
            encode(&mut buffer, op, part.clone(), 0);
            let length = buffer.len() - start;
            if !current.is_empty() && current.len() + length + FRAME > limit {
                close(&mut current, &mut operations, sequence, &mut begin);
            }
            let number = take(sequence);
            let from = current.len();
            current.extend_from_slice(buffer.bytes().get(start..).unwrap_or_default());
            if let Some(field) = current.get_mut(from + 8..from + 12) {
                field.copy_from_slice(&number.to_ne_bytes());
            }
            operations.push((at, part));
            buffer.clear();
        }
    }
    if !current.is_empty() {
        close(&mut current, &mut operations, sequence, &mut begin);
    }
    all
}

fn take(sequence: &mut u32) -> u32 {
    let taken = *sequence;
    *sequence = sequence.wrapping_add(1).max(1);
    taken
}

/// The parts of an operation that make a message each: slices of its elements.
fn parts(op: &Op, each: usize) -> Vec<Range<usize>> {
    match op {
        Op::NewElements(_, elements) | Op::DelElements(_, elements) => (0..elements.len())
            .step_by(each)
            .map(|from| from..(from + each).min(elements.len()))
            .collect(),
        _ => std::iter::once(0..0).collect(),
    }
}

fn encode(buffer: &mut Buffer, op: &Op, part: Range<usize>, sequence: u32) {
    let make = flags::CREATE;
    match op {
        Op::NewTable(family) => {
            buffer.message_of(*family as u8, Kind::NewTable, make, sequence, |b| {
                b.text(1, TABLE);
                b.be32(2, 0);
            });
        }
        Op::NewChain(name, hook) => message(buffer, name, Kind::NewChain, make, sequence, |b| {
            b.text(1, TABLE);
            b.text(3, name);
            if let Some(hook) = hook {
                base_chain(b, *hook, Family::of(name));
            }
        }),
        Op::NewSet(name, shape) => {
            message(buffer, name, Kind::NewSet, make, sequence, |b| {
                new_set(b, name, shape);
            });
        }
        Op::NewElements(name, all) | Op::DelElements(name, all) => {
            let kind = if matches!(op, Op::NewElements(..)) {
                Kind::NewElement
            } else {
                Kind::DelElement
            };
            message(buffer, name, kind, make, sequence, |b| {
                b.text(1, TABLE);
                b.text(2, name);
                b.nest(3, |b| {
                    for one in all.get(part).unwrap_or_default() {
                        element(b, one);
                    }
                });
            });
        }
        Op::NewRule {
            chain,
            rule,
            before,
        } => {
            if let Some(rule) = chain.rules.get(*rule) {
                new_rule(buffer, &chain.name, rule, *before, sequence);
            }
        }
        _ => encode_deletion(buffer, op, sequence),
    }
}

fn encode_deletion(buffer: &mut Buffer, op: &Op, sequence: u32) {
    match op {
        Op::DelTable(family) => {
            buffer.message_of(*family as u8, Kind::DelTable, 0, sequence, |b| {
                b.text(1, TABLE);
            });
        }
        Op::DelRule { chain, handle } => message(buffer, chain, Kind::DelRule, 0, sequence, |b| {
            b.text(1, TABLE);
            b.text(2, chain);
            b.be64(3, *handle);
        }),
        Op::Flush(chain) => message(buffer, chain, Kind::DelRule, 0, sequence, |b| {
            b.text(1, TABLE);
            b.text(2, chain);
        }),
        Op::DelChain(name) => message(buffer, name, Kind::DelChain, 0, sequence, |b| {
            b.text(1, TABLE);
            b.text(3, name);
        }),
        Op::DelSet(name) => message(buffer, name, Kind::DelSet, 0, sequence, |b| {
            b.text(1, TABLE);
            b.text(2, name);
        }),
        _ => {}
    }
}

/// A message about a chain or a set, to the table that has it.
fn message(
    buffer: &mut Buffer,
    name: &str,
    kind: Kind,
    flags: u16,
    sequence: u32,
    body: impl FnOnce(&mut Buffer),
) {
    buffer.message_of(Family::of(name) as u8, kind, flags, sequence, body);
}

fn new_rule(buffer: &mut Buffer, chain: &str, rule: &Rule, before: Option<u64>, sequence: u32) {
    // Without APPEND the position is that of the rule to come before.
    let flags = match before {
        Some(_) => flags::CREATE,
        None => flags::CREATE | flags::APPEND,
    };
    message(buffer, chain, Kind::NewRule, flags, sequence, |b| {
        b.text(1, TABLE);
        b.text(2, chain);
        b.nest(4, |b| b.append(&rule.expressions));
        if let Some(before) = before {
            b.be64(6, before);
        }
        // Type 0 is a comment, with the zero byte at its end.
        let comment = rule.comment();
        let mut data = vec![0, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
        data.extend_from_slice(comment.as_bytes());
        data.push(0);
        b.attribute(7, &data);
    });
}

fn base_chain(b: &mut Buffer, hook: Hook, family: Family) {
    // `NF_ARP_IN` is the only one of ours there.
    let place = match family {
        Family::Inet => hook.place as u32,
        Family::Arp => 0,
    };
    b.nest(4, |b| {
        b.be32(1, place);
        b.attribute(2, &hook.priority.to_be_bytes());
    });
    // NF_ACCEPT
    b.be32(5, 1);
    b.text(7, if hook.nat { "nat" } else { "filter" });
}

fn new_set(b: &mut Buffer, name: &str, shape: &Shape) {
    let mut flags = if shape.ranges { SET_INTERVAL } else { 0 };
    flags |= if shape.verdicts { SET_MAP } else { 0 };
    flags |= if shape.key.len() > 1 { SET_CONCAT } else { 0 };
    b.text(1, TABLE);
    b.text(2, name);
    b.be32(3, flags);
    b.be32(4, datatype(shape));
    b.be32(5, u32::try_from(shape.width()).unwrap_or(0));
    if shape.verdicts {
        b.be32(6, VERDICT_TYPE);
        b.be32(7, 16);
    }
    if shape.key.len() > 1 {
        b.nest(9, |b| {
            b.nest(2, |b| {
                for part in &shape.key {
                    b.nest(1, |b| b.be32(1, u32::try_from(part.width()).unwrap_or(0)));
                }
            });
        });
    }
    // The number by which rules of the same transaction could name it; ours use the name.
    b.be32(10, 1);
    b.attribute(13, &byte_order(shape));
}

/// What nft keeps in a set's user data to show its elements: the byte order of the key.
fn byte_order(shape: &Shape) -> [u8; 6] {
    use super::ruleset::Part;
    let host = matches!(shape.key.as_slice(), [Part::Link]);
    let [a, b, c, d] = (if host { 1_u32 } else { 2 }).to_ne_bytes();
    [0, 4, a, b, c, d]
}

/// nft's number for the type of the key: six bits for each part.
pub(crate) fn datatype(shape: &Shape) -> u32 {
    shape
        .key
        .iter()
        .fold(0, |all, part| (all << 6) | part.datatype())
}

fn element(b: &mut Buffer, element: &Element) {
    b.nest(1, |b| {
        b.nest(1, |b| b.attribute(1, &element.key));
        if let Some(to) = &element.verdict {
            b.nest(2, |b| verdict(b, to));
        }
        if !element.start {
            b.be32(3, ELEMENT_INTERVAL_END);
        }
    });
}
