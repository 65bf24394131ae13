use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::{HandleId, Prefix};

/// An address that is held, with all that is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Held {
    /// The address.
    pub address: IpAddr,
    /// Its block.
    pub block: Prefix,
    /// The block's owner, `host:NAME` or `virtual:NAME`.
    pub owner: Option<String>,
    /// The handle that holds it.
    pub handle: Option<HandleId>,
    /// What the holder said about itself.
    pub attributes: BTreeMap<String, String>,
    /// The number of the write that took it.
    pub sequence: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CheckReport {
    /// Every address that is held, ascending.
    pub held: Vec<Held>,
    /// Every inconsistency.
    pub findings: Vec<Finding>,
}

/// One inconsistency. In JSON each has its name as `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "kind", rename_all = "camelCase")
)]
#[non_exhaustive]
pub enum Finding {
    /// An address in use lies in a pool and nobody holds it: it may be given to another.
    NotHeld {
        /// The address.
        address: IpAddr,
        /// Who uses it.
        by: Vec<String>,
    },
    /// An address in use lies in no pool.
    OutsidePools {
        /// The address.
        address: IpAddr,
        /// Who uses it.
        by: Vec<String>,
    },
    /// An address has several users.
    UsedTwice {
        /// The address.
        address: IpAddr,
        /// Who uses it.
        by: Vec<String>,
    },
    /// An address is held in several blocks.
    HeldTwice {
        /// The address.
        address: IpAddr,
        /// The blocks.
        blocks: Vec<Prefix>,
    },
    /// An address is held and nobody uses it: perhaps a leak.
    NotUsed {
        /// The address and its holder.
        held: Held,
        /// Whether the node for which it was taken does not exist.
        node_gone: bool,
    },
    /// A handle counts other addresses in a block than it holds there. Too many is what a crash leaves; too few, or a
    /// handle that does not exist (0), means that a release by handle misses addresses.
    Miscounted {
        /// The handle.
        handle: HandleId,
        /// The block.
        block: Prefix,
        /// How many it counts.
        counted: u32,
        /// How many it holds.
        held: u32,
    },
    /// A handle counts nothing.
    EmptyHandle {
        /// The handle.
        handle: HandleId,
    },
    /// A block is claimed by its owner, and the claim is not confirmed: it has no route.
    Unconfirmed {
        /// The owner.
        owner: String,
        /// The block.
        block: Prefix,
        /// The claim's state.
        state: String,
    },
    /// A claim on a block that does not exist or is another's. A confirmed one draws a wrong route.
    IdleClaim {
        /// Who claims.
        owner: String,
        /// The block.
        block: Prefix,
        /// The block's owner, where it exists and has one.
        block_owner: Option<String>,
        /// Whether the claim is confirmed.
        confirmed: bool,
    },
    /// A block names an owner that does not claim it: it has no route.
    Unclaimed {
        /// The owner.
        owner: String,
        /// The block.
        block: Prefix,
    },
    /// A block is claimed for a node that does not exist.
    NodeGone {
        /// Who claims.
        owner: String,
        /// The block.
        block: Prefix,
    },
    /// Something in a block contradicts itself.
    Defect {
        /// The block.
        block: Prefix,
        /// What is wrong.
        defect: String,
    },
    /// A block lies in no pool.
    BlockOutsidePools {
        /// The block.
        block: Prefix,
    },
    /// A block has not the size of its pool's blocks.
    BlockSize {
        /// The block.
        block: Prefix,
        /// The prefix length of its pool's blocks.
        expected: u8,
    },
    /// A block lies in another.
    Overlap {
        /// The block.
        block: Prefix,
        /// The block that it lies in.
        other: Prefix,
    },
    /// A block that nobody owns and in which nothing is held.
    EmptyBlock {
        /// The block.
        block: Prefix,
    },
    /// A record cannot be understood.
    Unreadable {
        /// Its name in the store.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CheckReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The addresses that are held and not used.
    pub fn leaks(&self) -> impl Iterator<Item = &Held> + '_ {
        self.findings.iter().filter_map(|finding| match finding {
            Finding::NotUsed { held, .. } => Some(held),
            _ => None,
        })
    }
}

/// One line for each finding, and a last one with the numbers.
impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let (held, found) = (self.held.len(), self.findings.len());
        write!(f, "{held} addresses are held, {found} problems found")
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handle = self.handle.as_ref().map_or("no handle", HandleId::as_str);
        write!(f, "{} ({handle}", self.address)?;
        for name in ["namespace", "pod", "node", "type"] {
            if let Some(value) = self.attributes.get(name) {
                write!(f, ", {name} {value}")?;
            }
        }
        f.write_str(")")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeld { address, by } => {
                write!(f, "{address}: used by {} and not allocated", by.join(", "))
            }
            Self::OutsidePools { address, by } => {
                write!(f, "{address}: used by {} and in no pool", by.join(", "))
            }
            Self::UsedTwice { address, by } => write!(f, "{address}: used by {}", by.join(" and ")),
            Self::HeldTwice { address, blocks } => {
                write!(f, "{address}: allocated in several blocks: {blocks:?}")
            }
            Self::NotUsed { held, node_gone } => {
                let gone = if *node_gone {
                    "; its node does not exist"
                } else {
                    ""
                };
                write!(f, "{held}: allocated and not in use{gone}")
            }
            Self::Miscounted {
                handle,
                block,
                counted,
                held,
            } => {
                write!(
                    f,
                    "handle {handle}: counts {counted} addresses in {block}, holds {held}"
                )
            }
            Self::EmptyHandle { handle } => write!(f, "handle {handle}: has no addresses"),
            Self::Unreadable { key, reason } => write!(f, "{key}: {reason}"),
            block => block.fmt_block(f),
        }
    }
}

impl Finding {
    /// Findings about blocks and their claims.
    fn fmt_block(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconfirmed {
                owner,
                block,
                state,
            } => {
                write!(
                    f,
                    "block {block}: the claim of its owner {owner} is {state}"
                )
            }
            Self::IdleClaim {
                owner,
                block,
                block_owner,
                confirmed,
            } => {
                let state = if *confirmed {
                    "confirmed"
                } else {
                    "unconfirmed"
                };
                let real = block_owner.as_deref().unwrap_or("nobody");
                write!(
                    f,
                    "block {block}: {state} claim of {owner}, belongs to {real}"
                )
            }
            Self::Unclaimed { owner, block } => {
                write!(f, "block {block}: its owner {owner} does not claim it")
            }
            Self::NodeGone { owner, block } => {
                write!(
                    f,
                    "block {block}: claimed for {owner}, which does not exist"
                )
            }
            Self::Defect { block, defect } => write!(f, "block {block}: {defect}"),
            Self::BlockOutsidePools { block } => write!(f, "block {block}: is in no pool"),
            Self::BlockSize { block, expected } => {
                write!(f, "block {block}: its pool has blocks of /{expected}")
            }
            Self::Overlap { block, other } => write!(f, "block {block}: lies in block {other}"),
            Self::EmptyBlock { block } => write!(f, "block {block}: is empty and nobody's"),
            _ => Ok(()),
        }
    }
}
