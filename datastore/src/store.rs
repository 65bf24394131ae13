//! The typed handle over any backend.

mod merge;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::backend::{Backend, Op};
use crate::error::StoreError;
use crate::model::{Kind, Resource};
use crate::object::{Key, Object, Revision, Scope};

/// How often a change is tried again when others write the same object.
const TRIES: usize = 100;

/// A typed handle over any [`Backend`]; cheap to clone.
///
/// A change is merged into the JSON that was read: fields that the Rust types do not know stay, at any depth.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// The name of an object: `"default"`, or `("namespace", "name")`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The namespace; none in kinds of the entire cluster.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl Name {
    fn key(self, kind: Kind) -> Key {
        Key {
            kind,
            namespace: self.namespace,
            name: self.name,
        }
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self {
            namespace: None,
            name: name.to_owned(),
        }
    }
}

impl From<&String> for Name {
    fn from(name: &String) -> Self {
        Self {
            namespace: None,
            name: name.clone(),
        }
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self {
            namespace: None,
            name,
        }
    }
}

impl<N: Into<String>, M: Into<String>> From<(N, M)> for Name {
    fn from((namespace, name): (N, M)) -> Self {
        Self {
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }
}

impl From<Key> for Name {
    fn from(key: Key) -> Self {
        Self {
            namespace: key.namespace,
            name: key.name,
        }
    }
}

/// A resource as it was read, with what is needed to write it back.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<R> {
    /// The resource, to be changed and given to [`Store::update`].
    pub value: R,
    /// When it was written last.
    pub revision: Revision,
    raw: Object,
}

impl<R: Resource> Versioned<R> {
    /// Reads an object.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] with the path of the field that cannot be read.
    pub fn decode(object: Object) -> Result<Self, StoreError> {
        Ok(Self {
            value: object.decode()?,
            revision: object.revision,
            raw: object,
        })
    }

    /// The object as it was read.
    #[must_use]
    pub const fn raw(&self) -> &Object {
        &self.raw
    }

    /// The object with the changes that were made to [`Versioned::value`], and with every field of the object that was
    /// read which the Rust type does not know.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the value cannot be written as JSON.
    pub fn merged(&self) -> Result<Object, StoreError> {
        let before = Object::encode(&self.raw.decode::<R>()?)?;
        let after = Object::encode(&self.value)?;
        let mut merged = self.raw.clone();
        merge::merge(&mut merged.value, &before.value, &after.value);
        merged.stamp();
        Ok(merged)
    }
}

impl<R> Deref for Versioned<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.value
    }
}

impl<R> DerefMut for Versioned<R> {
    fn deref_mut(&mut self) -> &mut R {
        &mut self.value
    }
}

/// All resources of a scope at one moment; dereferences to those that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<R> {
    /// The resources, sorted by namespace and name.
    pub items: Vec<Versioned<R>>,
    /// Why others could not be read.
    pub malformed: Vec<StoreError>,
    /// When this was so.
    pub revision: Revision,
}

impl<R> Deref for Listed<R> {
    type Target = [Versioned<R>];

    fn deref(&self) -> &[Versioned<R>] {
        &self.items
    }
}

impl<R> IntoIterator for Listed<R> {
    type Item = Versioned<R>;
    type IntoIter = std::vec::IntoIter<Versioned<R>>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a, R> IntoIterator for &'a Listed<R> {
    type Item = &'a Versioned<R>;
    type IntoIter = std::slice::Iter<'a, Versioned<R>>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl Store {
    /// A typed handle over a backend.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Reads a resource; `None` when it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when it cannot be read, and those of [`Backend::get`].
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn get<R: Resource>(
        &self,
        name: impl Into<Name>,
    ) -> Result<Option<Versioned<R>>, StoreError> {
        let key = name.into().key(R::KIND);
        self.backend
            .get(&key)
            .await?
            .map(Versioned::decode)
            .transpose()
    }

    /// Reads all resources of a kind. One that cannot be read does not hide the others.
    ///
    /// # Errors
    /// Those of [`Backend::list`].
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn list<R: Resource>(&self) -> Result<Listed<R>, StoreError> {
        self.list_scope(&Scope::all(R::KIND)).await
    }

    /// Reads all resources of a kind in a namespace. One that cannot be read does not hide the others.
    ///
    /// # Errors
    /// Those of [`Backend::list`].
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn list_in<R: Resource>(&self, namespace: &str) -> Result<Listed<R>, StoreError> {
        self.list_scope(&Scope::namespace(R::KIND, namespace)).await
    }

    /// Reads all resources of a scope, whose kind must be the resource's.
    ///
    /// # Errors
    /// Those of [`Backend::list`].
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn list_scope<R: Resource>(&self, scope: &Scope) -> Result<Listed<R>, StoreError> {
        let listing = self.backend.list(scope).await?;
        let mut listed = Listed {
            items: Vec::new(),
            malformed: Vec::new(),
            revision: listing.revision,
        };
        for object in listing.objects {
            match Versioned::decode(object) {
                Ok(item) => listed.items.push(item),
                Err(error) => listed.malformed.push(error),
            }
        }
        Ok(listed)
    }

    /// Makes a resource that must not exist.
    ///
    /// # Errors
    /// [`StoreError::Exists`], and what the backend cannot do.
    ///
    /// # Cancel safety
    /// A call that is dropped may have written or not.
    pub async fn create<R: Resource>(&self, resource: R) -> Result<Versioned<R>, StoreError> {
        self.write(Op::Create(Object::encode(&resource)?)).await
    }

    /// Writes a resource that was read and changed; it must not have been written since.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::Missing`], and what the backend cannot do.
    ///
    /// # Cancel safety
    /// A call that is dropped may have written or not.
    pub async fn update<R: Resource>(
        &self,
        resource: Versioned<R>,
    ) -> Result<Versioned<R>, StoreError> {
        let mut object = resource.merged()?;
        object.revision = resource.revision;
        self.write(Op::Update(object)).await
    }

    /// Creates or replaces a resource, whatever is there: the last writer wins, unknown fields of what was there go.
    ///
    /// # Errors
    /// What the backend cannot do.
    ///
    /// # Cancel safety
    /// A call that is dropped may have written or not.
    pub async fn put<R: Resource>(&self, resource: R) -> Result<Versioned<R>, StoreError> {
        self.write(Op::Put(Object::encode(&resource)?)).await
    }

    /// Deletes a resource, of this revision when one is given. The answer is the revision of the deletion.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Conflict`], and what the backend cannot do.
    ///
    /// # Cancel safety
    /// A call that is dropped may have deleted or not.
    pub async fn delete<R: Resource>(
        &self,
        name: impl Into<Name>,
        revision: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        let key = name.into().key(R::KIND);
        Ok(self.write_one(Op::Delete { key, revision }).await?.revision)
    }

    /// Reads a resource, changes it and writes it, again when somebody else was faster (100 times at most).
    ///
    /// Nothing is written when nothing changed.
    ///
    /// # Errors
    /// [`StoreError::Missing`], the last [`StoreError::Conflict`], and what the backend cannot do.
    ///
    /// # Cancel safety
    /// A call that is dropped may have written or not.
    pub async fn modify<R: Resource>(
        &self,
        name: impl Into<Name>,
        mut change: impl FnMut(&mut R),
    ) -> Result<Versioned<R>, StoreError> {
        let key = name.into().key(R::KIND);
        let mut tries = 0;
        loop {
            let found = self.backend.get(&key).await?;
            let object = found.ok_or_else(|| StoreError::Missing { key: key.clone() })?;
            let mut current = Versioned::<R>::decode(object)?;
            change(&mut current.value);
            let merged = current.merged()?;
            if merged.value == current.raw.value {
                return Ok(current);
            }
            tries += 1;
            match self.write(Op::Update(merged)).await {
                Err(StoreError::Conflict { .. }) if tries < TRIES => {}
                answer => return answer,
            }
        }
    }

    async fn write<R: Resource>(&self, op: Op) -> Result<Versioned<R>, StoreError> {
        Versioned::decode(self.write_one(op).await?)
    }

    async fn write_one(&self, op: Op) -> Result<Object, StoreError> {
        let answer = self.backend.write(vec![op]).await.pop();
        answer.unwrap_or_else(|| {
            Err(StoreError::Unavailable {
                reason: "the backend gave no answer".to_owned(),
            })
        })
    }
}
