//! Which operations go into one transaction.

use std::collections::BTreeSet;

use super::{Op, Plan};
use crate::nft::name::Name;
use crate::nft::ruleset::{Element, Family};

impl Op {
    fn makes_chain(&self) -> Option<&Name> {
        match self {
            Self::NewChain(name, _) => Some(name),
            _ => None,
        }
    }
}

impl Plan {
    /// How many operations it has.
    pub(crate) fn len(&self) -> usize {
        self.new.len() + self.switch.len() + self.old.len()
    }

    /// Whether an element of a live map leads to a chain that is made only now.
    fn leads_to_new_chains(&self) -> bool {
        let made: BTreeSet<&Name> = self.new.iter().filter_map(Op::makes_chain).collect();
        let live = self.switch.iter().filter_map(|op| match op {
            Op::NewElements(_, all) => Some(all),
            _ => None,
        });
        let mut targets = live.flatten().filter_map(Element::target);
        !made.is_empty() && targets.any(|target| made.contains(target))
    }

    /// The operations in groups; those of a group go into one transaction if they fit.
    pub(crate) fn groups(self) -> Vec<Vec<Op>> {
        if self.anew.is_some() {
            // Made first, so that there is one to delete.
            let mut all = Vec::new();
            for family in Family::BOTH {
                all.extend([Op::NewTable(family), Op::DelTable(family)]);
            }
            all.extend([self.new, self.switch, self.old].into_iter().flatten());
            return vec![all];
        }
        let filled = self.new.iter().any(|op| matches!(op, Op::NewElements(..)));
        let apart = filled || self.leads_to_new_chains();
        let drained = self.old.iter().any(|op| matches!(op, Op::DelSet(_)));
        let mut groups = vec![self.new];
        if apart {
            groups.push(Vec::new());
        }
        if let Some(last) = groups.last_mut() {
            last.extend(self.switch);
        }
        if drained {
            groups.push(Vec::new());
        }
        if let Some(last) = groups.last_mut() {
            last.extend(self.old);
        }
        groups.retain(|group| !group.is_empty());
        groups
    }
}
