//! The objects of a table: chains of rules, and sets with their elements.

use std::net::IpAddr;

use super::encode::{address_bytes, link_key};
use super::name::Name;
use super::statement::{Rule, Verdict};
use crate::state::{IpVersion, Protocol};

/// The table's name.
pub(crate) const TABLE: &str = "ocicat";

/// The two tables of that name: nf_tables has one for each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// `NFPROTO_INET`: IPv4 and IPv6.
    Inet = 1,
    /// `NFPROTO_ARP`.
    Arp = 3,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::Inet, Self::Arp];

    /// The table of a chain or set, which its name tells.
    pub(crate) fn of(name: &str) -> Self {
        if name.starts_with("arp-") {
            Self::Arp
        } else {
            Self::Inet
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Arp => "arp",
        }
    }
}

/// How a base chain hangs in the kernel's path of packets; its policy is always `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) place: Place,
    pub(crate) priority: i32,
    /// A `nat` chain sees the first packet of a connection only.
    pub(crate) nat: bool,
}

/// `NF_INET_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: Name,
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

/// A part of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Address(IpVersion),
    Protocol,
    Port,
    Link,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) key: Vec<Part>,
    /// Ranges of single-part keys instead of single values.
    pub(crate) ranges: bool,
    /// Each element has a verdict.
    pub(crate) verdicts: bool,
}

impl Part {
    /// Bytes in the key: whole registers in a concatenation.
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::Address(IpVersion::V4) => 4,
            Self::Address(IpVersion::V6) | Self::Link => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// nft's own number for the type, by which it shows elements.
    pub(crate) const fn datatype(self) -> u32 {
        match self {
            Self::Address(IpVersion::V4) => 7,
            Self::Address(IpVersion::V6) => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Link => 41,
        }
    }
}

impl Shape {
    pub(crate) fn plain(part: Part) -> Self {
        Self {
            key: vec![part],
            ranges: false,
            verdicts: false,
        }
    }

    pub(crate) fn ranges(part: Part) -> Self {
        Self {
            ranges: true,
            ..Self::plain(part)
        }
    }

    /// Address, protocol and port: named ports and services.
    pub(crate) fn ports(version: IpVersion) -> Self {
        Self {
            key: vec![Part::Address(version), Part::Protocol, Part::Port],
            ranges: false,
            verdicts: false,
        }
    }

    /// From a link to a chain.
    pub(crate) fn dispatch() -> Self {
        Self {
            verdicts: true,
            ..Self::plain(Part::Link)
        }
    }

    /// Bytes of a key.
    pub(crate) fn width(&self) -> usize {
        match self.key.as_slice() {
            [one] => one.width(),
            parts => parts
                .iter()
                .map(|part| part.width().next_multiple_of(4))
                .sum(),
        }
    }
}

/// An element of a set; its order is that in which the kernel wants ranges.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    pub(crate) key: Box<[u8]>,
    /// Starts a range (or is a single value); false ends one, behind its last value.
    pub(crate) start: bool,
    pub(crate) verdict: Option<Verdict>,
}

impl Element {
    /// The chain that it leads to.
    pub(crate) fn target(&self) -> Option<&Name> {
        match &self.verdict {
            Some(Verdict::Goto(chain) | Verdict::Jump(chain)) => Some(chain),
            _ => None,
        }
    }

    pub(crate) fn single(key: impl Into<Box<[u8]>>) -> Self {
        Self {
            key: key.into(),
            start: true,
            verdict: None,
        }
    }

    pub(crate) fn address(address: IpAddr) -> Self {
        Self::single(address_bytes(address))
    }

    pub(crate) fn port(address: IpAddr, protocol: Protocol, port: u16) -> Self {
        let mut key = address_bytes(address);
        key.extend([protocol.0, 0, 0, 0]);
        key.extend(port.to_be_bytes());
        key.extend([0, 0]);
        Self::single(key)
    }

    pub(crate) fn link_address(link: &str, address: IpAddr) -> Self {
        let mut key = link_key(link).to_vec();
        key.extend(address_bytes(address));
        Self::single(key)
    }

    pub(crate) fn protocol_port(protocol: Protocol, port: u16) -> Self {
        let mut key = vec![protocol.0, 0, 0, 0];
        key.extend(port.to_be_bytes());
        key.extend([0, 0]);
        Self::single(key)
    }

    pub(crate) fn dispatch(link: &str, chain: &Name) -> Self {
        Self {
            key: link_key(link).into(),
            start: true,
            verdict: Some(Verdict::Goto(chain.clone())),
        }
    }

    /// The elements of the range from `first` to `last`, both included: a start, and an end unless the range goes
    /// on to the last value there is.
    pub(crate) fn range(first: &[u8], last: &[u8]) -> impl Iterator<Item = Self> + use<> {
        let start = Self::single(first);
        let mut behind = last.to_vec();
        let mut carry = true;
        for byte in behind.iter_mut().rev() {
            if carry {
                (*byte, carry) = byte.overflowing_add(1);
            }
        }
        let end = (!carry).then(|| Self {
            key: behind.into(),
            start: false,
            verdict: None,
        });
        std::iter::once(start).chain(end)
    }
}
