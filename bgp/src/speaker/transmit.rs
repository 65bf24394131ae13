//! From the RIB to the peers: groups, positions, and who has something to send.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Speaker;
use super::slot::Slot;
use crate::attributes::NextHop;
use crate::export::{Follower, Form, Group, GroupKey};
use crate::filter::{Filter, FilterPeer};
use crate::identity::PeerId;
use crate::number::{AsNumber, Family};
use crate::peer::PrivateAs;
use crate::session::{LinkId, Negotiated};
use crate::wire::end_of_rib;

/// About as many octets are handed out at a time.
const LIMIT: usize = 64 * 1024;

fn identity(filter: Option<&Arc<dyn Filter>>) -> usize {
    filter.map_or(0, |filter| Arc::as_ptr(filter).cast::<()>() as usize)
}

impl Speaker {
    /// Gives an established peer its place in a group per family; it begins with the whole table.
    pub(super) fn follow(&mut self, peer: PeerId, negotiated: &Negotiated, local: Option<IpAddr>) {
        for family in negotiated.families.iter() {
            let Some(slot) = self.slot(peer) else { return };
            let key = self.group_key(slot, family, negotiated, local);
            let (filter, filter_peer) = (slot.config.export.clone(), slot.intake.filter_peer());
            let at = self.join(key, filter, filter_peer);
            let position = match family {
                Family::Ipv4Unicast => self.rib.v4.log.end(),
                Family::Ipv6Unicast => self.rib.v6.log.end(),
            };
            if let Some(slot) = self.slot_mut(peer) {
                let follower = Follower {
                    group: at,
                    walk: Some(0),
                    position,
                    end_of_rib: true,
                    refresh: false,
                };
                slot.followers[family.index()] = Some(follower);
            }
        }
        self.queue(peer);
    }

    /// What a peer must have in common with others to get the same messages as they do.
    fn group_key(
        &self,
        slot: &Slot,
        family: Family,
        negotiated: &Negotiated,
        local: Option<IpAddr>,
    ) -> GroupKey {
        let address = match (family, local) {
            (Family::Ipv4Unicast, Some(IpAddr::V4(_)))
            | (Family::Ipv6Unicast, Some(IpAddr::V6(_))) => local.map(NextHop::from),
            (Family::Ipv4Unicast, Some(IpAddr::V6(_))) if negotiated.extended_next_hop => {
                local.map(NextHop::from)
            }
            (Family::Ipv4Unicast, _) => self.config.next_hop_v4,
            (Family::Ipv6Unicast, _) => self.config.next_hop_v6,
        };
        let filter = slot.config.export.as_ref();
        let local_as = slot.config.local_as.unwrap_or(self.config.as_number);
        let names_peer = filter.is_some() || slot.config.private_as != PrivateAs::Keep;
        GroupKey {
            family,
            external: slot.intake.external(),
            local_as,
            rr_client: slot.config.rr_client,
            next_hop: slot.config.next_hop,
            address,
            four_octets: negotiated.four_octets,
            form: Form {
                ids: negotiated.add_path_send.contains(family),
                extended: negotiated.extended_messages,
            },
            extended_next_hop: negotiated.extended_next_hop,
            role: slot.config.role_in(local_as),
            private_as: slot.config.private_as,
            peer_as: if names_peer {
                slot.config.peer_as
            } else {
                AsNumber(0)
            },
            filter: identity(filter),
            filter_peer: filter
                .filter(|filter| filter.looks_at_peer())
                .map(|_| slot.id),
        }
    }

    /// The group with this key, which has one member more now.
    fn join(
        &mut self,
        key: GroupKey,
        filter: Option<Arc<dyn Filter>>,
        filter_peer: FilterPeer,
    ) -> usize {
        let same = |group: &Option<Group>| group.as_ref().is_some_and(|group| group.key == key);
        let at = self.groups.iter().position(same).unwrap_or_else(|| {
            let group = Group::new(key.clone(), filter, filter_peer, self.config.cluster_id);
            if let Some(at) = self.groups.iter().position(Option::is_none) {
                self.groups[at] = Some(group);
                return at;
            }
            self.groups.push(Some(group));
            self.groups.len() - 1
        });
        if key.form.ids {
            self.record_every_path(key.family, true);
        }
        if let Some(group) = &mut self.groups[at] {
            group.members += 1;
            group.deferred = self.deferral.is_some();
            group.closed =
                self.config.external_needs_policy && group.key.external && group.key.filter == 0;
        }
        at
    }

    /// Gives a peer its place anew after its export settings have changed. What the new settings do not let pass is
    /// withdrawn, for which the new group must know what the old one had sent.
    pub(super) fn regroup(&mut self, peer: PeerId, negotiated: &Negotiated, local: Option<IpAddr>) {
        let Some(slot) = self.slot(peer) else { return };
        let olds = slot.followers;
        let advertised = olds.map(|old| {
            let group = old.and_then(|old| self.groups[old.group].as_ref());
            group.map(Group::advertised)
        });
        self.unfollow(peer);
        self.follow(peer, negotiated, local);
        for (at, (old, sent)) in olds.into_iter().zip(advertised).enumerate() {
            let Some(slot) = self.slot_mut(peer) else {
                return;
            };
            let (Some(old), Some(follower)) = (old, &mut slot.followers[at]) else {
                continue;
            };
            follower.end_of_rib = old.end_of_rib;
            follower.position = follower.position.min(old.position);
            let group = follower.group;
            if let (Some(group), Some(sent)) = (&mut self.groups[group], sent) {
                group.take_over(sent);
            }
        }
        for (at, family) in Family::ALL.into_iter().enumerate() {
            if olds[at].is_some() {
                match family {
                    Family::Ipv4Unicast => self.rib.v4.record_all(),
                    Family::Ipv6Unicast => self.rib.v6.record_all(),
                }
            }
        }
        self.rib_changed = true;
    }

    pub(super) fn unfollow(&mut self, peer: PeerId) {
        let Some(slot) = self.slot_mut(peer) else {
            return;
        };
        let followers = std::mem::take(&mut slot.followers);
        for follower in followers.into_iter().flatten() {
            let group = &mut self.groups[follower.group];
            if let Some(members) = group.as_mut() {
                members.members -= 1;
                if members.members == 0 {
                    *group = None;
                }
            }
        }
        for family in Family::ALL {
            let mut groups = self.groups.iter().flatten();
            let wanted = groups.any(|group| group.key.form.ids && group.key.family == family);
            self.record_every_path(family, wanted);
        }
    }

    fn record_every_path(&mut self, family: Family, wanted: bool) {
        match family {
            Family::Ipv4Unicast => self.rib.v4.every_path = wanted,
            Family::Ipv6Unicast => self.rib.v6.every_path = wanted,
        }
    }

    /// Sends every peer the whole table once more, and End-of-RIB behind it if that is due.
    pub(super) fn rewalk_all(&mut self) {
        for group in self.groups.iter_mut().flatten() {
            if std::mem::replace(&mut group.deferred, self.deferral.is_some()) {
                group.forget_chunks();
                for slot in self.slots.iter_mut().flatten() {
                    for follower in slot.followers.iter_mut().flatten() {
                        follower.walk = Some(0);
                    }
                }
            }
        }
        self.rib_changed = true;
    }

    pub(super) fn queue(&mut self, peer: PeerId) {
        if let Some(slot) = self.slot_mut(peer).filter(|slot| !slot.queued) {
            slot.queued = true;
            self.ready.push_back(peer);
        }
    }

    /// The next connection that has something to send: call [`Speaker::poll_transmit`] for it when its socket can take
    /// something. `None` ends the turn, and lets go of what all have seen.
    pub fn poll_ready(&mut self) -> Option<(PeerId, LinkId)> {
        loop {
            if self.ready.is_empty() && std::mem::take(&mut self.rib_changed) {
                self.queue_followers();
            }
            let Some(&peer) = self.ready.front() else {
                self.trim();
                return None;
            };
            let link = self.slot(peer).and_then(|slot| {
                let waiting = slot
                    .session
                    .links()
                    .find(|&link| slot.session.wants_transmit(link));
                waiting.or_else(|| slot.session.established_link().filter(|_| slot.queued))
            });
            match link {
                Some(link) => {
                    // A second connection of the same peer, as in a collision, gets its turn as well.
                    let more = self.slot(peer).is_some_and(|slot| {
                        slot.session
                            .links()
                            .filter(|&l| slot.session.wants_transmit(l))
                            .count()
                            > 1
                    });
                    if !more || self.handed == Some((peer, link)) {
                        self.unqueue(peer);
                    }
                    self.handed = Some((peer, link));
                    return Some((peer, link));
                }
                None => self.unqueue(peer),
            }
        }
    }

    fn unqueue(&mut self, peer: PeerId) {
        self.ready.pop_front();
        if let Some(slot) = self.slot_mut(peer) {
            slot.queued = false;
        }
    }

    fn queue_followers(&mut self) {
        let ends = [self.rib.v4.log.end(), self.rib.v6.log.end()];
        let ending = self.complete && self.deferral.is_none();
        for slot in self.slots.iter_mut().flatten().filter(|slot| !slot.queued) {
            let behind = slot.followers.iter().zip(ends).any(|(follower, end)| {
                follower.as_ref().is_some_and(|follower| {
                    let due = ending && follower.end_of_rib;
                    follower.walk.is_some() || follower.position < end || due
                })
            });
            if behind {
                slot.queued = true;
                self.ready.push_back(slot.id);
            }
        }
    }

    /// Appends what is to be sent on a connection to `out`, whole messages and about 64 KiB of them. True when there
    /// may be more. What was appended counts as sent: a driver keeps what its socket does not take and asks again
    /// only when that is gone.
    pub fn poll_transmit(
        &mut self,
        peer: PeerId,
        link: LinkId,
        _now: Instant,
        out: &mut Vec<u8>,
    ) -> bool {
        let ending = self.complete && self.deferral.is_none();
        let Some(Some(slot)) = self.slots.get_mut(peer.index()) else {
            return false;
        };
        if slot.id != peer {
            return false;
        }
        slot.session.take_control(link, out);
        if slot.session.established_link() != Some(link) {
            return false;
        }
        let limit = out.len() + LIMIT;
        for family in Family::ALL {
            let Some(follower) = &mut slot.followers[family.index()] else {
                continue;
            };
            let Some(group) = &mut self.groups[follower.group] else {
                continue;
            };
            let (rib, me) = (&mut self.rib, peer.source());
            let more = match family {
                Family::Ipv4Unicast => {
                    group.fill(follower, me, &rib.v4, &mut rib.context, out, limit)
                }
                Family::Ipv6Unicast => {
                    group.fill(follower, me, &rib.v6, &mut rib.context, out, limit)
                }
            };
            if more {
                return true;
            }
            if std::mem::take(&mut follower.refresh) {
                crate::wire::Refresh::encode(family, 2, out);
            }
            if ending && std::mem::take(&mut follower.end_of_rib) {
                end_of_rib(family, out);
            }
        }
        false
    }

    /// Lets go of what every follower has seen.
    fn trim(&mut self) {
        for family in Family::ALL {
            let at = family.index();
            let changes = match family {
                Family::Ipv4Unicast => self.rib.v4.log.len(),
                Family::Ipv6Unicast => self.rib.v6.log.len(),
            };
            let mut groups = self.groups.iter().flatten();
            if changes == 0 && !groups.any(|group| group.key.family == family && group.keeps()) {
                continue;
            }
            let (mut least, mut walking) = (self.host.map(|host| host[at]), false);
            for follower in self
                .slots
                .iter()
                .flatten()
                .filter_map(|slot| slot.followers[at])
            {
                walking |= follower.walk.is_some();
                least = Some(least.map_or(follower.position, |least| least.min(follower.position)));
            }
            let groups = &mut self.groups;
            let ours = |group: &&mut Group| group.key.family == family;
            let mut forget = |id: u32| {
                groups
                    .iter_mut()
                    .flatten()
                    .filter(ours)
                    .for_each(|group| group.forget(id));
            };
            let position = match family {
                Family::Ipv4Unicast => {
                    let position = least.unwrap_or_else(|| self.rib.v4.log.end());
                    self.rib.v4.trim(position, &mut forget);
                    position
                }
                Family::Ipv6Unicast => {
                    let position = least.unwrap_or_else(|| self.rib.v6.log.end());
                    self.rib.v6.trim(position, &mut forget);
                    position
                }
            };
            self.groups
                .iter_mut()
                .flatten()
                .filter(ours)
                .for_each(|group| group.trim(position, walking));
            self.compact(family);
        }
    }

    fn compact(&mut self, family: Family) {
        let at = family.index();
        let bloated = match family {
            Family::Ipv4Unicast => self.rib.v4.bloated(),
            Family::Ipv6Unicast => self.rib.v6.bloated(),
        };
        if !bloated {
            return;
        }
        let followers = self
            .slots
            .iter_mut()
            .flatten()
            .filter_map(|slot| slot.followers[at].as_mut());
        let mut positions: Vec<_> = followers.map(|follower| &mut follower.position).collect();
        positions.extend(self.host.as_mut().map(|host| &mut host[at]));
        match family {
            Family::Ipv4Unicast => self.rib.v4.compact(&mut positions),
            Family::Ipv6Unicast => self.rib.v6.compact(&mut positions),
        }
        // Events wait behind positions that mean something else now: let them come after everything.
        let end = [self.rib.v4.log.end(), self.rib.v6.log.end()];
        for (behind, _) in &mut self.events {
            behind[at] = behind[at].min(end[at]);
        }
        self.groups
            .iter_mut()
            .flatten()
            .for_each(Group::forget_chunks);
    }
}
