use super::Group;
use super::encode::Work;
use crate::filter::{FilterPeer, Learned, Verdict};
use crate::peer::Role;
use crate::rib::{Context, Entry, LOCAL, SetId};
use crate::wire::Key;

impl Group {
    /// Decides what the group is told about one entry.
    pub(super) fn consider<K: Key>(
        &mut self,
        id: u32,
        entry: &Entry<K>,
        walk: bool,
        context: &mut Context,
        work: &mut Work,
    ) {
        if self.key.form.ids {
            return self.consider_all(id, entry, walk, context, work);
        }
        let best = entry.best().copied();
        let export = best.and_then(|path| {
            let set = self.permitted(path.set, path.peer, entry.key, context, work)?;
            Some((set, path.peer))
        });
        work.estimate += entry.key.encoded();
        match export {
            Some((set, peer)) => {
                work.announce(set, peer, id, 0, context);
                self.set_advertised(id);
                if entry.moved && !walk && peer != LOCAL {
                    work.correct.push((peer, id, 0));
                }
            }
            None if !walk && self.is_advertised(id) => work.withdraw.push((id, 0)),
            None => {}
        }
    }

    /// The same for peers that get every path (RFC 7911).
    fn consider_all<K: Key>(
        &mut self,
        id: u32,
        entry: &Entry<K>,
        walk: bool,
        context: &mut Context,
        work: &mut Work,
    ) {
        let mut now = Vec::with_capacity(entry.paths().len());
        for path in entry.paths() {
            if context.cost(path).is_none() {
                continue;
            }
            let permitted = self.permitted(path.set, path.peer, entry.key, context, work);
            if let Some(set) = permitted {
                work.announce(set, path.peer, id, path.local, context);
                work.estimate += entry.key.encoded() + 4;
                now.push((path.local, path.peer));
            }
        }
        let sent = self.sent.entry(id).or_default();
        if !walk {
            for &(local, peer) in sent.iter() {
                match now.iter().find(|(other, _)| *other == local) {
                    None => work.withdraw.push((id, local)),
                    // The number was another source's: this one was sent that path and does not get its own.
                    Some(&(_, source)) if source != peer && source != LOCAL => {
                        work.correct.push((source, id, local));
                    }
                    Some(_) => {}
                }
            }
            work.estimate += sent.len();
        }
        // What some member may hold stays known until the prefix is gone.
        for path in now {
            if !sent.contains(&path) {
                sent.push(path);
            }
        }
        if sent.is_empty() {
            self.sent.remove(&id);
        }
    }

    /// The attribute set that a path is sent with, before what the protocol changes; `None` if it is not sent.
    fn permitted<K: Key>(
        &self,
        set: SetId,
        peer: u16,
        key: K,
        context: &mut Context,
        work: &mut Work,
    ) -> Option<SetId> {
        if let Some((known, answer)) = work.memo {
            if known == (set, peer) {
                return answer;
            }
        }
        let by_prefix = self
            .filter
            .as_ref()
            .is_some_and(|filter| filter.looks_at_prefix());
        let answer = self.judge(set, peer, key, context, work);
        if !by_prefix {
            work.memo = Some(((set, peer), answer));
        }
        answer
    }

    fn judge<K: Key>(
        &self,
        set: SetId,
        peer: u16,
        key: K,
        context: &mut Context,
        work: &mut Work,
    ) -> Option<SetId> {
        let attributes = context.interner.get(set);
        let summary = attributes.summary();
        let source = &context.sources[usize::from(peer)];
        if (self.deferred && peer != LOCAL) || self.closed {
            return None;
        }
        // RFC 1997.
        if summary.no_advertise || (summary.no_export && self.key.external) {
            return None;
        }
        // RFC 9234 section 5.
        if summary.marked && self.key.role.is_some_and(Role::keeps_marked) {
            return None;
        }
        // RFC 4271 section 9.2.1.1 and RFC 4456 section 6: between internal peers only by reflection.
        let reflected = !self.key.external && !source.external && peer != LOCAL;
        if reflected && !source.rr_client && !self.key.rr_client {
            return None;
        }
        let Some(filter) = &self.filter else {
            return Some(set);
        };
        let peer = FilterPeer {
            learned: match (peer == LOCAL, source.external) {
                (true, _) => Learned::Local,
                (false, true) => Learned::External,
                (false, false) => Learned::Internal,
            },
            interface: context.interface(attributes.next_hop(), peer),
            ..self.filter_peer.clone()
        };
        let local = peer.learned == Learned::Local;
        match filter.judge(&peer, &key.prefix(), attributes) {
            Verdict::Accept => Some(set),
            Verdict::Reject => None,
            Verdict::Replace(mut other) => {
                // RFC 4271 section 5.1.4: a MED that came with the route goes no further, one that the filter set does.
                let kept = other.med().is_some() && other.med() == attributes.med();
                if kept && self.key.external && !local {
                    other = other.edit().med(None).build();
                }
                let other = context.interner.intern_attributes(&other);
                work.held.push(other);
                Some(other)
            }
        }
    }
}
