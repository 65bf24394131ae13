//! JSON schemas as the Kubernetes API wants them: structural, with everything in its place.

use serde_json::{Map, Value, json};

use crate::model::Kind;

/// What a schema of a definition may say. Limits of numbers are left to validation: Calico's have none.
const WORDS: &[&str] = &[
    "additionalProperties",
    "description",
    "enum",
    "format",
    "items",
    "nullable",
    "properties",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
];

/// The values that a field may have, by kind and path; `*` is any element. As in Calico's definitions.
const ENUMS: &[(&[Kind], &str, &[&str])] = &[
    (
        &[Kind::IpPool],
        "spec/ipipMode",
        &["Never", "Always", "CrossSubnet"],
    ),
    (
        &[Kind::IpPool],
        "spec/vxlanMode",
        &["Never", "Always", "CrossSubnet"],
    ),
    (
        &[Kind::IpPool],
        "spec/assignmentMode",
        &["Automatic", "Manual"],
    ),
    (
        &[Kind::IpPool],
        "spec/allowedUses/*",
        &["Workload", "Tunnel", "LoadBalancer"],
    ),
    (
        &[Kind::BgpConfiguration],
        "spec/bindMode",
        &["None", "NodeIP"],
    ),
    (
        &[Kind::BgpPeer],
        "spec/nextHopMode",
        &["Auto", "Self", "Keep"],
    ),
    (
        &[Kind::BgpPeer],
        "spec/sourceAddress",
        &["UseNodeIP", "None"],
    ),
    (&[Kind::BgpFilter], "spec/exportV4/*/action", ACCEPT),
    (&[Kind::BgpFilter], "spec/exportV6/*/action", ACCEPT),
    (&[Kind::BgpFilter], "spec/importV4/*/action", ACCEPT),
    (&[Kind::BgpFilter], "spec/importV6/*/action", ACCEPT),
    (
        &[Kind::BgpFilter],
        "spec/exportV4/*/matchOperator",
        OPERATORS,
    ),
    (
        &[Kind::BgpFilter],
        "spec/exportV6/*/matchOperator",
        OPERATORS,
    ),
    (
        &[Kind::BgpFilter],
        "spec/importV4/*/matchOperator",
        OPERATORS,
    ),
    (
        &[Kind::BgpFilter],
        "spec/importV6/*/matchOperator",
        OPERATORS,
    ),
    (POLICIES, "spec/ingress/*/action", ACTIONS),
    (POLICIES, "spec/egress/*/action", ACTIONS),
    (POLICIES, "spec/types/*", &["Ingress", "Egress"]),
    (
        STAGED,
        "spec/stagedAction",
        &["Set", "Delete", "Learn", "Ignore"],
    ),
    (
        &[Kind::ClusterNetworkPolicy],
        "spec/tier",
        &["Admin", "Baseline"],
    ),
    (
        &[Kind::ClusterNetworkPolicy],
        "spec/ingress/*/action",
        &["Accept", "Deny", "Pass"],
    ),
    (
        &[Kind::ClusterNetworkPolicy],
        "spec/egress/*/action",
        &["Accept", "Deny", "Pass"],
    ),
];

const ACCEPT: &[&str] = &["Accept", "Reject"];
const OPERATORS: &[&str] = &["Equal", "NotEqual", "In", "NotIn"];
const ACTIONS: &[&str] = &["Allow", "Deny", "Log", "Pass"];
const POLICIES: &[Kind] = &[
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::StagedNetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
];
const STAGED: &[Kind] = &[
    Kind::StagedNetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
    Kind::StagedKubernetesNetworkPolicy,
];

/// Turns the schema of a kind into the one of its definition.
pub(super) fn structural(kind: Kind, schema: &mut Value) {
    place(schema, false);
    schema["properties"]["metadata"] = json!({ "type": "object" });
    for field in ["apiVersion", "kind"] {
        schema["properties"][field] = json!({ "type": "string" });
    }
    for (kinds, path, values) in ENUMS {
        if kinds.contains(&kind)
            && let Some(field) = at(schema, path)
        {
            field["enum"] = json!(values);
        }
    }
}

/// The schema of a field.
fn at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('/').try_fold(schema, |schema, part| match part {
        "*" => schema.get_mut("items"),
        name => schema.get_mut("properties")?.get_mut(name),
    })
}

/// `element`: of a list, where a null stands for something.
fn place(schema: &mut Value, element: bool) {
    let Value::Object(members) = schema else {
        // True: anything.
        *schema = json!({ "x-kubernetes-preserve-unknown-fields": true });
        return;
    };
    for word in ["anyOf", "oneOf", "allOf"] {
        if let Some(Value::Array(choices)) = members.remove(word) {
            let chosen = choices.into_iter().find(|choice| choice["type"] != "null");
            if let Some(Value::Object(chosen)) = chosen {
                for (name, member) in chosen {
                    members.entry(name).or_insert(member);
                }
            }
        }
    }
    if let Some(Value::Array(types)) = members.get("type") {
        let nullable = types.iter().any(|one| one == "null");
        let main = types.iter().find(|one| *one != "null").cloned();
        if nullable && element {
            members.insert("nullable".to_owned(), true.into());
        }
        members.insert("type".to_owned(), main.unwrap_or_default());
    }
    if members.get("x-kubernetes-int-or-string").is_some() {
        members.remove("type");
    } else if members.get("additionalProperties") == Some(&Value::Bool(true)) {
        open(members);
    } else if !members.contains_key("type") {
        open(members);
        members.remove("type");
    }
    if let Some(format) = members.get("format").and_then(Value::as_str) {
        match format {
            "int64" | "uint64" => members.insert("format".to_owned(), "int64".into()),
            "double" => members.insert("format".to_owned(), "double".into()),
            _ => members.remove("format"),
        };
    }
    if let Some(text) = members.get("description").and_then(Value::as_str) {
        let text = plain(text);
        members.insert("description".to_owned(), text.into());
    }
    members.retain(|word, _| WORDS.contains(&word.as_str()));
    for (word, member) in members {
        match (word.as_str(), member) {
            ("properties", Value::Object(properties)) => {
                properties
                    .values_mut()
                    .for_each(|property| place(property, false));
            }
            ("items", member) => place(member, true),
            ("additionalProperties", member) => place(member, false),
            _ => {}
        }
    }
}

/// Makes an object keep whatever it has.
fn open(members: &mut Map<String, Value>) {
    members.remove("additionalProperties");
    members.insert("type".to_owned(), "object".into());
    members.insert(
        "x-kubernetes-preserve-unknown-fields".to_owned(),
        true.into(),
    );
}

/// A text without Rust's links: `` [`X`](y) `` is `X`.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find("[`") {
        plain.push_str(rest.get(..begin).unwrap_or_default());
        let link = rest.get(begin + 2..).unwrap_or_default();
        let Some((name, after)) = link.split_once("`]") else {
            rest = link;
            continue;
        };
        plain.push_str(name);
        rest = match after
            .strip_prefix('(')
            .and_then(|target| target.split_once(')'))
        {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain.push_str(rest);
    plain.replace('`', "").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_become_structural() {
        let mut schema = json!({
            "title": "X", "type": "object", "default": {}, "description": "A [`X`](super::X), or `y`.",
            "properties": {
                "default": { "type": ["string", "null"], "default": null },
                "number": { "type": "integer", "format": "uint32", "minimum": 0 },
                "long": { "type": "integer", "format": "uint64", "minimum": 0 },
                "maybe": { "anyOf": [{ "type": "object", "properties": {} }, { "type": "null" }] },
                "any": true,
                "list": { "type": "array", "items": { "type": ["integer", "null"], "format": "uint32" } },
                "port": { "x-kubernetes-int-or-string": true },
                "map": { "type": "object", "additionalProperties": { "type": "string" } },
                "flat": { "type": "object", "properties": {}, "additionalProperties": true },
            },
        });
        place(&mut schema, false);
        let wanted = json!({
            "type": "object", "description": "A X, or y.",
            "properties": {
                "default": { "type": "string" },
                "number": { "type": "integer" },
                "long": { "type": "integer", "format": "int64" },
                "maybe": { "type": "object", "properties": {} },
                "any": { "x-kubernetes-preserve-unknown-fields": true },
                "list": { "type": "array", "items": { "type": "integer", "nullable": true } },
                "port": { "x-kubernetes-int-or-string": true },
                "map": { "type": "object", "additionalProperties": { "type": "string" } },
                "flat": { "type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": true },
            },
        });
        assert_eq!(schema, wanted);
    }

    #[test]
    fn every_field_with_an_enum_is_there() {
        for (kinds, path, _) in ENUMS {
            for kind in *kinds {
                let (_, schema) = super::super::KINDS
                    .iter()
                    .find(|(of, _)| of == kind)
                    .copied()
                    .unwrap_or((
                        Kind::ClusterNetworkPolicy,
                        super::super::schema::<crate::model::ClusterNetworkPolicy>,
                    ));
                let mut schema = schema();
                place(&mut schema, false);
                assert!(at(&mut schema, path).is_some(), "{kind} {path}");
            }
        }
    }
}
