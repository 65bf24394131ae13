//! What Calico itself wrote: definitions and manifests, in the folder that `OCICAT_CALICO_DATA` names.

use std::path::{Path, PathBuf};

use ocicat_datastore::model::*;
use ocicat_datastore::testing::kubernetes::ApiServer;
use ocicat_datastore::{ApiGroup, Backend, Object, Op, Resource, crds, validate};
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

/// Collects where our schema refuses what Calico's accepts.
fn narrower(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    if ours["x-kubernetes-preserve-unknown-fields"] == true && ours["properties"].is_null() {
        return;
    }
    let types = (theirs["type"].as_str(), ours["type"].as_str());
    let either = ours["x-kubernetes-int-or-string"] == true;
    match types {
        (Some("string" | "integer") | None, None) if either => {}
        (theirs, ours) if theirs == ours => {}
        types => found.push(format!("{path}: type {types:?}")),
    }
    if let Some(ours) = ours["enum"].as_array() {
        let theirs = theirs["enum"].as_array().into_iter().flatten();
        let missing: Vec<&Value> = theirs
            .clone()
            .filter(|value| !ours.contains(value))
            .collect();
        if !missing.is_empty() || theirs.count() == 0 {
            found.push(format!("{path}: enum {ours:?} without {missing:?}"));
        }
    }
    if theirs["nullable"] == true && ours["nullable"] != true {
        found.push(format!("{path}: null"));
    }
    for word in [
        "required",
        "minimum",
        "maximum",
        "pattern",
        "maxLength",
        "maxItems",
        "x-kubernetes-validations",
    ] {
        if !ours[word].is_null() {
            found.push(format!("{path}: {word}"));
        }
    }
    for (name, theirs) in theirs["properties"].as_object().into_iter().flatten() {
        // Written by their tools' own hand, and the same everywhere.
        if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let path = format!("{path}.{name}");
        match ours["properties"].get(name) {
            Some(ours) => narrower(&path, theirs, ours, found),
            None if ours["x-kubernetes-preserve-unknown-fields"] == true => {}
            None => found.push(format!("{path}: is dropped")),
        }
    }
    for word in ["items", "additionalProperties"] {
        if theirs[word].is_object() {
            narrower(&format!("{path}.{word}"), &theirs[word], &ours[word], found);
        }
    }
}

/// What Calico's definitions accept, ours accept, in both groups.
#[test]
#[ignore = "reads OCICAT_CALICO_DATA"]
fn our_definitions_accept_what_calicos_do() {
    for group in [ApiGroup::v1(), ApiGroup::v3()] {
        let ours = crds::definitions(&group);
        for (file, theirs) in documents("crd") {
            let kind = &theirs["spec"]["names"]["kind"];
            let wanted = match kind.as_str() {
                Some("IPAMConfig") if group == ApiGroup::v3() => json!("IPAMConfiguration"),
                _ => kind.clone(),
            };
            let ours = ours
                .iter()
                .find(|ours| ours["spec"]["names"]["kind"] == wanted);
            let ours = ours.unwrap_or_else(|| panic!("no definition of {wanted}"));
            assert_eq!(ours["spec"]["scope"], theirs["spec"]["scope"], "{file}");
            let (own, other) = (&ours["spec"]["versions"][0], &theirs["spec"]["versions"][0]);
            assert_eq!(own["subresources"], other["subresources"], "{file}");
            let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
            let mut found = Vec::new();
            narrower("", &schema(other), &schema(own), &mut found);
            // A text in Calico's older definition alone.
            found.retain(|place| {
                !(kind == "BlockAffinity"
                    && group == ApiGroup::v3()
                    && place.starts_with(".spec.deleted"))
            });
            assert!(found.is_empty(), "{group} {file}: {found:#?}");
        }
    }
}

/// What people apply is stored as it was written.
#[tokio::test]
#[ignore = "reads OCICAT_CALICO_DATA"]
async fn manifests_apply_and_lose_nothing() {
    for group in [ApiGroup::v1(), ApiGroup::v3()] {
        let store = ApiServer::with_calico(&group).store();
        for (file, value) in documents("manifests") {
            let object =
                Object::from_value(value).unwrap_or_else(|error| panic!("{file}: {error}"));
            if object.kind.is_kubernetes()
                || object.kind == Kind::Node
                || object.kind.is_namespaced()
            {
                continue;
            }
            let wanted = object.value.clone();
            let stored = store.write(vec![Op::Put(object)]).await.remove(0);
            let stored = stored.unwrap_or_else(|error| panic!("{group} {file}: {error}"));
            let mut losses = Vec::new();
            missing("", &wanted, Some(&stored.value), &mut losses);
            assert!(losses.is_empty(), "{group} {file}: {losses:?}");
        }
    }
}
