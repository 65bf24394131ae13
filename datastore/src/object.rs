//! Objects as a backend sees them.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use crate::error::StoreError;
use crate::model::{Kind, Resource, names};

/// When something was written: grows with every write. 0, the default, is before every write, or "none".
///
/// sqlite and etcd count the writes of the store; in Kubernetes it is the resource version. Revisions of one kind
/// can always be compared, those of different kinds in sqlite, etcd and memory.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Before every write, or "none".
    pub const NONE: Self = Self(0);
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What names an object.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; none in kinds of the entire cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of an object of the entire cluster.
    #[must_use]
    pub fn cluster(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: None,
            name: name.into(),
        }
    }

    /// The key of an object in a namespace.
    #[must_use]
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }
}

impl Key {
    /// Whether an object can have this key: a namespace where the kind has them and none where it has not, and a name, which
    /// for IPAM records is one that [`names`] makes (`default` for the configuration).
    ///
    /// # Errors
    /// [`StoreError::Invalid`] that names the field.
    pub fn check(&self) -> Result<(), StoreError> {
        let kind = self.kind;
        let name = match kind {
            Kind::IpamBlock => names::block_cidr(&self.name).is_some(),
            Kind::BlockAffinity => names::affinity_parts(&self.name).is_some(),
            Kind::IpamConfig => self.name == "default",
            _ => !self.name.is_empty(),
        };
        let (field, reason) = match (&self.namespace, kind.is_namespaced()) {
            (None, true) => ("metadata.namespace", format!("{kind} needs a namespace")),
            (Some(_), false) => ("metadata.namespace", format!("{kind} has no namespace")),
            _ if !name => (
                "metadata.name",
                format!("{:?} is no name of a {kind}", self.name),
            ),
            _ => return Ok(()),
        };
        Err(StoreError::Invalid {
            key: Some(self.clone()),
            field: field.to_owned(),
            reason,
        })
    }
}

/// `kind/name` or `kind/namespace/name`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

/// Which objects to list or watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Scope {
    /// Of this kind.
    pub kind: Kind,
    /// In this namespace; in all when none.
    pub namespace: Option<String>,
    /// With names that begin so; empty for all.
    pub name_prefix: String,
}

impl Scope {
    /// All objects of a kind.
    #[must_use]
    pub fn all(kind: Kind) -> Self {
        Self {
            kind,
            namespace: None,
            name_prefix: String::new(),
        }
    }

    /// All objects of a kind in a namespace.
    #[must_use]
    pub fn namespace(kind: Kind, namespace: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            ..Self::all(kind)
        }
    }

    /// Those of this scope whose names begin so.
    #[must_use]
    pub fn with_prefix(self, name_prefix: impl Into<String>) -> Self {
        Self {
            name_prefix: name_prefix.into(),
            ..self
        }
    }

    /// Whether the scope covers an object.
    #[must_use]
    pub fn covers(&self, key: &Key) -> bool {
        self.kind == key.kind
            && (self.namespace.is_none() || self.namespace == key.namespace)
            && key.name.starts_with(&self.name_prefix)
    }
}

/// An object of any kind: its key, its JSON and when it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; none in kinds of the entire cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its JSON as in Calico's v3 API or Kubernetes' own: `apiVersion`, `kind`, `metadata`, `spec`.
    ///
    /// `metadata.resourceVersion` is not in it; the revision stands for it.
    pub value: Value,
    /// When it was written last; [`Revision::NONE`] in one that was not read from a store.
    pub revision: Revision,
}

impl Object {
    /// The object of a JSON value with `apiVersion`, `kind` and `metadata.name`, as in a manifest.
    ///
    /// The names of IPAM records are made from their content, whatever `metadata.name` says.
    /// `metadata.resourceVersion` is taken as the revision where it is a number, and removed. Values of labels and
    /// annotations that YAML takes for bools or numbers become the texts that were meant.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] that names the field that is missing or wrong.
    pub fn from_value(mut value: Value) -> Result<Self, StoreError> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let missing = |field: &str| StoreError::Invalid {
            key: None,
            field: field.to_owned(),
            reason: "is missing".to_owned(),
        };
        let api_version = text("/apiVersion").ok_or_else(|| missing("apiVersion"))?;
        let kind = text("/kind").ok_or_else(|| missing("kind"))?;
        let kind = Kind::from_api(api_version, kind).map_err(|unknown| StoreError::Invalid {
            key: None,
            field: "kind".to_owned(),
            reason: unknown.to_string(),
        })?;
        let name = match names::derived(kind, &value) {
            Some(name) => name,
            None => text("/metadata/name")
                .ok_or_else(|| missing("metadata.name"))?
                .to_owned(),
        };
        let namespace = match text("/metadata/namespace") {
            Some(namespace) if kind.is_namespaced() => Some(namespace.to_owned()),
            None if kind.is_namespaced() => Some("default".to_owned()),
            _ => None,
        };
        let revision = take_version(&mut value);
        for field in ["/metadata/labels", "/metadata/annotations"] {
            if let Some(Value::Object(texts)) = value.pointer_mut(field) {
                texts.values_mut().for_each(as_text);
            }
        }
        let mut object = Self {
            kind,
            namespace,
            name,
            value,
            revision,
        };
        object.stamp();
        Ok(object)
    }

    /// The object of a typed resource, with no revision.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the resource cannot be written as JSON (a number that is not finite).
    pub fn encode<R: Resource>(resource: &R) -> Result<Self, StoreError> {
        let metadata = resource.metadata();
        let key = Key {
            kind: R::KIND,
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        };
        let value = serde_json::to_value(resource).map_err(|error| StoreError::Malformed {
            key: key.clone(),
            field: String::new(),
            reason: error.to_string(),
        })?;
        let Key {
            kind,
            namespace,
            name,
        } = key;
        let mut object = Self {
            kind,
            namespace,
            name,
            value,
            revision: Revision::NONE,
        };
        take_version(&mut object.value);
        object.stamp();
        Ok(object)
    }

    /// The object as a typed resource. Members that are null count as absent.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] with the path of the field that cannot be read.
    pub fn decode<R: Resource>(&self) -> Result<R, StoreError> {
        let value = without_nulls(&self.value);
        let mut resource = match R::deserialize(&*value) {
            Ok(resource) => resource,
            // Once more with a look at where it is, which costs several times as much.
            Err(_) => serde_path_to_error::deserialize(&*value).map_err(|error| {
                let field = error.path().to_string();
                StoreError::Malformed {
                    key: self.key(),
                    field,
                    reason: error.into_inner().to_string(),
                }
            })?,
        };
        let metadata = resource.metadata_mut();
        metadata.name.clone_from(&self.name);
        metadata.namespace.clone_from(&self.namespace);
        Ok(resource)
    }

    /// What names the object.
    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// Writes kind, name and namespace into the JSON, so that it says the same as the key.
    pub(crate) fn stamp(&mut self) {
        if !self.value.is_object() {
            self.value = Value::Object(Map::new());
        }
        let Value::Object(members) = &mut self.value else {
            return;
        };
        members.insert("apiVersion".to_owned(), self.kind.api_version().into());
        members.insert("kind".to_owned(), self.kind.name().into());
        let metadata = members
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()));
        if !metadata.is_object() {
            *metadata = Value::Object(Map::new());
        }
        let Value::Object(metadata) = metadata else {
            return;
        };
        metadata.insert("name".to_owned(), self.name.clone().into());
        match &self.namespace {
            Some(namespace) => metadata.insert("namespace".to_owned(), namespace.clone().into()),
            None => metadata.remove("namespace"),
        };
    }
}

fn as_text(value: &mut Value) {
    if matches!(value, Value::Bool(_) | Value::Number(_)) {
        *value = Value::String(value.to_string());
    }
}

/// Removes `metadata.resourceVersion`; the revision that it is, or none.
pub(crate) fn take_version(value: &mut Value) -> Revision {
    let version = value
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .and_then(|metadata| metadata.remove("resourceVersion"));
    let number = version
        .as_ref()
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    number.map_or(Revision::NONE, Revision)
}

/// The value without members that are null (not elements of lists), which mean the same as absent ones.
fn without_nulls(value: &Value) -> Cow<'_, Value> {
    fn any(value: &Value) -> bool {
        match value {
            Value::Object(members) => members
                .values()
                .any(|member| member.is_null() || any(member)),
            Value::Array(elements) => elements.iter().any(any),
            _ => false,
        }
    }
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|_, member| !member.is_null());
                members.values_mut().for_each(strip);
            }
            Value::Array(elements) => elements.iter_mut().for_each(strip),
            _ => {}
        }
    }
    if !any(value) {
        return Cow::Borrowed(value);
    }
    let mut value = value.clone();
    strip(&mut value);
    Cow::Owned(value)
}
