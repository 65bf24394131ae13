//! The newest part of a store's history, and who waits for more of it.
//!
//! Every watch reads the same entries at its own speed; nothing is queued for a watch, so a slow one costs nothing
//! and falls behind the floor instead.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::StoreError;
use crate::model::Kind;
use crate::object::Revision;

/// One entry of the history.
pub(crate) struct Entry<T> {
    pub(crate) revision: Revision,
    pub(crate) kind: Kind,
    pub(crate) change: Arc<T>,
}

/// What a watch gets.
pub(crate) enum Next<T> {
    /// The next change of its kind.
    Change(Arc<T>),
    /// What follows this revision is no longer here.
    Behind(Revision),
    /// There will be no more.
    Closed(StoreError),
}

struct Watcher {
    kind: Kind,
    /// Everything up to here has been seen.
    position: Revision,
    waker: Option<Waker>,
}

struct Inner<T> {
    entries: VecDeque<Entry<T>>,
    /// `entries` has everything after this.
    floor: Revision,
    /// `entries` has everything up to this.
    head: Revision,
    watchers: HashMap<u64, Watcher>,
    next_id: u64,
    /// Why watches were ended the last time.
    error: Option<StoreError>,
}

pub(crate) struct Feed<T> {
    inner: Mutex<Inner<T>>,
}

impl<T> Feed<T> {
    pub(crate) fn new(head: Revision) -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: VecDeque::new(),
                floor: head,
                head,
                watchers: HashMap::new(),
                next_id: 0,
                error: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn head(&self) -> Revision {
        self.lock().head
    }

    #[cfg(feature = "memory")]
    pub(crate) fn floor(&self) -> Revision {
        self.lock().floor
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn has_watchers(&self) -> bool {
        !self.lock().watchers.is_empty()
    }

    /// Adds what happened up to `head`; wakes those whom it concerns.
    pub(crate) fn append(&self, entries: Vec<Entry<T>>, head: Revision) {
        let mut wakers = Vec::new();
        {
            let inner = &mut *self.lock();
            let old_head = inner.head;
            for watcher in inner.watchers.values_mut() {
                if entries.iter().any(|entry| entry.kind == watcher.kind) {
                    wakers.extend(watcher.waker.take());
                } else if watcher.position >= old_head {
                    watcher.position = watcher.position.max(head);
                }
            }
            inner.entries.extend(entries);
            inner.head = inner.head.max(head);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Forgets the oldest entries until there are at most `count`.
    #[cfg(feature = "sqlite")]
    pub(crate) fn trim(&self, count: usize) {
        let inner = &mut *self.lock();
        while inner.entries.len() > count {
            if let Some(entry) = inner.entries.pop_front() {
                inner.floor = entry.revision;
            }
        }
    }

    /// Forgets everything and goes on from `head`; wakes everybody, as all have to catch up.
    #[cfg(feature = "sqlite")]
    pub(crate) fn skip_to(&self, head: Revision) {
        let mut wakers = Vec::new();
        {
            let inner = &mut *self.lock();
            inner.entries.clear();
            inner.floor = head;
            inner.head = head;
            wakers.extend(
                inner
                    .watchers
                    .values_mut()
                    .filter_map(|watcher| watcher.waker.take()),
            );
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Forgets what happened up to `floor`. Watches that are behind it are woken.
    #[cfg(feature = "memory")]
    pub(crate) fn compact(&self, floor: Revision) {
        let inner = &mut *self.lock();
        while inner
            .entries
            .front()
            .is_some_and(|entry| entry.revision <= floor)
        {
            inner.entries.pop_front();
        }
        inner.floor = inner.floor.max(floor.min(inner.head));
    }

    /// Ends all watches with an error.
    pub(crate) fn close(&self, error: &StoreError) {
        let mut wakers = Vec::new();
        {
            let inner = &mut *self.lock();
            inner.error = Some(error.clone());
            for (_, watcher) in inner.watchers.drain() {
                wakers.extend(watcher.waker);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Begins a watch of a kind that has seen everything up to `position`.
    pub(crate) fn subscribe(&self, kind: Kind, position: Revision) -> u64 {
        let inner = &mut *self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.watchers.insert(
            id,
            Watcher {
                kind,
                position,
                waker: None,
            },
        );
        id
    }

    pub(crate) fn unsubscribe(&self, id: u64) {
        self.lock().watchers.remove(&id);
    }

    /// A watch has seen everything up to `position`, from elsewhere.
    #[cfg(feature = "sqlite")]
    pub(crate) fn advance(&self, id: u64, position: Revision) {
        if let Some(watcher) = self.lock().watchers.get_mut(&id) {
            watcher.position = watcher.position.max(position);
        }
    }

    pub(crate) fn poll_next(&self, id: u64, context: &Context<'_>) -> Poll<Next<T>> {
        let inner = &mut *self.lock();
        let Some(watcher) = inner.watchers.get_mut(&id) else {
            let reason = "the watch was cut off".to_owned();
            let error = inner
                .error
                .clone()
                .unwrap_or(StoreError::Unavailable { reason });
            return Poll::Ready(Next::Closed(error));
        };
        let position = watcher.position;
        if position < inner.floor {
            return Poll::Ready(Next::Behind(position));
        }
        let start = inner
            .entries
            .partition_point(|entry| entry.revision <= position);
        let mut later = inner.entries.range(start..);
        if let Some(entry) = later.find(|entry| entry.kind == watcher.kind) {
            watcher.position = entry.revision;
            return Poll::Ready(Next::Change(Arc::clone(&entry.change)));
        }
        watcher.position = watcher.position.max(inner.head);
        watcher.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
