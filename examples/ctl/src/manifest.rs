//! Manifests: Calico v3 and Kubernetes objects in YAML or JSON files, one or many, also as `kind: List`.

use ocicat_datastore::{Key, Object, Op, Revision, Store, StoreError, validate};

use crate::document::{self, Document, Fault};
use crate::native::native;
use crate::unknown;

/// An object of a file, with the lines that it came from.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The object, without a revision.
    pub object: Object,
    document: Document,
}

/// An object that was written or deleted, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Which object.
    pub key: Key,
    /// The revision of the write, or of the deletion.
    pub revision: Revision,
}

/// Reads and checks every object of a file, those in lists too; they are in the form that a store without Kubernetes keeps ([`native`]).
///
/// # Errors
/// The first [`Fault`]: a syntax error, an unknown kind, a missing name, a field that its kind does not have.
pub fn read(file: &str, text: &str) -> Result<Vec<Manifest>, Fault> {
    let mut manifests = read_plain(file, text)?;
    manifests.iter_mut().try_for_each(Manifest::convert)?;
    Ok(manifests)
}

/// As [`read`], with Kubernetes' own kinds as they are written: for the Kubernetes API.
///
/// # Errors
/// As [`read`].
pub fn read_plain(file: &str, text: &str) -> Result<Vec<Manifest>, Fault> {
    let contents = contents(file, text);
    match contents.faults.into_iter().chain(contents.unknown).next() {
        Some(fault) => Err(fault),
        None => Ok(contents.manifests),
    }
}

/// What is in a file.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The objects in which nothing is wrong but fields that their kinds do not have.
    pub manifests: Vec<Manifest>,
    /// All that is wrong otherwise.
    pub faults: Vec<Fault>,
    /// Fields that their kinds do not have.
    pub unknown: Vec<Fault>,
}

/// Reads and checks every object of a file and goes on after what is wrong; Kubernetes' own kinds are as they are written.
#[must_use]
pub fn contents(file: &str, text: &str) -> Contents {
    let mut contents = Contents::default();
    match document::parse(file, text) {
        Ok(documents) => documents.into_iter().for_each(|one| contents.add(one)),
        Err(fault) => contents.faults.push(fault),
    }
    contents
}

impl Contents {
    fn add(&mut self, document: Document) {
        let list = document
            .text("kind")
            .is_some_and(|kind| kind.ends_with("List"));
        if let (true, Some(items)) = (list, document.elements("items")) {
            return items.into_iter().for_each(|item| self.add(item));
        }
        let object = match Object::from_value(document.to_json()) {
            Ok(object) => object,
            Err(_) if is_old(&document) => {
                let text = "an object of Calico 2; `calicoctl convert` of Calico 3 makes projectcalico.org/v3 of it";
                return self.faults.push(document.fault("apiVersion", text));
            }
            Err(error) => return self.faults.push(located(&document, &error)),
        };
        let unknown = unknown::fields(object.kind, &object.value);
        self.unknown.extend(
            unknown
                .iter()
                .map(|one| document.fault(&one.field, &one.message)),
        );
        let problems = validate::object(&object);
        let faults = problems
            .iter()
            .map(|problem| document.fault(&problem.field, &problem.reason));
        self.faults.extend(faults);
        if problems.is_empty() {
            self.manifests.push(Manifest { object, document });
        }
    }
}

/// The kinds of Calico's first API, `apiVersion: v1`.
const OLD: [&str; 8] = [
    "bgpPeer",
    "hostEndpoint",
    "ipPool",
    "node",
    "policy",
    "profile",
    "tier",
    "workloadEndpoint",
];

fn is_old(document: &Document) -> bool {
    document.text("apiVersion") == Some("v1")
        && document
            .text("kind")
            .is_some_and(|kind| OLD.contains(&kind))
}

/// A store's complaint about an object, at the line of the field that it names.
fn located(document: &Document, error: &StoreError) -> Fault {
    match error {
        StoreError::Invalid { field, reason, .. } | StoreError::Malformed { field, reason, .. } => {
            document.fault(field, reason)
        }
        other => document.fault("", other),
    }
}

impl Manifest {
    /// An object of a store, with its key in the place of a file's name.
    ///
    /// # Errors
    /// None in practice: the object is JSON.
    pub fn stored(object: Object) -> Result<Self, Fault> {
        let name = object.key().to_string();
        let document = document::parse(&name, &object.value.to_string())?.pop();
        let document = document.ok_or_else(|| Fault::of_file(&name, "is empty"))?;
        Ok(Self { object, document })
    }

    /// Puts the object into the form that a store without Kubernetes keeps ([`native`]).
    ///
    /// # Errors
    /// A [`Fault`] at the field that has no such form.
    pub fn convert(&mut self) -> Result<(), Fault> {
        let converted = native(&self.object).map_err(|error| self.located(&error))?;
        self.object = converted;
        Ok(())
    }

    /// The namespace of an object that states none, where its kind has namespaces.
    pub fn default_namespace(&mut self, namespace: &str) {
        if self.object.kind.is_namespaced() && !self.document.has("metadata.namespace") {
            self.object.namespace = Some(namespace.to_owned());
            if let Some(metadata) = self.object.value.get_mut("metadata") {
                metadata["namespace"] = namespace.into();
            }
        }
    }

    /// What is wrong with the object at `field`.
    #[must_use]
    pub fn fault(&self, field: &str, message: impl std::fmt::Display) -> Fault {
        self.document.fault(field, message)
    }

    /// A store's complaint about this object, with its place in the file.
    #[must_use]
    pub fn located(&self, error: &StoreError) -> Fault {
        located(&self.document, error)
    }
}

/// Why manifests could not be written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The store refused one, or it is not valid.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates or replaces the objects, in order; the answer says at which revisions.
///
/// # Errors
/// The first object that the store refuses; those before it have been written.
///
/// # Cancel safety
/// A call that is dropped may have written some of them.
pub async fn apply(store: &Store, manifests: &[Manifest]) -> Result<Vec<Written>, WriteError> {
    let ops = manifests
        .iter()
        .map(|manifest| Op::Put(manifest.object.clone()))
        .collect();
    let mut written = Vec::with_capacity(manifests.len());
    for (outcome, manifest) in store.backend().write(ops).await.into_iter().zip(manifests) {
        let object = outcome.map_err(|error| refused(manifest, error))?;
        written.push(Written {
            key: object.key(),
            revision: object.revision,
        });
    }
    Ok(written)
}

/// Deletes the objects that the manifests name; one that is not there is no error.
///
/// # Errors
/// The first object that the store does not delete; those before it are gone.
///
/// # Cancel safety
/// A call that is dropped may have deleted some of them.
pub async fn delete(store: &Store, manifests: &[Manifest]) -> Result<Vec<Written>, WriteError> {
    let ops = manifests
        .iter()
        .map(|manifest| Op::Delete {
            key: manifest.object.key(),
            revision: None,
        })
        .collect();
    let mut written = Vec::with_capacity(manifests.len());
    for (outcome, manifest) in store.backend().write(ops).await.into_iter().zip(manifests) {
        match outcome {
            Ok(object) => written.push(Written {
                key: object.key(),
                revision: object.revision,
            }),
            Err(StoreError::Missing { .. }) => {}
            Err(error) => return Err(refused(manifest, error)),
        }
    }
    Ok(written)
}

fn refused(manifest: &Manifest, error: StoreError) -> WriteError {
    match error {
        StoreError::Invalid { .. } | StoreError::Malformed { .. } => {
            manifest.located(&error).into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_documents_become_objects_with_their_lines() {
        let text = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: a}
---
apiVersion: v1
kind: List
items:
- apiVersion: projectcalico.org/v3
  kind: NetworkPolicy
  metadata: {name: b, namespace: shop}
  spec:
    selector: all()
";
        let manifests = read("p.yaml", text).expect("well formed");
        let keys: Vec<String> = manifests
            .iter()
            .map(|manifest| manifest.object.key().to_string())
            .collect();
        assert_eq!(keys.len(), 2);
        assert!(
            keys[1].contains("shop") && keys[1].contains('b'),
            "{keys:?}"
        );
        assert_eq!(
            manifests[1].fault("spec.selector", "bad").to_string(),
            "p.yaml:12: spec.selector: bad"
        );
        for (from, to, expected) in [
            (
                "kind: NetworkPolicy",
                "kind: NetworkPolice",
                "p.yaml:9: kind: ",
            ),
            (
                "metadata: {name: a}",
                "metadata: {}",
                "p.yaml:3: metadata.name: is missing",
            ),
        ] {
            let fault = read("p.yaml", &text.replace(from, to))
                .expect_err(to)
                .to_string();
            assert!(fault.starts_with(expected), "{fault}");
        }
    }
}
