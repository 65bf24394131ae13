//! Reading the table back from the kernel.

use std::collections::BTreeSet;

use super::encode;
use super::known::{Content, Known, KnownChain, KnownSet};
use super::name::Name;
use super::ruleset::{Element, Hook, Part, Place, Shape, TABLE};
use super::socket::{DumpError, Socket};
use super::statement::{Verdict, hash_in};
use super::wire::{Attributes, Kind};
use crate::state::IpVersion;

const ACCEPT: u32 = 1;
const SET_ANONYMOUS: u32 = 0x1;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const SET_CONCAT: u32 = 0x80;

/// Everything in the table.
pub(crate) fn table(socket: &mut Socket) -> Result<Known, DumpError> {
    let mut known = Known::default();
    let mut there = false;
    socket.dump(
        Kind::GetTable,
        |_| {},
        |message| {
            let attributes = message.attributes();
            // A table with flags is dormant: making it again clears them.
            if attributes.text(1) == Some(TABLE) {
                there = true;
                known.table = attributes.be32(2).unwrap_or(0) == 0;
                known.owner = attributes.be32(7);
            }
        },
    )?;
    if !there {
        return Ok(known);
    }
    socket.dump(
        Kind::GetChain,
        |b| b.text(1, TABLE),
        |message| {
            let attributes = message.attributes();
            if let (Some(TABLE), Some(name)) = (attributes.text(1), attributes.text(3)) {
                known.chains.insert(name.into(), chain(attributes));
            }
        },
    )?;
    socket.dump(
        Kind::GetRule,
        |b| b.text(1, TABLE),
        |message| {
            let attributes = message.attributes();
            let chain = attributes
                .text(2)
                .and_then(|name| known.chains.get_mut(name));
            if let (Some(TABLE), Some(chain)) = (attributes.text(1), chain) {
                rule(attributes, chain);
            }
        },
    )?;
    sets(socket, &mut known)?;
    for (name, set) in &mut known.sets {
        set.content = Content::Elements(elements(socket, name)?);
    }
    Ok(known)
}

/// The named sets, without their elements.
fn sets(socket: &mut Socket, known: &mut Known) -> Result<(), DumpError> {
    socket.dump(
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
    let dumped = socket.dump(
        Kind::GetRule,
        |b| {
            b.text(1, TABLE);
            b.text(2, name);
        },
        |message| {
            let attributes = message.attributes();
            if attributes.text(1) == Some(TABLE) && attributes.text(2) == Some(name) {
                rule(attributes, &mut found);
            }
        },
    );
    match dumped {
        Ok(()) => Ok(Some(found)),
        Err(DumpError::Kernel(nix::errno::Errno::ENOENT)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The elements of one set.
pub(crate) fn elements(socket: &mut Socket, name: &str) -> Result<BTreeSet<Element>, DumpError> {
    let mut all = BTreeSet::new();
    socket.dump(
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

fn chain(attributes: Attributes<'_>) -> KnownChain {
    let hook = attributes.find(4).map(|hook| {
        let hook = Attributes(hook);
        let priority = hook.find(2).and_then(|bytes| bytes.first_chunk());
        Hook {
            place: match hook.be32(1) {
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
    let comment = attributes.find(7).and_then(|data| match data {
        // The first entry, when it is a comment.
        [0, length, rest @ ..] => rest.get(..usize::from(*length)),
        _ => None,
    });
    let hash = comment.and_then(|text| hash_in(std::str::from_utf8(text).ok()?));
    chain.rules.push(hash);
    if let Some(handles) = &mut chain.handles {
        handles.push(attributes.be64(3).unwrap_or(0));
    }
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
