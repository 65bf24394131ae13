//! What an API server stores, and how it came to be.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::resource::{self, Resource};

/// A resource, a namespace (empty in resources of the cluster) and a name.
pub(super) type Id = (String, String, String);

/// An object as it is stored, and as it is sent.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) value: Value,
    pub(super) text: String,
}

impl Stored {
    pub(super) fn new(value: Value) -> Arc<Self> {
        let text = value.to_string();
        Arc::new(Self { value, text })
    }

    pub(super) fn revision(&self) -> u64 {
        let text = self.value["metadata"]["resourceVersion"].as_str();
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// One write.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) revision: u64,
    pub(super) id: Id,
    /// As it was before; none when it was made.
    pub(super) before: Option<Arc<Stored>>,
    /// As it is since; for a deletion as it was, with the revision of the deletion.
    pub(super) after: Arc<Stored>,
    pub(super) deleted: bool,
}

/// Everything that is stored.
#[derive(Debug)]
pub(super) struct State {
    pub(super) revision: u64,
    resources: BTreeMap<(String, String, String), Arc<Resource>>,
    objects: BTreeMap<Id, Arc<Stored>>,
    history: VecDeque<Entry>,
    /// `history` has everything after this.
    pub(super) floor: u64,
}

impl State {
    pub(super) fn new() -> Self {
        let mut state = Self {
            // A real one begins with what it makes for itself.
            revision: 1,
            resources: BTreeMap::new(),
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            floor: 1,
        };
        resource::built_in()
            .into_iter()
            .for_each(|one| state.define(one));
        state
    }

    pub(super) fn define(&mut self, resource: Resource) {
        let key = (
            resource.group.clone(),
            resource.version.clone(),
            resource.plural.clone(),
        );
        self.resources.insert(key, Arc::new(resource));
    }

    /// Forgets the resources of a definition, and their objects.
    pub(super) fn undefine(&mut self, definition: &Value) {
        for gone in Resource::of_definition(definition) {
            let key = (
                gone.group.clone(),
                gone.version.clone(),
                gone.plural.clone(),
            );
            self.resources.remove(&key);
            let title = gone.title();
            self.objects
                .retain(|(resource, _, _), _| *resource != title);
        }
    }

    pub(super) fn resource(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<Arc<Resource>> {
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.resources.get(&key).cloned()
    }

    pub(super) fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Arc<Stored>> {
        self.objects.get(id)
    }

    /// All objects of a resource, by namespace and name.
    pub(super) fn all(&self, resource: &str) -> BTreeMap<Id, Arc<Stored>> {
        let first = (resource.to_owned(), String::new(), String::new());
        let objects = self.objects.range(first..);
        objects
            .take_while(|((of, _, _), _)| of == resource)
            .map(|(id, stored)| (id.clone(), Arc::clone(stored)))
            .collect()
    }

    /// All objects of a resource as they were; `None` when that has been forgotten.
    pub(super) fn all_at(
        &self,
        resource: &str,
        revision: u64,
    ) -> Option<BTreeMap<Id, Arc<Stored>>> {
        if revision < self.floor {
            return None;
        }
        let mut objects = self.all(resource);
        let later = self
            .history
            .iter()
            .rev()
            .take_while(|entry| entry.revision > revision);
        for entry in later.filter(|entry| entry.id.0 == resource) {
            match &entry.before {
                Some(before) => objects.insert(entry.id.clone(), Arc::clone(before)),
                None => objects.remove(&entry.id),
            };
        }
        Some(objects)
    }

    /// Writes an object, which gets the next revision.
    pub(super) fn put(&mut self, id: Id, mut value: Value) -> Arc<Stored> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let stored = Stored::new(value);
        let before = self.objects.insert(id.clone(), Arc::clone(&stored));
        self.history.push_back(Entry {
            revision: self.revision,
            id,
            before,
            after: Arc::clone(&stored),
            deleted: false,
        });
        stored
    }

    /// Removes an object; as it was, with the revision of its deletion.
    pub(super) fn remove(&mut self, id: &Id) -> Option<Arc<Stored>> {
        let before = self.objects.remove(id)?;
        self.revision += 1;
        let mut value = before.value.clone();
        value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let gone = Stored::new(value);
        self.history.push_back(Entry {
            revision: self.revision,
            id: id.clone(),
            before: Some(before),
            after: Arc::clone(&gone),
            deleted: true,
        });
        Some(gone)
    }

    /// What was written after a revision, oldest first; `None` when some of it has been forgotten.
    pub(super) fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Entry>> {
        if revision < self.floor {
            return None;
        }
        let begin = self
            .history
            .partition_point(|entry| entry.revision <= revision);
        Some(self.history.range(begin..))
    }

    /// Forgets the history up to now.
    pub(super) fn compact(&mut self) {
        self.history.clear();
        self.floor = self.revision;
    }

    /// Forgets the oldest history until `count` writes are left.
    pub(super) fn trim(&mut self, count: usize) {
        while self.history.len() > count {
            if let Some(entry) = self.history.pop_front() {
                self.floor = entry.revision;
            }
        }
    }
}
