use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::attributes::{Attributes, AttributesBuilder};
use crate::session::Jitter;
use crate::wire::Key;
use crate::{AsNumber, Origin, Prefix};

fn context() -> Context {
    let mut context = Rib::new(7, 1, false).context;
    for peer in 1..=6u8 {
        context.sources.push(Source {
            external: peer % 2 == 0,
            rr_client: false,
            router_id: Ipv4Addr::new(10, 0, 0, 10 - peer),
            address: Ipv4Addr::new(192, 0, 2, peer).into(),
            interface: None,
        });
    }
    context
}

fn path(context: &mut Context, peer: u16, attributes: &Attributes) -> Path {
    let set = context.interner.intern_attributes(attributes);
    Path {
        set,
        id: 0,
        peer,
        local: 0,
        stale: false,
    }
}

fn learned(first: u32) -> AttributesBuilder {
    let hop: IpAddr = [192, 0, 2, 9].into();
    Attributes::builder()
        .next_hop(hop)
        .prepend(AsNumber(first), 1)
}

/// A path: the source, and its attributes.
type From = (u16, Attributes);

/// RFC 4271 section 9.1.2.2, RFC 4456 section 9: what decides between two paths.
#[test]
fn each_step_decides() {
    let base = learned(10).build();
    let originator = base.edit().originator_id([10, 0, 0, 1].into()).build();
    let clusters = |n: usize| originator.edit().raw(0x80, 10, vec![9; 4 * n]).build();
    let cases: &[(Step, From, From)] = &[
        (
            Step::Local,
            (0, Attributes::local()),
            (2, learned(10).local_pref(900).build()),
        ),
        (
            Step::LocalPref,
            (1, learned(10).local_pref(101).build()),
            (2, base.clone()),
        ),
        (
            Step::PathLength,
            (1, base.clone()),
            (2, learned(10).prepend(AsNumber(10), 1).build()),
        ),
        (
            Step::Origin,
            (1, base.clone()),
            (2, learned(10).origin(Origin::Egp).build()),
        ),
        (
            Step::Med,
            (1, learned(10).med(5).build()),
            (2, learned(10).med(6).build()),
        ),
        (
            Step::Med,
            (1, base.clone()),
            (2, learned(10).med(1).build()),
        ),
        (
            Step::External,
            (2, learned(10).med(9).build()),
            (1, learned(11).build()),
        ),
        (Step::RouterId, (5, base.clone()), (3, base.clone())),
        (Step::RouterId, (1, originator.clone()), (5, base.clone())),
        (Step::ClusterList, (3, clusters(1)), (1, clusters(2))),
        (
            Step::PeerAddress,
            (1, originator.clone()),
            (3, originator.clone()),
        ),
    ];
    for (step, (winner, better), (loser, worse)) in cases {
        let mut context = context();
        let winner = path(&mut context, *winner, better);
        let loser = path(&mut context, *loser, worse);
        for paths in [[winner, loser], [loser, winner]] {
            let decision = decide(&paths, &context).unwrap();
            assert_eq!(paths[decision.best], winner, "{step}");
            assert_eq!(decision.step, *step);
        }
    }
}

/// The host says how far next hops are (section 9.1.2.1 and step e).
#[test]
fn next_hops_count_and_unreachable_ones_are_out() {
    let mut context = context();
    let (near, far): (IpAddr, IpAddr) = ([198, 51, 100, 1].into(), [198, 51, 100, 2].into());
    let a = path(&mut context, 1, &learned(10).next_hop(far).build());
    let b = path(&mut context, 3, &learned(10).next_hop(near).build());
    context.hops.extend([(near, Some(5)), (far, Some(6))]);
    let decision = decide(&[a, b], &context).unwrap();
    assert_eq!((decision.best, decision.step), (1, Step::Cost));
    context.hops.insert(near, None);
    let decision = decide(&[a, b], &context).unwrap();
    assert_eq!((decision.best, decision.step), (0, Step::OnlyPath));
    context.hops.insert(far, None);
    assert!(decide(&[a, b], &context).is_none());
}

/// MED makes pairwise comparison intransitive; the answer must not depend on the order of arrival.
#[test]
fn the_order_of_arrival_does_not_matter() {
    let mut random = Jitter(3);
    for _ in 0..3000 {
        let mut context = context();
        let mut pick = |n: u64| random.next() % n;
        let mut paths = Vec::new();
        for peer in 1..=5u16 {
            let attributes = learned(10 + pick(2) as u32)
                .med(Some(pick(3) as u32).filter(|&med| med > 0))
                .local_pref(100 + pick(2) as u32)
                .build();
            paths.push(path(&mut context, peer, &attributes));
        }
        let first = decide(&paths, &context).map(|decision| paths[decision.best]);
        for _ in 0..8 {
            for at in (1..paths.len()).rev() {
                paths.swap(at, random.next() as usize % (at + 1));
            }
            let decision = decide(&paths, &context).unwrap();
            assert_eq!(Some(paths[decision.best]), first);
        }
    }
}

fn key(text: &str) -> V4 {
    V4::from_prefix(&text.parse::<Prefix>().unwrap()).unwrap()
}

fn changes(table: &mut Table<V4>) -> usize {
    let changes = (table.log.start()..table.log.end())
        .filter(|&at| {
            table
                .log
                .at(at)
                .is_some_and(|(id, _)| table.entry(id).changed_at(at))
        })
        .count();
    table.trim(table.log.end(), |_| {});
    changes
}

#[test]
fn only_changes_of_the_best_path_are_recorded() {
    let mut context = context();
    let mut table = Table::<V4>::new(1);
    let k = key("10.0.0.0/8");
    let best = path(&mut context, 1, &learned(10).local_pref(200).build());
    let worse = path(&mut context, 3, &learned(10).build());
    assert_eq!(table.learn(k, best, &mut context), Learned::New);
    assert_eq!(changes(&mut table), 1);
    assert_eq!(table.learn(k, worse, &mut context), Learned::New);
    assert_eq!(table.learn(k, best, &mut context), Learned::Same);
    assert_eq!(table.learn(k, worse, &mut context), Learned::Same);
    assert_eq!(
        changes(&mut table),
        0,
        "a worse path, and the same paths once more"
    );
    assert_eq!(table.mark_stale(1), 1);
    assert_eq!(table.learn(k, best, &mut context), Learned::Same);
    assert_eq!(
        table.forget_source(1, &mut context, |path| path.stale),
        0,
        "learned anew"
    );
    assert!(table.forget(k, 3, 0, &mut context));
    assert_eq!(changes(&mut table), 0, "the worse path goes");
    assert!(table.forget(k, 1, 0, &mut context));
    assert!(!table.forget(k, 1, 0, &mut context));
    assert_eq!(changes(&mut table), 1);
    assert_eq!(table.len(), 0);
}

/// Several equally good paths are used, and their set is what changes.
#[test]
fn multipath_sets() {
    let mut context = context();
    context.max_paths = 4;
    let mut table = Table::<V4>::new(1);
    let k = key("10.0.0.0/8");
    let equal = learned(10).build();
    for peer in [1, 3, 5] {
        let path = path(&mut context, peer, &equal);
        table.learn(k, path, &mut context);
        assert_eq!(changes(&mut table), 1);
    }
    let entry = table.entry(table.find(k).unwrap());
    // The lowest identifier is the best, the others follow in a fixed order.
    assert_eq!(
        entry
            .used()
            .iter()
            .map(|path| path.peer)
            .collect::<Vec<_>>(),
        [5, 1, 3]
    );
    table.forget(k, 1, 0, &mut context);
    assert_eq!(changes(&mut table), 1);
}

/// A follower of the log that sees each prefix's best path.
#[derive(Default)]
struct Follower {
    position: u64,
    seen: BTreeMap<String, Option<(u16, SetId)>>,
}

impl Follower {
    fn catch_up(&mut self, table: &mut Table<V4>) {
        while self.position < table.log.end() {
            let id = table.log.at(self.position);
            if let Some(entry) = id.map(|(id, _)| table.entry(id)) {
                if entry.changed_at(self.position) {
                    let best = entry.best().map(|path| (path.peer, path.set));
                    self.seen.insert(entry.key.prefix().to_string(), best);
                }
            }
            self.position += 1;
        }
        table.trim(self.position, |_| {});
    }
}

/// The table against a map, with a follower that lags behind and compaction.
#[test]
fn a_table_is_what_was_put_into_it() {
    let mut random = Jitter(11);
    let mut context = context();
    let mut table = Table::<V4>::new(5);
    let sets: Vec<_> = (0..4)
        .map(|n| path(&mut context, 1, &learned(10 + n).build()).set)
        .collect();
    let mut expected = BTreeMap::new();
    let mut slow = Follower::default();
    for round in 0..60_000u32 {
        let prefix = format!("10.{}.{}.0/24", random.next() % 4, random.next() % 8);
        let peer = 1 + (random.next() % 4) as u16;
        if random.next() % 3 == 0 {
            table.forget(key(&prefix), peer, 0, &mut context);
            expected.remove(&(prefix, peer));
        } else {
            let set = sets[random.next() as usize % sets.len()];
            let path = Path {
                set,
                id: 0,
                peer,
                local: 0,
                stale: false,
            };
            table.learn(key(&prefix), path, &mut context);
            expected.insert((prefix, peer), set);
        }
        if random.next() % 50 == 0 && round % 3000 > 2000 {
            slow.catch_up(&mut table);
        }
        if table.bloated() {
            table.compact(&mut [&mut slow.position]);
            assert!(!table.bloated());
        }
    }
    slow.catch_up(&mut table);
    for ((prefix, peer), set) in &expected {
        let entry = table.entry(table.find(key(prefix)).unwrap());
        assert!(
            entry
                .paths()
                .iter()
                .any(|path| path.peer == *peer && path.set == *set)
        );
        assert_eq!(
            slow.seen[prefix],
            entry.best().map(|path| (path.peer, path.set)),
            "{prefix}"
        );
    }
    let prefixes: BTreeSet<_> = expected.keys().map(|(prefix, _)| prefix).collect();
    assert_eq!(table.len(), prefixes.len());
    for (prefix, peer) in expected.keys() {
        table.forget(key(prefix), *peer, 0, &mut context);
    }
    for set in sets {
        context.interner.release(set);
    }
    assert_eq!(context.interner.len(), 0, "no reference is lost");
}
