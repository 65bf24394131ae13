//! The index against a full scan, and its cost.

use std::collections::{BTreeMap, BTreeSet};

use ocicat_selectors::{LabelIndex, MatchChange, Selector};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

type Map = BTreeMap<String, String>;

fn labels(pairs: &[(&str, &str)]) -> Map {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Item(u8, Map, Vec<u8>),
    RemoveItem(u8),
    Parent(u8, Map),
    RemoveParent(u8),
    Query(u8, usize),
    RemoveQuery(u8),
    Poll,
}

const SELECTORS: &[&str] = &[
    "all()",
    "!all()",
    "a == 'x'",
    "a != 'x'",
    "a in {'x','y'}",
    "a in {}",
    "has(a)",
    "!has(a)",
    "a == 'x' && b == 'y'",
    "a == 'x' || b == 'y'",
    "a == 'x' || has(b)",
    "has(a) && !has(b)",
    "a starts with 'x' && b != 'y'",
    "!(a == 'x' && b == 'y')",
    "a == 'x' && a == 'y'",
    "c not in {'x'} && a in {'y','xy'}",
];

fn map() -> impl Strategy<Value = Map> {
    let key = prop::sample::select(vec!["a", "b", "c"]).prop_map(String::from);
    let value = prop::sample::select(vec!["x", "y", "xy"]).prop_map(String::from);
    btree_map(key, value, 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..6_u8, map(), vec(0..3_u8, 0..3)).prop_map(|(i, m, p)| Step::Item(i, m, p)),
        1 => (0..6_u8).prop_map(Step::RemoveItem),
        3 => (0..3_u8, map()).prop_map(|(p, m)| Step::Parent(p, m)),
        1 => (0..3_u8).prop_map(Step::RemoveParent),
        5 => (0..6_u8, 0..SELECTORS.len()).prop_map(|(q, s)| Step::Query(q, s)),
        1 => (0..6_u8).prop_map(Step::RemoveQuery),
        2 => Just(Step::Poll),
    ]
}

/// Everything as the test remembers it, matched by brute force.
#[derive(Default)]
struct World {
    items: BTreeMap<u8, (Map, Vec<u8>)>,
    parents: BTreeMap<u8, Map>,
    queries: BTreeMap<u8, Selector>,
}

impl World {
    fn matches(&self) -> BTreeSet<(u8, u8)> {
        let mut out = BTreeSet::new();
        for (item, (own, parents)) in &self.items {
            let mut all = own.clone();
            for labels in parents.iter().filter_map(|p| self.parents.get(p)) {
                for (k, v) in labels {
                    all.entry(k.clone()).or_insert_with(|| v.clone());
                }
            }
            for (query, selector) in &self.queries {
                if selector.matches(&all) {
                    out.insert((*item, *query));
                }
            }
        }
        out
    }

    fn step(&mut self, step: &Step, index: &mut LabelIndex<u8, u8, u8>) {
        match step.clone() {
            Step::Item(i, m, p) => {
                self.items.insert(i, (m.clone(), p.clone()));
                index.set_item(i, m, p);
            }
            Step::RemoveItem(i) => {
                self.items.remove(&i);
                index.remove_item(&i);
            }
            Step::Parent(p, m) => {
                self.parents.insert(p, m.clone());
                index.set_parent(p, m);
            }
            Step::RemoveParent(p) => {
                self.parents.remove(&p);
                index.remove_parent(&p);
            }
            Step::Query(q, s) => {
                let selector: Selector = SELECTORS[s].parse().unwrap();
                self.queries.insert(q, selector.clone());
                index.set_query(q, selector);
            }
            Step::RemoveQuery(q) => {
                self.queries.remove(&q);
                index.remove_query(&q);
            }
            Step::Poll => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_is_a_full_scan(steps in vec(step(), 1..60)) {
        let mut world = World::default();
        let mut index = LabelIndex::<u8, u8, u8>::new();
        let mut told = BTreeSet::new();
        let last = steps.len() - 1;
        for (i, step) in steps.iter().enumerate() {
            world.step(step, &mut index);
            let truth = world.matches();
            prop_assert_eq!(index.counters().matches, truth.len());
            for (item, query) in &truth {
                prop_assert!(index.is_match(item, query));
                prop_assert!(index.matches(query).any(|i| i == item));
                prop_assert!(index.queries_of(item).any(|q| q == query));
            }
            if i == last || matches!(step, Step::Poll) {
                while let Some(change) = index.poll_change() {
                    match change {
                        MatchChange::Started { item, query } => {
                            prop_assert!(told.insert((item, query)), "started twice");
                        }
                        MatchChange::Stopped { item, query } => {
                            prop_assert!(told.remove(&(item, query)), "stopped before it started");
                        }
                    }
                }
                prop_assert_eq!(&told, &truth);
            }
        }
        prop_assert_eq!(index.counters().items, world.items.len());
        prop_assert_eq!(index.counters().queries, world.queries.len());
    }
}

/// 10,000 items and 10,000 selectors, all in one namespace: the worst case for an index by namespace.
#[test]
fn one_label_flip_evaluates_only_selectors_of_that_label_and_value() {
    const N: usize = 10_000;
    let mut index = LabelIndex::<usize, usize, &str>::new();
    index.set_parent("ns", labels(&[("ns", "default"), ("tier", "all")]));
    for i in 0..N {
        let app = format!("app-{i}");
        let own = labels(&[("app", &app), ("zone", ["a", "b", "c"][i % 3])]);
        index.set_item(i, own, vec!["ns"]);
    }
    for q in 0..N {
        let text = format!("ns == 'default' && app == 'app-{q}' && zone != 'z'");
        index.set_query(q, text.parse().unwrap());
    }
    let after_start = index.counters();
    assert_eq!(after_start.matches, N);
    assert!(after_start.evaluations <= 2 * N as u64, "{after_start:?}");

    // The item leaves one selector and meets another: at most two evaluations out of a hundred million.
    index.set_item(7, labels(&[("app", "app-8"), ("zone", "b")]), vec!["ns"]);
    let after_flip = index.counters();
    assert!(after_flip.evaluations - after_start.evaluations <= 2);
    assert!(
        after_flip.visits - after_start.visits < 10,
        "{after_flip:?}"
    );

    // A label that selectors name besides: only those that the item can match at all.
    index.set_item(9, labels(&[("app", "app-9"), ("zone", "z")]), vec!["ns"]);
    let after_zone = index.counters();
    assert_eq!(after_zone.evaluations - after_flip.evaluations, 1);

    // A label that no selector names, on all items at once: nothing.
    index.set_parent("ns", labels(&[("ns", "default"), ("tier", "none")]));
    assert_eq!(index.counters().evaluations, after_zone.evaluations);

    // The same again is no change.
    index.set_query(
        1,
        "ns == 'default' && app == 'app-1' && zone != 'z'"
            .parse()
            .unwrap(),
    );
    assert_eq!(index.counters(), {
        let mut expected = after_zone;
        expected.visits = index.counters().visits;
        expected
    });
}

#[test]
fn own_labels_win_then_the_first_parent() {
    let mut index = LabelIndex::<&str, &str>::new();
    index.set_query("own", "a == 'own'".parse().unwrap());
    index.set_query("first", "b == 'first'".parse().unwrap());
    index.set_item(
        "pod",
        labels(&[("a", "own")]),
        vec!["p1".into(), "p2".into()],
    );
    index.set_parent("p2".into(), labels(&[("a", "second"), ("b", "second")]));
    assert!(index.is_match(&"pod", &"own"));
    assert!(!index.is_match(&"pod", &"first"));
    index.set_parent("p1".into(), labels(&[("a", "first"), ("b", "first")]));
    assert!(index.is_match(&"pod", &"own") && index.is_match(&"pod", &"first"));
    index.remove_parent(&"p1".to_owned());
    assert!(!index.is_match(&"pod", &"first"));
    let seen = ocicat_selectors::Labels::get(index.labels(&"pod").unwrap(), "b");
    assert_eq!(seen, Some("second"));
}
