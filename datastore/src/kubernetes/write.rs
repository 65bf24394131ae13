//! Writing.

use http::Method;
use serde_json::{Value, json};

use super::connection::{Call, escaped};
use super::list::Moment;
use super::place::{Form, Found, Place};
use super::{Api, Stored, asked, custom, json, node, pod, records, version, watch};
use crate::backend::Op;
use crate::error::StoreError;
use crate::object::{Key, Object, Revision};

/// How often a write without a condition is tried again when somebody else was faster.
const TRIES: usize = 20;

/// Accepted for merge patches.
const MERGE_PATCH: &str = "application/merge-patch+json";

impl Api {
    pub(super) async fn operate(&self, op: Op) -> Result<Object, StoreError> {
        let key = op.key();
        key.check()?;
        let Some((place, stored)) = self.place(&key).await? else {
            return Err(StoreError::Unsupported {
                key,
                reason: "no pod, namespace or service account has such an object in Kubernetes"
                    .to_owned(),
            });
        };
        match (place.form, op) {
            (Form::Custom | Form::Record | Form::Plain, Op::Create(object)) => {
                self.create(&place, &key, &stored, &object).await
            }
            (Form::Custom | Form::Record | Form::Plain, Op::Update(object)) => {
                if object.revision == Revision::NONE {
                    return Err(self.refusal(&place, &key, &stored, Revision::NONE).await);
                }
                self.replace(&place, &key, &stored, &object).await
            }
            (Form::Custom | Form::Record | Form::Plain, Op::Put(object)) => {
                self.put(&place, &key, &stored, object).await
            }
            (Form::Record, Op::Delete { revision, .. }) => {
                self.delete_record(&place, &key, &stored, revision).await
            }
            (Form::Custom | Form::Plain, Op::Delete { revision, .. }) => {
                self.delete(&place, &key, &stored, revision).await
            }
            (Form::Endpoint | Form::Host, op) => self.annotate(&place, &key, &stored, op).await,
            (Form::NamespaceProfile | Form::AccountProfile, _) => {
                Err(place.unsupported(key, "change that"))
            }
        }
    }

    /// Sends what is to be stored; what is stored now.
    async fn send(
        &self,
        verb: &'static str,
        call: Call,
        place: &Place,
        key: &Key,
        expected: Revision,
    ) -> Result<Value, StoreError> {
        let mut asked = asked(verb, place, Some(key));
        asked.revision = expected;
        match self.connection.call(&call).await? {
            Ok(body) => json(place, key, &body),
            Err(status) => Err(asked.refused(&status)),
        }
    }

    async fn create(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
        object: &Object,
    ) -> Result<Object, StoreError> {
        let mut value = place.stored(object, &stored.1, Revision::NONE);
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            // The API server's to say.
            for field in [
                "uid",
                "creationTimestamp",
                "generation",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
            ] {
                metadata.remove(field);
            }
        }
        let post = || {
            let uri = place.collection(stored.0.as_deref());
            let call = Call::new(Method::POST, uri, value.to_string().into_bytes());
            self.send("create", call, place, key, Revision::NONE)
        };
        let mut made = post().await;
        if place.form == Form::Record && matches!(made, Err(StoreError::Exists { .. })) {
            // It may be what is left of one that was deleted.
            if let Some(left) = self.read(place, key, stored).await?
                && matches!(place.read(left.clone()), Found::Deleted(_))
            {
                self.remove(place, stored, &left).await;
                made = post().await;
            }
        }
        let made = self
            .with_status(place, key, stored, made?, &object.value)
            .await?;
        answer(place, key, made)
    }

    /// Replaces what has the object's revision.
    async fn replace(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
        object: &Object,
    ) -> Result<Object, StoreError> {
        let expected = object.revision;
        let mut value = place.stored(object, &stored.1, expected);
        let path = place.path(stored);
        let put = |value: &Value, path: &str| {
            let call = Call::new(Method::PUT, path.to_owned(), value.to_string().into_bytes());
            self.send("update", call, place, key, expected)
        };
        if place.kind == crate::model::Kind::KubeNode {
            // Who runs on a node may write its status and not the rest.
            let written = put(&value, &format!("{path}/status")).await?;
            return answer(place, key, written);
        }
        let written = put(&value, &path).await?;
        let mut written = self
            .with_status(place, key, stored, written, &object.value)
            .await?;
        if version(&written) == expected && place.form != Form::Plain {
            // Nothing changed, so nothing was written; who comes second must still lose.
            custom::touch(&mut value, &expected.to_string());
            written = put(&value, &path).await?;
        }
        answer(place, key, written)
    }

    /// Writes the status too, where it is written apart.
    async fn with_status(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
        written: Value,
        wanted: &Value,
    ) -> Result<Value, StoreError> {
        let status = match wanted.get("status") {
            Some(Value::Object(status)) if !status.is_empty() => Value::Object(status.clone()),
            _ => return Ok(written),
        };
        if written.get("status") == Some(&status) || place.form == Form::Record {
            return Ok(written);
        }
        let mut value = written.clone();
        if let Some(members) = value.as_object_mut() {
            members.insert("status".to_owned(), status);
        }
        let uri = format!("{}/status", place.path(stored));
        let call = Call::new(Method::PUT, uri, value.to_string().into_bytes());
        match self
            .send("update", call, place, key, version(&written))
            .await
        {
            // There is no status of its own.
            Err(StoreError::NoSuchKind { .. } | StoreError::Missing { .. }) => Ok(written),
            answer => answer,
        }
    }

    async fn put(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
        mut object: Object,
    ) -> Result<Object, StoreError> {
        let mut last = StoreError::Missing { key: key.clone() };
        for _ in 0..TRIES {
            let now = self.read(place, key, stored).await?;
            let gone = now
                .as_ref()
                .is_some_and(|now| matches!(place.read(now.clone()), Found::Deleted(_)));
            let answer = match now {
                Some(now) if !gone => {
                    object.revision = version(&now);
                    self.replace(place, key, stored, &object).await
                }
                _ => self.create(place, key, stored, &object).await,
            };
            match answer {
                Err(error)
                    if error.is_conflict() || matches!(error, StoreError::Missing { .. }) =>
                {
                    last = error
                }
                answer => return answer,
            }
        }
        Err(last)
    }

    /// Deletes in one step, if it is still what was read.
    async fn delete(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
        expected: Option<Revision>,
    ) -> Result<Object, StoreError> {
        for _ in 0..TRIES {
            // A listing, as it says what the time is.
            let (mut found, path) = (None, place.collection(stored.0.as_deref()));
            let query = format!(
                "&fieldSelector={}",
                escaped(&format!("metadata.name={}", stored.1))
            );
            let mut take = |value| found = Some(value);
            let now = self
                .pages(place, &path, &query, Moment::Now, &mut take)
                .await?;
            let Some(value) = found else {
                return Err(StoreError::Missing { key: key.clone() });
            };
            let seen = version(&value);
            if let Some(expected) = expected.filter(|expected| *expected != seen) {
                return Err(StoreError::Conflict {
                    key: key.clone(),
                    expected,
                });
            }
            match self.erase(place, key, stored, &value).await {
                Err(StoreError::Conflict { .. }) if expected.is_none() => {}
                Err(StoreError::Conflict { .. }) => {
                    return Err(StoreError::Conflict {
                        key: key.clone(),
                        expected: seen,
                    });
                }
                Err(error) => return Err(error),
                Ok(left) => {
                    // It stays for a while: somebody must agree first, or it has time to stop.
                    if left.pointer("/metadata/deletionTimestamp").is_some()
                        && (left.pointer("/metadata/finalizers").is_some()
                            || left
                                .pointer("/metadata/deletionGracePeriodSeconds")
                                .is_some_and(|grace| *grace != 0))
                    {
                        return answer(place, key, left);
                    }
                    let when = watch::deletion(self, &path, &query, now).await;
                    let mut gone = answer(place, key, value)?;
                    gone.revision = when.unwrap_or_else(|| Revision(now.0.max(seen.0) + 1));
                    return Ok(gone);
                }
            }
        }
        Err(StoreError::Conflict {
            key: key.clone(),
            expected: expected.unwrap_or_default(),
        })
    }

    /// Deletes what has this UID and version.
    async fn erase(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
        value: &Value,
    ) -> Result<Value, StoreError> {
        let metadata = value.get("metadata");
        let field = |name: &str| metadata.and_then(|metadata| metadata.get(name)).cloned();
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": field("uid"), "resourceVersion": field("resourceVersion") },
        });
        let call = Call::new(
            Method::DELETE,
            place.path(stored),
            body.to_string().into_bytes(),
        );
        self.send("delete", call, place, key, version(value)).await
    }

    /// Deletes in two steps: what is marked counts as gone, whatever becomes of the second.
    async fn delete_record(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
        expected: Option<Revision>,
    ) -> Result<Object, StoreError> {
        for _ in 0..TRIES {
            let missing = || StoreError::Missing { key: key.clone() };
            let mut value = self.read(place, key, stored).await?.ok_or_else(missing)?;
            let mut gone = match place.read(value.clone()) {
                Found::Object(object) if object.key() == *key => object,
                Found::Deleted(_) => {
                    self.remove(place, stored, &value).await;
                    return Err(missing());
                }
                _ => return Err(missing()),
            };
            if let Some(expected) = expected.filter(|expected| *expected != gone.revision) {
                return Err(StoreError::Conflict {
                    key: key.clone(),
                    expected,
                });
            }
            records::mark(place.kind, &mut value, place.annotated);
            let body = value.to_string().into_bytes();
            let call = Call::new(Method::PUT, place.path(stored), body);
            match self.send("update", call, place, key, gone.revision).await {
                Ok(marked) => {
                    gone.revision = version(&marked);
                    self.remove(place, stored, &marked).await;
                    return Ok(gone);
                }
                Err(StoreError::Conflict { .. }) if expected.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict {
            key: key.clone(),
            expected: expected.unwrap_or_default(),
        })
    }

    /// Finishes a deletion. What fails is finished by whoever meets it next.
    pub(super) async fn remove(&self, place: &Place, stored: &Stored, marked: &Value) {
        let key = Key::cluster(place.kind, stored.1.clone());
        // An error has nobody to go to: the record is gone as it is.
        drop(self.erase(place, &key, stored, marked).await);
    }

    /// Why nothing was replaced.
    async fn refusal(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
        expected: Revision,
    ) -> StoreError {
        match self.read(place, key, stored).await {
            Ok(Some(_)) => StoreError::Conflict {
                key: key.clone(),
                expected,
            },
            Ok(None) => StoreError::Missing { key: key.clone() },
            Err(error) => error,
        }
    }

    /// Writes what is noted on an object of Kubernetes.
    async fn annotate(
        &self,
        place: &Place,
        key: &Key,
        stored: &Stored,
        op: Op,
    ) -> Result<Object, StoreError> {
        let missing = || StoreError::Missing { key: key.clone() };
        let now = self.read(place, key, stored).await?.ok_or_else(missing)?;
        let before = match place.read(now.clone()) {
            Found::Object(object) if object.key() == *key => object,
            _ => return Err(missing()),
        };
        let expected = match &op {
            Op::Create(_) if has_notes(place.form, &before) => {
                return Err(StoreError::Exists { key: key.clone() });
            }
            Op::Update(object) => object.revision,
            Op::Delete { revision, .. } => revision.unwrap_or_default(),
            Op::Create(_) | Op::Put(_) => Revision::NONE,
        };
        if matches!(op, Op::Update(_)) && expected == Revision::NONE {
            return Err(StoreError::Conflict {
                key: key.clone(),
                expected,
            });
        }
        let patch = match (place.form, &op) {
            (Form::Host, Op::Delete { .. }) => node::forget(expected),
            (_, Op::Delete { .. }) => pod::forget(expected),
            (Form::Host, Op::Create(object) | Op::Update(object) | Op::Put(object)) => {
                node::note(object, &now, expected)
            }
            (_, Op::Create(object) | Op::Update(object) | Op::Put(object)) => {
                pod::note(object, expected).ok_or_else(|| StoreError::Invalid {
                    key: Some(key.clone()),
                    field: "spec".to_owned(),
                    reason: "is no endpoint's".to_owned(),
                })?
            }
        };
        let uri = format!("{}/status", place.path(stored));
        let mut call = Call::new(Method::PATCH, uri, patch.to_string().into_bytes());
        call.content_type = MERGE_PATCH;
        let written = self.send("patch", call, place, key, expected).await?;
        if matches!(op, Op::Delete { .. }) {
            let revision = version(&written);
            return Ok(Object { revision, ..before });
        }
        answer(place, key, written)
    }
}

/// Whether somebody has written the object already.
fn has_notes(form: Form, object: &Object) -> bool {
    match form {
        Form::Endpoint => object.value.pointer("/spec/containerID").is_some(),
        _ => object.value.pointer("/spec/bgp").is_some(),
    }
}

/// What was written, as the object that it is.
fn answer(place: &Place, key: &Key, value: Value) -> Result<Object, StoreError> {
    match place.read(value) {
        Found::Object(object) => Ok(object),
        Found::Deleted(_) | Found::Nothing => Err(StoreError::Malformed {
            key: key.clone(),
            field: "(answer)".to_owned(),
            reason: "is no object of this kind".to_owned(),
        }),
    }
}
