use std::collections::BTreeMap;

use ocicat_ipam::{Audience, IpamConfig, Pool, Prefix};

use super::StoreIpam;
use crate::Kind;

/// Settings that were read and are valid until something of their kind changes.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) config: Option<IpamConfig>,
    pub(super) reservations: Option<Vec<Prefix>>,
    pub(super) pools: BTreeMap<Audience, Vec<Pool>>,
    /// Counts what was forgotten: an answer that was on its way meanwhile is not kept.
    pub(super) forgotten: u64,
}

impl StoreIpam {
    /// Remembers pools, reservations and the configuration once they have been read: an address then costs no read at
    /// all. For a program that follows the store and reports every change to [`changed`](Self::changed).
    #[must_use]
    pub fn remembering(mut self) -> Self {
        self.remembers = true;
        self
    }

    /// Something of this kind has changed: what was decided by it is read again when it is needed.
    ///
    /// Matters for pools, reservations, the configuration, and, for the selectors of pools, nodes and profiles; other
    /// kinds do nothing.
    pub fn changed(&self, kind: Kind) {
        let mut memory = self.memory();
        let settings = &mut memory.settings;
        match kind {
            Kind::IpamConfig => settings.config = None,
            Kind::IpReservation => settings.reservations = None,
            Kind::IpPool | Kind::Node | Kind::Profile => settings.pools.clear(),
            _ => return,
        }
        settings.forgotten += 1;
    }

    /// How much has been forgotten so far.
    pub(super) fn moment(&self) -> u64 {
        self.memory().settings.forgotten
    }

    /// Keeps an answer, unless something was forgotten since the question.
    pub(super) fn keep(&self, moment: u64, keep: impl FnOnce(&mut Settings)) {
        let mut memory = self.memory();
        if self.remembers && memory.settings.forgotten == moment {
            keep(&mut memory.settings);
        }
    }
}
