//! What notices say: keeps the view true, and tells whether somebody changed what we care for.

use std::collections::BTreeSet;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::rule::RuleMessage;

use super::routes::names;
use super::view::{View, remembered};
use crate::State;
use crate::netlink::route::{Hops, KernelRoute};
use crate::netlink::{Notice, Object, address, link, rule};
use crate::state::{LinkName, RouteKey};

/// What a notice means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// The kernel may no longer be as desired, and the view says how.
    Changed,
    /// The view is no longer true.
    Stale,
}

/// What a notice is compared with.
pub(super) struct Interest<'a> {
    /// The port of our own socket.
    pub(super) port: u32,
    /// The protocol of our routes.
    pub(super) protocol: u8,
    /// The links that are ours.
    pub(super) owned: &'a BTreeSet<LinkName>,
    /// The links that something of the last state waits for.
    pub(super) awaited: &'a BTreeSet<LinkName>,
    /// The links that the last state has settings for: they go with a link and do not come back with its name.
    pub(super) set: &'a BTreeSet<LinkName>,
    /// The last state that was applied.
    pub(super) applied: Option<&'a State>,
}

impl Interest<'_> {
    /// Takes a notice into the view.
    pub(super) fn note(&self, view: &mut View, notice: Notice) -> Effect {
        match notice.object {
            // Our own changes are in the view already.
            Object::Route(..) if notice.port == self.port => Effect::None,
            Object::Route(key, route, there) => self.route(view, key, route, there),
            Object::Other(RouteNetlinkMessage::NewLink(message)) => self.link_is(view, &message),
            Object::Other(RouteNetlinkMessage::DelLink(message)) => self.link_gone(view, &message),
            Object::Other(RouteNetlinkMessage::NewAddress(message)) => {
                self.address(view, &message, true)
            }
            Object::Other(RouteNetlinkMessage::DelAddress(message)) => {
                self.address(view, &message, false)
            }
            Object::Other(RouteNetlinkMessage::NewRule(message)) => self.rule(view, &message, true),
            Object::Other(RouteNetlinkMessage::DelRule(message)) => {
                self.rule(view, &message, false)
            }
            Object::Other(_) => Effect::None,
        }
    }

    fn link_is(&self, view: &mut View, message: &LinkMessage) -> Effect {
        // Bridges speak of their ports in messages of their own family.
        if u8::from(message.header.interface_family) != 0 {
            return Effect::None;
        }
        let Some(now) = link::parse(message).map(remembered) else {
            return Effect::None;
        };
        let (index, up, name) = (now.index, now.up, now.name.clone());
        let now_is = now.clone();
        let before = view.put_link(now);
        if before.as_ref() == Some(&now_is) {
            // Of what is not in the view there is no other word.
            view.checksums.remove(&index);
            let wanted = self.applied.and_then(|state| state.links.get(&name));
            return match wanted.and_then(|link| link.checksum_offload) {
                Some(_) => Effect::Changed,
                None => Effect::None,
            };
        }
        if self.owned.contains(&name) {
            return Effect::Stale;
        }
        let was_up = before.as_ref().is_some_and(|link| link.up);
        if was_up && !up {
            // IPv4 routes go without a word.
            let routes = view.drop_routes_by(index);
            if routes > 0 && self.is_to_a_pod(&name) {
                view.down.insert(name);
                return Effect::None;
            }
            return if routes > 0 {
                Effect::Changed
            } else {
                Effect::None
            };
        }
        let named = before.as_ref().is_none_or(|link| link.name != name);
        let came = up && !was_up || before.is_some() && named;
        let back = came && view.down.remove(&name);
        let awaited = came && self.awaited.contains(&name);
        if back || awaited || named && self.set.contains(&name) {
            Effect::Changed
        } else {
            Effect::None
        }
    }

    fn link_gone(&self, view: &mut View, message: &LinkMessage) -> Effect {
        if u8::from(message.header.interface_family) != 0 {
            return Effect::None;
        }
        let Some(link) = view.remove_link(message.header.index) else {
            return Effect::None;
        };
        let routes = view.drop_routes_by(link.index);
        view.down.remove(&link.name);
        if self.owned.contains(&link.name) {
            Effect::Stale
        } else if routes > 0 && !self.is_to_a_pod(&link.name) {
            Effect::Changed
        } else {
            Effect::None
        }
    }

    /// Whether a link leads to a pod. One goes when its pod does, mostly before the state says so, and nothing can be done
    /// about its routes until then: the state that follows has them no more, and where none follows, what is read anew from
    /// time to time shows what is missing.
    fn is_to_a_pod(&self, name: &LinkName) -> bool {
        self.applied
            .is_some_and(|state| state.workloads.contains_key(name))
    }

    fn address(&self, view: &mut View, message: &AddressMessage, there: bool) -> Effect {
        let Some(found) = address::parse(message).filter(|found| !found.link_local) else {
            return Effect::None;
        };
        match view.addresses.get(&found.link) {
            Some(known) if known.contains(&found.address) == there => Effect::None,
            Some(_) => Effect::Stale,
            // With an address go, without a word, the IPv4 routes that prefer it as their source.
            None if !there => Effect::Stale,
            None => Effect::None,
        }
    }

    fn rule(&self, view: &mut View, message: &RuleMessage, there: bool) -> Effect {
        let Some((rule, protocol)) = rule::parse(message) else {
            return Effect::None;
        };
        if protocol != self.protocol || view.rules.contains(&rule) == there {
            return Effect::None;
        }
        if there {
            view.rules.insert(rule);
        } else {
            view.rules.remove(&rule);
        }
        Effect::Changed
    }

    fn route(&self, view: &mut View, key: RouteKey, found: KernelRoute, there: bool) -> Effect {
        if found.protocol != self.protocol {
            return Effect::None;
        }
        let wanted = self.applied.is_some_and(|state| names(&state.routes, &key));
        let by_pod = matches!(&found.hops, Hops::One(hop) if hop.gateway.is_none());
        let before = if there {
            view.routes.insert(key, found.clone())
        } else {
            view.routes.remove(&key)
        };
        let same = if there {
            before.as_ref() == Some(&found)
        } else {
            before.is_none()
        };
        if same || (!wanted && (by_pod || !there)) {
            Effect::None
        } else {
            Effect::Changed
        }
    }
}
