use hashbrown::HashTable;

use super::log::Log;
use super::path::{Path, Paths};
use super::{Context, decide};
use crate::wire::Key;

/// A prefix and its paths.
#[derive(Debug)]
pub(crate) struct Entry<K> {
    pub(crate) key: K,
    /// The low half of the position of the latest change in the log.
    log: u32,
    in_log: bool,
    /// A best path has replaced one from another source: that source may hold what it was sent before.
    pub(crate) moved: bool,
    /// How many of the first paths are in use.
    used: u8,
    paths: Paths,
}

impl<K> Entry<K> {
    /// The best path and those as good as it.
    pub(crate) fn used(&self) -> &[Path] {
        &self.paths.as_slice()[..usize::from(self.used)]
    }

    pub(crate) fn best(&self) -> Option<&Path> {
        self.used().first()
    }

    pub(crate) fn paths(&self) -> &[Path] {
        self.paths.as_slice()
    }

    /// Whether `position` is that of the entry's latest change.
    pub(crate) fn changed_at(&self, position: u64) -> bool {
        self.in_log && self.log == position as u32
    }
}

/// The paths that were in use before a change.
struct Before {
    best: Option<Path>,
    rest: Vec<Path>,
}

impl Before {
    fn of<K>(entry: &Entry<K>) -> Self {
        let mut used = entry.used().iter().copied();
        Self {
            best: used.next(),
            rest: used.collect(),
        }
    }

    fn equals(&self, now: &[Path]) -> bool {
        let before = self.best.iter().chain(&self.rest);
        let same = |(a, b): (&Path, &Path)| (a.set, a.peer, a.id) == (b.set, b.peer, b.id);
        before.clone().count() == now.len() && before.zip(now).all(same)
    }
}

/// What became of a path that was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// The source had no such path before.
    New,
    /// The source's path has other attributes now.
    Replaced,
    /// The source had the same path.
    Same,
}

/// All prefixes of one family.
#[derive(Debug)]
pub(crate) struct Table<K> {
    entries: Vec<Entry<K>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    pub(crate) log: Log,
    /// Somebody is sent more than the best path: changes of the others are recorded too.
    pub(crate) every_path: bool,
    seed: u64,
}

impl<K: Key> Table<K> {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            log: Log::default(),
            every_path: false,
            seed,
        }
    }

    /// How many prefixes have a path or a change that somebody has yet to see.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The bound of the numbers of entries.
    pub(crate) fn bound(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(crate) fn entry(&self, id: u32) -> &Entry<K> {
        &self.entries[id as usize]
    }

    pub(crate) fn find(&self, key: K) -> Option<u32> {
        self.index
            .find(key.hash(self.seed), |&id| {
                self.entries[id as usize].key == key
            })
            .copied()
    }

    fn find_or_add(&mut self, key: K) -> u32 {
        let hash = key.hash(self.seed);
        if let Some(&id) = self
            .index
            .find(hash, |&id| self.entries[id as usize].key == key)
        {
            return id;
        }
        let entry = Entry {
            key,
            log: 0,
            in_log: false,
            moved: false,
            used: 0,
            paths: Paths::None,
        };
        let id = if let Some(id) = self.free.pop() {
            self.entries[id as usize] = entry;
            id
        } else {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        };
        let (entries, seed) = (&self.entries, self.seed);
        self.index
            .insert_unique(hash, id, |&id| entries[id as usize].key.hash(seed));
        id
    }

    /// Takes a path in; it gets a reference of its own to the attribute set.
    pub(crate) fn learn(&mut self, key: K, path: Path, context: &mut Context) -> Learned {
        let id = self.find_or_add(key);
        let entry = &mut self.entries[id as usize];
        let before = Before::of(entry);
        let paths = entry.paths.as_mut_slice();
        let same = |each: &&mut Path| each.peer == path.peer && each.id == path.id;
        let outcome = match paths.iter_mut().find(same) {
            Some(old) if old.set == path.set => {
                old.stale = path.stale;
                return Learned::Same;
            }
            Some(old) => {
                context.interner.release(old.set);
                let local = old.local;
                *old = Path { local, ..path };
                Learned::Replaced
            }
            None => {
                entry.paths.push(path);
                Learned::New
            }
        };
        context.interner.retain(path.set);
        self.select(id, context, &before);
        outcome
    }

    /// Removes a path; whether there was one.
    pub(crate) fn forget(&mut self, key: K, peer: u16, path: u32, context: &mut Context) -> bool {
        let Some(id) = self.find(key) else {
            return false;
        };
        self.remove(id, context, |each| each.peer == peer && each.id == path) > 0
    }

    /// Removes the paths of one entry that `gone` says yes to; how many there were.
    fn remove(&mut self, id: u32, context: &mut Context, gone: impl Fn(&Path) -> bool) -> u32 {
        let entry = &mut self.entries[id as usize];
        let before = Before::of(entry);
        let mut removed = 0;
        entry.paths.retain(|path| {
            let leaves = gone(path);
            if leaves {
                removed += 1;
                context.interner.release(path.set);
            }
            !leaves
        });
        if removed > 0 {
            self.select(id, context, &before);
        }
        removed
    }

    /// Removes the paths of a source that `gone` says yes to, from every prefix; how many there were.
    pub(crate) fn forget_source(
        &mut self,
        peer: u16,
        context: &mut Context,
        gone: impl Fn(&Path) -> bool,
    ) -> u32 {
        let mut removed = 0;
        for id in 0..self.entries.len() as u32 {
            let paths = self.entries[id as usize].paths.as_slice();
            if paths.iter().any(|path| path.peer == peer && gone(path)) {
                removed += self.remove(id, context, |path| path.peer == peer && gone(path));
            }
        }
        removed
    }

    /// Marks the paths of a source as stale; how many there are.
    pub(crate) fn mark_stale(&mut self, peer: u16) -> u32 {
        let mut marked = 0;
        for entry in &mut self.entries {
            for path in entry
                .paths
                .as_mut_slice()
                .iter_mut()
                .filter(|path| path.peer == peer)
            {
                path.stale = true;
                marked += 1;
            }
        }
        marked
    }

    /// Decides anew for every prefix that a path with this property leads to.
    pub(crate) fn reselect(&mut self, context: &Context, touched: impl Fn(&Path) -> bool) {
        for id in 0..self.entries.len() as u32 {
            if self.entries[id as usize]
                .paths
                .as_slice()
                .iter()
                .any(&touched)
            {
                let before = Before::of(&self.entries[id as usize]);
                self.select(id, context, &before);
            }
        }
    }

    /// Puts the best paths of an entry first and records a change if they are others than `before`.
    fn select(&mut self, id: u32, context: &Context, before: &Before) {
        let entry = &mut self.entries[id as usize];
        entry.used = match &mut entry.paths {
            Paths::None => 0,
            Paths::One(path) => u8::from(context.cost(path).is_some()),
            Paths::Many(list) => order(&mut list.paths, context),
        };
        let best = !before.equals(entry.used());
        if !best && !self.every_path {
            return;
        }
        // Who has not seen the last change of the best paths yet finds it here.
        let best = best || entry.in_log && self.log.latest_is_best(entry.log);
        let source = entry.best().map(|path| path.peer);
        entry.moved |= before.best.is_some_and(|old| Some(old.peer) != source);
        let position = self.log.push(id, best);
        entry.log = position as u32;
        entry.in_log = true;
    }

    /// Lets go of every change before `position`; entries without paths go with their last change.
    pub(crate) fn trim(&mut self, position: u64, mut freed: impl FnMut(u32)) {
        while self.log.start() < position {
            let Some((at, id)) = self.log.pop() else {
                break;
            };
            let entry = &mut self.entries[id as usize];
            if !entry.changed_at(at) {
                continue;
            }
            entry.in_log = false;
            if matches!(entry.paths, Paths::None) {
                let hash = entry.key.hash(self.seed);
                if let Ok(found) = self.index.find_entry(hash, |&other| other == id) {
                    found.remove();
                }
                self.free.push(id);
                freed(id);
            }
        }
        self.log.shrink();
        if self.index.is_empty() && self.log.len() == 0 && self.entries.len() > 1024 {
            // Positions in the log stay; numbers start anew.
            self.entries = Vec::new();
            self.free = Vec::new();
            self.index = HashTable::new();
        }
    }

    /// Records a change of every prefix that a path with this property leads to, though its paths are the same.
    pub(crate) fn record(&mut self, touched: impl Fn(&Path) -> bool) {
        for id in 0..self.entries.len() as u32 {
            let entry = &mut self.entries[id as usize];
            if entry.used().iter().any(&touched) {
                entry.log = self.log.push(id, true) as u32;
                entry.in_log = true;
            }
        }
    }

    /// Records a change of every prefix, for a follower that knows none.
    pub(crate) fn record_all(&mut self) {
        for id in 0..self.entries.len() as u32 {
            let entry = &mut self.entries[id as usize];
            if entry.used > 0 {
                entry.log = self.log.push(id, true) as u32;
                entry.in_log = true;
            }
        }
    }

    /// Whether the log holds so many outdated positions that [`Table::compact`] pays.
    pub(crate) fn bloated(&self) -> bool {
        self.log.len() > 2 * self.entries.len() + 4096
    }

    pub(crate) fn compact(&mut self, followers: &mut [&mut u64]) {
        let Self { log, entries, .. } = self;
        let latest: Vec<u64> = {
            let mut latest = Vec::with_capacity(log.len());
            for position in log.start()..log.end() {
                let id = log.at(position);
                if id.is_some_and(|(id, _)| entries[id as usize].changed_at(position)) {
                    latest.push(position);
                }
            }
            latest
        };
        let keep = |position: u64| latest.binary_search(&position).is_ok();
        let moved = |id: u32, position: u64| entries[id as usize].log = position as u32;
        log.compact(keep, moved, followers);
    }
}

/// Sorts paths so that those in use come first; how many they are.
fn order(paths: &mut [Path], context: &Context) -> u8 {
    let Some(decision) = decide(paths, context) else {
        paths.sort_unstable_by_key(|path| (path.peer, path.id));
        return 0;
    };
    let best = (paths[decision.best].peer, paths[decision.best].id);
    let mut equal: Vec<_> = decision
        .equal
        .iter()
        .map(|&at| (paths[at].peer, paths[at].id))
        .collect();
    equal.sort_unstable();
    let rank = |path: &Path| {
        let key = (path.peer, path.id);
        let class = if key == best {
            0
        } else {
            2 - u8::from(equal.binary_search(&key).is_ok())
        };
        (class, key)
    };
    paths.sort_unstable_by_key(rank);
    (equal.len() as u8).min(context.max_paths).max(1)
}
