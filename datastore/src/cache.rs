use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Kind;
use crate::object::{Key, Object, Revision};
use crate::reflector::Event;

/// All objects of a kind at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// The objects, by namespace and name.
    pub objects: BTreeMap<Key, Arc<Object>>,
    /// Up to when everything is in it.
    pub revision: Revision,
    /// Whether the kind has been listed as a whole; before, there are no objects.
    pub in_sync: bool,
    /// Whether news are interrupted: what is here was so, and may be old.
    pub interrupted: bool,
}

/// Objects as they are, by kind, made from the events of a [`Reflector`](crate::Reflector) or of `follow`, for readers
/// that want the whole and not the changes.
///
/// A snapshot is of one moment. What a listing brings after an interruption becomes visible at once, when it is complete:
/// no reader sees half of it, nor a store that looks empty because it is being read. Give it one scope of a kind.
///
/// ```
/// use ocicat_datastore::{Cache, Event, Kind, Revision};
///
/// let cache = Cache::new();
/// assert!(!cache.snapshot(Kind::IpPool).in_sync);
/// cache.take(Event::InSync { kind: Kind::IpPool, revision: Revision(7) });
/// assert!(cache.snapshot(Kind::IpPool).in_sync);
/// ```
#[derive(Debug, Default)]
pub struct Cache {
    kinds: Mutex<HashMap<Kind, State>>,
}

#[derive(Debug)]
struct State {
    shown: Arc<Snapshot>,
    /// What will be shown when it is complete.
    next: Option<Snapshot>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            shown: Arc::default(),
            next: Some(Snapshot::default()),
        }
    }
}

impl Cache {
    /// A cache in which nothing has been listed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The objects of a kind. It stays as it is while it is held.
    #[must_use]
    pub fn snapshot(&self, kind: Kind) -> Arc<Snapshot> {
        let kinds = self.kinds();
        let known = kinds.get(&kind).map(|state| Arc::clone(&state.shown));
        known.unwrap_or_default()
    }

    /// Takes an event in.
    pub fn take(&self, event: Event) {
        let mut kinds = self.kinds();
        match event {
            Event::Put(object) => {
                let (key, revision) = (object.key(), object.revision);
                kinds.entry(key.kind).or_default().change(revision, |all| {
                    all.insert(key, Arc::new(object));
                });
            }
            Event::Deleted(key, revision) => {
                let state = kinds.entry(key.kind).or_default();
                state.change(revision, |all| drop(all.remove(&key)));
            }
            Event::InSync { kind, revision } => kinds.entry(kind).or_default().show(revision),
            Event::Progress { kind, revision } => {
                let state = kinds.entry(kind).or_default();
                if state.shown.in_sync {
                    state.show(revision);
                }
            }
            Event::Disconnected { kind, .. } => kinds.entry(kind).or_default().interrupt(),
        }
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Kind, State>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn change(&mut self, revision: Revision, change: impl FnOnce(&mut BTreeMap<Key, Arc<Object>>)) {
        let snapshot = match &mut self.next {
            Some(next) => next,
            None => Arc::make_mut(&mut self.shown),
        };
        snapshot.revision = snapshot.revision.max(revision);
        change(&mut snapshot.objects);
    }

    fn show(&mut self, revision: Revision) {
        if let Some(next) = self.next.take() {
            self.shown = Arc::new(next);
        }
        let shown = Arc::make_mut(&mut self.shown);
        shown.revision = revision;
        (shown.in_sync, shown.interrupted) = (true, false);
    }

    fn interrupt(&mut self) {
        if self.next.is_none() {
            self.next = Some(Snapshot::clone(&self.shown));
        }
        Arc::make_mut(&mut self.shown).interrupted = true;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::StoreError;

    const KIND: Kind = Kind::GlobalNetworkSet;

    fn put(name: &str, revision: u64) -> Event {
        let value = json!({
            "apiVersion": KIND.api_version(), "kind": KIND.name(), "metadata": { "name": name },
        });
        let mut object = Object::from_value(value).unwrap();
        object.revision = Revision(revision);
        Event::Put(object)
    }

    fn in_sync(revision: u64) -> Event {
        Event::InSync {
            kind: KIND,
            revision: Revision(revision),
        }
    }

    fn disconnected() -> Event {
        let reason = "gone".to_owned();
        let error = StoreError::Unavailable { reason };
        Event::Disconnected { kind: KIND, error }
    }

    fn names(cache: &Cache) -> Vec<String> {
        let snapshot = cache.snapshot(KIND);
        snapshot
            .objects
            .keys()
            .map(|key| key.name.clone())
            .collect()
    }

    #[test]
    fn nothing_is_shown_before_all_is_known() {
        let cache = Cache::new();
        cache.take(put("a", 1));
        cache.take(disconnected());
        cache.take(put("b", 2));
        assert_eq!(names(&cache), [""; 0]);
        cache.take(in_sync(2));
        assert_eq!(names(&cache), ["a", "b"]);
        assert_eq!(cache.snapshot(KIND).revision, Revision(2));
    }

    #[test]
    fn a_listing_after_an_interruption_is_shown_at_once() {
        let cache = Cache::new();
        for event in [put("a", 1), put("b", 2), in_sync(2), put("c", 3)] {
            cache.take(event);
        }
        let before = cache.snapshot(KIND);
        cache.take(disconnected());
        assert!(cache.snapshot(KIND).interrupted && !before.interrupted);
        cache.take(Event::Deleted(Key::cluster(KIND, "a"), Revision(9)));
        cache.take(put("d", 8));
        assert_eq!(names(&cache), ["a", "b", "c"]);
        cache.take(in_sync(9));
        assert_eq!(names(&cache), ["b", "c", "d"]);
        assert!(!cache.snapshot(KIND).interrupted);
        assert_eq!(before.objects.len(), 3, "who holds a snapshot keeps it");
    }

    #[test]
    fn a_watch_that_goes_on_needs_no_listing() {
        let cache = Cache::new();
        for event in [put("a", 1), in_sync(1), disconnected(), put("b", 2)] {
            cache.take(event);
        }
        assert_eq!(names(&cache), ["a"]);
        let (kind, revision) = (KIND, Revision(2));
        cache.take(Event::Progress { kind, revision });
        assert_eq!(names(&cache), ["a", "b"]);
        cache.take(put("c", 3));
        assert_eq!(names(&cache), ["a", "b", "c"]);
    }
}
