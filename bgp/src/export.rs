//! What goes out to peers: groups of peers that get the same, messages encoded once for all of them.
//!
//! A group turns a stretch of a table's log (or of the table itself, for a peer that is new) into a chunk of
//! messages when the first of its peers can take it, sorted by attribute set so that a message carries as many
//! prefixes as it can. The others that stand at the same position get the same octets. Nothing is queued for a peer:
//! it has a position, and the log's entries say what is newest.

mod encode;
mod judge;
mod message;
mod outgoing;

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::attributes::NextHop;
use crate::filter::{Filter, FilterPeer};
use crate::identity::PeerId;
use crate::number::{AsNumber, Family};
use crate::peer::{NextHopMode, PrivateAs, Role};
use crate::rib::{Context, Table};
use crate::wire::Key;

use encode::Work;
pub(crate) use message::Form;
pub(crate) use outgoing::Outgoing;

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
    pub(crate) form: Form,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub(crate) extended_next_hop: bool,
    /// What we are to the peers (RFC 9234).
    pub(crate) role: Option<Role>,
    pub(crate) private_as: PrivateAs,
    /// The peers' AS where it matters: to an export filter, or to what becomes of private numbers; else 0.
    pub(crate) peer_as: AsNumber,
    /// The identity of the export filter; 0 without one.
    pub(crate) filter: usize,
    /// Whose group it is where the export filter looks at the peer.
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

/// What a group has sent.
pub(crate) struct Advertised {
    entries: Vec<u64>,
    paths: HashMap<u32, Vec<(u16, u16)>>,
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
    /// With add-path: the paths that some member may have been sent, by entry, with their sources.
    sent: HashMap<u32, Vec<(u16, u16)>>,
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
            sent: HashMap::new(),
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
        self.sent.remove(&id);
    }

    /// After a log was compacted its positions mean something else.
    pub(crate) fn forget_chunks(&mut self) {
        self.chunks.clear();
    }

    /// What some member may have been sent.
    pub(crate) fn advertised(&self) -> Advertised {
        Advertised {
            entries: self.advertised.clone(),
            paths: self.sent.clone(),
        }
    }

    /// Counts what another group has sent as sent by this one.
    pub(crate) fn take_over(&mut self, advertised: Advertised) {
        let Advertised { entries, paths } = advertised;
        if self.advertised.len() < entries.len() {
            self.advertised.resize(entries.len(), 0);
        }
        for (word, other) in self.advertised.iter_mut().zip(entries) {
            *word |= other;
        }
        for (id, paths) in paths {
            let sent = self.sent.entry(id).or_default();
            for path in paths {
                if !sent.contains(&path) {
                    sent.push(path);
                }
            }
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
                    let Some((id, best)) = table.log.at(position) else {
                        break;
                    };
                    let entry = table.entry(id);
                    if entry.changed_at(position) && (best || self.key.form.ids) {
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
}
