//! Neighbours that are not configured one by one.

use std::net::IpAddr;
use std::time::Instant;

use super::{DynamicPeers, Speaker};
use crate::identity::PeerId;
use crate::wire::Cease;

impl Speaker {
    /// Accepts unknown neighbours whose address lies in a prefix. The longest prefix counts.
    pub fn add_dynamic_peers(&mut self, dynamic: DynamicPeers) {
        self.dynamic.retain(|other| other.prefix != dynamic.prefix);
        self.dynamic.push(dynamic);
        self.dynamic
            .sort_by_key(|dynamic| std::cmp::Reverse(dynamic.prefix.length()));
    }

    /// Accepts no more unknown neighbours from `prefix`. Those that came from it are removed with `cease`, unless
    /// another prefix lets them in. False when the prefix was not known.
    pub fn remove_dynamic_peers(
        &mut self,
        prefix: &crate::Prefix,
        cease: &Cease,
        now: Instant,
    ) -> bool {
        let before = self.dynamic.len();
        self.dynamic.retain(|dynamic| dynamic.prefix != *prefix);
        if self.dynamic.len() == before {
            return false;
        }
        let welcome = |address| {
            self.dynamic
                .iter()
                .any(|other| other.prefix.contains(address))
        };
        let gone: Vec<_> = self
            .slots
            .iter()
            .flatten()
            .filter(|slot| slot.dynamic)
            .filter(|slot| prefix.contains(slot.config.address) && !welcome(slot.config.address))
            .map(|slot| slot.id)
            .collect();
        for peer in gone {
            self.remove_peer(peer, cease.clone(), now);
        }
        true
    }

    pub(super) fn invite(&mut self, remote: IpAddr, now: Instant) -> Option<PeerId> {
        let dynamic = self
            .dynamic
            .iter()
            .find(|dynamic| dynamic.prefix.contains(remote))?;
        let count = self
            .slots
            .iter()
            .flatten()
            .filter(|slot| slot.dynamic)
            .count();
        if count >= dynamic.limit {
            return None;
        }
        let mut config = dynamic.template.clone();
        config.address = remote;
        config.passive = true;
        self.insert_peer(config, true, now).ok()
    }
}
