//! A watch.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use etcd_client::{Error, EventType, WatchResponse, WatchStream};
use futures_core::Stream;

use super::connection::store_error;
use super::revision;
use crate::backend::{Change, Watch};
use crate::error::StoreError;
use crate::layout::{self, Layout};
use crate::object::{Revision, Scope};

type Message = Result<Option<WatchResponse>, Error>;
type Receiving = Pin<Box<dyn Future<Output = (WatchStream, Message)> + Send>>;

struct Changes {
    layout: Layout,
    scope: Scope,
    since: Revision,
    receiving: Option<Receiving>,
    changes: VecDeque<Change>,
}

pub(super) fn changes(stream: WatchStream, layout: Layout, scope: Scope, since: Revision) -> Watch {
    let changes = VecDeque::new();
    Box::pin(Changes {
        layout,
        scope,
        since,
        receiving: Some(receive(stream)),
        changes,
    })
}

/// A watch of a scope that can have no objects.
pub(super) fn nothing() -> Watch {
    Box::pin(Nothing)
}

struct Nothing;

impl Stream for Nothing {
    type Item = Result<Change, StoreError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

fn receive(mut stream: WatchStream) -> Receiving {
    Box::pin(async move {
        let message = stream.message().await;
        (stream, message)
    })
}

impl Changes {
    /// Takes in a message.
    fn take(&mut self, message: &WatchResponse) -> Result<(), StoreError> {
        let now = revision(message.header().map_or(0, |header| header.revision()));
        if message.canceled() {
            let oldest = revision(message.compact_revision());
            return Err(if oldest > Revision::NONE {
                StoreError::Compacted {
                    since: self.since,
                    oldest,
                }
            } else {
                let reason = format!("the watch was cut off: {}", message.cancel_reason());
                StoreError::Unavailable { reason }
            });
        }
        if message.created() {
            // A revision of the future is one of another past: the cluster was restored from a backup.
            return if now > Revision::NONE && now < self.since {
                Err(StoreError::Compacted {
                    since: self.since,
                    oldest: Revision::NONE,
                })
            } else {
                Ok(())
            };
        }
        for event in message.events() {
            let Some(entry) = event.kv() else { continue };
            let key = entry.key_str().ok().and_then(|path| self.layout.key(path));
            let Some(key) = key.filter(|key| self.scope.covers(key)) else {
                continue;
            };
            let when = revision(entry.mod_revision());
            match event.event_type() {
                EventType::Delete => {
                    self.changes.push_back(Change::Deleted {
                        key,
                        revision: when,
                    });
                }
                EventType::Put => {
                    let object = layout::object(key, entry.value(), when);
                    self.changes.extend(object.ok().map(Change::Put));
                }
            }
        }
        if message.events().is_empty() {
            self.changes.push_back(Change::Bookmark(now));
        }
        Ok(())
    }
}

impl Stream for Changes {
    type Item = Result<Change, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Poll::Ready(Some(Ok(change)));
            }
            let Some(receiving) = &mut self.receiving else {
                return Poll::Ready(None);
            };
            let (stream, message) = ready!(receiving.as_mut().poll(context));
            self.receiving = None;
            let error = match message {
                Ok(Some(message)) => match self.take(&message) {
                    Ok(()) => {
                        self.receiving = Some(receive(stream));
                        continue;
                    }
                    Err(error) => error,
                },
                Ok(None) => StoreError::Unavailable {
                    reason: "the connection was closed".to_owned(),
                },
                Err(error) => store_error(&error),
            };
            return Poll::Ready(Some(Err(error)));
        }
    }
}
