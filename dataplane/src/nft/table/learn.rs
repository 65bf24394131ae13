//! What is known of the kernel after a change went through.

use std::collections::BTreeSet;

use super::Table;
use crate::State;
use crate::nft::compile::Dirty;
use crate::nft::known::{Content, KnownChain, KnownSet};
use crate::nft::name::Name;
use crate::nft::plan;
use crate::nft::ruleset::{Element, Family};

impl Table {
    /// Notes that everything in `dirty` is as desired now; of an incomplete state that nothing else went.
    pub(super) fn learn(&mut self, state: &State, dirty: &Dirty) {
        let chains = dirty.chains.iter();
        let chains = chains.filter(|name| self.desired.chains.contains_key(*name));
        self.known
            .tables
            .extend(chains.map(|name| Family::of(name)));
        for name in &dirty.chains {
            match self.desired.chains.get(name) {
                Some((chain, _)) => {
                    let goal = self.goal(state);
                    let have = self.known.chains.get(name);
                    if have.is_some_and(|have| goal.leaves(chain, have)) {
                        continue;
                    }
                    let rules: Vec<_> = chain.rules.iter().map(|rule| Some(rule.hash)).collect();
                    let known = self.known.chains.entry(name.clone()).or_default();
                    if known.rules != rules || known.hook != chain.hook || known.closed {
                        self.written.insert(name.clone());
                        *known = KnownChain {
                            hook: chain.hook,
                            closed: false,
                            rules,
                            handles: None,
                        };
                    }
                }
                None if state.incomplete || self.stuck.contains_key(name) => {}
                None => {
                    self.written.remove(name);
                    self.known.chains.remove(name);
                }
            }
        }
        for name in &dirty.sets {
            self.learn_set(state, name);
        }
        for (name, touched) in &dirty.elements {
            self.learn_elements(state, name, touched);
        }
    }

    fn learn_set(&mut self, state: &State, name: &Name) {
        let (shape, content) = if let Some((fixed, _)) = self.desired.fixed.get(name) {
            (
                fixed.shape.clone(),
                Content::Elements(fixed.elements.clone()),
            )
        } else if let Some((id, variant, _)) = self.desired.variants.get(name) {
            let set = state.sets.get(id).cloned().unwrap_or_default();
            let content = if state.incomplete {
                // It may hold more.
                Content::Unknown
            } else if variant.is_plain() {
                Content::At(set.moment())
            } else {
                let want = variant.elements(&set);
                Content::Elements(match self.known.sets.get(name).map(|set| &set.content) {
                    Some(Content::Elements(there)) => plan::ranges::after(there, &want),
                    _ => want,
                })
            };
            (variant.shape(), content)
        } else {
            if !state.incomplete && !self.stuck.contains_key(name) {
                self.known.sets.remove(name);
            }
            return;
        };
        let known = KnownSet {
            shape: Some(shape),
            content,
        };
        self.known.sets.insert(name.clone(), known);
    }

    fn learn_elements(&mut self, state: &State, name: &Name, touched: &BTreeSet<Element>) {
        let Some(want) = self.desired.collected.get(name).filter(|set| set.exists()) else {
            if !state.incomplete && !self.stuck.contains_key(name) {
                self.known.sets.remove(name);
            }
            return;
        };
        let known = self.known.sets.entry(name.clone());
        let mut new = false;
        let known = known.or_insert_with(|| {
            new = true;
            KnownSet {
                shape: Some(want.shape.clone()),
                content: Content::Elements(want.elements.keys().cloned().collect()),
            }
        });
        if let (Content::Elements(there), false) = (&mut known.content, new) {
            for element in touched {
                if want.elements.contains_key(element) {
                    there.insert(element.clone());
                } else if !state.incomplete {
                    there.remove(element);
                }
            }
        }
    }
}
