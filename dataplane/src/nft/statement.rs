//! Rules as data: what a rule of ours can say, once, for the encoder and for the text.

use std::net::IpAddr;

use super::encode;
use super::name::{Name, quick_hash};
use crate::Prefix;
use crate::state::{IpVersion, LinkName, PortRange, Protocol};

/// Something of a packet that can be compared or looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Version,
    Protocol,
    InLink,
    OutLink,
    Source(IpVersion),
    Destination(IpVersion),
    SourcePort,
    DestinationPort,
    /// Type and code together: two bytes.
    Icmp,
    IcmpType,
    /// The IPv4 address that an ARP packet says is its sender's (RFC 826), over Ethernet.
    ArpSender,
    /// The address that a neighbour solicitation or advertisement is about (RFC 4861, sections 4.3 and 4.4).
    NeighbourTarget,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Version(IpVersion),
    Protocol(Protocol),
    Link(LinkName),
    /// Any link whose name starts so.
    Links(Box<str>),
    Net(Prefix),
    Ports(PortRange),
    IcmpType(u8),
    Icmp(u8, u8),
}

/// Where a packet goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(Name),
    Goto(Name),
}

/// One part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// The field is (not) this.
    Is {
        field: Field,
        not: bool,
        value: Value,
    },
    /// The fields together are (not) an element of the set.
    In {
        fields: Vec<Field>,
        not: bool,
        set: Name,
    },
    /// The connection is in one of these states.
    State(u32),
    /// One of these bits is set in the packet's mark.
    Marked(u32),
    /// One of these bits is set in the connection's mark.
    ConnectionMarked(u32),
    /// Clears, then sets bits of the packet's mark.
    Mark {
        clear: u32,
        set: u32,
    },
    /// The verdict that the map has for the field, if any.
    Map {
        field: Field,
        map: Name,
    },
    /// Connection tracking leaves the packet alone.
    NoTrack,
    Counter,
    Limit {
        per_minute: u32,
    },
    Log {
        prefix: Box<str>,
        group: Option<u16>,
    },
    /// A TCP reset.
    Reset,
    /// ICMP "administratively prohibited".
    Prohibit,
    Masquerade {
        ports: Option<PortRange>,
    },
    SourceNat {
        address: IpAddr,
        ports: Option<PortRange>,
    },
    /// The source address is (not) one of this host on the link that the packet leaves by, or on any.
    LocalSource {
        on_link: bool,
        not: bool,
    },
    Verdict(Verdict),
}

/// `ct state` bits (linux/netfilter/nf_conntrack_common.h).
pub(crate) mod state {
    pub(crate) const INVALID: u32 = 1;
    pub(crate) const ESTABLISHED: u32 = 2;
    pub(crate) const RELATED: u32 = 4;
}

/// A rule, ready for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) statements: Vec<Statement>,
    /// What people see in `nft list`, behind the hash.
    pub(crate) remark: Box<str>,
    /// The value of `NFTA_RULE_EXPRESSIONS`.
    pub(crate) expressions: Box<[u8]>,
    /// Which rule of a policy it is a part of.
    pub(crate) origin: Option<usize>,
    /// Of expressions and remark: how the rule is known again in the kernel.
    pub(crate) hash: u64,
}

/// What nft can show of a comment, without the hash and a blank.
const LONGEST_REMARK: usize = 128 - 17;

impl Rule {
    pub(crate) fn new(statements: Vec<Statement>, remark: &str) -> Self {
        let mut clean: String = remark
            .chars()
            .map(|c| {
                if c.is_control() || c == '"' || c == '\\' {
                    '?'
                } else {
                    c
                }
            })
            .collect();
        while clean.len() > LONGEST_REMARK {
            clean.pop();
        }
        let expressions = encode::expressions(&statements);
        let hash = quick_hash(&[&expressions, clean.as_bytes()]);
        Self {
            statements,
            remark: clean.into(),
            origin: None,
            expressions: expressions.into(),
            hash,
        }
    }

    /// The comment that the kernel keeps with the rule.
    pub(crate) fn comment(&self) -> String {
        if self.remark.is_empty() {
            format!("{:016x}", self.hash)
        } else {
            format!("{:016x} {}", self.hash, self.remark)
        }
    }
}

/// The hash in a comment that [`Rule::comment`] wrote.
pub(crate) fn hash_in(comment: &str) -> Option<u64> {
    u64::from_str_radix(comment.get(..16)?, 16).ok()
}

impl Field {
    /// The address field of one side.
    pub(crate) const fn address(source: bool, version: IpVersion) -> Self {
        if source {
            Self::Source(version)
        } else {
            Self::Destination(version)
        }
    }

    pub(crate) const fn port(source: bool) -> Self {
        if source {
            Self::SourcePort
        } else {
            Self::DestinationPort
        }
    }
}

impl Statement {
    pub(crate) const fn is(field: Field, value: Value) -> Self {
        Self::Is {
            field,
            not: false,
            value,
        }
    }

    pub(crate) const fn version(version: IpVersion) -> Self {
        Self::is(Field::Version, Value::Version(version))
    }

    pub(crate) const fn protocol(protocol: Protocol) -> Self {
        Self::is(Field::Protocol, Value::Protocol(protocol))
    }

    pub(crate) fn lookup(fields: impl Into<Vec<Field>>, set: &Name) -> Self {
        Self::In {
            fields: fields.into(),
            not: false,
            set: set.clone(),
        }
    }

    pub(crate) fn not_in(fields: impl Into<Vec<Field>>, set: &Name) -> Self {
        Self::In {
            fields: fields.into(),
            not: true,
            set: set.clone(),
        }
    }

    pub(crate) fn jump(chain: &Name) -> Self {
        Self::Verdict(Verdict::Jump(chain.clone()))
    }
}
