//! Chains of legacy iptables, which nf_tables does not show: the binary table that `iptables-legacy` reads
//! (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h).

use std::io;

use nix::errno::Errno;

use super::{ACCEPTED, COMMENT, Obstacle};

mod getsockopt;

/// `NF_INET_FORWARD`.
const FORWARD: usize = 2;
/// `NF_INET_NUMHOOKS`.
const HOOKS: usize = 5;
/// `XT_TABLE_MAXNAMELEN`.
const NAME: usize = 32;
/// `struct ipt_getinfo`: the name, the valid hooks, where each begins and where its policy is, how many, how large.
const INFO: usize = NAME + 4 + HOOKS * 4 + HOOKS * 4 + 4 + 4;
/// `struct ipt_get_entries` before its entries: the name and the size.
const HEAD: usize = (NAME + 4).next_multiple_of(align_of::<u64>());
/// The verdict of a standard target that drops: `-NF_DROP - 1`.
const DROP: i32 = -1;
/// `struct xt_entry_target`: its size, its name in 29 bytes, its revision.
const TARGET: usize = 32;

/// One of the two families that legacy iptables has.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::V4 => "iptables-legacy",
            Self::V6 => "ip6tables-legacy",
        }
    }

    /// What the packet has to be, at the start of an entry: `struct ipt_ip`, `struct ip6t_ip6`.
    const fn conditions(self) -> usize {
        match self {
            Self::V4 => 84,
            Self::V6 => 136,
        }
    }

    /// The whole entry without its matches and its target: behind the conditions come a word, two offsets, a word and
    /// the counters.
    const fn entry(self) -> usize {
        (self.conditions() + 12).next_multiple_of(align_of::<u64>()) + 16
    }

    /// The tables that are there. To ask for one that is not would make it.
    fn tables(self) -> io::Result<String> {
        let names = format!("/proc/thread-self/net/{}_tables_names", self.word());
        match std::fs::read_to_string(names) {
            // The kernel is built without, or the module is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        }
    }
}

/// Legacy chains of the calling thread's network namespace that drop forwarded packets.
pub(super) fn find() -> Result<Vec<Obstacle>, Errno> {
    let mut found = Vec::new();
    for family in [Family::V4, Family::V6] {
        let tables = family
            .tables()
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        if !tables.lines().any(|name| name == "filter") {
            continue;
        }
        let Some(filter) = getsockopt::table(family)? else {
            continue;
        };
        if closed(family, &filter.info, &filter.entries) == Some(true) {
            found.push(Obstacle {
                family: family.word(),
                table: "filter".to_owned(),
                chain: "FORWARD".to_owned(),
                legacy: true,
                remedy: format!(
                    "{} -I FORWARD -m mark --mark {ACCEPTED:#x}/{ACCEPTED:#x} \
                     -m comment --comment ocicat -j ACCEPT",
                    family.program()
                ),
            });
        }
    }
    Ok(found)
}

/// Whether the chain FORWARD drops what no rule of it accepts, and none accepts our mark; `None` for a table that makes
/// no sense.
fn closed(family: Family, info: &[u8], entries: &[u8]) -> Option<bool> {
    let first = number(info, NAME + 4 + FORWARD * 4)?;
    let policy = number(info, NAME + 4 + HOOKS * 4 + FORWARD * 4)?;
    let mut at = first;
    while at <= policy {
        let entry = entries.get(at..)?;
        let next = usize::from(short(entry, family.conditions() + 6)?);
        let rule = entry.get(..next)?;
        if rule.windows(COMMENT.len()).any(|bytes| bytes == COMMENT) {
            return Some(false);
        }
        // The policy is the last rule; nothing gets behind one that lets nothing through.
        if drops(family, rule)? {
            return Some(true);
        }
        at += next.max(1);
    }
    Some(false)
}

/// Whether a rule drops or rejects every packet.
fn drops(family: Family, rule: &[u8]) -> Option<bool> {
    let target = usize::from(short(rule, family.conditions() + 4)?);
    let any = rule
        .get(..family.conditions())?
        .iter()
        .all(|byte| *byte == 0);
    let name = rule.get(target + 2..target + 31)?;
    let verdict = || {
        let bytes = rule.get(target + TARGET..)?.first_chunk()?;
        Some(i32::from_ne_bytes(*bytes))
    };
    let refuses = match name.split(|byte| *byte == 0).next()? {
        b"" => verdict()? == DROP,
        b"REJECT" => true,
        _ => false,
    };
    Some(refuses && any && target == family.entry())
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_ne_bytes(*bytes)).ok()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
