//! Reading the table back from the kernel.

use std::collections::{BTreeSet, HashMap};

use super::encode;
use super::known::{Content, Known, KnownChain, KnownSet};
use super::name::Name;
use super::ruleset::{Element, Family, Hook, Part, Place, Shape, TABLE};
use super::socket::{DumpError, Socket};
use super::statement::{Verdict, hash_in};
use super::wire::{Attributes, Kind};
use crate::Count;
use crate::state::IpVersion;

const ACCEPT: u32 = 1;
const SET_ANONYMOUS: u32 = 0x1;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const SET_CONCAT: u32 = 0x80;

/// A rule and what it has counted.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) comment: String,
    /// `None` for a rule that does not count.
    pub(crate) count: Option<Count>,
    /// Its packets go no further.
    pub(crate) denies: bool,
}

/// Everything in the tables.
pub(crate) fn table(socket: &mut Socket) -> Result<Known, DumpError> {
    let mut known = Known::default();
    for family in Family::BOTH {
        one_table(socket, family, &mut known)?;
    }
    for (name, set) in &mut known.sets {
        set.content = Content::Elements(elements(socket, name)?);
    }
    Ok(known)
}

/// Everything in one table but the elements of sets.
fn one_table(socket: &mut Socket, family: Family, known: &mut Known) -> Result<(), DumpError> {
    let mut there = false;
    socket.dump_of(
        family as u8,
        Kind::GetTable,
        |_| {},
        |message| {
            let attributes = message.attributes();
            // A table with flags is dormant: making it again clears them.
            if message.family() == family as u8 && attributes.text(1) == Some(TABLE) {
                there = true;
                if attributes.be32(2).unwrap_or(0) == 0 {
                    known.tables.insert(family);
                }
                known.owner = known.owner.or_else(|| attributes.be32(7));
            }
        },
    )?;
    if !there {
        return Ok(());
    }
    socket.dump_of(
        family as u8,
        Kind::GetChain,
        |b| b.text(1, TABLE),
        |message| {
            let attributes = message.attributes();
            if let (Some(TABLE), Some(name)) = (attributes.text(1), attributes.text(3)) {
                known.chains.insert(name.into(), chain(attributes, family));
            }
        },
    )?;
    for (name, chain) in &mut known.chains {
        if Family::of(name) as u8 == family as u8 {
            rules_of(socket, name, |attributes| rule(attributes, chain))?;
        }
    }
    sets(socket, family, known)
}

/// The named sets, without their elements.
fn sets(socket: &mut Socket, family: Family, known: &mut Known) -> Result<(), DumpError> {
    socket.dump_of(
        family as u8,
        Kind::GetSet,
        |b| b.text(1, TABLE),
        |message| {
            let attributes = message.attributes();
            let anonymous = attributes.be32(3).unwrap_or(0) & SET_ANONYMOUS != 0;
            if let (Some(TABLE), Some(name), false) =
                (attributes.text(1), attributes.text(2), anonymous)
            {
                let set = KnownSet {
                    shape: shape(attributes),
                    content: Content::Unknown,
                };
                known.sets.insert(name.into(), set);
            }
        },
    )
}

/// The rules of one chain, with their numbers; `None` when there is no such chain.
pub(crate) fn rules(
    socket: &mut Socket,
    name: &str,
    hook: Option<Hook>,
) -> Result<Option<KnownChain>, DumpError> {
    let mut found = KnownChain {
        hook,
        handles: Some(Vec::new()),
        ..KnownChain::default()
    };
    let dumped = rules_of(socket, name, |attributes| rule(attributes, &mut found));
    match dumped {
        Ok(()) => Ok(Some(found)),
        Err(DumpError::Kernel(nix::errno::Errno::ENOENT)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The rules of one chain. The whole table is read chain by chain, too: a dump goes on from where the last datagram of
/// 32 KiB ended by walking all that came before it, so that one of 200,000 rules takes seconds.
fn rules_of(
    socket: &mut Socket,
    chain: &str,
    mut see: impl FnMut(Attributes<'_>),
) -> Result<(), DumpError> {
    socket.dump_of(
        Family::of(chain) as u8,
        Kind::GetRule,
        |b| {
            b.text(1, TABLE);
            b.text(2, chain);
        },
        |message| {
            let attributes = message.attributes();
            if attributes.text(1) == Some(TABLE) && attributes.text(2) == Some(chain) {
                see(attributes);
            }
        },
    )
}

/// What the rules of the whole table have counted.
pub(crate) fn counts(socket: &mut Socket) -> Result<HashMap<Name, Vec<Counted>>, DumpError> {
    let mut all: HashMap<Name, Vec<Counted>> = HashMap::new();
    for family in Family::BOTH {
        let dumped = socket.dump_of(
            family as u8,
            Kind::GetChain,
            |b| b.text(1, TABLE),
            |message| {
                let attributes = message.attributes();
                if let (Some(TABLE), Some(name)) = (attributes.text(1), attributes.text(3)) {
                    all.insert(name.into(), Vec::new());
                }
            },
        );
        if_there(dumped)?;
    }
    for (chain, rules) in &mut all {
        let dumped = rules_of(socket, chain, |attributes| rules.push(counted(attributes)));
        if_there(dumped)?;
    }
    Ok(all)
}

/// A table or a chain that is not there, or no longer, has counted nothing.
fn if_there(dumped: Result<(), DumpError>) -> Result<(), DumpError> {
    match dumped {
        Err(DumpError::Kernel(nix::errno::Errno::ENOENT)) => Ok(()),
        other => other,
    }
}

fn counted(rule: Attributes<'_>) -> Counted {
    let mut counted = Counted {
        comment: comment(rule).unwrap_or_default().to_owned(),
        count: None,
        denies: false,
    };
    for (_, expression) in rule.nested(4) {
        let expression = Attributes(expression);
        let data = expression.nested(2);
        match expression.text(1) {
            Some("counter") => {
                counted.count = Some(Count {
                    packets: data.be64(2).unwrap_or(0),
                    bytes: data.be64(1).unwrap_or(0),
                });
            }
            Some("immediate") => {
                let to = data.nested(2).find(2);
                let to = to.map(|to| verdict(Attributes(to)));
                // A chain that refuses is gone to; others are jumped to.
                counted.denies |= matches!(to, Some(Verdict::Drop | Verdict::Goto(_)));
            }
            _ => {}
        }
    }
    counted
}

/// The elements of one set.
pub(crate) fn elements(socket: &mut Socket, name: &str) -> Result<BTreeSet<Element>, DumpError> {
    let mut all = BTreeSet::new();
    socket.dump_of(
        Family::of(name) as u8,
        Kind::GetElement,
        |b| {
            b.text(1, TABLE);
            b.text(2, name);
        },
        |message| {
            let list = message.attributes().nested(3);
            all.extend(list.filter_map(|(_, one)| element(Attributes(one))));
        },
    )?;
    Ok(all)
}

fn chain(attributes: Attributes<'_>, family: Family) -> KnownChain {
    let hook = attributes.find(4).map(|hook| {
        let hook = Attributes(hook);
        let priority = hook.find(2).and_then(|bytes| bytes.first_chunk());
        Hook {
            place: match hook.be32(1) {
                Some(0) if family == Family::Arp => Place::Input,
                Some(0) => Place::Prerouting,
                Some(1) => Place::Input,
                Some(2) => Place::Forward,
                Some(3) => Place::Output,
                _ => Place::Postrouting,
            },
            priority: priority.map_or(0, |bytes| i32::from_be_bytes(*bytes)),
            nat: attributes.text(7) == Some("nat"),
        }
    });
    KnownChain {
        hook,
        closed: hook.is_some() && attributes.be32(5) != Some(ACCEPT),
        rules: Vec::new(),
        handles: Some(Vec::new()),
    }
}

fn rule(attributes: Attributes<'_>, chain: &mut KnownChain) {
    let hash = comment(attributes).and_then(hash_in);
    chain.rules.push(hash);
    if let Some(handles) = &mut chain.handles {
        handles.push(attributes.be64(3).unwrap_or(0));
    }
}

fn comment(rule: Attributes<'_>) -> Option<&str> {
    let text = match rule.find(7)? {
        // The first entry, when it is a comment.
        [0, length, rest @ ..] => rest.get(..usize::from(*length))?,
        _ => return None,
    };
    std::str::from_utf8(text.strip_suffix(&[0]).unwrap_or(text)).ok()
}

/// `None` for what we never make.
fn shape(attributes: Attributes<'_>) -> Option<Shape> {
    let flags = attributes.be32(3).unwrap_or(0);
    let mut code = attributes.be32(4)?;
    let mut key = Vec::new();
    while code != 0 {
        key.push(match code & 0x3f {
            7 => Part::Address(IpVersion::V4),
            8 => Part::Address(IpVersion::V6),
            12 => Part::Protocol,
            13 => Part::Port,
            41 => Part::Link,
            _ => return None,
        });
        code >>= 6;
    }
    key.reverse();
    let shape = Shape {
        key,
        ranges: flags & SET_INTERVAL != 0,
        verdicts: flags & SET_MAP != 0,
    };
    let plain = flags & !(SET_INTERVAL | SET_MAP | SET_CONCAT) == 0;
    let length = attributes
        .be32(5)
        .and_then(|length| usize::try_from(length).ok());
    (plain && length == Some(shape.width())).then_some(shape)
}

fn element(attributes: Attributes<'_>) -> Option<Element> {
    let key = attributes.nested(1).find(1)?;
    let verdict = attributes
        .nested(2)
        .find(2)
        .map(|data| verdict(Attributes(data)));
    Some(Element {
        key: key.into(),
        start: attributes.be32(3).unwrap_or(0) & 1 == 0,
        verdict,
    })
}

fn verdict(data: Attributes<'_>) -> Verdict {
    let chain = || -> Name { data.text(2).unwrap_or_default().into() };
    match data
        .find(1)
        .and_then(|code| code.first_chunk())
        .map(|code| i32::from_be_bytes(*code))
    {
        Some(encode::JUMP) => Verdict::Jump(chain()),
        Some(encode::GOTO) => Verdict::Goto(chain()),
        Some(encode::RETURN) => Verdict::Return,
        Some(encode::ACCEPT) => Verdict::Accept,
        _ => Verdict::Drop,
    }
}
