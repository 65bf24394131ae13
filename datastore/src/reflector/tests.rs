use serde_json::json;

use super::*;

const KIND: Kind = Kind::IpPool;

fn object(name: &str, revision: u64) -> Object {
    let (name, revision) = (name.to_owned(), Revision(revision));
    Object {
        kind: KIND,
        namespace: None,
        name,
        value: json!({}),
        revision,
    }
}

fn listing(objects: &[(&str, u64)], revision: u64) -> Listing {
    let objects = objects
        .iter()
        .map(|(name, revision)| object(name, *revision))
        .collect();
    Listing {
        objects,
        revision: Revision(revision),
    }
}

fn drain(reflector: &mut Reflector) -> Vec<Event> {
    std::iter::from_fn(|| reflector.poll_event()).collect()
}

fn in_sync(revision: u64) -> Event {
    Event::InSync {
        kind: KIND,
        revision: Revision(revision),
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable {
        reason: "gone".to_owned(),
    }
}

#[test]
fn a_listing_after_an_interruption_tells_only_the_difference() {
    let mut reflector = Reflector::new(Scope::all(KIND));
    assert_eq!(reflector.step(), Step::List);
    reflector.listed(listing(&[("a", 1), ("b", 2), ("c", 3)], 3));
    assert_eq!(drain(&mut reflector).len(), 4);
    assert_eq!(reflector.step(), Step::Watch(Revision(3)));
    let error = StoreError::Compacted {
        since: Revision(3),
        oldest: Revision(9),
    };
    reflector.failed(error.clone(), 0.0);
    assert_eq!(reflector.step(), Step::List);
    reflector.listed(listing(&[("a", 1), ("b", 7)], 9));
    let expected = vec![
        Event::Disconnected { kind: KIND, error },
        Event::Put(object("b", 7)),
        Event::Deleted(Key::cluster(KIND, "c"), Revision(9)),
        in_sync(9),
    ];
    assert_eq!(drain(&mut reflector), expected);
}

#[test]
fn changes_are_told_once() {
    let mut reflector = Reflector::new(Scope::all(KIND));
    reflector.listed(listing(&[("a", 1)], 5));
    drain(&mut reflector);
    reflector.changed(Change::Put(object("a", 5)));
    assert_eq!(drain(&mut reflector), []);
    let key = Key::cluster(KIND, "a");
    let deleted = Change::Deleted {
        key: key.clone(),
        revision: Revision(6),
    };
    reflector.changed(deleted.clone());
    reflector.changed(deleted);
    reflector.changed(Change::Bookmark(Revision(8)));
    let progress = Event::Progress {
        kind: KIND,
        revision: Revision(8),
    };
    assert_eq!(
        drain(&mut reflector),
        [Event::Deleted(key, Revision(6)), progress]
    );
    assert_eq!(reflector.step(), Step::Watch(Revision(8)));
}

#[test]
fn waits_double_and_end_in_a_listing() {
    let mut reflector = Reflector::new(Scope::all(KIND));
    reflector.listed(listing(&[], 1));
    let mut last = Duration::ZERO;
    for round in 1..30 {
        reflector.failed(unavailable(), 0.5);
        let Step::Wait(time) = reflector.step() else {
            panic!("no wait in round {round}")
        };
        assert!(time >= last && time <= LONGEST_WAIT, "{time:?}");
        last = time;
        reflector.waited();
        let list = round % WATCH_TRIES == 0;
        assert_eq!(reflector.step() == Step::List, list, "round {round}");
        if list {
            reflector.listed(listing(&[], 1));
        }
    }
    assert_eq!(last, LONGEST_WAIT);
    reflector.listed(listing(&[], 2));
    reflector.changed(Change::Bookmark(Revision(3)));
    reflector.failed(unavailable(), 0.0);
    assert_eq!(reflector.step(), Step::Wait(FIRST_WAIT / 2));
}

#[test]
fn a_kind_that_the_store_does_not_have_is_empty() {
    let mut reflector = Reflector::new(Scope::all(KIND));
    reflector.listed(listing(&[("a", 1)], 1));
    drain(&mut reflector);
    let error = StoreError::NoSuchKind {
        kind: KIND,
        reason: "404".to_owned(),
    };
    reflector.failed(error, 0.0);
    let events = drain(&mut reflector);
    assert_eq!(
        events[1..],
        [
            Event::Deleted(Key::cluster(KIND, "a"), Revision(0)),
            in_sync(0)
        ]
    );
    assert_eq!(reflector.step(), Step::Wait(UNKNOWN_KIND_WAIT));
    reflector.waited();
    assert_eq!(reflector.step(), Step::List);
}

#[test]
fn the_end_of_an_interruption_is_told_once() {
    let mut reflector = Reflector::new(Scope::all(KIND));
    reflector.listed(listing(&[("a", 1)], 5));
    reflector.watching();
    assert_eq!(drain(&mut reflector).len(), 2);
    reflector.failed(unavailable(), 0.0);
    reflector.waited();
    assert_eq!(reflector.step(), Step::Watch(Revision(5)));
    reflector.watching();
    reflector.watching();
    let expected = vec![
        Event::Disconnected {
            kind: KIND,
            error: unavailable(),
        },
        Event::Progress {
            kind: KIND,
            revision: Revision(5),
        },
    ];
    assert_eq!(drain(&mut reflector), expected);
}

#[test]
fn parts_are_told_as_they_come_and_what_is_gone_at_the_end() {
    let mut reflector = Reflector::new(Scope::all(KIND));
    reflector.listed_part(vec![object("a", 1)]);
    assert_eq!(drain(&mut reflector), [Event::Put(object("a", 1))]);
    reflector.listed_part(vec![object("b", 2)]);
    reflector.listed(listing(&[], 3));
    assert_eq!(
        drain(&mut reflector),
        [Event::Put(object("b", 2)), in_sync(3)]
    );
    assert_eq!(reflector.step(), Step::Watch(Revision(3)));
}

#[test]
fn a_listing_that_breaks_off_takes_nothing_away() {
    let mut reflector = Reflector::new(Scope::all(KIND));
    reflector.listed(listing(&[("a", 1), ("b", 2), ("c", 3)], 3));
    drain(&mut reflector);
    let compacted = StoreError::Compacted {
        since: Revision(3),
        oldest: Revision(9),
    };
    reflector.failed(compacted, 0.0);
    reflector.listed_part(vec![object("a", 8)]);
    reflector.failed(unavailable(), 0.0);
    let events = drain(&mut reflector);
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Deleted(..))),
        "{events:?}"
    );
    reflector.waited();
    assert_eq!(reflector.step(), Step::List);
    // What the first attempt told is not told again; what it had and this one has not is gone.
    reflector.listed_part(vec![object("b", 2)]);
    reflector.listed(listing(&[("d", 9)], 10));
    let mut events = drain(&mut reflector);
    events.sort_by_key(|event| format!("{event:?}"));
    let gone = |name: &str| Event::Deleted(Key::cluster(KIND, name), Revision(10));
    assert_eq!(
        events,
        [
            gone("a"),
            gone("c"),
            in_sync(10),
            Event::Put(object("d", 9))
        ]
    );
}
