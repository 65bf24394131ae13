//! What Calico itself wrote: definitions and manifests, in the folder that `OCICAT_CALICO_DATA` names.

use std::path::{Path, PathBuf};

use ocicat_datastore::model::*;
use ocicat_datastore::{Object, Resource, validate};
use serde_json::{Map, Value, json};

fn folder(name: &str) -> PathBuf {
    let data = std::env::var_os("OCICAT_CALICO_DATA");
    let data = data.expect("OCICAT_CALICO_DATA names the folder of Calico's data");
    Path::new(&data).join(name)
}

/// Every YAML document of a folder, with its file's name.
fn documents(name: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder(name)).expect("the folder") {
        let path = entry.expect("an entry").path();
        let file = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path).expect("the file");
        // As in YAML 1.2: a label `yes` is a text.
        let options = serde_saphyr::options! { strict_booleans: true };
        let values: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options)
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let values = values.into_iter().filter(|value| !value.is_null());
        found.extend(values.map(|value| (file.clone(), value)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() > 10, "only {} documents in {name}", found.len());
    found
}

/// The object as its type writes it after reading it.
fn round<R: Resource>(object: &Object) -> Result<Value, String> {
    let resource: R = object.decode().map_err(|error| error.to_string())?;
    Object::encode(&resource)
        .map(|object| object.value)
        .map_err(|error| error.to_string())
}

fn round_trip(object: &Object) -> Result<Value, String> {
    match object.kind {
        Kind::IpPool => round::<IpPool>(object),
        Kind::IpReservation => round::<IpReservation>(object),
        Kind::IpamConfig => round::<IpamConfig>(object),
        Kind::IpamBlock => round::<IpamBlock>(object),
        Kind::BlockAffinity => round::<BlockAffinity>(object),
        Kind::IpamHandle => round::<IpamHandle>(object),
        Kind::Node => round::<Node>(object),
        Kind::CalicoNodeStatus => round::<CalicoNodeStatus>(object),
        Kind::BgpConfiguration => round::<BgpConfiguration>(object),
        Kind::BgpPeer => round::<BgpPeer>(object),
        Kind::BgpFilter => round::<BgpFilter>(object),
        Kind::Tier => round::<Tier>(object),
        Kind::NetworkPolicy => round::<NetworkPolicy>(object),
        Kind::GlobalNetworkPolicy => round::<GlobalNetworkPolicy>(object),
        Kind::NetworkSet => round::<NetworkSet>(object),
        Kind::GlobalNetworkSet => round::<GlobalNetworkSet>(object),
        Kind::HostEndpoint => round::<HostEndpoint>(object),
        Kind::FelixConfiguration => round::<FelixConfiguration>(object),
        Kind::ClusterInformation => round::<ClusterInformation>(object),
        Kind::KubeControllersConfiguration => round::<KubeControllersConfiguration>(object),
        Kind::ClusterNetworkPolicy => round::<ClusterNetworkPolicy>(object),
        other => Err(format!("no type for {other}")),
    }
}

/// Where `found` does not say what `wanted` says. What is empty, false or null may be left out.
fn missing(path: &str, wanted: &Value, found: Option<&Value>, losses: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Some(Value::Object(found))) => {
            for (name, value) in wanted {
                missing(&format!("{path}.{name}"), value, found.get(name), losses);
            }
        }
        (Value::Array(wanted), Some(Value::Array(found))) if wanted.len() == found.len() => {
            for (index, (value, found)) in wanted.iter().zip(found).enumerate() {
                missing(&format!("{path}[{index}]"), value, Some(found), losses);
            }
        }
        (Value::Number(wanted), Some(Value::Number(found)))
            if wanted.as_f64() == found.as_f64() => {}
        (wanted, Some(found)) if wanted == found => {}
        (Value::Null, _) | (Value::Bool(false), None) => {}
        (Value::String(text), None) if text.is_empty() => {}
        (Value::Array(elements), None) if elements.is_empty() => {}
        (Value::Object(members), None) if members.is_empty() => {}
        (wanted, found) => losses.push(format!("{path}: {wanted} became {found:?}")),
    }
}

#[test]
#[ignore = "reads OCICAT_CALICO_DATA"]
fn manifests_mean_the_same_after_a_round_trip_and_are_valid() {
    for (file, value) in documents("manifests") {
        let object = Object::from_value(value).unwrap_or_else(|error| panic!("{file}: {error}"));
        let round = round_trip(&object).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut losses = Vec::new();
        missing("", &object.value, Some(&round), &mut losses);
        assert!(losses.is_empty(), "{file}: {}: {losses:?}", object.key());
        let problems = validate::object(&object);
        assert!(
            problems.is_empty(),
            "{file}: {}: {problems:?}",
            object.key()
        );
    }
}

/// A value with every field of a schema.
fn example(schema: &Value) -> Value {
    if schema["x-kubernetes-int-or-string"] == true {
        return json!("http");
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let mut members = Map::new();
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                members.insert(name.clone(), example(schema));
            }
            if schema["additionalProperties"].is_object() {
                members.insert("7".to_owned(), example(&schema["additionalProperties"]));
            }
            Value::Object(members)
        }
        Some("array") => json!([example(&schema["items"])]),
        Some("integer") => json!(7),
        Some("number") => json!(7.5),
        Some("boolean") => json!(true),
        _ => json!("text"),
    }
}

/// Every field that Calico's definitions have is a field of our types.
#[test]
#[ignore = "reads OCICAT_CALICO_DATA"]
fn types_have_every_field_of_the_definitions() {
    for (file, definition) in documents("crd") {
        let spec = &definition["spec"];
        let kind = spec["names"]["kind"].as_str().expect("a kind");
        let version = &spec["versions"][0];
        let group = spec["group"].as_str().expect("a group");
        let mut value = example(&version["schema"]["openAPIV3Schema"]);
        value["apiVersion"] = json!(format!(
            "{group}/{}",
            version["name"].as_str().expect("a name")
        ));
        value["kind"] = json!(kind);
        value["metadata"] = json!({ "name": "default" });
        if kind == "BlockAffinity" {
            // A text here, in Calico's definition alone.
            value["spec"]["deleted"] = json!("true");
        }
        let object = Object::from_value(value).unwrap_or_else(|error| panic!("{file}: {error}"));
        let plural = spec["names"]["plural"].as_str();
        assert_eq!(plural, Some(object.kind.plural()), "{file}");
        let namespaced = spec["scope"] == "Namespaced";
        assert_eq!(namespaced, object.kind.is_namespaced(), "{file}");
        let mut round = round_trip(&object).unwrap_or_else(|error| panic!("{file}: {error}"));
        if round["spec"]["deleted"] == true && kind == "BlockAffinity" {
            round["spec"]["deleted"] = json!("true");
        }
        let mut losses = Vec::new();
        missing("", &object.value, Some(&round), &mut losses);
        assert!(losses.is_empty(), "{file}: {losses:#?}");
    }
}
