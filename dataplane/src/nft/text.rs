//! Rules and tables in nft's own language.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::compile::Desired;
use super::encode;
use super::ruleset::{Chain, Element, Family, Hook, Part, Place, Shape, TABLE};
use super::statement::{Field, Rule, Statement, Value, Verdict, state};
use crate::state::{IpVersion, PortRange, Set, SetId};

/// The whole table as a file for `nft -f`.
pub(crate) fn table(desired: &Desired, sets: &BTreeMap<SetId, Set>) -> String {
    let mut text = String::new();
    for family in Family::BOTH {
        if desired.chains.keys().any(|name| Family::of(name) == family) {
            let _ = write_table(&mut text, family, desired, sets);
        }
    }
    text
}

fn write_table(
    out: &mut String,
    family: Family,
    desired: &Desired,
    sets: &BTreeMap<SetId, Set>,
) -> fmt::Result {
    writeln!(out, "table {} {TABLE} {{", family.word())?;
    let none = Set::default();
    let mut all: BTreeMap<&str, (Shape, Vec<Element>)> = BTreeMap::new();
    for (name, (set, _)) in &desired.fixed {
        all.insert(
            name,
            (set.shape.clone(), set.elements.iter().cloned().collect()),
        );
    }
    for (name, set) in desired.collected.iter().filter(|(_, set)| set.exists()) {
        all.insert(
            name,
            (set.shape.clone(), set.elements.keys().cloned().collect()),
        );
    }
    for (name, (id, variant, _)) in &desired.variants {
        let elements = variant.elements(sets.get(id).unwrap_or(&none));
        all.insert(name, (variant.shape(), elements.into_iter().collect()));
    }
    let own = |name: &&str| Family::of(name) == family;
    for (name, (shape, elements)) in all.iter().filter(|(name, _)| own(name)) {
        write_set(out, name, shape, elements)?;
    }
    let chains: BTreeMap<&str, &Chain> = desired
        .chains
        .iter()
        .map(|(name, (chain, _))| (&**name, &**chain))
        .collect();
    for (name, chain) in chains.iter().filter(|(name, _)| own(name)) {
        writeln!(out, "\tchain {name} {{")?;
        if let Some(hook) = chain.hook {
            writeln!(out, "\t\t{hook}; policy accept;")?;
        }
        for rule in &chain.rules {
            writeln!(out, "\t\t{rule} comment \"{}\"", rule.comment())?;
        }
        writeln!(out, "\t}}\n")?;
    }
    writeln!(out, "}}")
}

fn write_set(out: &mut String, name: &str, shape: &Shape, elements: &[Element]) -> fmt::Result {
    let parts: Vec<&str> = shape.key.iter().map(|part| part.word()).collect();
    let kind = parts.join(" . ");
    if shape.verdicts {
        writeln!(out, "\tmap {name} {{\n\t\ttype {kind} : verdict")?;
    } else {
        writeln!(out, "\tset {name} {{\n\t\ttype {kind}")?;
    }
    if shape.ranges {
        writeln!(out, "\t\tflags interval")?;
    }
    let mut words = Vec::new();
    let mut left = elements.iter().peekable();
    while let Some(element) = left.next() {
        if !element.start {
            continue;
        }
        let mut word = key_text(&shape.key, &element.key);
        if shape.ranges {
            let end = left.peek().filter(|next| !next.start).map(|next| &next.key);
            let last = end.map_or_else(|| vec![0xff; element.key.len()], |key| one_less(key));
            let last = key_text(&shape.key, &last);
            if last != word {
                word = format!("{word}-{last}");
            }
        }
        if let Some(verdict) = &element.verdict {
            let _ = write!(word, " : {verdict}");
        }
        words.push(word);
    }
    if !words.is_empty() {
        writeln!(out, "\t\telements = {{ {} }}", words.join(", "))?;
    }
    writeln!(out, "\t}}\n")
}

fn one_less(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            break;
        }
    }
    key
}

fn key_text(parts: &[Part], key: &[u8]) -> String {
    let mut left = key;
    let mut words = Vec::new();
    for part in parts {
        let bytes = left.get(..part.width()).unwrap_or_default();
        words.push(part_text(*part, bytes));
        left = left
            .get(part.width().next_multiple_of(4)..)
            .unwrap_or_default();
    }
    words.join(" . ")
}

fn part_text(part: Part, bytes: &[u8]) -> String {
    match part {
        Part::Address(IpVersion::V4) => bytes
            .first_chunk::<4>()
            .map(|b| Ipv4Addr::from(*b).to_string()),
        Part::Address(IpVersion::V6) => bytes
            .first_chunk::<16>()
            .map(|b| Ipv6Addr::from(*b).to_string()),
        Part::Protocol => bytes.first().map(ToString::to_string),
        Part::Port => bytes
            .first_chunk()
            .map(|b| u16::from_be_bytes(*b).to_string()),
        Part::Link => {
            let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            Some(format!("\"{}\"", String::from_utf8_lossy(name)))
        }
    }
    .unwrap_or_default()
}

impl Part {
    const fn word(self) -> &'static str {
        match self {
            Self::Address(IpVersion::V4) => "ipv4_addr",
            Self::Address(IpVersion::V6) => "ipv6_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
            Self::Link => "ifname",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.nat { "nat" } else { "filter" };
        let place = match self.place {
            Place::Prerouting => "prerouting",
            Place::Input => "input",
            Place::Forward => "forward",
            Place::Output => "output",
            Place::Postrouting => "postrouting",
        };
        write!(f, "type {kind} hook {place} priority {}", self.priority)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "meta nfproto",
            Self::Protocol => "meta l4proto",
            Self::InLink => "iifname",
            Self::OutLink => "oifname",
            Self::Source(IpVersion::V4) => "ip saddr",
            Self::Source(IpVersion::V6) => "ip6 saddr",
            Self::Destination(IpVersion::V4) => "ip daddr",
            Self::Destination(IpVersion::V6) => "ip6 daddr",
            Self::SourcePort => "th sport",
            Self::DestinationPort => "th dport",
            Self::Icmp => "@th,0,16",
            Self::IcmpType => "@th,0,8",
            Self::ArpSender => "arp saddr ip",
            Self::NeighbourTarget => "@th,64,128",
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(IpVersion::V4) => f.write_str("ipv4"),
            Self::Version(IpVersion::V6) => f.write_str("ipv6"),
            Self::Protocol(protocol) => write!(f, "{}", protocol.0),
            Self::Link(link) => write!(f, "\"{link}\""),
            Self::Links(prefix) => write!(f, "\"{prefix}*\""),
            Self::Net(net) if net.is_host() => write!(f, "{}", net.address()),
            Self::Net(net) => write!(f, "{net}"),
            Self::Ports(ports) => write_ports(f, *ports),
            Self::IcmpType(kind) => write!(f, "{kind}"),
            Self::Icmp(kind, code) => write!(f, "{}", u16::from_be_bytes([*kind, *code])),
        }
    }
}

fn write_ports(f: &mut fmt::Formatter<'_>, ports: PortRange) -> fmt::Result {
    if ports.first == ports.last {
        write!(f, "{}", ports.first)
    } else {
        write!(f, "{}-{}", ports.first, ports.last)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, statement) in self.statements.iter().enumerate() {
            if at > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{statement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is {
                field: field @ Field::NeighbourTarget,
                not,
                value: Value::Net(net),
            } => {
                // nft takes it for a number.
                let number = encode::address_bytes(net.address());
                let mask = encode::mask_bytes(net.length(), number.len());
                write!(f, "{field} ")?;
                if !net.is_host() {
                    write!(f, "& 0x{} ", hex(&mask))?;
                }
                let equal = if *not { "!=" } else { "==" };
                write!(f, "{equal} 0x{}", hex(&number))
            }
            Self::Is { field, not, value } => {
                write!(f, "{field} {}{value}", if *not { "!= " } else { "" })
            }
            Self::In { fields, not, set } => {
                let words: Vec<String> = fields.iter().map(ToString::to_string).collect();
                let not = if *not { "!= " } else { "" };
                write!(f, "{} {not}@{set}", words.join(" . "))
            }
            Self::State(bits) => {
                let names = [
                    (state::INVALID, "invalid"),
                    (state::ESTABLISHED, "established"),
                    (state::RELATED, "related"),
                ];
                let names = names.iter().filter(|(bit, _)| bits & bit != 0);
                let names: Vec<&str> = names.map(|(_, name)| *name).collect();
                write!(f, "ct state {}", names.join(","))
            }
            Self::Marked(bits) => write!(f, "meta mark & {bits:#010x} != 0"),
            Self::ConnectionMarked(bits) => write!(f, "ct mark & {bits:#010x} != 0"),
            Self::Mark { clear, set } if *set == 0 => {
                write!(f, "meta mark set meta mark & {:#010x}", !clear)
            }
            Self::Mark { clear: 0, set } => write!(f, "meta mark set meta mark | {set:#010x}"),
            Self::Mark { clear, set } => {
                write!(
                    f,
                    "meta mark set meta mark & {:#010x} | {set:#010x}",
                    !clear
                )
            }
            Self::Map { field, map } => write!(f, "{field} vmap @{map}"),
            Self::Verdict(verdict) => write!(f, "{verdict}"),
            _ => write_effect(f, self),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_effect(f: &mut fmt::Formatter<'_>, statement: &Statement) -> fmt::Result {
    match statement {
        Statement::Counter => f.write_str("counter"),
        Statement::NoTrack => f.write_str("notrack"),
        Statement::Limit { per_minute } => write!(f, "limit rate {per_minute}/minute"),
        Statement::Log { prefix, group } => {
            write!(f, "log prefix \"{prefix}\"")?;
            group.map_or(Ok(()), |group| write!(f, " group {group}"))
        }
        Statement::Reset => f.write_str("reject with tcp reset"),
        Statement::Prohibit => f.write_str("reject with icmpx admin-prohibited"),
        Statement::Masquerade { ports } => {
            f.write_str("masquerade")?;
            if let Some(ports) = ports {
                f.write_str(" to :")?;
                write_ports(f, *ports)?;
            }
            Ok(())
        }
        Statement::SourceNat { address, ports } => {
            match address {
                IpAddr::V4(address) => write!(f, "snat ip to {address}")?,
                IpAddr::V6(address) => write!(f, "snat ip6 to [{address}]")?,
            }
            if let Some(ports) = ports {
                f.write_char(':')?;
                write_ports(f, *ports)?;
            }
            Ok(())
        }
        Statement::LocalSource { on_link, not } => {
            let link = if *on_link { " . oif" } else { "" };
            write!(
                f,
                "fib saddr{link} type {}local",
                if *not { "!= " } else { "" }
            )
        }
        _ => Ok(()),
    }
}
