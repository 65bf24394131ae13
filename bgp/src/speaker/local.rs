//! The host's side: its own routes, what it knows of next hops, and what it is told.

use std::net::IpAddr;

use super::slot::Slot;
use super::{BestRoute, Event, PeerStatus, Route, Speaker};
use crate::Prefix;
use crate::attributes::Attributes;
use crate::identity::PeerId;
use crate::number::Family;
use crate::rib::{Context, Entry, LOCAL, Path, Step, Table, decide};
use crate::wire::{Key, V4, V6};

/// How many events about peers wait at most for a host that does not ask for them.
const EVENTS: usize = 65_536;

impl Speaker {
    /// Announces a route of this speaker's own, or changes its attributes.
    pub fn originate(&mut self, prefix: Prefix, attributes: &Attributes) {
        let context = &mut self.rib.context;
        let set = context.interner.intern_attributes(attributes);
        let path = Path {
            set,
            id: 0,
            peer: LOCAL,
            local: 0,
            stale: false,
        };
        if let Some(key) = V4::from_prefix(&prefix) {
            self.rib.v4.learn(key, path, context);
        } else if let Some(key) = V6::from_prefix(&prefix) {
            self.rib.v6.learn(key, path, context);
        }
        self.rib.context.interner.release(set);
        self.rib_changed = true;
    }

    /// Withdraws a route of this speaker's own. False when there was none.
    pub fn withdraw(&mut self, prefix: &Prefix) -> bool {
        let context = &mut self.rib.context;
        self.rib_changed = true;
        if let Some(key) = V4::from_prefix(prefix) {
            self.rib.v4.forget(key, LOCAL, 0, context)
        } else if let Some(key) = V6::from_prefix(prefix) {
            self.rib.v6.forget(key, LOCAL, 0, context)
        } else {
            false
        }
    }

    /// The host has originated everything that it has to: End-of-RIB may be sent. Until then peers that kept routes of
    /// a former life of this process go on doing so.
    pub fn originations_complete(&mut self) {
        if !std::mem::replace(&mut self.complete, true) {
            self.may_end();
        }
    }

    /// Says how far a next hop is, or that it cannot be reached (`None`). Next hops that nothing was said about count
    /// as reachable at no cost.
    pub fn set_next_hop(&mut self, address: IpAddr, cost: Option<u32>) {
        if self.rib.context.hops.insert(address, cost) == Some(cost) {
            return;
        }
        let context = &self.rib.context;
        let touched = |path: &Path| {
            let hop = context.interner.get(path.set).next_hop();
            hop.is_some_and(|hop| hop.address() == address)
        };
        self.rib.v4.reselect(context, touched);
        self.rib.v6.reselect(context, touched);
        self.rib_changed = true;
    }

    /// Says which interface a next hop is reached over, for filters that ask ([`FilterPeer::interface`]); routes that
    /// were exported are judged anew, those that were imported when they come again.
    ///
    /// [`FilterPeer::interface`]: crate::FilterPeer::interface
    pub fn set_next_hop_interface(&mut self, address: IpAddr, interface: Option<&str>) {
        let interfaces = &mut self.rib.context.interfaces;
        if interfaces.get(&address).map(|known| &**known) == interface {
            return;
        }
        match interface {
            Some(interface) => interfaces.insert(address, interface.into()),
            None => interfaces.remove(&address),
        };
        if !self
            .groups
            .iter()
            .flatten()
            .any(|group| group.key.filter != 0)
        {
            return;
        }
        let interner = &self.rib.context.interner;
        let touched = |path: &Path| {
            let hop = interner.get(path.set).next_hop();
            hop.is_some_and(|hop| hop.address() == address)
        };
        self.rib.v4.record(touched);
        self.rib.v6.record(touched);
        self.rib_changed = true;
    }

    /// Begins to report best paths as events, with those that are there first.
    pub fn subscribe(&mut self) {
        if self.host.is_none() {
            self.host = Some([self.rib.v4.log.end(), self.rib.v6.log.end()]);
            self.rib.v4.record_all();
            self.rib.v6.record_all();
            self.rib_changed = true;
        }
    }

    /// Ends what [`Speaker::subscribe`] began.
    pub fn unsubscribe(&mut self) {
        self.host = None;
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events
            .push_back(([self.rib.v4.log.end(), self.rib.v6.log.end()], event));
    }

    /// The next thing to tell the host.
    pub fn poll_event(&mut self) -> Option<Event> {
        let ends = match self.events.front() {
            Some((behind, _)) => *behind,
            None => [self.rib.v4.log.end(), self.rib.v6.log.end()],
        };
        if let Some(mut host) = self.host {
            let v4 = next_best(&self.rib.v4, &mut host[0], ends[0], &self.rib.context, self);
            let event = v4.or_else(|| {
                next_best(&self.rib.v6, &mut host[1], ends[1], &self.rib.context, self)
            });
            self.host = Some(host);
            if event.is_some() {
                return event;
            }
        }
        self.events.pop_front().map(|(_, event)| event)
    }

    /// The state of every peer.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let status = |slot: &Slot| PeerStatus {
            id: slot.id,
            address: slot.config.address,
            peer_as: slot.config.peer_as,
            state: slot.session.state(),
            since: slot.since,
            last_error: slot.last_error.clone(),
            negotiated: slot.session.negotiated().cloned(),
            routes: slot.intake.routes.iter().sum(),
            dynamic: slot.dynamic,
            updates: slot.intake.updates,
            malformed: slot.intake.malformed,
            sessions: slot.sessions,
        };
        self.slots
            .iter()
            .flatten()
            .map(|slot| status(slot))
            .collect()
    }

    /// Every prefix with its paths, in no order.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        let mut routes = Vec::with_capacity(self.rib.v4.len() + self.rib.v6.len());
        self.collect(&self.rib.v4, &mut routes);
        self.collect(&self.rib.v6, &mut routes);
        routes
    }

    fn collect<K: Key>(&self, table: &Table<K>, routes: &mut Vec<Route>) {
        for id in 0..table.bound() {
            let entry = table.entry(id);
            if entry.paths().is_empty() {
                continue;
            }
            routes.push(Route {
                prefix: entry.key.prefix(),
                paths: entry.paths().iter().map(|path| self.route(path)).collect(),
                used: entry.used().len(),
                step: decide(entry.paths(), &self.rib.context).map(|decision| decision.step),
            });
        }
    }

    /// How many prefixes of a family have a path, or a change that somebody has yet to see.
    #[must_use]
    pub fn prefix_count(&self, family: Family) -> usize {
        match family {
            Family::Ipv4Unicast => self.rib.v4.len(),
            Family::Ipv6Unicast => self.rib.v6.len(),
        }
    }

    /// How many attribute sets are in use.
    #[must_use]
    pub fn attribute_sets(&self) -> usize {
        self.rib.context.interner.len()
    }

    /// How many connections were closed at accept because nobody knew where they came from.
    #[must_use]
    pub fn refused_connections(&self) -> u64 {
        self.refused
    }

    /// The settings of a peer.
    #[must_use]
    pub fn peer_config(&self, peer: PeerId) -> Option<&crate::PeerConfig> {
        self.slot(peer).map(|slot| &slot.config)
    }

    /// The peer with this address.
    #[must_use]
    pub fn peer_at(&self, address: IpAddr) -> Option<PeerId> {
        self.by_address.get(&address.to_canonical()).copied()
    }

    /// Whether this speaker's AS towards a peer is another than the peer's.
    #[must_use]
    pub fn is_external(&self, peer: PeerId) -> bool {
        self.slot(peer).is_some_and(|slot| slot.intake.external())
    }

    fn route(&self, path: &Path) -> BestRoute {
        let context = &self.rib.context;
        let attributes = context.interner.get(path.set).clone();
        let slot = self
            .slots
            .get(usize::from(path.peer))
            .and_then(Option::as_deref);
        BestRoute {
            next_hop: attributes.next_hop().map(|hop| hop.address()),
            peer: slot.map(|slot| slot.id),
            peer_address: slot.map(|slot| slot.config.address),
            external: slot.is_some_and(|slot| slot.intake.external()),
            path_id: path.id,
            attributes,
            stale: path.stale,
        }
    }
}

fn next_best<K: Key>(
    table: &Table<K>,
    position: &mut u64,
    end: u64,
    context: &Context,
    speaker: &Speaker,
) -> Option<Event> {
    while *position < end {
        let at = *position;
        *position += 1;
        let change = table.log.at(at).filter(|(_, best)| *best);
        let entry = change.map(|(id, _)| table.entry(id));
        let Some(entry) = entry.filter(|entry| entry.changed_at(at)) else {
            continue;
        };
        return Some(best(entry, context, speaker));
    }
    None
}

fn best<K: Key>(entry: &Entry<K>, context: &Context, speaker: &Speaker) -> Event {
    let step = decide(entry.paths(), context).map_or(Step::OnlyPath, |decision| decision.step);
    Event::Best {
        prefix: entry.key.prefix(),
        routes: entry
            .used()
            .iter()
            .map(|path| speaker.route(path))
            .collect(),
        step,
    }
}
