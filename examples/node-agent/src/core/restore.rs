//! Beginning without a datastore, and what is kept on disk for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ocicat_datastore::model::Kind;
use ocicat_datastore::{Key, Object, Revision};
use tokio::time::Instant;

use super::Core;
use crate::snapshot::{self, Snapshot, Texts};

/// How long the datastore is waited for before the snapshot is taken instead. Peers keep a restarting node's routes
/// for two minutes at most, and some for less.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long changes are gathered before a snapshot is published.
const GATHER: Duration = Duration::from_secs(1);

/// What the last run left on disk, and what this one will leave.
#[derive(Debug, Default)]
pub(crate) struct Restore {
    /// The last run's, until it was used or the datastore was faster.
    snapshot: Option<Snapshot>,
    /// Until when the datastore is waited for.
    until: Option<Instant>,
    in_force: bool,
    /// Objects of the snapshot that the datastore has not confirmed yet.
    leftover: BTreeSet<Key>,
    /// What the next snapshot will have.
    texts: Texts,
    dirty: Option<Instant>,
}

impl Restore {
    /// With the last run's snapshot, if there is one.
    pub(crate) fn new(snapshot: Option<Snapshot>) -> Self {
        Self {
            until: snapshot.is_some().then(|| Instant::now() + PATIENCE),
            snapshot,
            ..Self::default()
        }
    }

    /// Whether the agent lives by the snapshot, or has begun so.
    pub(super) const fn in_force(&self) -> bool {
        self.in_force
    }

    /// When something is to be done next.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.until, self.dirty].into_iter().flatten().min()
    }

    /// Whether the datastore has been waited for long enough.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Notes an object for the next snapshot.
    pub(super) fn put(&mut self, node: &str, object: &Object) {
        let key = object.key();
        self.leftover.remove(&key);
        if snapshot::belongs(node, object) {
            let text = Arc::from(object.value.to_string());
            self.texts.insert(key, (object.revision, text));
            self.soil();
        } else if self.texts.remove(&key).is_some() {
            self.soil();
        }
    }

    /// Takes an object out of the next snapshot.
    pub(super) fn delete(&mut self, key: &Key) {
        self.leftover.remove(key);
        if self.texts.remove(key).is_some() {
            self.soil();
        }
    }

    /// The objects, as people can read them.
    pub(super) fn values(&self) -> Vec<serde_json::Value> {
        let texts = self.texts.values();
        texts
            .filter_map(|(_, text)| serde_json::from_str(text).ok())
            .collect()
    }

    fn soil(&mut self) {
        if self.dirty.is_none() {
            self.dirty = Some(Instant::now() + GATHER);
        }
    }

    /// The objects of a kind that the snapshot had and a listing of the datastore has not.
    pub(super) fn take_leftovers(&mut self, kind: Kind) -> Vec<Key> {
        let (gone, left) = std::mem::take(&mut self.leftover)
            .into_iter()
            .partition(|key| key.kind == kind);
        self.leftover = left;
        let gone: BTreeSet<Key> = gone;
        gone.into_iter().collect()
    }
}

impl Core {
    /// The datastore does not answer: what the last run knew is in force, where it was not told otherwise meanwhile.
    /// Nothing is removed from the kernel before the datastore has told everything.
    pub(super) fn restore_from_disk(&mut self) {
        self.restore.until = None;
        let Some(snapshot) = self.restore.snapshot.take().filter(|_| !self.in_sync()) else {
            return;
        };
        let mut taken = BTreeSet::new();
        for mut object in snapshot.objects() {
            let key = object.key();
            if self.listed.contains(&object.kind) || self.restore.texts.contains_key(&key) {
                continue;
            }
            // Whatever the datastore has is news.
            object.revision = Revision::NONE;
            self.put(&object);
            taken.insert(key);
        }
        tracing::warn!(
            objects = taken.len(),
            locked = self.world.locked,
            "the datastore does not answer, or not for this node: the agent goes on from its snapshot"
        );
        self.ports
            .events
            .publish("restored", &[("objects", &taken.len())]);
        self.restore.leftover = taken;
        self.restore.in_force = true;
        if self.secrets.is_empty() {
            self.secrets = Arc::new(snapshot.secrets);
        }
    }

    /// Publishes a snapshot when something changed a while ago.
    pub(super) fn publish_snapshot_when_due(&mut self) {
        if self.restore.dirty.is_some_and(|at| at <= Instant::now()) {
            self.publish_snapshot();
        }
    }

    /// Publishes what is known now, once all of it is.
    pub(super) fn publish_snapshot(&mut self) {
        if self.restore.dirty.take().is_none() || !self.in_sync() {
            return;
        }
        let snapshot = Snapshot {
            node: self.fixed.node.clone(),
            objects: self.restore.texts.clone(),
            secrets: (*self.secrets).clone(),
        };
        let _ = self.ports.snapshots.send(Some(Arc::new(snapshot)));
    }
}
