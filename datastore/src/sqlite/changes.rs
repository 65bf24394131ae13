//! A watch.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_channel::oneshot;
use futures_core::Stream;

use super::table::Row;
use super::worker::Request;
use super::{Shared, stopped};
use crate::backend::Change;
use crate::error::StoreError;
use crate::feed::Next;
use crate::layout;
use crate::object::{Revision, Scope};

type History = Result<(Vec<Row>, Revision), StoreError>;

enum State {
    /// From memory.
    Live,
    /// Waiting for rows that are no longer in memory.
    Reading(oneshot::Receiver<History>),
    /// Rows that were read, and the revision up to which they are all.
    Backlog(VecDeque<Row>, Revision),
    Over,
}

pub(super) struct Changes {
    shared: Arc<Shared>,
    id: u64,
    scope: Scope,
    state: State,
}

impl Changes {
    pub(super) const fn new(shared: Arc<Shared>, id: u64, scope: Scope) -> Self {
        Self {
            shared,
            id,
            scope,
            state: State::Live,
        }
    }

    /// The change that a row is, when it is of the scope and can be read.
    fn change(&self, row: &Row) -> Option<Change> {
        let key = self.shared.layout.key(&row.path)?;
        if !self.scope.covers(&key) {
            return None;
        }
        if row.deleted {
            return Some(Change::Deleted {
                key,
                revision: row.revision,
            });
        }
        layout::object(key, row.value.as_bytes(), row.revision)
            .ok()
            .map(Change::Put)
    }

    fn end(&mut self, error: StoreError) -> Poll<Option<Result<Change, StoreError>>> {
        self.state = State::Over;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Changes {
    type Item = Result<Change, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Over => return Poll::Ready(None),
                State::Live => match ready!(this.shared.feed.poll_next(this.id, context)) {
                    Next::Change(row) => {
                        if let Some(change) = this.change(&row) {
                            return Poll::Ready(Some(Ok(change)));
                        }
                    }
                    Next::Behind(since) => {
                        let answer = this.shared.begin(|reply| Request::History { since, reply });
                        this.state = State::Reading(answer);
                    }
                    Next::Closed(error) => return this.end(error),
                },
                State::Reading(answer) => {
                    match ready!(Pin::new(answer).poll(context)).unwrap_or_else(|_| Err(stopped()))
                    {
                        Ok((rows, complete)) => this.state = State::Backlog(rows.into(), complete),
                        Err(error) => return this.end(error),
                    }
                }
                State::Backlog(rows, complete) => match rows.pop_front() {
                    Some(row) => {
                        if let Some(change) = this.change(&row) {
                            return Poll::Ready(Some(Ok(change)));
                        }
                    }
                    None => {
                        this.shared.feed.advance(this.id, *complete);
                        this.state = State::Live;
                    }
                },
            }
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.shared.feed.unsubscribe(self.id);
    }
}
