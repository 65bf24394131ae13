//! What a definition's schema allows: the part of structural schemas that definitions use.

use serde_json::Value;

/// Whether unknown members of a schema's objects are kept.
fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Removes members that the schema does not know, and fills in its defaults.
pub(super) fn prune(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(members) => {
            let properties = &schema["properties"];
            let others = &schema["additionalProperties"];
            let any = others == &Value::Bool(true) || preserves(schema);
            if !any && !others.is_object() && schema["x-kubernetes-int-or-string"] != true {
                members.retain(|name, _| properties.get(name).is_some());
            }
            // A null where none may be counts as absent.
            members.retain(|name, member| {
                let schema = properties
                    .get(name)
                    .or_else(|| others.is_object().then_some(others));
                !member.is_null()
                    || schema.is_none_or(|schema| schema["nullable"] == true || preserves(schema))
            });
            for (name, member) in members.iter_mut() {
                if let Some(schema) = properties.get(name) {
                    prune(member, schema);
                } else if others.is_object() {
                    prune(member, others);
                }
            }
            for (name, schema) in properties.as_object().into_iter().flatten() {
                if let Some(default) = schema.get("default") {
                    members
                        .entry(name.clone())
                        .or_insert_with(|| default.clone());
                }
            }
        }
        Value::Array(elements) => {
            let items = &schema["items"];
            if items.is_object() {
                elements
                    .iter_mut()
                    .for_each(|element| prune(element, items));
            }
        }
        _ => {}
    }
}

/// The type of a value, in a schema's words.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Collects what is wrong with a value: fields and why.
pub(super) fn check(path: &str, value: &Value, schema: &Value, causes: &mut Vec<(String, String)>) {
    let found = type_of(value);
    if schema["nullable"] == true && found == "null" {
        return;
    }
    let mut wrong = |why: String| causes.push((path.to_owned(), why));
    let fits = match schema["type"].as_str() {
        None if schema["x-kubernetes-int-or-string"] == true => {
            matches!(found, "integer" | "string")
        }
        None => true,
        Some("number") => matches!(found, "number" | "integer"),
        Some(wanted) => wanted == found,
    };
    if !fits {
        let wanted = schema["type"].as_str().unwrap_or("integer or string");
        return wrong(format!(
            "Invalid value: {found:?}: must be of type {wanted}"
        ));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return wrong(format!(
            "Unsupported value: {value}: supported values: {}",
            schema["enum"]
        ));
    }
    bounds(value, schema, &mut wrong);
    match value {
        Value::Object(members) => {
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap_or_default();
                if !members.contains_key(name) {
                    causes.push((join(path, name), "Required value".to_owned()));
                }
            }
            for (name, member) in members {
                let schema = match &schema["properties"][name.as_str()] {
                    Value::Null => &schema["additionalProperties"],
                    schema => schema,
                };
                if schema.is_object() {
                    check(&join(path, name), member, schema, causes);
                }
            }
        }
        Value::Array(elements) if schema["items"].is_object() => {
            for (index, element) in elements.iter().enumerate() {
                check(
                    &format!("{path}[{index}]"),
                    element,
                    &schema["items"],
                    causes,
                );
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Lengths and ranges. Patterns and rules in CEL are not looked at.
fn bounds(value: &Value, schema: &Value, wrong: &mut impl FnMut(String)) {
    let length = match value {
        Value::String(text) => Some((text.chars().count(), "Length")),
        Value::Array(elements) => Some((elements.len(), "Items")),
        _ => None,
    };
    if let Some((length, word)) = length {
        let limit = |side: &str| schema[format!("{side}{word}")].as_u64();
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        if limit("max").is_some_and(|most| length > most) {
            wrong(format!(
                "Too long: may not be more than {}",
                schema[format!("max{word}")]
            ));
        }
        if limit("min").is_some_and(|least| length < least) {
            wrong(format!(
                "Invalid value: should be at least {} long",
                schema[format!("min{word}")]
            ));
        }
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"]
            .as_f64()
            .is_some_and(|least| number < least)
        {
            wrong(format!(
                "Invalid value: {value}: should be greater than or equal to {}",
                schema["minimum"]
            ));
        }
        if schema["maximum"].as_f64().is_some_and(|most| number > most) {
            wrong(format!(
                "Invalid value: {value}: should be less than or equal to {}",
                schema["maximum"]
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_members_go_unless_they_are_kept() {
        let schema = json!({
            "type": "object",
            "properties": {
                "known": { "type": "string" },
                "map": { "type": "object", "additionalProperties": { "type": "integer" } },
                "open": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                "list": { "type": "array", "items": { "type": "object", "properties": { "a": {} } } },
                "nulls": { "type": "array", "items": { "nullable": true, "type": "integer" } },
                "filled": { "type": "integer", "default": 7 },
            },
        });
        let mut value = json!({
            "known": "x", "unknown": 1, "map": { "a": 1 }, "open": { "b": { "c": 1 } },
            "list": [{ "a": 1, "b": 2 }], "nulls": [1, null],
        });
        prune(&mut value, &schema);
        let wanted = json!({
            "known": "x", "map": { "a": 1 }, "open": { "b": { "c": 1 } },
            "list": [{ "a": 1 }], "nulls": [1, null], "filled": 7,
        });
        assert_eq!(value, wanted);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let schema = json!({
            "type": "object", "required": ["cidr"],
            "properties": {
                "cidr": { "type": "string", "maxLength": 3 },
                "mode": { "type": "string", "enum": ["A", "B"] },
                "ports": { "type": "array", "items": { "x-kubernetes-int-or-string": true } },
                "number": { "type": "integer", "minimum": 1 },
            },
        });
        let mut causes = Vec::new();
        let value = json!({ "mode": "C", "ports": ["http", 80, true], "number": 0 });
        check("", &json!({ "spec": value })["spec"], &schema, &mut causes);
        let fields: Vec<&str> = causes.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["cidr", "mode", "number", "ports[2]"]);
    }
}
