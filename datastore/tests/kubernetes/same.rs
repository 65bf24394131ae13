//! The double answers as a real API server does: one script, both asked, the answers compared.

use std::path::PathBuf;

use kube::Client;
use ocicat_datastore::ApiGroup;
use ocicat_datastore::testing::kubernetes::ApiServer;
use serde_json::{Value, json};

use crate::kit::prepare;
use crate::raw;

const SETS: &str = "/apis/projectcalico.org/v3/globalnetworksets";
const HOMED: &str = "/apis/projectcalico.org/v3/namespaces/kit-a/networksets";
const POOLS: &str = "/apis/projectcalico.org/v3/ippools";
const CRD_POOLS: &str = "/apis/crd.projectcalico.org/v1/ippools";

pub(crate) struct Asked {
    client: Client,
    pub(crate) answers: Vec<(String, Value)>,
}

/// What of an answer has to be the same.
fn summary(code: u16, body: &Value) -> Value {
    let body = if body["type"].is_string() {
        &body["object"]
    } else {
        body
    };
    if body["kind"] == "Status" && body["status"] == "Failure" {
        let causes = body["details"]["causes"].as_array().into_iter().flatten();
        let mut fields: Vec<&Value> = causes.map(|cause| &cause["field"]).collect();
        fields.sort_by_key(|field| field.to_string());
        let details = &body["details"];
        return json!({
            "code": code, "reason": body["reason"], "name": details["name"], "kind": details["kind"],
            "group": details["group"], "fields": fields,
        });
    }
    let metadata = &body["metadata"];
    let has = |field: &str| metadata.get(field).is_some();
    // Kubernetes' own kinds are filled in by a real one.
    let ours = |value: &Value| match body["apiVersion"].as_str() {
        Some(version) if version.contains("projectcalico.org") => value.clone(),
        _ => Value::Null,
    };
    json!({
        "code": code, "kind": body["kind"], "generation": ours(&metadata["generation"]), "annotations": metadata["annotations"], "labels": metadata["labels"],
        "finalizers": metadata["finalizers"], "uid": has("uid"), "made": has("creationTimestamp"),
        "deleted": has("deletionTimestamp"), "continue": metadata["continue"].as_str().is_some_and(|token| !token.is_empty()), "left": metadata["remainingItemCount"],
        "items": body["items"].as_array().map(Vec::len), "spec": ours(&body["spec"]),
        "status": if body["kind"] == "IPPool" { &body["status"] } else { &Value::Null },
    })
}

impl Asked {
    pub(crate) async fn ask(&mut self, method: &str, uri: &str, body: Value) -> Value {
        let (code, answer) = raw::send(&self.client, method, uri, &body).await;
        let asked = format!("{method} {uri} {body}");
        self.answers.push((asked, summary(code, &answer)));
        answer
    }
}

fn named(kind: &str, name: &str, rest: &Value) -> Value {
    let mut object =
        json!({ "apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": { "name": name } });
    merge(&mut object, rest);
    object
}

pub(crate) fn merge(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(members), Value::Object(over)) => {
            for (name, member) in over {
                merge(members.entry(name.clone()).or_insert(Value::Null), member);
            }
        }
        (value, over) => *value = over.clone(),
    }
}

fn set(name: &str, rest: &Value) -> Value {
    named("GlobalNetworkSet", name, rest)
}

async fn reads(asked: &mut Asked) {
    for uri in [
        format!("{SETS}/same-none"),
        "/apis/projectcalico.org/v3/nothings/a".to_owned(),
        "/apis/nowhere.org/v1/pods".to_owned(),
        format!("{HOMED}?labelSelector=same%3Dsame"),
        format!("{HOMED}?fieldSelector=metadata.name%3Dsame-none"),
        format!("{SETS}?fieldSelector=spec.nets%3Dx"),
        format!("{SETS}?labelSelector=a%20b"),
        format!("{SETS}?resourceVersion=x"),
        format!("{SETS}?resourceVersion=99999999999&resourceVersionMatch=NotOlderThan"),
    ] {
        asked.ask("GET", &uri, Value::Null).await;
    }
    asked
        .ask("DELETE", &format!("{SETS}/same-none"), Value::Null)
        .await;
}

async fn creations(asked: &mut Asked) {
    let spec = json!({ "spec": { "nets": ["10.0.0.0/8"] } });
    asked.ask("POST", SETS, set("same-1", &spec)).await;
    asked.ask("POST", SETS, set("same-1", &spec)).await;
    for body in [
        set("same-2", &json!({ "metadata": { "resourceVersion": "1" } })),
        set("Same_2", &json!({})),
        set("same-2", &json!({ "metadata": { "labels": { "a": "ü" } } })),
        set(
            "same-2",
            &json!({ "metadata": { "labels": { "-a": "b" } } }),
        ),
        set(
            "same-2",
            &json!({ "metadata": { "annotations": { "a b": "c" } } }),
        ),
        set("same-2", &json!({ "spec": { "nets": "x" } })),
        set("same-2", &json!({ "spec": { "nets": [1] } })),
        set("same-2", &json!({ "metadata": { "namespace": "kit-a" } })),
        named("NetworkSet", "same-2", &json!({})),
        json!({ "metadata": { "name": "same-2" } }),
        set("", &json!({})),
        // What the definition does not know is dropped.
        set(
            "same-3",
            &json!({ "spec": { "nets": ["10.0.0.0/8"], "unknown": 1 }, "other": {} }),
        ),
        set(
            "same-4",
            &json!({ "metadata": { "uid": "x", "generation": 9, "creationTimestamp": "2020-01-01T00:00:00Z" } }),
        ),
    ] {
        asked.ask("POST", SETS, body).await;
    }
    let homed = named("NetworkSet", "same-1", &json!({ "spec": {} }));
    asked.ask("POST", HOMED, homed.clone()).await;
    asked
        .ask(
            "POST",
            &HOMED.replace("kit-a", "same-nowhere"),
            homed.clone(),
        )
        .await;
    asked
        .ask("POST", "/apis/projectcalico.org/v3/networksets", homed)
        .await;
    let pool =
        json!({ "spec": { "cidr": "10.0.0.0/8", "ipipMode": "Sometimes", "natOutgoing": "yes" } });
    asked
        .ask("POST", POOLS, named("IPPool", "same-1", &pool))
        .await;
}

async fn updates(asked: &mut Asked) {
    let path = format!("{SETS}/same-1");
    let now = asked.ask("GET", &path, Value::Null).await;
    let version = now["metadata"]["resourceVersion"].clone();
    let at = |version: &Value, rest: &Value| {
        let mut body = set(
            "same-1",
            &json!({ "metadata": { "resourceVersion": version } }),
        );
        merge(&mut body, rest);
        body
    };
    let newer =
        json!({ "spec": { "nets": ["10.1.0.0/16"] }, "metadata": { "labels": { "a": "b" } } });
    asked
        .ask(
            "PUT",
            &format!("{SETS}/same-none"),
            set(
                "same-none",
                &json!({ "metadata": { "resourceVersion": "1" } }),
            ),
        )
        .await;
    asked.ask("PUT", &path, set("same-1", &newer)).await;
    asked.ask("PUT", &path, set("same-9", &newer)).await;
    asked
        .ask(
            "PUT",
            &path,
            at(&version, &json!({ "metadata": { "uid": "other" } })),
        )
        .await;
    let same = asked
        .ask("PUT", &path, at(&version, &json!({ "spec": now["spec"] })))
        .await;
    let bumped = same["metadata"]["resourceVersion"] != version;
    asked.answers.push((
        "a write that changes nothing is one".to_owned(),
        bumped.into(),
    ));
    asked.ask("PUT", &path, at(&version, &newer)).await;
    asked.ask("PUT", &path, at(&version, &newer)).await;
    let status = format!("{path}/status");
    asked.ask("PUT", &status, at(&version, &newer)).await;
    patches(asked, &path, &version).await;
}

async fn patches(asked: &mut Asked, path: &str, version: &Value) {
    for patch in [
        json!({ "metadata": { "labels": { "a": null, "c": "d" } } }),
        json!({ "metadata": { "resourceVersion": version } }),
        json!({ "metadata": { "uid": "other" } }),
        json!({ "spec": { "nets": 7 } }),
    ] {
        asked.ask("PATCH", path, patch).await;
    }
    let none = format!("{SETS}/same-none");
    asked.ask("PATCH", &none, json!({ "spec": {} })).await;
}

async fn statuses(asked: &mut Asked) {
    let status = json!({ "conditions": [{
        "type": "Allocatable", "status": "True", "reason": "OK", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]});
    let pool = json!({ "spec": { "cidr": "10.0.0.0/8" }, "status": status });
    let made = asked
        .ask("POST", POOLS, named("IPPool", "same-1", &pool))
        .await;
    let path = format!("{POOLS}/same-1");
    let mut body = made.clone();
    merge(
        &mut body,
        &json!({ "status": status, "spec": { "cidr": "ignored" } }),
    );
    let written = asked.ask("PUT", &format!("{path}/status"), body).await;
    let mut body = written.clone();
    merge(
        &mut body,
        &json!({ "status": { "conditions": [] }, "spec": { "disabled": true } }),
    );
    asked.ask("PUT", &path, body).await;
    asked
        .ask(
            "PATCH",
            &format!("{path}/status"),
            json!({ "status": { "conditions": null } }),
        )
        .await;
    asked.ask("DELETE", &path, Value::Null).await;
}

async fn deletions(asked: &mut Asked) {
    let path = format!("{SETS}/same-1");
    for wanted in [json!({ "uid": "other" }), json!({ "resourceVersion": "1" })] {
        asked
            .ask("DELETE", &path, json!({ "preconditions": wanted }))
            .await;
    }
    asked.ask("DELETE", &path, Value::Null).await;
    asked.ask("DELETE", &path, Value::Null).await;
    let held = json!({ "metadata": { "finalizers": ["ocicat.org/held"] } });
    asked.ask("POST", SETS, set("same-5", &held)).await;
    let path = format!("{SETS}/same-5");
    asked.ask("DELETE", &path, Value::Null).await;
    asked.ask("DELETE", &path, Value::Null).await;
    asked
        .ask(
            "PATCH",
            &path,
            json!({ "metadata": { "finalizers": null } }),
        )
        .await;
    asked.ask("GET", &path, Value::Null).await;
}

/// Pages and watches.
async fn many(asked: &mut Asked) {
    for number in 0..5 {
        let labels = json!({ "metadata": { "labels": { "same": "many" } } });
        let body = named("NetworkSet", &format!("same-many-{number}"), &labels);
        asked.ask("POST", HOMED, body).await;
    }
    let query = "labelSelector=same%3Dmany&limit=2";
    let page = asked
        .ask("GET", &format!("{HOMED}?{query}"), Value::Null)
        .await;
    let then = page["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    asked
        .ask("DELETE", &format!("{HOMED}/same-many-4"), Value::Null)
        .await;
    let token = page["metadata"]["continue"].as_str().unwrap_or_default();
    let token: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    asked
        .ask(
            "GET",
            &format!("{HOMED}?{query}&continue={token}"),
            Value::Null,
        )
        .await;
    moments(asked, &then).await;
    for number in 0..4 {
        let path = format!("{HOMED}/same-many-{number}");
        asked.ask("DELETE", &path, Value::Null).await;
    }
}

/// What was at an earlier moment, and since.
async fn moments(asked: &mut Asked, then: &str) {
    let many = format!("{HOMED}?labelSelector=same%3Dmany");
    let exact = format!("{many}&resourceVersion={then}&resourceVersionMatch=Exact");
    asked.ask("GET", &exact, Value::Null).await;
    asked.ask("GET", &many, Value::Null).await;
    let watch = format!("{HOMED}?watch=true&timeoutSeconds=5&resourceVersion=");
    let gone = asked
        .ask("GET", &format!("{watch}{then}"), Value::Null)
        .await;
    let told = ("the watch tells".to_owned(), gone["type"].clone());
    asked.answers.push(told);
    asked.ask("GET", &format!("{watch}x"), Value::Null).await;
}

async fn script(client: Client) -> Vec<(String, Value)> {
    for path in
        ["same-1", "same-2", "same-3", "same-4", "same-5"].map(|name| format!("{SETS}/{name}"))
    {
        raw::send(
            &client,
            "PATCH",
            &path,
            &json!({ "metadata": { "finalizers": null } }),
        )
        .await;
        raw::send(&client, "DELETE", &path, &Value::Null).await;
    }
    for path in [
        format!("{HOMED}/same-1"),
        format!("{POOLS}/same-1"),
        format!("{CRD_POOLS}/same-1"),
    ] {
        raw::send(&client, "DELETE", &path, &Value::Null).await;
    }
    for number in 0..5 {
        raw::send(
            &client,
            "DELETE",
            &format!("{HOMED}/same-many-{number}"),
            &Value::Null,
        )
        .await;
    }
    let mut asked = Asked {
        client,
        answers: Vec::new(),
    };
    reads(&mut asked).await;
    creations(&mut asked).await;
    updates(&mut asked).await;
    statuses(&mut asked).await;
    deletions(&mut asked).await;
    many(&mut asked).await;
    crate::natives::ask(&mut asked).await;
    asked.answers
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OCICAT_TEST_KUBECONFIG, and our definitions of both groups applied there"]
async fn the_double_answers_as_a_real_api_server_does() {
    let kubeconfig = std::env::var_os("OCICAT_TEST_KUBECONFIG");
    let kubeconfig = PathBuf::from(kubeconfig.expect("OCICAT_TEST_KUBECONFIG names a kubeconfig"));
    let server = ApiServer::with_calico(&ApiGroup::v3());
    prepare(server.store()).await;
    let double = script(raw::of_double(&server)).await;
    let real = script(raw::of_kubeconfig(&kubeconfig).await).await;
    assert_eq!(double.len(), real.len());
    let differences = double
        .iter()
        .zip(&real)
        .filter(|((_, double), (_, real))| double != real);
    let differences: Vec<String> = differences
        .map(|((asked, double), (_, real))| format!("{asked}\n  double {double}\n  real   {real}"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
