//! What the API server's refusals mean.

use serde::Deserialize;

use crate::error::StoreError;
use crate::model::Kind;
use crate::object::{Key, Revision};

/// The body of a refusal, as far as it matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) details: Details,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Details {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) causes: Vec<Cause>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cause {
    pub(super) reason: String,
    pub(super) field: String,
    pub(super) message: String,
}

impl Status {
    /// The refusal that a body says; of a body that is none, its text.
    pub(super) fn read(code: u16, body: &[u8]) -> Self {
        let mut status: Self = serde_json::from_slice(body).unwrap_or_default();
        status.code = code;
        if status.message.is_empty() {
            let text = String::from_utf8_lossy(body);
            status.message = text.trim().chars().take(200).collect();
        }
        status
    }

    /// Whether it is an object that is missing, and not all of its kind.
    pub(super) fn is_missing_object(&self) -> bool {
        self.code == 404 && !self.details.name.is_empty()
    }

    fn has_cause(&self, reason: &str) -> bool {
        self.details
            .causes
            .iter()
            .any(|cause| cause.reason == reason)
    }
}

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub(super) verb: &'static str,
    /// `ippools.projectcalico.org`.
    pub(super) resource: &'a str,
    pub(super) kind: Kind,
    pub(super) key: Option<&'a Key>,
    /// The revision that the caller had read, or wanted to watch from.
    pub(super) revision: Revision,
}

impl Asked<'_> {
    /// The error that a refusal is.
    pub(super) fn refused(&self, status: &Status) -> StoreError {
        let said = format!("{} {}: {}", self.verb, self.resource, status.message);
        match (status.code, self.key) {
            (401 | 403, _) => StoreError::Unauthorised { reason: said },
            (404, Some(key))
                if status.details.kind == "namespaces" && key.kind != Kind::Namespace =>
            {
                StoreError::Invalid {
                    key: Some(key.clone()),
                    field: "metadata.namespace".to_owned(),
                    reason: status.message.clone(),
                }
            }
            (404, Some(key)) if status.is_missing_object() => {
                StoreError::Missing { key: key.clone() }
            }
            (404 | 405, _) => StoreError::NoSuchKind {
                kind: self.kind,
                reason: said,
            },
            (409, Some(key)) if status.reason == "AlreadyExists" => {
                StoreError::Exists { key: key.clone() }
            }
            (409, Some(key)) => StoreError::Conflict {
                key: key.clone(),
                expected: self.revision,
            },
            (410, _) => self.compacted(),
            // A revision of the future is one of another past: the cluster was restored from a backup.
            (504, _) if status.has_cause("ResourceVersionTooLarge") => self.compacted(),
            (400 | 413 | 415 | 422, _) => self.invalid(status),
            _ => StoreError::Unavailable {
                reason: format!("{said} ({})", status.code),
            },
        }
    }

    fn compacted(&self) -> StoreError {
        StoreError::Compacted {
            since: self.revision,
            oldest: Revision::NONE,
        }
    }

    fn invalid(&self, status: &Status) -> StoreError {
        let mut causes = status.details.causes.iter();
        let first = causes.next();
        let field = first.map_or("", |cause| cause.field.as_str());
        let others = causes.map(|cause| format!("; {}: {}", cause.field, cause.message));
        let reason = match first {
            Some(cause) => format!("{}{}", cause.message, others.collect::<String>()),
            None => status.message.clone(),
        };
        StoreError::Invalid {
            key: self.key.cloned(),
            field: if field.is_empty() || field == "<nil>" {
                "(object)".to_owned()
            } else {
                field.to_owned()
            },
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u16, body: &str) -> StoreError {
        let key = Key::cluster(Kind::IpPool, "a");
        let asked = Asked {
            verb: "update",
            resource: "ippools.projectcalico.org",
            kind: Kind::IpPool,
            key: Some(&key),
            revision: Revision(7),
        };
        asked.refused(&Status::read(code, body.as_bytes()))
    }

    #[test]
    fn refusals_are_typed() {
        let key = || Key::cluster(Kind::IpPool, "a");
        let conflict = StoreError::Conflict {
            key: key(),
            expected: Revision(7),
        };
        let compacted = StoreError::Compacted {
            since: Revision(7),
            oldest: Revision::NONE,
        };
        let cases = [
            (
                404,
                r#"{"details":{"name":"a"}}"#,
                StoreError::Missing { key: key() },
            ),
            (
                409,
                r#"{"reason":"AlreadyExists"}"#,
                StoreError::Exists { key: key() },
            ),
            (409, r#"{"reason":"Conflict"}"#, conflict),
            (410, r#"{"reason":"Expired"}"#, compacted.clone()),
            (
                504,
                r#"{"details":{"causes":[{"reason":"ResourceVersionTooLarge"}]}}"#,
                compacted,
            ),
        ];
        for (code, body, wanted) in cases {
            assert_eq!(error(code, body), wanted);
        }
        assert!(matches!(
            error(404, "404 page not found"),
            StoreError::NoSuchKind { .. }
        ));
        assert!(error(500, "oops").is_transient() && error(429, "").is_transient());
        let forbidden = error(403, r#"{"message":"user x may not"}"#).to_string();
        assert_eq!(
            forbidden,
            "not allowed: update ippools.projectcalico.org: user x may not"
        );
    }

    #[test]
    fn fields_are_named() {
        let body = r#"{"details":{"causes":[{"field":"spec.cidr","message":"Required"},{"field":"spec.x","message":"Bad"}]}}"#;
        let said = error(422, body).to_string();
        assert_eq!(said, "IPPool/a: spec.cidr: Required; spec.x: Bad");
        let home = r#"{"details":{"kind":"namespaces","name":"shop"},"message":"no shop"}"#;
        let said = error(404, home).to_string();
        assert_eq!(said, "IPPool/a: metadata.namespace: no shop");
    }
}
