//! The thread that owns the file.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use super::signal::Signal;
use super::table::{Batch, Outcome, PATIENCE, Row, Table};
use super::{Reply, Shared, stopped};
use crate::error::StoreError;
use crate::feed::Entry;
use crate::model::Kind;
use crate::object::Revision;

/// How many of the newest changes are kept in memory for watches.
const RECENT: usize = 4096;
/// How many changes are read at a time.
const PAGE: u16 = 512;

/// What the thread is asked to do.
pub(super) enum Request {
    Write {
        batch: Batch,
        reply: Reply<Vec<Outcome>>,
    },
    Watch {
        kind: Kind,
        since: Revision,
        reply: Reply<u64>,
    },
    /// Changes after a revision, and the revision up to which these are all.
    History {
        since: Revision,
        reply: Reply<(Vec<Row>, Revision)>,
    },
    Compact {
        upto: Revision,
        reply: Reply<()>,
    },
    Backup {
        to: PathBuf,
        reply: Reply<()>,
    },
    Stop,
}

pub(super) struct Worker {
    table: Table,
    signal: Signal,
    requests: mpsc::Receiver<Request>,
    shared: Arc<Shared>,
}

pub(super) fn unavailable(error: &rusqlite::Error) -> StoreError {
    let reason = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy) => format!(
            "other processes had the file locked for {PATIENCE:?}: its disk is too slow, or one of them hangs ({error})"
        ),
        _ => error.to_string(),
    };
    StoreError::Unavailable { reason }
}

fn replaced() -> StoreError {
    StoreError::Unavailable {
        reason: "the store was replaced by an older one".to_owned(),
    }
}

impl Worker {
    pub(super) const fn new(
        table: Table,
        signal: Signal,
        requests: mpsc::Receiver<Request>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            table,
            signal,
            requests,
            shared,
        }
    }

    pub(super) fn run(mut self) {
        while self.turn() {
            if self.shared.feed.has_watchers() {
                self.pull();
            }
            self.signal.wait(self.shared.feed.has_watchers());
        }
        self.shared.feed.close(&stopped());
    }

    /// Does everything that was asked so far, all writes in one commit; whether to go on.
    fn turn(&mut self) -> bool {
        let mut batches = Vec::new();
        let mut replies = Vec::new();
        let mut others = Vec::new();
        let mut go_on = true;
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Write { batch, reply } => {
                    batches.push(batch);
                    replies.push(reply);
                }
                Request::Stop => go_on = false,
                other => others.push(other),
            }
        }
        if !batches.is_empty() {
            self.write(&batches, replies);
        }
        for request in others {
            self.serve(request);
        }
        go_on
    }

    fn write(&mut self, batches: &[Batch], replies: Vec<Reply<Vec<Outcome>>>) {
        match self.table.write(batches) {
            Ok(outcomes) => {
                self.signal.announce();
                for (outcomes, reply) in outcomes.into_iter().zip(replies) {
                    // Nobody waits for the answer of a call that was dropped.
                    let _ = reply.send(Ok(outcomes));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(unavailable(&error)));
                }
            }
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Watch { kind, since, reply } => {
                let _ = reply.send(self.watch(kind, since));
            }
            Request::History { since, reply } => {
                let _ = reply.send(self.history(since));
            }
            Request::Compact { upto, reply } => answer(reply, self.table.compact(upto)),
            Request::Backup { to, reply } => answer(reply, self.table.backup(&to)),
            Request::Write { .. } | Request::Stop => {}
        }
    }

    fn watch(&self, kind: Kind, since: Revision) -> Result<u64, StoreError> {
        let oldest = self
            .table
            .compacted()
            .map_err(|error| unavailable(&error))?;
        let head = self.table.head().map_err(|error| unavailable(&error))?;
        // A revision of the future is one of another past: the file was replaced by an older one.
        if since < oldest || since > head {
            return Err(StoreError::Compacted { since, oldest });
        }
        let feed = &self.shared.feed;
        if !feed.has_watchers() {
            feed.skip_to(head);
        }
        Ok(feed.subscribe(kind, since))
    }

    fn history(&mut self, since: Revision) -> Result<(Vec<Row>, Revision), StoreError> {
        let found = self
            .table
            .since(since, PAGE)
            .map_err(|error| unavailable(&error))?;
        found.ok_or_else(|| StoreError::Compacted {
            since,
            oldest: self.table.compacted().unwrap_or_default(),
        })
    }

    /// Brings what was committed since the last time to the watches.
    fn pull(&mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let head = shared.feed.head();
            match self.table.since(head, PAGE) {
                Ok(Some((rows, complete))) => {
                    if complete <= head {
                        return;
                    }
                    let full = rows.len() == usize::from(PAGE);
                    shared.feed.append(entries(&shared, rows), complete);
                    shared.feed.trim(RECENT);
                    if !full {
                        return;
                    }
                }
                // Too late: the watches have to find out for themselves what they missed.
                Ok(None) => {
                    match self.table.head() {
                        Ok(newest) if newest < head => shared.feed.close(&replaced()),
                        Ok(newest) => shared.feed.skip_to(newest),
                        Err(_) => {}
                    }
                    return;
                }
                // Tried again at the next turn.
                Err(_) => return,
            }
        }
    }
}

fn entries(shared: &Shared, rows: Vec<Row>) -> Vec<Entry<Row>> {
    let entry = |row: Row| {
        let kind = shared.layout.key(&row.path)?.kind;
        Some(Entry {
            revision: row.revision,
            kind,
            change: Arc::new(row),
        })
    };
    rows.into_iter().filter_map(entry).collect()
}

fn answer<T>(reply: Reply<T>, result: rusqlite::Result<T>) {
    let _ = reply.send(result.map_err(|error| unavailable(&error)));
}
