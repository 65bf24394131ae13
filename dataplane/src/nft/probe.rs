//! Parts of nf_tables, each tried in a transaction of its own. For a network namespace that is thrown away.

use std::sync::Arc;

use super::messages::transactions;
use super::name::Name;
use super::plan::Op;
use super::ruleset::{Chain, Element, Family, Hook, Part as Key, Place, Shape};
use super::socket::{Failure, Socket};
use super::statement::{Field, Rule, Statement, Value, Verdict, state};
use crate::KernelError;
use crate::state::{IpVersion, Protocol};

/// A part of nf_tables that can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Table,
    Sets,
    Maps,
    Concatenations,
    Intervals,
    Connections,
    ConnectionMarks,
    Fib,
    Log,
    Limit,
    Reject,
    NoTrack,
    Masquerade,
    SourceNat,
    Arp,
}

/// Bytes for one of these transactions.
const SEND_BUFFER: usize = 64 << 10;

/// Tries a part in the calling thread's network namespace, where it is left; the kernel's words if it cannot.
pub(crate) fn part(part: Part) -> Result<(), String> {
    let failed = |errno| KernelError::new(errno as i32, None).to_string();
    let mut socket = Socket::open(SEND_BUFFER).map_err(failed)?;
    let operations = operations(part);
    let limit = socket.limit();
    let all = transactions(&operations, limit, operations.len(), socket.sequence());
    for transaction in all {
        match socket.commit(&transaction, None) {
            Ok(()) => {}
            Err(Failure::Refused(refusals)) => {
                let first = refusals.first().map(|refusal| failed(refusal.errno));
                return Err(first.unwrap_or_default());
            }
            Err(Failure::Socket(errno)) => return Err(failed(errno)),
            Err(Failure::Lost | Failure::Outdated) => return Err("no answer".to_owned()),
        }
    }
    Ok(())
}

fn operations(part: Part) -> Vec<Op> {
    let chain: Name = match part {
        Part::Arp => "arp-probe".into(),
        other => format!("probe-{other:?}").into(),
    };
    let mut all = vec![Op::NewTable(Family::of(&chain))];
    all.extend(sets(part));
    let to = Op::NewChain("probe-to".into(), None);
    if part == Part::Maps {
        all.insert(1, to);
    }
    all.push(Op::NewChain(chain.clone(), Some(hook(part))));
    all.push(Op::NewRule {
        chain: Arc::new(Chain {
            name: chain,
            hook: Some(hook(part)),
            rules: vec![Rule::new(statements(part), "")],
        }),
        rule: 0,
        before: None,
    });
    all
}

const fn hook(part: Part) -> Hook {
    let (place, nat) = match part {
        Part::Masquerade | Part::SourceNat => (Place::Postrouting, true),
        Part::NoTrack => (Place::Prerouting, false),
        Part::Arp | Part::Reject => (Place::Input, false),
        _ => (Place::Forward, false),
    };
    Hook {
        place,
        priority: 0,
        nat,
    }
}

/// The name of a part's set.
fn set(part: Part) -> Name {
    format!("set-{part:?}").into()
}

fn sets(part: Part) -> Vec<Op> {
    let version = IpVersion::V4;
    let address = [192, 0, 2, 1].into();
    let (shape, elements) = match part {
        Part::Sets => (
            Shape::plain(Key::Address(version)),
            vec![Element::address(address)],
        ),
        Part::Maps => (
            Shape::dispatch(),
            vec![Element::dispatch("probe0", &"probe-to".into())],
        ),
        Part::Concatenations => (
            Shape::ports(version),
            vec![Element::port(address, Protocol::TCP, 80)],
        ),
        Part::Intervals => (
            Shape::ranges(Key::Address(version)),
            Element::range(&[192, 0, 2, 0], &[192, 0, 2, 255]).collect(),
        ),
        _ => return Vec::new(),
    };
    vec![
        Op::NewSet(set(part), shape),
        Op::NewElements(set(part), elements),
    ]
}

fn statements(part: Part) -> Vec<Statement> {
    let version = IpVersion::V4;
    let source = Field::Source(version);
    match part {
        Part::Table => vec![
            Statement::is(Field::InLink, Value::Links("cali".into())),
            Statement::Counter,
            Statement::Verdict(Verdict::Accept),
        ],
        Part::Sets | Part::Intervals => vec![
            Statement::version(version),
            Statement::lookup([source], &set(part)),
            Statement::Verdict(Verdict::Accept),
        ],
        Part::Concatenations => vec![
            Statement::version(version),
            Statement::lookup(
                [source, Field::Protocol, Field::DestinationPort],
                &set(part),
            ),
            Statement::Verdict(Verdict::Accept),
        ],
        Part::Maps => vec![Statement::Map {
            field: Field::InLink,
            map: set(part),
        }],
        Part::Connections => vec![
            Statement::State(state::ESTABLISHED | state::RELATED),
            Statement::Verdict(Verdict::Accept),
        ],
        Part::ConnectionMarks => vec![Statement::ConnectionMarked(1)],
        Part::Fib => vec![Statement::LocalSource {
            on_link: false,
            not: true,
        }],
        Part::Log => vec![Statement::Log {
            prefix: "probe".into(),
            group: None,
        }],
        Part::Limit => vec![Statement::Limit { per_minute: 1 }],
        Part::Reject => vec![Statement::Prohibit],
        Part::NoTrack => vec![Statement::NoTrack],
        Part::Masquerade => vec![Statement::Masquerade { ports: None }],
        Part::SourceNat => vec![
            Statement::version(version),
            Statement::SourceNat {
                address: [192, 0, 2, 1].into(),
                ports: None,
            },
        ],
        Part::Arp => vec![
            Statement::is(
                Field::ArpSender,
                Value::Net(crate::Prefix::host([192, 0, 2, 1].into())),
            ),
            Statement::Verdict(Verdict::Drop),
        ],
    }
}
