//! Custom resources of Calico's groups.

use serde_json::{Map, Value};

/// Where Calico keeps the metadata of its own objects in the group `crd.projectcalico.org`.
pub(super) const METADATA: &str = "projectcalico.org/metadata";
/// Makes a write that would change nothing one that does; what it says is the version that was there.
pub(super) const TOUCHED: &str = "ocicat.projectcalico.org/touched";
/// Labels of the custom resource itself that are Calico's.
const OWN_LABELS: &str = "projectcalico.org/";

/// What the resource itself says of an object, whatever the annotation says.
const IDENTITY: [&str; 4] = ["name", "namespace", "resourceVersion", "managedFields"];

/// The members of a member, which is made an object when it is none.
pub(super) fn members<'a>(value: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    fn object(value: &mut Value) -> &mut Map<String, Value> {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        match value {
            Value::Object(members) => members,
            // Not reached: it was made one.
            other => object(other),
        }
    }
    object(object(value).entry(name).or_insert(Value::Null))
}

fn metadata(value: &mut Value) -> Option<&mut Map<String, Value>> {
    value.get_mut("metadata")?.as_object_mut()
}

fn remove_annotation(value: &mut Value, name: &str) -> Option<Value> {
    let metadata = metadata(value)?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let removed = annotations.remove(name);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    removed
}

/// The object without our own mark on it.
pub(super) fn untouched(mut value: Value) -> Value {
    remove_annotation(&mut value, TOUCHED);
    value
}

/// Puts the mark on what is to be stored.
pub(super) fn touch(value: &mut Value, version: &str) {
    let metadata = members(value, "metadata");
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    let mut mark = annotations.as_object().cloned().unwrap_or_default();
    mark.insert(TOUCHED.to_owned(), version.into());
    *annotations = Value::Object(mark);
}

/// The object with the metadata that are in its annotation. One that somebody made without the annotation is as it is.
pub(super) fn unfold(value: Value) -> Value {
    let mut value = untouched(value);
    let Some(text) = remove_annotation(&mut value, METADATA) else {
        return value;
    };
    let inner = text
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok());
    let (Some(outer), Some(Value::Object(mut inner))) = (metadata(&mut value), inner) else {
        return value;
    };
    inner.retain(|_, member| !member.is_null());
    for name in IDENTITY {
        inner.remove(name);
        if let Some(member) = outer.remove(name) {
            inner.insert(name.to_owned(), member);
        }
    }
    for name in ["creationTimestamp", "uid", "deletionTimestamp"] {
        if let Some(member) = outer.remove(name) {
            inner.entry(name).or_insert(member);
        }
    }
    *outer = inner;
    value
}

/// Moves the metadata of what is to be stored into its annotation.
pub(super) fn fold(value: &mut Value) {
    let Some(outer) = metadata(value) else { return };
    let mut inner = std::mem::take(outer);
    for name in IDENTITY {
        inner.remove(name);
    }
    let labels = inner.get("labels").and_then(Value::as_object);
    let own = labels.into_iter().flatten();
    let own: Map<String, Value> = own
        .filter(|(name, _)| name.starts_with(OWN_LABELS))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !own.is_empty() {
        outer.insert("labels".to_owned(), Value::Object(own));
    }
    if !inner.is_empty() {
        let text = Value::Object(inner).to_string();
        let annotations = serde_json::json!({ METADATA: text });
        outer.insert("annotations".to_owned(), annotations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_go_into_the_annotation_and_come_back() {
        let object = json!({
            "metadata": {
                "name": "a",
                "labels": { "x": "ü", "projectcalico.org/tier": "t" },
                "annotations": { "y": "line\nline" },
                "uid": "u",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": { "cidr": "10.0.0.0/8" },
        });
        let mut stored = object.clone();
        fold(&mut stored);
        stored["metadata"]["name"] = "a".into();
        assert_eq!(
            stored["metadata"]["labels"],
            json!({ "projectcalico.org/tier": "t" })
        );
        assert!(stored["metadata"]["annotations"][METADATA].is_string());
        assert!(stored["metadata"].get("uid").is_none());
        // What the API server adds does not matter.
        stored["metadata"]["uid"] = "other".into();
        stored["metadata"]["generation"] = 1.into();
        touch(&mut stored, "7");
        assert_eq!(unfold(stored), object);
    }

    #[test]
    fn what_kubectl_made_is_as_it_looks() {
        let object = json!({ "metadata": { "name": "a", "labels": { "x": "y" } }, "spec": {} });
        assert_eq!(unfold(object.clone()), object);
        let bad = json!({ "metadata": { "name": "a", "annotations": { METADATA: "{" } } });
        assert_eq!(unfold(bad), json!({ "metadata": { "name": "a" } }));
    }

    #[test]
    fn calicos_nulls_are_nothing() {
        let text = r#"{"creationTimestamp":null,"labels":{"a":"b"}}"#;
        let object = json!({ "metadata": {
            "name": "a", "creationTimestamp": "2026-01-01T00:00:00Z", "uid": "u",
            "annotations": { METADATA: text },
        }});
        let wanted = json!({ "metadata": {
            "name": "a", "creationTimestamp": "2026-01-01T00:00:00Z", "uid": "u", "labels": { "a": "b" },
        }});
        assert_eq!(unfold(object), wanted);
    }
}
