//! Other programs' chains that drop what our policy lets through: Docker's FORWARD policy, ufw, firewalld.
//!
//! A packet has to pass every base chain of a hook. An `accept` of ours ends our chain only; another table's chain
//! with policy `drop`, or with a drop of everything as its last rule, drops the packet all the same, unless a rule of
//! it accepts packets with our mark. The same is true of the tables of legacy iptables, which hang in the same hooks.

mod legacy;

use super::compile::ACCEPTED;
use super::ruleset::TABLE;
use super::socket::{DumpError, Socket};
use super::wire::{Attributes, Kind};

/// What a rule that lets our packets through has in its comment.
const COMMENT: &[u8] = b"ocicat";
const FORWARD: u32 = 2;
const DROP: u32 = 0;
/// The priority of our own forward chain: chains before it do not see the mark.
const OURS: i32 = -10;

/// A base chain of another table that drops forwarded packets which policy has let through.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Obstacle {
    /// The table's family in nft's words: `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// The table, such as `filter`.
    pub table: String,
    /// The base chain, such as `FORWARD`.
    pub chain: String,
    /// Whether it is a chain of legacy iptables, which nft does not show and `iptables-legacy` does.
    pub legacy: bool,
    /// The command that lets packets with our mark through; its rule has `ocicat` in the comment, by which it is
    /// known again.
    pub remedy: String,
}

struct Candidate {
    number: u8,
    obstacle: Obstacle,
    closed: bool,
}

pub(super) fn find(socket: &mut Socket) -> Result<Vec<Obstacle>, DumpError> {
    let mut candidates = Vec::new();
    socket.dump_of(
        0,
        Kind::GetChain,
        |_| {},
        |message| candidates.extend(candidate(message.family(), message.attributes())),
    )?;
    let mut found = Vec::new();
    for mut candidate in candidates {
        let mut helped = false;
        let Candidate {
            number, obstacle, ..
        } = &candidate;
        let (table, chain) = (obstacle.table.clone(), obstacle.chain.clone());
        let mut last = false;
        socket.dump_of(
            *number,
            Kind::GetRule,
            |b| {
                b.text(1, &table);
                b.text(2, &chain);
            },
            |message| {
                let rule = message.attributes();
                if rule.text(1) == Some(&table) && rule.text(2) == Some(&chain) {
                    let mut bytes = message.payload.windows(COMMENT.len());
                    helped |= bytes.any(|window| window == COMMENT);
                    last = drops_everything(rule.nested(4));
                }
            },
        )?;
        candidate.closed |= last;
        if candidate.closed && !helped {
            found.push(candidate.obstacle);
        }
    }
    found.extend(legacy::find().map_err(DumpError::Kernel)?);
    Ok(found)
}

fn candidate(number: u8, chain: Attributes<'_>) -> Option<Candidate> {
    let family = match number {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    };
    let hook = chain.nested(4);
    let (table, name) = (chain.text(1)?, chain.text(3)?);
    let ours = family == "inet" && table == TABLE;
    if ours || hook.be32(1)? != FORWARD || chain.text(7)? != "filter" {
        return None;
    }
    let priority = i32::from_be_bytes(*hook.find(2)?.first_chunk()?);
    Some(Candidate {
        number,
        closed: chain.be32(5) == Some(DROP),
        obstacle: Obstacle {
            family,
            table: table.to_owned(),
            chain: name.to_owned(),
            legacy: false,
            remedy: remedy(family, table, name, priority),
        },
    })
}

fn remedy(family: &str, table: &str, chain: &str, priority: i32) -> String {
    let iptables = match (family, table, chain) {
        ("ip", "filter", "FORWARD") => Some("iptables"),
        ("ip6", "filter", "FORWARD") => Some("ip6tables"),
        _ => None,
    };
    if priority <= OURS {
        // It comes before our mark is set.
        return format!(
            "nft insert rule {family} {table} {chain} iifname \"cali*\" accept comment ocicat; \
             nft insert rule {family} {table} {chain} oifname \"cali*\" accept comment ocicat"
        );
    }
    match iptables {
        Some(program) => format!(
            "{program} -I {chain} -m mark --mark {ACCEPTED:#x}/{ACCEPTED:#x} \
             -m comment --comment ocicat -j ACCEPT"
        ),
        None => format!(
            "nft insert rule {family} {table} {chain} meta mark \\& {ACCEPTED:#x} != 0 accept comment ocicat"
        ),
    }
}

/// Whether a rule drops or rejects without looking at the packet.
fn drops_everything(expressions: Attributes<'_>) -> bool {
    let mut drops = false;
    for (_, expression) in expressions {
        let expression = Attributes(expression);
        match expression.text(1) {
            Some("counter" | "log") => {}
            Some("reject") => drops = true,
            Some("immediate") => {
                let code = expression.nested(2).nested(2).nested(2).find(1);
                drops = code.is_some_and(|code| code == 0_i32.to_be_bytes());
            }
            _ => return false,
        }
    }
    drops
}
