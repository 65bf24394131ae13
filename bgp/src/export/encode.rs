use super::outgoing::Whence;
use super::{CHUNK, Group, Outgoing, Piece, Rule, message};
use crate::rib::{Context, LOCAL, SetId, Table};
use crate::wire::Key;

/// What a chunk is made of.
#[derive(Default)]
pub(super) struct Work {
    /// Set, source, entry, and which of the entry's paths.
    announce: Vec<(SetId, u16, u32, u16)>,
    pub(super) withdraw: Vec<(u32, u16)>,
    /// Withdrawals for the source of the new path alone.
    pub(super) correct: Vec<(u16, u32, u16)>,
    /// References to sets that a filter has made.
    pub(super) held: Vec<SetId>,
    pub(super) memo: Option<((SetId, u16), Option<SetId>)>,
    pub(super) estimate: usize,
}

impl Work {
    /// Adds a path to what is announced.
    pub(super) fn announce(
        &mut self,
        set: SetId,
        peer: u16,
        id: u32,
        local: u16,
        context: &Context,
    ) {
        if self.announce.last().is_none_or(|last| last.0 != set) {
            self.estimate += context.interner.get(set).wire().len() + 40;
        }
        self.announce.push((set, peer, id, local));
    }
}

impl Group {
    /// Encodes what has been gathered, sorted by attribute set.
    pub(super) fn encode<K: Key>(
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
        let form = self.key.form;
        // 0 is as good an identifier as any, but some take it for none.
        let route = |id: u32, local: u16| (table.entry(id).key, u32::from(local) + 1);
        if form.ids {
            work.withdraw.sort_unstable();
            work.withdraw.dedup();
        }
        let gone: Vec<(K, u32)> = work
            .withdraw
            .iter()
            .map(|&(id, local)| route(id, local))
            .collect();
        message::withdraw(&gone, form, &mut bytes);
        piece(bytes.len(), Rule::All);
        work.correct.sort_unstable();
        work.correct.dedup();
        for run in work.correct.chunk_by(|a, b| a.0 == b.0) {
            let gone: Vec<(K, u32)> = run.iter().map(|&(_, id, local)| route(id, local)).collect();
            message::withdraw(&gone, form, &mut bytes);
            piece(bytes.len(), Rule::Only(run[0].0));
        }
        work.announce.sort_unstable();
        work.held.sort_unstable();
        let mut outgoing = Outgoing::default();
        for run in work.announce.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (set, peer, ..) = run[0];
            let rule = if peer == LOCAL {
                Rule::All
            } else {
                Rule::Except(peer)
            };
            let routes: Vec<(K, u32)> = run
                .iter()
                .map(|&(_, _, id, local)| route(id, local))
                .collect();
            let source = &context.sources[usize::from(peer)];
            let attributes = context.interner.get(set);
            let whence = Whence::new(peer == LOCAL, work.held.binary_search(&set).is_ok());
            let fits = outgoing.make(attributes, source, whence, self)
                && message::announce(&routes, &outgoing, form, &mut bytes);
            if !fits {
                // Without a next hop, or too large for a message: whoever has an older path must not keep it.
                self.oversized += routes.len() as u64;
                message::withdraw(&routes, form, &mut bytes);
            }
            piece(bytes.len(), rule);
        }
        for set in work.held {
            context.interner.release(set);
        }
        (bytes, pieces)
    }
}
