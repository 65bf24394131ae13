//! New settings for a peer that is there.

use std::sync::Arc;
use std::time::Instant;

use super::receive::Intake;
use super::{AddPeerError, Speaker};
use crate::filter::Filter;
use crate::identity::PeerId;
use crate::peer::PeerConfig;
use crate::session::SessionConfig;
use crate::wire::Cease;

fn same_filter(a: Option<&Arc<dyn Filter>>, b: Option<&Arc<dyn Filter>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// Whether the session that is up would have come out another one with the new settings.
fn needs_session(old: &PeerConfig, new: &PeerConfig) -> bool {
    (old.address, old.peer_as, old.local_as, old.port)
        != (new.address, new.peer_as, new.local_as, new.port)
        || old.local_address != new.local_address
        || old.families != new.families
        || old.ttl != new.ttl
        || old.rr_client != new.rr_client
        || old.graceful_restart.is_some() != new.graceful_restart.is_some()
        || (old.add_path, old.extended_messages, old.extended_next_hop)
            != (new.add_path, new.extended_messages, new.extended_next_hop)
        || (old.role, old.strict_role) != (new.role, new.strict_role)
}

impl Speaker {
    /// Gives a peer new settings. The session is kept unless they need another one: filters, next hop and limits apply
    /// at once, a new password is for whoever has the sockets to apply to those that are open, the peer is asked for its routes where the import filter changed, timers apply to the next session.
    ///
    /// # Errors
    /// As [`Speaker::add_peer`]; a peer that is not there is added. The id is new when the session is.
    pub fn update_peer(
        &mut self,
        peer: PeerId,
        config: PeerConfig,
        now: Instant,
    ) -> Result<PeerId, AddPeerError> {
        let Some(slot) = self.slot(peer) else {
            return self.add_peer(config, now);
        };
        if needs_session(&slot.config, &config) {
            self.remove_peer(peer, Cease::ConfigurationChange, now);
            return self.add_peer(config, now);
        }
        let (speaker_as, router_id) = (self.config.as_number, self.config.router_id);
        let mut intake = Intake::new(peer, &config, &self.config);
        let Some(slot) = self.slot_mut(peer) else {
            return Ok(peer);
        };
        let old = std::mem::replace(&mut slot.config, config);
        let new = &slot.config;
        slot.session
            .set_config(SessionConfig::new(new, speaker_as, router_id), now);
        intake.inherit(&slot.intake);
        slot.intake = intake;
        let export = (old.next_hop, old.private_as) != (new.next_hop, new.private_as)
            || !same_filter(old.export.as_ref(), new.export.as_ref());
        let import = old.allow_own_as != new.allow_own_as
            || old.enforce_first_as != new.enforce_first_as
            || !same_filter(old.import.as_ref(), new.import.as_ref());
        let negotiated = slot.session.negotiated().cloned();
        let local = slot.intake.local;
        let interface = slot.config.interface.clone();
        if let Some(negotiated) = negotiated {
            if import && negotiated.route_refresh {
                slot.session.ask_refresh();
            }
            if export {
                self.regroup(peer, &negotiated, local);
            }
        }
        self.rib.context.sources[peer.index()].interface = interface;
        self.settle(peer, now);
        Ok(peer)
    }
}
