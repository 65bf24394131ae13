//! Which objects were told of, kept small: there may be hundreds of thousands.

use std::collections::HashMap;

use crate::model::Kind;
use crate::object::{Key, Object, Revision};

/// The objects of one kind that were told of, with their revisions, and which of them a listing under way has had.
#[derive(Debug)]
pub(super) struct Known {
    kind: Kind,
    objects: HashMap<Box<str>, Seen>,
    /// Which listing this is: those that were seen in it have its number.
    round: u32,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    revision: Revision,
    round: u32,
}

impl Known {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            objects: HashMap::new(),
            round: 1,
        }
    }

    /// The listing under way has this object; true when this version of it was not told of.
    pub(super) fn saw(&mut self, object: &Object) -> bool {
        let name = text(object.namespace.as_deref(), &object.name);
        let seen = Seen {
            revision: object.revision,
            round: self.round,
        };
        let old = self.objects.insert(name.into(), seen);
        old.is_none_or(|old| old.revision != object.revision)
    }

    /// The listing is complete: the objects that it had not, which are forgotten.
    pub(super) fn take_unseen(&mut self) -> Vec<Key> {
        let round = self.round;
        self.round = round.wrapping_add(1);
        let gone = self.objects.extract_if(|_, seen| seen.round != round);
        let gone: Vec<Box<str>> = gone.map(|(name, _)| name).collect();
        gone.iter().map(|name| self.key(name)).collect()
    }

    /// The listing will not be complete.
    pub(super) const fn give_up(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// An object was told of.
    pub(super) fn put(&mut self, object: &Object) {
        self.saw(object);
    }

    /// An object is gone; true when it was told of.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let name = text(key.namespace.as_deref(), &key.name);
        self.objects.remove(name.as_str()).is_some()
    }

    fn key(&self, text: &str) -> Key {
        let (namespace, name) = text.split_once('/').unwrap_or(("", text));
        Key {
            kind: self.kind,
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: name.to_owned(),
        }
    }
}

/// Namespace and name as one text: no slash is in a namespace.
fn text(namespace: Option<&str>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}
