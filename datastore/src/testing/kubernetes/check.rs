//! What an API server asks of an object's metadata.

use serde_json::Value;

fn lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Whether a text is a DNS subdomain, as the names of objects are.
fn is_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        label.starts_with(lower)
            && label.ends_with(lower)
            && label.chars().all(|c| lower(c) || c == '-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether a text is the value of a label, or the name in the key of one.
fn is_label(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(ends)
        && text.ends_with(ends)
        && text.chars().all(|c| ends(c) || "-_.".contains(c))
}

fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label(name),
        None => is_label(text),
    }
}

/// Collects what is wrong: fields and why.
pub(super) fn metadata(value: &Value, causes: &mut Vec<(String, String)>) {
    let metadata = &value["metadata"];
    let mut wrong = |field: &str, why: String| causes.push((format!("metadata.{field}"), why));
    match metadata["name"].as_str() {
        None | Some("") => wrong(
            "name",
            "Required value: name or generateName is required".to_owned(),
        ),
        Some(name) if !is_subdomain(name) => {
            wrong(
                "name",
                format!(
                    "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
                ),
            );
        }
        Some(_) => {}
    }
    for (label, value) in metadata["labels"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if !is_qualified(label) {
            wrong(
                "labels",
                format!(
                    "Invalid value: {label:?}: name part must consist of alphanumeric characters, '-', '_' or '.'"
                ),
            );
        }
        if !value.is_empty() && !is_label(value) {
            wrong(
                "labels",
                format!(
                    "Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
                ),
            );
        }
    }
    for annotation in metadata["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
    {
        if !is_qualified(&annotation.to_lowercase()) {
            wrong(
                "annotations",
                format!(
                    "Invalid value: {annotation:?}: name part must consist of alphanumeric characters, '-', '_' or '.'"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_are_checked() {
        let wrong = |metadata: Value| {
            let mut causes = Vec::new();
            super::metadata(&json!({ "metadata": metadata }), &mut causes);
            causes.len()
        };
        for good in [
            json!({ "name": "a" }),
            json!({ "name": "a-b.c-1", "labels": { "x.y/Z_1": "A-b.c", "e": "" } }),
            json!({ "name": "a", "annotations": { "projectcalico.org/metadata": "{ü}" } }),
        ] {
            assert_eq!(wrong(good.clone()), 0, "{good}");
        }
        for bad in [
            json!({}),
            json!({ "name": "A" }),
            json!({ "name": "a_b" }),
            json!({ "name": "a..b" }),
            json!({ "name": "a", "labels": { "x": "ü" } }),
            json!({ "name": "a", "labels": { "-x": "" } }),
            json!({ "name": "a", "annotations": { "a/b/c": "" } }),
        ] {
            assert_eq!(wrong(bad.clone()), 1, "{bad}");
        }
    }
}
