//! Keeping up with a scope: what to do next, and what has changed.

use std::collections::VecDeque;
use std::time::Duration;

mod known;

use crate::backend::{Change, Listing};
use crate::error::StoreError;
use crate::model::Kind;
use crate::object::{Key, Object, Revision, Scope};
use known::Known;

/// The first wait after an error; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait after errors.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often a store is asked for a kind that it does not have.
const UNKNOWN_KIND_WAIT: Duration = Duration::from_secs(30 * 60);
/// After so many failures to watch, the objects are listed again, in case the revision is the reason.
const WATCH_TRIES: u32 = 5;

/// What has changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The object is there, as it is here.
    Put(Object),
    /// The object is gone since (at the latest) this revision.
    Deleted(Key, Revision),
    /// Everything that the store has of this kind, up to this revision, has been told. Comes after the first listing
    /// and after each one that an interruption made necessary.
    InSync {
        /// The kind.
        kind: Kind,
        /// The revision.
        revision: Revision,
    },
    /// Nothing else of this kind happened up to this revision. Comes now and then, and when a watch goes on after an
    /// interruption.
    Progress {
        /// The kind.
        kind: Kind,
        /// The revision.
        revision: Revision,
    },
    /// News of this kind are interrupted; what was told may be old from now on, until the next
    /// `InSync`, `Progress` or `Put`.
    Disconnected {
        /// The kind.
        kind: Kind,
        /// Why.
        error: StoreError,
    },
}

/// What a [`Reflector`] wants to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// List the scope, then call [`Reflector::listed`] or [`Reflector::failed`]; before the one or the other,
    /// [`Reflector::listed_part`] for parts of the listing.
    List,
    /// Watch the scope from this revision, and call [`Reflector::changed`] for each change and [`Reflector::failed`] for an
    /// error or the end; [`Reflector::watching`] when it has begun.
    Watch(Revision),
    /// Wait so long, then call [`Reflector::waited`].
    Wait(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    List,
    Watch,
    Wait(Duration),
}

/// Keeps up with the objects of a scope: list, then watch, and again after errors.
///
/// Does no I/O: ask [`Reflector::step`] what to do, report the outcome, and take events from
/// [`Reflector::poll_event`] until there are none. It remembers which objects it told of, so that a listing after
/// an interruption tells only what is new and what is gone. `follow` drives it.
#[derive(Debug)]
pub struct Reflector {
    scope: Scope,
    known: Known,
    revision: Revision,
    listed: bool,
    /// An interruption was told, and not yet that it is over.
    interrupted: bool,
    /// Failed listings since the last that succeeded.
    list_failures: u32,
    /// Failed watches since the last change.
    watch_failures: u32,
    state: State,
    events: VecDeque<Event>,
}

impl Reflector {
    /// Knows nothing yet; its first step is to list.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            known: Known::new(scope.kind),
            scope,
            revision: Revision::NONE,
            listed: false,
            interrupted: false,
            list_failures: 0,
            watch_failures: 0,
            state: State::List,
            events: VecDeque::new(),
        }
    }

    /// What it keeps up with.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Up to when everything has been told.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// What is to be done now.
    #[must_use]
    pub const fn step(&self) -> Step {
        match self.state {
            State::List => Step::List,
            State::Watch => Step::Watch(self.revision),
            State::Wait(time) => Step::Wait(time),
        }
    }

    /// The next event, in the order in which things happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A part of the listing is here, with objects that no other part has.
    pub fn listed_part(&mut self, objects: Vec<Object>) {
        for object in objects {
            if self.known.saw(&object) {
                self.events.push_back(Event::Put(object));
            }
        }
    }

    /// The listing is here, or the last part of it.
    pub fn listed(&mut self, listing: Listing) {
        self.listed_part(listing.objects);
        for key in self.known.take_unseen() {
            self.events.push_back(Event::Deleted(key, listing.revision));
        }
        let (kind, revision) = (self.scope.kind, listing.revision);
        self.events.push_back(Event::InSync { kind, revision });
        self.revision = revision;
        self.listed = true;
        self.interrupted = false;
        self.list_failures = 0;
        self.state = State::Watch;
    }

    /// The watch has begun. Without this call, an interruption is over when something changes.
    pub fn watching(&mut self) {
        if std::mem::take(&mut self.interrupted) {
            let (kind, revision) = (self.scope.kind, self.revision);
            self.events.push_back(Event::Progress { kind, revision });
        }
    }

    /// The watch has something new.
    pub fn changed(&mut self, change: Change) {
        self.watch_failures = 0;
        let revision = change.revision();
        if revision <= self.revision {
            return;
        }
        self.revision = revision;
        match change {
            Change::Put(object) => {
                self.known.put(&object);
                self.events.push_back(Event::Put(object));
            }
            Change::Deleted { key, revision } => {
                if self.known.remove(&key) {
                    self.events.push_back(Event::Deleted(key, revision));
                }
            }
            Change::Bookmark(revision) => {
                let kind = self.scope.kind;
                self.events.push_back(Event::Progress { kind, revision });
            }
        }
    }

    /// A listing or watch failed. `random` in 0.0..1.0 spreads the retries of many that failed together.
    pub fn failed(&mut self, error: StoreError, random: f64) {
        let kind = self.scope.kind;
        let (compacted, unknown) = match &error {
            StoreError::Compacted { .. } => (true, false),
            StoreError::NoSuchKind { .. } => (false, true),
            _ => (false, false),
        };
        self.events.push_back(Event::Disconnected { kind, error });
        self.known.give_up();
        self.interrupted = true;
        if unknown {
            // A store without the kind has no objects of it.
            self.listed(Listing::default());
            self.listed = false;
            self.state = State::Wait(UNKNOWN_KIND_WAIT);
            return;
        }
        let failures = if self.state == State::List {
            &mut self.list_failures
        } else {
            &mut self.watch_failures
        };
        *failures += 1;
        let failures = *failures;
        if compacted || failures.is_multiple_of(WATCH_TRIES) {
            self.listed = false;
        }
        if compacted && failures == 1 {
            self.state = State::List;
            return;
        }
        let doubled = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(16));
        self.state = State::Wait(
            doubled
                .min(LONGEST_WAIT)
                .mul_f64(0.5 + random.clamp(0.0, 1.0)),
        );
    }

    /// The wait is over.
    pub fn waited(&mut self) {
        self.state = if self.listed {
            State::Watch
        } else {
            State::List
        };
    }
}

#[cfg(test)]
mod tests;
