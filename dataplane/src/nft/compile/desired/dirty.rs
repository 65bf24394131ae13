use std::collections::{BTreeMap, BTreeSet};

use crate::nft::name::Name;
use crate::nft::ruleset::Element;

/// What has to be compared with the kernel.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) chains: BTreeSet<Name>,
    /// Fixed sets, and variants of the state's sets.
    pub(crate) sets: BTreeSet<Name>,
    pub(crate) elements: BTreeMap<Name, BTreeSet<Element>>,
}

impl Dirty {
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty() && self.elements.is_empty()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.chains.extend(other.chains);
        self.sets.extend(other.sets);
        for (name, elements) in other.elements {
            self.elements.entry(name).or_default().extend(elements);
        }
    }
}
