//! What BGP peers say, and how much of it is believed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ocicat_dataplane::Prefix;

use super::Core;
use crate::network::{Learned, pool_of};

/// What is done about routes whose announcer has no claim to them (`originValidation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validation {
    Off,
    Report,
    Enforce,
}

impl Core {
    /// BGP's best routes to a prefix changed; none means that it is gone.
    pub(crate) fn learn(&mut self, prefix: Prefix, hops: Vec<IpAddr>, external: bool) {
        let shown = hops
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        let changed = if hops.is_empty() {
            self.learned.remove(&prefix).is_some()
        } else {
            let learned = Learned { hops, external };
            self.learned.insert(prefix, learned.clone()) != Some(learned)
        };
        if changed {
            let event = if shown.is_empty() {
                "route-withdrawn"
            } else {
                "route-learned"
            };
            self.ports
                .events
                .publish(event, &[("prefix", &prefix), ("via", &shown)]);
            self.touched.network = true;
        }
    }

    /// What is installed of what was learned. A block that a node announces without having claimed it, or an address
    /// that is not in use there, is reported; with `originValidation: enforce` it is left out.
    pub(super) fn believed(&mut self) -> BTreeMap<Prefix, Learned> {
        let validation = self.validation();
        let mut astray = Vec::new();
        let mut believed = self.learned.clone();
        // A range that this node announces, learned back from a router: packets to an address without a service would go
        // round between the two.
        let services = &self.world.bgp.services;
        believed.retain(|prefix, _| !services.covers(prefix));
        if validation == Validation::Off || !self.in_sync() {
            self.astray = astray;
            return believed;
        }
        let borrowed = self.world.borrowed();
        believed.retain(|prefix, learned| {
            let wrong = learned
                .hops
                .iter()
                .filter_map(|hop| Some((*hop, self.world.node_of(*hop)?)))
                .find(|(_, node)| !self.may_originate(*prefix, node, &borrowed));
            let Some((hop, node)) = wrong else {
                return true;
            };
            let owner = self
                .world
                .blocks
                .get(prefix)
                .map_or("nobody", String::as_str);
            astray.push(format!(
                "{prefix} is announced from {hop}, node {node}, and claimed by {owner}"
            ));
            validation == Validation::Report
        });
        self.astray = astray;
        believed
    }

    fn validation(&mut self) -> Validation {
        match self
            .felix("originValidation")
            .as_deref()
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            None | Some("" | "report") => Validation::Report,
            Some("off" | "disabled") => Validation::Off,
            Some("enforce") => Validation::Enforce,
            Some(other) => {
                let problem = format!(
                    "originValidation: {other:?} is not off, report or enforce; enforce is in force"
                );
                self.notes.push(problem);
                Validation::Enforce
            }
        }
    }

    /// Whether a node may announce a prefix: its own block, or an address that is in use there. What lies outside of
    /// pools is not the cluster's to judge.
    fn may_originate(
        &self,
        prefix: Prefix,
        node: &str,
        borrowed: &BTreeMap<IpAddr, String>,
    ) -> bool {
        if pool_of(&self.world.pools, prefix).is_none() {
            return true;
        }
        match self.world.blocks.get(&prefix) {
            Some(owner) => owner == node,
            None => {
                prefix.is_host()
                    && borrowed
                        .get(&prefix.address())
                        .is_some_and(|holder| holder == node)
            }
        }
    }
}
