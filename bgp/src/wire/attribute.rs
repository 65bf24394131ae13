use std::net::Ipv4Addr;

use super::{Notification, Reader};

/// Attribute type codes.
pub(crate) mod kind {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MED: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH: u8 = 14;
    pub(crate) const MP_UNREACH: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
    /// RFC 9234: only to customers.
    pub(crate) const OTC: u8 = 35;
}

/// Attribute flags.
pub(crate) mod flag {
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const TRANSITIVE: u8 = 0x40;
    pub(crate) const PARTIAL: u8 = 0x20;
    pub(crate) const EXTENDED: u8 = 0x10;
    pub(crate) const WELL_KNOWN: u8 = TRANSITIVE;
    pub(crate) const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;
}

/// What the meaning of attributes depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttributeContext {
    /// AS numbers have four octets on this session (RFC 6793).
    pub(crate) four_octets: bool,
    /// The peer is in another AS.
    pub(crate) external: bool,
}

/// The attributes of one UPDATE in canonical form, in buffers that are used again for the next.
///
/// Canonical: sorted by type, flags normalised, AS numbers in four octets, without NEXT_HOP, MP_REACH_NLRI and
/// MP_UNREACH_NLRI. Equal routes have equal octets, so that comparing and interning is comparing octets.
#[derive(Debug, Default)]
pub(crate) struct Canonical {
    pub(crate) wire: Vec<u8>,
    items: Vec<Item>,
    path: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    kind: u8,
    flags: u8,
    start: u32,
    end: u32,
}

/// An attribute section, read.
#[derive(Debug, Default)]
pub(crate) struct Attributes<'a> {
    /// Why the routes of the UPDATE must be withdrawn (RFC 7606 section 2, treat-as-withdraw).
    pub(crate) problem: Option<Notification>,
    pub(crate) next_hop: Option<Ipv4Addr>,
    pub(crate) mp_reach: Option<&'a [u8]>,
    pub(crate) mp_unreach: Option<&'a [u8]>,
    pub(crate) has_origin: bool,
    pub(crate) has_path: bool,
    pub(crate) has_local_pref: bool,
    /// Attributes other than MP_UNREACH_NLRI.
    pub(crate) others: bool,
}

/// What becomes of an attribute.
enum Fate {
    Keep(u8),
    Discard,
    Withdraw(u8),
}

impl<'a> Attributes<'a> {
    fn carry(&mut self, kind: u8, value: &'a [u8]) {
        match kind {
            kind::MP_REACH => self.mp_reach = Some(value),
            kind::MP_UNREACH => self.mp_unreach = Some(value),
            _ => {}
        }
    }

    fn withdraw(&mut self, subcode: u8, attribute: &[u8]) {
        let data = attribute[..attribute.len().min(256)].to_vec();
        self.problem
            .get_or_insert_with(|| Notification::new(3, subcode).data(data));
    }
}

impl Canonical {
    /// Reads an attribute section into canonical form.
    ///
    /// # Errors
    /// The NOTIFICATION for the few defects that still end a session under RFC 7606.
    pub(crate) fn read<'a>(
        &mut self,
        section: &'a [u8],
        context: AttributeContext,
    ) -> Result<Attributes<'a>, Notification> {
        self.items.clear();
        self.wire.clear();
        let mut found = Attributes::default();
        let mut seen = [0u64; 4];
        let mut reader = Reader::new(section);
        while !reader.is_empty() {
            let before = reader.rest();
            let Some((flags, kind, value)) = one(&mut reader) else {
                // RFC 7606 section 4: an attribute that does not fit into the section.
                found.others = true;
                found.withdraw(1, before);
                break;
            };
            let whole = &before[..before.len() - reader.rest().len()];
            let (word, bit) = (usize::from(kind >> 6), 1u64 << (kind & 63));
            if seen[word] & bit != 0 {
                // RFC 7606 section 3(g): the first one counts, except for the attributes that carry routes.
                if matches!(kind, kind::MP_REACH | kind::MP_UNREACH) {
                    return Err(Notification::new(3, 1));
                }
                continue;
            }
            seen[word] |= bit;
            found.others |= kind != kind::MP_UNREACH;
            if flags_wrong(kind, flags) {
                found.withdraw(4, whole);
                found.carry(kind, value);
                continue;
            }
            match judge(kind, flags, value, context, &mut found) {
                Ok(Fate::Keep(flags)) => {
                    let end = section.len() - reader.rest().len();
                    let (start, end) = ((end - value.len()) as u32, end as u32);
                    self.items.push(Item {
                        kind,
                        flags,
                        start,
                        end,
                    });
                }
                Ok(Fate::Discard) => {}
                Ok(Fate::Withdraw(subcode)) => found.withdraw(subcode, whole),
                Err(subcode) => {
                    return Err(Notification::new(3, subcode).data(whole.to_vec()));
                }
            }
            found.carry(kind, value);
        }
        self.write(section, context);
        Ok(found)
    }

    /// Writes the kept attributes, sorted.
    fn write(&mut self, section: &[u8], context: AttributeContext) {
        if !self.items.is_sorted_by_key(|item| item.kind) {
            self.items.sort_unstable_by_key(|item| item.kind);
        }
        let merged = !context.four_octets && self.merge(section);
        for item in &self.items {
            let value = &section[item.start as usize..item.end as usize];
            match item.kind {
                kind::AS_PATH if merged => {
                    put(&mut self.wire, item.flags, kind::AS_PATH, &self.path);
                }
                kind::AGGREGATOR if !context.four_octets => {
                    let four = self
                        .items
                        .iter()
                        .find(|other| other.kind == kind::AS4_AGGREGATOR);
                    let mut wide = [0; 8];
                    match four {
                        Some(four) if value[..2] == 23456u16.to_be_bytes() => {
                            wide.copy_from_slice(&section[four.start as usize..four.end as usize]);
                        }
                        _ => {
                            wide[2..4].copy_from_slice(&value[..2]);
                            wide[4..].copy_from_slice(&value[2..6]);
                        }
                    }
                    put(&mut self.wire, item.flags, kind::AGGREGATOR, &wide);
                }
                kind::AS4_PATH | kind::AS4_AGGREGATOR => {}
                kind => put(&mut self.wire, item.flags, kind, value),
            }
        }
    }

    /// Makes the four-octet path out of AS_PATH and AS4_PATH (RFC 6793 section 4.2.3).
    fn merge(&mut self, section: &[u8]) -> bool {
        let value = |kind: u8| {
            let item = self.items.iter().find(|item| item.kind == kind)?;
            section.get(item.start as usize..item.end as usize)
        };
        let Some(narrow) = value(kind::AS_PATH) else {
            return false;
        };
        let translated = value(kind::AGGREGATOR).is_none_or(|a| a[..2] == 23456u16.to_be_bytes());
        let wide = value(kind::AS4_PATH).filter(|_| translated);
        let path = &mut self.path;
        path.clear();
        let length = |path: &[u8], width: usize| -> usize {
            segments(path, width)
                .map(|(kind, numbers)| if kind == 1 { 1 } else { numbers.len() / width })
                .sum()
        };
        let wide = wide.filter(|wide| length(wide, 4) <= length(narrow, 2));
        let mut lead = length(narrow, 2) - wide.map_or(0, |wide| length(wide, 4));
        for (kind, numbers) in segments(narrow, 2) {
            if lead == 0 {
                break;
            }
            let count = if kind == 1 {
                numbers.len() / 2
            } else {
                (numbers.len() / 2).min(lead)
            };
            lead -= if kind == 1 { 1 } else { count };
            path.extend_from_slice(&[kind, count as u8]);
            for number in numbers[..count * 2].chunks_exact(2) {
                path.extend_from_slice(&[0, 0, number[0], number[1]]);
            }
        }
        path.extend_from_slice(wide.unwrap_or_default());
        true
    }
}

/// Appends one attribute.
pub(crate) fn put(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    if value.len() > 255 {
        out.extend_from_slice(&[flags | flag::EXTENDED, kind]);
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    } else {
        out.extend_from_slice(&[flags & !flag::EXTENDED, kind, value.len() as u8]);
    }
    out.extend_from_slice(value);
}

/// Takes one attribute off the section.
pub(crate) fn one<'a>(reader: &mut Reader<'a>) -> Option<(u8, u8, &'a [u8])> {
    let flags = reader.u8()?;
    let kind = reader.u8()?;
    let length = if flags & flag::EXTENDED != 0 {
        usize::from(reader.u16()?)
    } else {
        usize::from(reader.u8()?)
    };
    Some((flags, kind, reader.bytes(length)?))
}

/// The segments of a path that has been checked: type and numbers.
pub(crate) fn segments(path: &[u8], width: usize) -> impl Iterator<Item = (u8, &[u8])> {
    let mut reader = Reader::new(path);
    std::iter::from_fn(move || {
        let kind = reader.u8()?;
        let count = usize::from(reader.u8()?);
        Some((kind, reader.bytes(count * width)?))
    })
}

/// RFC 4271 section 6.3: the optional and transitive bits of attributes that we know.
fn flags_wrong(kind: u8, flags: u8) -> bool {
    let expected = match kind {
        kind::ORIGIN
        | kind::AS_PATH
        | kind::NEXT_HOP
        | kind::LOCAL_PREF
        | kind::ATOMIC_AGGREGATE => flag::WELL_KNOWN,
        kind::AGGREGATOR
        | kind::COMMUNITIES
        | kind::EXTENDED_COMMUNITIES
        | kind::AS4_PATH
        | kind::AS4_AGGREGATOR
        | kind::LARGE_COMMUNITIES
        | kind::OTC => flag::OPTIONAL_TRANSITIVE,
        kind::MED
        | kind::ORIGINATOR_ID
        | kind::CLUSTER_LIST
        | kind::MP_REACH
        | kind::MP_UNREACH => flag::OPTIONAL,
        _ => return false,
    };
    flags & flag::OPTIONAL_TRANSITIVE != expected
}

/// Applies RFC 7606 section 7 to one attribute; `Err` is the subcode of a session reset.
fn judge(
    kind: u8,
    flags: u8,
    value: &[u8],
    context: AttributeContext,
    found: &mut Attributes<'_>,
) -> Result<Fate, u8> {
    let keep_if = |good: bool, flags: u8| {
        if good {
            Fate::Keep(flags)
        } else {
            Fate::Withdraw(5)
        }
    };
    let partial = flags & flag::PARTIAL;
    Ok(match kind {
        kind::ORIGIN => origin(value, found),
        kind::AS_PATH => {
            let width = if context.four_octets { 4 } else { 2 };
            found.has_path = path_is_sound(value, width);
            if found.has_path {
                Fate::Keep(flag::WELL_KNOWN)
            } else {
                Fate::Withdraw(11)
            }
        }
        kind::NEXT_HOP => match value {
            &[a, b, c, d] => {
                found.next_hop = Some(Ipv4Addr::new(a, b, c, d));
                Fate::Discard
            }
            _ => Fate::Withdraw(5),
        },
        kind::LOCAL_PREF if context.external => Fate::Discard,
        kind::LOCAL_PREF => {
            found.has_local_pref = value.len() == 4;
            keep_if(found.has_local_pref, flag::WELL_KNOWN)
        }
        kind::ATOMIC_AGGREGATE if value.is_empty() => Fate::Keep(flag::WELL_KNOWN),
        kind::ATOMIC_AGGREGATE => Fate::Discard,
        kind::AGGREGATOR if value.len() == if context.four_octets { 8 } else { 6 } => {
            Fate::Keep(flag::OPTIONAL_TRANSITIVE | partial)
        }
        kind::AGGREGATOR => Fate::Discard,
        kind::ORIGINATOR_ID | kind::CLUSTER_LIST if context.external => Fate::Discard,
        kind::MED | kind::ORIGINATOR_ID => keep_if(value.len() == 4, flag::OPTIONAL),
        kind::CLUSTER_LIST => keep_if(is_list(value, 4), flag::OPTIONAL),
        kind::COMMUNITIES | kind::EXTENDED_COMMUNITIES | kind::LARGE_COMMUNITIES => {
            let unit = match kind {
                kind::COMMUNITIES => 4,
                kind::EXTENDED_COMMUNITIES => 8,
                _ => 12,
            };
            keep_if(is_list(value, unit), flag::OPTIONAL_TRANSITIVE | partial)
        }
        // RFC 9234 section 5.
        kind::OTC => keep_if(value.len() == 4, flag::OPTIONAL_TRANSITIVE | partial),
        // RFC 6793 sections 4.1 and 6: from a four-octet speaker, or malformed, they are discarded.
        kind::AS4_PATH if !context.four_octets && path_is_sound(value, 4) => {
            Fate::Keep(flag::OPTIONAL_TRANSITIVE)
        }
        kind::AS4_AGGREGATOR if !context.four_octets && value.len() == 8 => {
            Fate::Keep(flag::OPTIONAL_TRANSITIVE)
        }
        kind::AS4_PATH | kind::AS4_AGGREGATOR | kind::MP_REACH | kind::MP_UNREACH => Fate::Discard,
        _ if flags & flag::OPTIONAL == 0 => return Err(2),
        _ if flags & flag::TRANSITIVE != 0 => Fate::Keep(flag::OPTIONAL_TRANSITIVE | flag::PARTIAL),
        _ => Fate::Discard,
    })
}

fn origin(value: &[u8], found: &mut Attributes<'_>) -> Fate {
    match value {
        [0..=2] => {
            found.has_origin = true;
            Fate::Keep(flag::WELL_KNOWN)
        }
        [_] => Fate::Withdraw(6),
        _ => Fate::Withdraw(5),
    }
}

fn is_list(value: &[u8], unit: usize) -> bool {
    !value.is_empty() && value.len() % unit == 0
}

/// RFC 7606 section 7.2: only sets and sequences, none empty, none cut off; RFC 7607: no AS 0.
fn path_is_sound(path: &[u8], width: usize) -> bool {
    let mut reader = Reader::new(path);
    while !reader.is_empty() {
        let (Some(kind), Some(count)) = (reader.u8(), reader.u8()) else {
            return false;
        };
        let Some(numbers) = reader.bytes(usize::from(count) * width) else {
            return false;
        };
        if !matches!(kind, 1 | 2) || count == 0 {
            return false;
        }
        if numbers
            .chunks_exact(width)
            .any(|number| number.iter().all(|&octet| octet == 0))
        {
            return false;
        }
    }
    true
}
