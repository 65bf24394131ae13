//! Profiles, which are namespaces and service accounts.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{Namespace, Profile, ServiceAccount};

pub(super) fn of_namespace(value: &Value) -> Option<Value> {
    let namespace = Namespace::deserialize(value).ok()?;
    with_identity(&Profile::of_namespace(&namespace), value)
}

pub(super) fn of_account(value: &Value) -> Option<Value> {
    let account = ServiceAccount::deserialize(value).ok()?;
    with_identity(&Profile::of_service_account(&account), value)
}

fn with_identity(profile: &Profile, of: &Value) -> Option<Value> {
    let mut profile = serde_json::to_value(profile).ok()?;
    let metadata = profile.get_mut("metadata")?.as_object_mut()?;
    for field in ["uid", "creationTimestamp"] {
        if let Some(text) = of.get("metadata").and_then(|metadata| metadata.get(field)) {
            metadata.insert(field.to_owned(), text.clone());
        }
    }
    Some(profile)
}
