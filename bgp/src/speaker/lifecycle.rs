//! Sessions that come and go, and what graceful restart makes of it (RFC 4724, RFC 8538).

use std::time::{Duration, Instant};

use super::slot::Slot;
use super::{Event, Speaker, SpeakerConfig};
use crate::identity::PeerId;
use crate::number::{Families, Family};
use crate::rib::Path;
use crate::session::{DownReason, LinkId, Negotiated};
use crate::wire::{Notification, Refresh};

/// The wait for the peers' routes after a restart (RFC 4724 section 4.1).
pub(super) struct Deferral {
    /// The wait for peers that are up ends here.
    cap: Instant,
    /// The wait for peers that were never seen ends here.
    unseen: Option<Instant>,
}

impl Deferral {
    pub(super) fn new(config: &SpeakerConfig, now: Instant) -> Self {
        Self {
            cap: now + config.deferral,
            unseen: Some(now + config.deferral_unseen),
        }
    }

    pub(super) fn next(&self) -> Instant {
        self.unseen.map_or(self.cap, |unseen| unseen.min(self.cap))
    }
}

/// Whether a session that ended so leaves its routes behind, and for how long.
fn kept(slot: &Slot, reason: &DownReason, negotiated: &Negotiated) -> Option<Duration> {
    let restart = negotiated
        .restart
        .as_ref()
        .filter(|restart| !restart.families.is_empty())?;
    if slot.stopping {
        return None;
    }
    let keep = match reason {
        DownReason::Closed | DownReason::HoldTimerExpired | DownReason::Restarted => true,
        DownReason::Received(notification) | DownReason::Sent(notification) => {
            // Too many prefixes are no accident that a restart mends, and what cannot be reached forwards nothing.
            let meant = notification.is(Notification::HARD_RESET)
                || notification.is(Notification::BFD_DOWN)
                || notification.is((6, 1));
            negotiated.notification_restart && !meant
        }
        _ => false,
    };
    let time = Duration::from_secs(u64::from(restart.time)).min(slot.config.max_restart_time);
    Some(time).filter(|time| keep && !time.is_zero())
}

impl Speaker {
    /// Whether OPENs carry the R bit and End-of-RIB waits.
    pub(super) fn restarting(&self) -> bool {
        self.config.restarting && (self.deferral.is_some() || !self.complete)
    }

    pub(super) fn peer_up(
        &mut self,
        peer: PeerId,
        link: LinkId,
        negotiated: &Negotiated,
        now: Instant,
    ) {
        let Some(slot) = self.slot_mut(peer) else {
            return;
        };
        slot.since = now;
        slot.sessions += 1;
        slot.seen = true;
        slot.ended = Families::NONE;
        slot.restart_until = None;
        let local = slot
            .locals
            .iter()
            .find(|(other, _)| *other == link)
            .map(|(_, local)| *local);
        slot.intake.begin(local);
        let address = slot.config.address;
        let source = slot.source();
        // RFC 4724 section 4.2: what the peer did not preserve is gone now.
        let preserved: Families = negotiated
            .restart
            .iter()
            .flat_map(|restart| &restart.families)
            .filter_map(|&(family, forwarding)| forwarding.then_some(family))
            .collect();
        let preserved = preserved.both(negotiated.families);
        let lost: Families = slot
            .stale
            .iter()
            .filter(|&family| !preserved.contains(family))
            .collect();
        slot.stale_until = None;
        if !slot.stale.both(preserved).is_empty() {
            slot.stale_until = Some(now + slot.config.stale_time);
        }
        self.rib.context.sources[peer.index()] = source;
        self.drop_stale(peer, lost);
        self.follow(peer, negotiated, local);
        self.tell(Event::PeerUp {
            peer,
            address,
            negotiated: Box::new(negotiated.clone()),
        });
        self.check_deferral(now);
    }

    pub(super) fn peer_down(
        &mut self,
        peer: PeerId,
        reason: DownReason,
        negotiated: &Negotiated,
        now: Instant,
    ) {
        self.unfollow(peer);
        let Some(slot) = self.slot_mut(peer) else {
            return;
        };
        let kept = kept(slot, &reason, negotiated);
        slot.since = now;
        slot.last_error = Some(reason.clone());
        slot.stale_until = None;
        slot.restart_until = None;
        slot.intake.ended = Families::NONE;
        let address = slot.config.address;
        // Of two restarts in a row only the last one's routes are kept.
        let before = slot.stale;
        self.drop_stale(peer, before);
        let source = peer.source();
        match kept {
            Some(time) => {
                let families = negotiated
                    .restart
                    .iter()
                    .flat_map(|restart| &restart.families);
                let families: Families = families.map(|&(family, _)| family).collect();
                self.mark_stale(peer, families.both(negotiated.families));
                if let Some(slot) = self.slot_mut(peer) {
                    slot.restart_until = Some(now + time);
                }
            }
            None => {
                self.rib
                    .v4
                    .forget_source(source, &mut self.rib.context, |_| true);
                self.rib
                    .v6
                    .forget_source(source, &mut self.rib.context, |_| true);
                if let Some(slot) = self.slot_mut(peer) {
                    slot.intake.routes = [0; 2];
                }
            }
        }
        self.tell(Event::PeerDown {
            peer,
            address,
            reason,
            kept,
        });
        self.check_deferral(now);
    }

    /// Marks the routes of `families` as stale and forgets those of others.
    fn mark_stale(&mut self, peer: PeerId, families: Families) {
        let source = peer.source();
        for family in Family::ALL {
            if families.contains(family) {
                self.mark_family_stale(peer, family);
                continue;
            }
            let rib = &mut self.rib;
            match family {
                Family::Ipv4Unicast => rib.v4.forget_source(source, &mut rib.context, |_| true),
                Family::Ipv6Unicast => rib.v6.forget_source(source, &mut rib.context, |_| true),
            };
            if let Some(slot) = self.slot_mut(peer) {
                slot.intake.routes[family.index()] = 0;
            }
        }
        if let Some(slot) = self.slot_mut(peer) {
            slot.stale = families;
        }
    }

    fn mark_family_stale(&mut self, peer: PeerId, family: Family) {
        match family {
            Family::Ipv4Unicast => self.rib.v4.mark_stale(peer.source()),
            Family::Ipv6Unicast => self.rib.v6.mark_stale(peer.source()),
        };
    }

    /// Drops what is stale in `families`.
    fn drop_stale(&mut self, peer: PeerId, families: Families) {
        let mut dropped = 0;
        for family in families.iter() {
            let rib = &mut self.rib;
            let stale = |path: &Path| path.stale;
            let count = match family {
                Family::Ipv4Unicast => rib.v4.forget_source(peer.source(), &mut rib.context, stale),
                Family::Ipv6Unicast => rib.v6.forget_source(peer.source(), &mut rib.context, stale),
            };
            dropped += count;
            if let Some(slot) = self.slot_mut(peer) {
                slot.stale = slot.stale.without(family);
                slot.intake.routes[family.index()] -= count;
            }
        }
        if dropped > 0 {
            if let Some(address) = self.slot(peer).map(|slot| slot.config.address) {
                self.tell(Event::StaleDropped {
                    peer,
                    address,
                    routes: dropped,
                });
            }
        }
    }

    /// Deals with End-of-RIB markers that have come.
    pub(super) fn ended(&mut self, peer: PeerId, now: Instant) {
        let Some(slot) = self.slot_mut(peer) else {
            return;
        };
        let ended = std::mem::take(&mut slot.intake.ended);
        if ended.is_empty() {
            return;
        }
        let address = slot.config.address;
        for family in ended.iter() {
            slot.ended = slot.ended.with(family);
        }
        let stale = slot.stale.both(ended);
        self.drop_stale(peer, stale);
        if let Some(slot) = self.slot_mut(peer).filter(|slot| slot.stale.is_empty()) {
            slot.stale_until = None;
        }
        for family in ended.iter() {
            self.tell(Event::EndOfRib {
                peer,
                address,
                family,
            });
        }
        self.check_deferral(now);
    }

    /// Drops what has been kept for too long.
    pub(super) fn expire(&mut self, peer: PeerId, now: Instant) {
        let Some(slot) = self.slot_mut(peer) else {
            return;
        };
        let over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        if over(slot.restart_until) || over(slot.stale_until) {
            slot.restart_until = None;
            slot.stale_until = None;
            let stale = slot.stale;
            self.drop_stale(peer, stale);
        }
    }

    /// Ends the deferral when every peer that is up has sent its routes, and the others have had their time.
    pub(super) fn check_deferral(&mut self, now: Instant) {
        let Some(deferral) = &mut self.deferral else {
            return;
        };
        if deferral.unseen.is_some_and(|until| until <= now) {
            deferral.unseen = None;
        }
        let patient = deferral.unseen.is_some();
        let waiting = self
            .slots
            .iter()
            .flatten()
            .any(|slot| match slot.session.negotiated() {
                // Who does not do graceful restart sends no End-of-RIB either.
                Some(negotiated) if negotiated.restart.is_some() => negotiated
                    .families
                    .iter()
                    .any(|family| !slot.ended.contains(family)),
                Some(_) => false,
                None => patient && !slot.seen,
            });
        if waiting && deferral.cap > now {
            return;
        }
        self.deferral = None;
        self.tell(Event::RestartComplete);
        self.may_end();
    }

    /// Called when one of the reasons to hold End-of-RIB back is gone.
    pub(super) fn may_end(&mut self) {
        let restarting = self.restarting();
        for slot in self.slots.iter_mut().flatten() {
            slot.session.set_restarting(restarting);
        }
        self.rewalk_all();
    }

    /// RFC 2918 section 4, RFC 7313 section 4.
    pub(super) fn refreshed(&mut self, peer: PeerId, refresh: Refresh, now: Instant) {
        match refresh {
            Refresh::Request(family) => self.send_again(peer, family),
            Refresh::Begin(family) => {
                let kept = self.slot(peer).map_or(Families::NONE, |slot| slot.stale);
                self.mark_family_stale(peer, family);
                if let Some(slot) = self.slot_mut(peer) {
                    slot.stale = kept.with(family);
                    slot.stale_until = Some(now + slot.config.stale_time);
                }
            }
            Refresh::End(family) => {
                let only = Families::NONE.with(family);
                let stale = self
                    .slot(peer)
                    .map_or(Families::NONE, |slot| slot.stale.both(only));
                self.drop_stale(peer, stale);
                if let Some(slot) = self.slot_mut(peer).filter(|slot| slot.stale.is_empty()) {
                    slot.stale_until = None;
                }
            }
            Refresh::Other => {}
        }
    }

    fn send_again(&mut self, peer: PeerId, family: Family) {
        let Some(slot) = self.slot_mut(peer) else {
            return;
        };
        let marked = slot
            .session
            .negotiated()
            .is_some_and(|n| n.enhanced_refresh);
        if let Some(follower) = &mut slot.followers[family.index()] {
            follower.walk = Some(0);
            if marked && !std::mem::replace(&mut follower.refresh, true) {
                slot.session.mark_refresh(family);
            }
        }
        self.queue(peer);
    }

    /// Forgets a peer whose session has been ended.
    pub(super) fn discard(&mut self, peer: PeerId) {
        self.unfollow(peer);
        let source = peer.source();
        self.rib
            .v4
            .forget_source(source, &mut self.rib.context, |_| true);
        self.rib
            .v6
            .forget_source(source, &mut self.rib.context, |_| true);
        self.rib_changed = true;
        if let Some(slot) = self.slots.get_mut(peer.index()).and_then(Option::take) {
            self.by_address.remove(&slot.config.address);
        }
    }

    /// A neighbour that was accepted by prefix goes with its last connection and route.
    pub(super) fn drop_idle_dynamic(&mut self, peer: PeerId) {
        let Some(slot) = self.slot(peer) else { return };
        let idle = slot.session.links().next().is_none() && slot.stale.is_empty();
        if slot.dynamic && idle && slot.session.had_links() && slot.restart_until.is_none() {
            self.discard(peer);
        }
    }
}
