//! What goes out to peers: groups of peers that get the same, messages encoded once for all of them.
//!
//! A group turns a stretch of a table's log (or of the table itself, for a peer that is new) into a chunk of
//! messages when the first of its peers can take it, sorted by attribute set so that a message carries as many
//! prefixes as it can. The others that stand at the same position get the same octets. Nothing is queued for a peer:
//! it has a position, and the log's entries say what is newest.

mod message;
mod outgoing;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::attributes::NextHop;
use crate::filter::{Filter, FilterPeer, Learned, Verdict};
use crate::number::{AsNumber, Family};
use crate::peer::NextHopMode;
use crate::rib::{Context, Entry, LOCAL, SetId, Table};
use crate::speaker::PeerId;
use crate::wire::Key;

pub(crate) use outgoing::Outgoing;
use outgoing::Whence;

/// What peers must have in common to get the same messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupKey {
    pub(crate) family: Family,
    pub(crate) external: bool,
    pub(crate) local_as: AsNumber,
    pub(crate) rr_client: bool,
    pub(crate) next_hop: NextHopMode,
    /// Our address on the session.
    pub(crate) address: Option<NextHop>,
    pub(crate) four_octets: bool,
    /// The identity of the export filter; 0 without one.
    pub(crate) filter: usize,
    /// What an export filter knows of the peer: its AS, and whose group it is where it looks at the peer.
    pub(crate) filter_as: AsNumber,
    pub(crate) filter_peer: Option<PeerId>,
}

/// Who gets a piece of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    All,
    /// Everybody but the source of the routes.
    Except(u16),
    /// The source of the routes, which may hold an older path of another source.
    Only(u16),
}

#[derive(Debug)]
struct Piece {
    end: usize,
    rule: Rule,
}

/// Where a follower stands: in the table, or in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Walk(u32),
    Log(u64),
}

/// Messages for everything between two positions.
#[derive(Debug)]
struct Chunk {
    from: At,
    to: At,
    /// The end of the log when the chunk was made.
    seen: u64,
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

/// One peer's position in one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follower {
    pub(crate) group: usize,
    /// The next entry of the walk through the whole table that a new peer makes.
    pub(crate) walk: Option<u32>,
    /// The position in the log from which on changes are yet to be sent.
    pub(crate) position: u64,
    /// End-of-RIB is yet to be sent after the walk.
    pub(crate) end_of_rib: bool,
    /// The walk answers a refresh whose end is to be marked (RFC 7313).
    pub(crate) refresh: bool,
}

/// Peers that get the same messages.
pub(crate) struct Group {
    pub(crate) key: GroupKey,
    pub(crate) members: u32,
    /// After a restart: learned routes wait until the peers have sent theirs (RFC 4724 section 4.1).
    pub(crate) deferred: bool,
    /// RFC 8212: nothing is sent without an export filter.
    pub(crate) closed: bool,
    filter: Option<Arc<dyn Filter>>,
    filter_peer: FilterPeer,
    pub(crate) cluster_id: Ipv4Addr,
    /// Prefixes that some member may have been sent: only these need a withdrawal.
    advertised: Vec<u64>,
    chunks: VecDeque<Arc<Chunk>>,
    /// Routes that do not fit into a message with their attributes.
    pub(crate) oversized: u64,
}

/// A chunk ends when it has about this many octets: one or two writes, and little to keep for who is slow.
const CHUNK: usize = 32 * 1024;
/// How many chunks are kept for members that come later.
const KEPT: usize = 8;

impl Group {
    pub(crate) fn new(
        key: GroupKey,
        filter: Option<Arc<dyn Filter>>,
        filter_peer: FilterPeer,
        cluster_id: Ipv4Addr,
    ) -> Self {
        Self {
            key,
            members: 0,
            deferred: false,
            closed: false,
            filter,
            filter_peer,
            cluster_id,
            advertised: Vec::new(),
            chunks: VecDeque::new(),
            oversized: 0,
        }
    }

    /// Appends what `follower`, the source `me`, has yet to get, until `out` has `limit` octets. True when it may
    /// have to come back for more.
    pub(crate) fn fill<K: Key>(
        &mut self,
        follower: &mut Follower,
        me: u16,
        table: &Table<K>,
        context: &mut Context,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> bool {
        loop {
            let end = table.log.end();
            let from = match follower.walk {
                Some(id) if id < table.bound() => At::Walk(id),
                Some(_) => {
                    follower.walk = None;
                    continue;
                }
                None if follower.position < end => At::Log(follower.position),
                None => return false,
            };
            if out.len() >= limit {
                return true;
            }
            let usable = |chunk: &&Arc<Chunk>| {
                chunk.from == from
                    && (matches!(from, At::Log(_)) || follower.position <= chunk.seen)
            };
            let chunk = match self.chunks.iter().find(usable) {
                Some(chunk) => Arc::clone(chunk),
                None => self.build(from, table, context),
            };
            match chunk.to {
                At::Walk(id) => follower.walk = Some(id),
                At::Log(position) => follower.position = position,
            }
            let mut start = 0;
            for piece in &chunk.pieces {
                let wanted = match piece.rule {
                    Rule::All => true,
                    Rule::Except(peer) => peer != me,
                    Rule::Only(peer) => peer == me,
                };
                if wanted {
                    out.extend_from_slice(&chunk.bytes[start..piece.end]);
                }
                start = piece.end;
            }
        }
    }

    /// Whether chunks are kept for members that come later.
    pub(crate) fn keeps(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// Forgets chunks that every follower has passed: those that end at or before `position` of the log, and those of
    /// the table when nobody walks through it.
    pub(crate) fn trim(&mut self, position: u64, walking: bool) {
        self.chunks.retain(|chunk| match chunk.to {
            At::Log(to) => to > position,
            At::Walk(_) => walking && chunk.seen >= position,
        });
    }

    /// Forgets that an entry was sent; its number may get another prefix.
    pub(crate) fn forget(&mut self, id: u32) {
        if let Some(word) = self.advertised.get_mut(id as usize / 64) {
            *word &= !(1 << (id % 64));
        }
    }

    /// After a log was compacted its positions mean something else.
    pub(crate) fn forget_chunks(&mut self) {
        self.chunks.clear();
    }

    /// Which entries some member may have been sent.
    pub(crate) fn advertised(&self) -> Vec<u64> {
        self.advertised.clone()
    }

    /// Counts what another group has sent as sent by this one.
    pub(crate) fn take_over(&mut self, advertised: &[u64]) {
        if self.advertised.len() < advertised.len() {
            self.advertised.resize(advertised.len(), 0);
        }
        for (word, other) in self.advertised.iter_mut().zip(advertised) {
            *word |= other;
        }
        self.forget_chunks();
    }

    fn is_advertised(&self, id: u32) -> bool {
        self.advertised
            .get(id as usize / 64)
            .is_some_and(|word| word & 1 << (id % 64) != 0)
    }

    fn set_advertised(&mut self, id: u32) {
        let word = id as usize / 64;
        if word >= self.advertised.len() {
            self.advertised.resize(word + 1, 0);
        }
        self.advertised[word] |= 1 << (id % 64);
    }

    fn build<K: Key>(&mut self, from: At, table: &Table<K>, context: &mut Context) -> Arc<Chunk> {
        let mut work = Work::default();
        let to = match from {
            At::Walk(mut id) => {
                while id < table.bound() && work.estimate < CHUNK {
                    self.consider(id, table.entry(id), true, context, &mut work);
                    id += 1;
                }
                At::Walk(id)
            }
            At::Log(mut position) => {
                while work.estimate < CHUNK {
                    let Some(id) = table.log.at(position) else {
                        break;
                    };
                    let entry = table.entry(id);
                    if entry.changed_at(position) {
                        self.consider(id, entry, false, context, &mut work);
                    }
                    position += 1;
                }
                At::Log(position)
            }
        };
        let (bytes, pieces) = self.encode(work, table, context);
        let chunk = Arc::new(Chunk {
            from,
            to,
            seen: table.log.end(),
            bytes,
            pieces,
        });
        if self.members > 1 {
            if self.chunks.len() == KEPT {
                self.chunks.pop_front();
            }
            self.chunks.push_back(Arc::clone(&chunk));
        }
        chunk
    }

    /// Decides what the group is told about one entry.
    fn consider<K: Key>(
        &mut self,
        id: u32,
        entry: &Entry<K>,
        walk: bool,
        context: &mut Context,
        work: &mut Work,
    ) {
        let best = entry.best().copied();
        let export = best.and_then(|path| {
            let set = self.permitted(path.set, path.peer, entry.key, context, work)?;
            Some((set, path.peer))
        });
        work.estimate += entry.key.encoded();
        match export {
            Some((set, peer)) => {
                if work.announce.last().is_none_or(|last| last.0 != set) {
                    work.estimate += context.interner.get(set).wire().len() + 40;
                }
                work.announce.push((set, peer, id));
                self.set_advertised(id);
                if entry.moved && !walk && peer != LOCAL {
                    work.correct.push((peer, id));
                }
            }
            None if !walk && self.is_advertised(id) => work.withdraw.push(id),
            None => {}
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

    /// Encodes what has been gathered, sorted by attribute set.
    fn encode<K: Key>(
        &mut self,
        mut work: Work,
        table: &Table<K>,
        context: &mut Context,
    ) -> (Vec<u8>, Vec<Piece>) {
        let mut bytes = Vec::with_capacity(work.estimate.min(2 * CHUNK));
        let mut pieces: Vec<Piece> = Vec::new();
        let mut piece = |end: usize, rule: Rule| match pieces.last_mut() {
            Some(last) if last.rule == rule => last.end = end,
            _ if end > 0 => pieces.push(Piece { end, rule }),
            _ => {}
        };
        let keys = |ids: &[u32]| {
            ids.iter()
                .map(|&id| table.entry(id).key)
                .collect::<Vec<K>>()
        };
        message::withdraw(&keys(&work.withdraw), &mut bytes);
        piece(bytes.len(), Rule::All);
        work.correct.sort_unstable();
        for run in work.correct.chunk_by(|a, b| a.0 == b.0) {
            let keys: Vec<K> = run.iter().map(|&(_, id)| table.entry(id).key).collect();
            message::withdraw(&keys, &mut bytes);
            piece(bytes.len(), Rule::Only(run[0].0));
        }
        work.announce.sort_unstable();
        work.held.sort_unstable();
        let mut outgoing = Outgoing::default();
        for run in work.announce.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (set, peer, _) = run[0];
            let rule = if peer == LOCAL {
                Rule::All
            } else {
                Rule::Except(peer)
            };
            let keys: Vec<K> = run.iter().map(|&(_, _, id)| table.entry(id).key).collect();
            let source = &context.sources[usize::from(peer)];
            let attributes = context.interner.get(set);
            let route = Whence::new(peer == LOCAL, work.held.binary_search(&set).is_ok());
            let fits = outgoing.make(attributes, source, route, self)
                && message::announce(&keys, &outgoing, &mut bytes);
            if !fits {
                // Without a next hop, or too large for a message: whoever has an older path must not keep it.
                self.oversized += keys.len() as u64;
                message::withdraw(&keys, &mut bytes);
            }
            piece(bytes.len(), rule);
        }
        for set in work.held {
            context.interner.release(set);
        }
        (bytes, pieces)
    }
}

/// What a chunk is made of.
#[derive(Default)]
struct Work {
    announce: Vec<(SetId, u16, u32)>,
    withdraw: Vec<u32>,
    /// Withdrawals for the source of the new path alone.
    correct: Vec<(u16, u32)>,
    /// References to sets that a filter has made.
    held: Vec<SetId>,
    memo: Option<((SetId, u16), Option<SetId>)>,
    estimate: usize,
}
