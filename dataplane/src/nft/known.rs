//! What the kernel's table holds, as far as we know.

use std::collections::{BTreeSet, HashMap};

use super::name::Name;
use super::ruleset::{Element, Family, Hook, Shape};
use crate::state::Moment;

/// The table in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Which of the tables are there.
    pub(crate) tables: BTreeSet<Family>,
    /// The netlink port of the program that alone may change it.
    pub(crate) owner: Option<u32>,
    pub(crate) chains: HashMap<Name, KnownChain>,
    pub(crate) sets: HashMap<Name, KnownSet>,
}

/// A chain in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownChain {
    pub(crate) hook: Option<Hook>,
    /// A base chain whose policy somebody changed from `accept`.
    pub(crate) closed: bool,
    /// The hashes of its rules, in order; `None` is a rule that is not ours.
    pub(crate) rules: Vec<Option<u64>>,
    /// The kernel's numbers for the rules, when they have been asked for.
    pub(crate) handles: Option<Vec<u64>>,
}

/// A set in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownSet {
    /// `None` is a kind of set that we never make.
    pub(crate) shape: Option<Shape>,
    pub(crate) content: Content,
}

/// The elements of a set in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Exactly these.
    Elements(BTreeSet<Element>),
    /// Those of the state's set at a moment.
    At(Moment),
    /// They have to be asked for.
    Unknown,
}
