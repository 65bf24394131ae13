//! Creating, replacing, patching, deleting.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::read::{self, id};
use super::refusal::Refusal;
use super::resource::Resource;
use super::route::{self, Route};
use super::state::{Id, State, Stored};
use super::{check, schema};
use crate::identity;

/// What the server alone says.
const SERVERS: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
];

fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    match &mut value["metadata"] {
        Value::Object(members) => members,
        other => metadata(other),
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value["metadata"][field].as_str().unwrap_or_default()
}

/// Takes what is of another kind, name or namespace than the path says for a mistake.
fn agree(route: &Route, value: &mut Value) -> Result<(), Refusal> {
    let resource = &route.resource;
    let found = (value["apiVersion"].as_str(), value["kind"].as_str());
    if let (Some(_), Some(kind)) = found
        && kind != resource.kind
    {
        let why = format!("Invalid value: {kind:?}: must be {}", resource.kind);
        let refusal = Refusal::invalid(route, text(value, "name"), &[("kind".to_owned(), why)]);
        return Err(refusal.by_kind(kind));
    }
    if found.1.is_none() || found.0 != Some(resource.api_version().as_str()) {
        return Err(Refusal::bad(format!(
            "the object provided is unrecognized (must be of type {}): {found:?}",
            resource.kind
        )));
    }
    if !resource.namespaced {
        metadata(value).remove("namespace");
    }
    let namespace = route.namespace.clone().unwrap_or_default();
    let says = text(value, "namespace");
    if !says.is_empty() && says != namespace {
        return Err(Refusal::bad(format!(
            "the namespace of the provided object does not match the namespace sent on the request: {says:?}"
        )));
    }
    if let Some(name) = &route.name
        && text(value, "name") != name
    {
        return Err(Refusal::bad(
            "the name of the object does not match the name on the URL",
        ));
    }
    let metadata = metadata(value);
    for field in ["managedFields", "selfLink"] {
        metadata.remove(field);
    }
    metadata.retain(|_, member| !member.is_null());
    if !namespace.is_empty() {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    Ok(())
}

/// Prunes and checks what is to be stored.
fn admit(resource: &Resource, route: &Route, value: &mut Value) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    check::metadata(value, &mut causes);
    if let Some(schema) = &resource.schema {
        let metadata = value["metadata"].take();
        let (api_version, kind) = (value["apiVersion"].take(), value["kind"].take());
        schema::prune(value, schema);
        schema::check("", value, schema, &mut causes);
        value["metadata"] = metadata;
        value["apiVersion"] = api_version;
        value["kind"] = kind;
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid(route, text(value, "name"), &causes))
}

pub(super) fn create(
    state: &mut State,
    route: &Route,
    mut value: Value,
) -> Result<Arc<Stored>, Refusal> {
    let resource = Arc::clone(&route.resource);
    agree(route, &mut value)?;
    if !text(&value, "resourceVersion").is_empty() {
        return Err(Refusal::internal(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    if resource.namespaced {
        let home = route.namespace.clone().unwrap_or_default();
        let home_id = ("namespaces".to_owned(), String::new(), home.clone());
        if state.get(&home_id).is_none() {
            return Err(Refusal::no_namespace(&home));
        }
    }
    let beginning = text(&value, "generateName").to_owned();
    if text(&value, "name").is_empty() && !beginning.is_empty() {
        let end: String = identity::uid().chars().take(5).collect();
        metadata(&mut value).insert("name".to_owned(), format!("{beginning}{end}").into());
    }
    for field in SERVERS {
        metadata(&mut value).remove(field);
    }
    if resource.status && resource.custom {
        value
            .as_object_mut()
            .map(|members| members.remove("status"));
    }
    admit(&resource, route, &mut value)?;
    let name = text(&value, "name").to_owned();
    let id: Id = (
        resource.title(),
        route.namespace.clone().unwrap_or_default(),
        name.clone(),
    );
    if state.get(&id).is_some() {
        return Err(Refusal::exists(route, &name));
    }
    let metadata = metadata(&mut value);
    metadata.insert("uid".to_owned(), identity::uid().into());
    let now = identity::timestamp(SystemTime::now());
    metadata.insert("creationTimestamp".to_owned(), now.into());
    if resource.custom || resource.plural == "customresourcedefinitions" {
        metadata.insert("generation".to_owned(), 1.into());
    }
    define(state, &resource, &mut value);
    Ok(state.put(id, value))
}

/// Learns what a definition defines.
fn define(state: &mut State, resource: &Resource, value: &mut Value) {
    if resource.plural != "customresourcedefinitions" {
        return;
    }
    Resource::of_definition(value)
        .into_iter()
        .for_each(|one| state.define(one));
    value["status"] = json!({
        "acceptedNames": value["spec"]["names"],
        "conditions": [
            { "type": "NamesAccepted", "status": "True" },
            { "type": "Established", "status": "True" },
        ],
    });
}

pub(super) fn update(
    state: &mut State,
    route: &Route,
    mut value: Value,
) -> Result<Arc<Stored>, Refusal> {
    let id = id(route);
    let old = state
        .get(&id)
        .cloned()
        .ok_or_else(|| Refusal::missing(route, &id.2))?;
    agree(route, &mut value)?;
    let (uid, version) = (
        text(&value, "uid").to_owned(),
        text(&value, "resourceVersion").to_owned(),
    );
    let own = text(&old.value, "uid");
    if !uid.is_empty() && uid != own {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
        return Err(Refusal::conflict(route, &id.2, &why));
    }
    if version.is_empty() && !route.resource.is_written_blindly() {
        let why = "Invalid value: 0: must be specified for an update".to_owned();
        let causes = [("metadata.resourceVersion".to_owned(), why)];
        return Err(Refusal::invalid(route, &id.2, &causes).by_kind(&route.resource.plural));
    }
    if !version.is_empty() && version != old.revision().to_string() {
        return Err(Refusal::modified(route, &id.2));
    }
    let new = merged(route, &old.value, value)?;
    settle(state, route, &id, &old, new)
}

/// What is stored when `value` is written over `old`.
fn merged(route: &Route, old: &Value, value: Value) -> Result<Value, Refusal> {
    let resource = &route.resource;
    let mut new = match (route.subresource.is_some(), resource.custom) {
        (false, _) => {
            let mut new = value;
            if resource.status {
                keep(&mut new, old, "status");
            }
            new
        }
        (true, true) => {
            let mut new = old.clone();
            keep(&mut new, &value, "status");
            new
        }
        (true, false) => {
            let mut new = value;
            keep(&mut new, old, "spec");
            new
        }
    };
    for field in SERVERS {
        let was = old["metadata"].get(field).cloned();
        let metadata = metadata(&mut new);
        match was {
            Some(was) => metadata.insert(field.to_owned(), was),
            None => metadata.remove(field),
        };
    }
    admit(resource, route, &mut new)?;
    Ok(new)
}

/// Takes a member from another value.
fn keep(value: &mut Value, from: &Value, name: &str) {
    if let Some(members) = value.as_object_mut() {
        match from.get(name) {
            Some(member) => members.insert(name.to_owned(), member.clone()),
            None => members.remove(name),
        };
    }
}

/// Stores what is new, or finishes what waited for it.
fn settle(
    state: &mut State,
    route: &Route,
    id: &Id,
    old: &Arc<Stored>,
    mut new: Value,
) -> Result<Arc<Stored>, Refusal> {
    if new == old.value {
        return Ok(Arc::clone(old));
    }
    let rest = |value: &Value| {
        let mut rest = value.as_object().cloned().unwrap_or_default();
        rest.retain(|name, _| name != "metadata" && name != "status");
        rest
    };
    if let Some(generation) = old.value["metadata"]["generation"].as_u64()
        && rest(&new) != rest(&old.value)
    {
        new["metadata"]["generation"] = (generation + 1).into();
    }
    let finalizers = new["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
    let waits = new["metadata"]["deletionGracePeriodSeconds"]
        .as_u64()
        .unwrap_or(0)
        > 0;
    if new["metadata"]["deletionTimestamp"].is_string() && finalizers == 0 && !waits {
        let gone = state.remove(id);
        let gone = gone.ok_or_else(|| Refusal::missing(route, &id.2))?;
        new["metadata"]["resourceVersion"] = gone.revision().to_string().into();
        return Ok(Stored::new(new));
    }
    define(state, &route.resource, &mut new);
    Ok(state.put(id.clone(), new))
}

pub(super) fn patch(
    state: &mut State,
    route: &Route,
    content_type: &str,
    patch: &Value,
) -> Result<Arc<Stored>, Refusal> {
    let id = id(route);
    // Lists are replaced whole; what that means to a strategic patch is not known here.
    let known = [
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ];
    if !known.iter().any(|known| content_type.starts_with(known)) {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {known:?}"
        );
        return Err(Refusal::new(415, "UnsupportedMediaType", message));
    }
    let old = state
        .get(&id)
        .cloned()
        .ok_or_else(|| Refusal::missing(route, &id.2))?;
    let own = text(&old.value, "uid");
    if let Some(uid) = patch["metadata"]["uid"].as_str()
        && uid != own
    {
        let why = format!("Invalid value: {uid:?}: field is immutable");
        // Said twice, as it is checked twice.
        let cause = ("metadata.uid".to_owned(), why);
        return Err(Refusal::invalid(route, &id.2, &[cause.clone(), cause]));
    }
    let mut value = old.value.clone();
    merge(&mut value, patch);
    update(state, route, value)
}

/// RFC 7386.
fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    let Some(members) = value.as_object_mut() else {
        return;
    };
    for (name, change) in patch {
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

pub(super) fn delete(state: &mut State, route: &Route, options: &Value) -> Result<String, Refusal> {
    let id = id(route);
    let old = state
        .get(&id)
        .cloned()
        .ok_or_else(|| Refusal::missing(route, &id.2))?;
    let wanted = |field: &str| options["preconditions"][field].as_str();
    for (field, word) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let own = text(&old.value, field);
        if let Some(wanted) = wanted(field)
            && wanted != own
        {
            let why = format!(
                "Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {own}"
            );
            return Err(Refusal::conflict(route, &id.2, &why).by_kind(&route.resource.kind));
        }
    }
    let mut value = old.value.clone();
    // A pod on a node has time to stop, unless it is told otherwise.
    let grace = match options["gracePeriodSeconds"].as_u64() {
        _ if route.resource.plural != "pods" || !value["spec"]["nodeName"].is_string() => 0,
        Some(grace) => grace,
        None => value["spec"]["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap_or(30),
    };
    let finalizers = value["metadata"]["finalizers"]
        .as_array()
        .map_or(0, Vec::len);
    if finalizers == 0 && grace == 0 {
        let gone = state
            .remove(&id)
            .ok_or_else(|| Refusal::missing(route, &id.2))?;
        if route.resource.plural == "customresourcedefinitions" {
            state.undefine(&gone.value);
        }
        if route.resource.is_answered_whole() {
            return Ok(gone.text.clone());
        }
        let details = json!({
            "name": id.2, "group": route.resource.group, "kind": route.resource.plural, "uid": gone.value["metadata"]["uid"],
        });
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        });
        return Ok(status.to_string());
    }
    if !value["metadata"]["deletionTimestamp"].is_string() {
        let now = identity::timestamp(SystemTime::now());
        value["metadata"]["deletionTimestamp"] = now.into();
        value["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if let Some(generation) = value["metadata"]["generation"].as_u64() {
            value["metadata"]["generation"] = (generation + 1).into();
        }
        return Ok(state.put(id, value).text.clone());
    }
    Ok(old.text.clone())
}

/// The place of an object that says itself what it is.
fn route_of(state: &State, value: &Value) -> Result<Route, Refusal> {
    let (api_version, kind) = (value["apiVersion"].as_str(), value["kind"].as_str());
    let resource = state.resources().find(|one| {
        Some(one.api_version().as_str()) == api_version && Some(one.kind.as_str()) == kind
    });
    let resource = Arc::clone(resource.ok_or_else(Refusal::unknown)?);
    let namespace = text(value, "namespace").to_owned();
    Ok(Route {
        namespace: resource.namespaced.then(|| {
            if namespace.is_empty() {
                "default".to_owned()
            } else {
                namespace
            }
        }),
        resource,
        verb: "update",
        name: Some(text(value, "name").to_owned()),
        subresource: None,
        query: std::collections::BTreeMap::new(),
    })
}

/// Creates or replaces an object, with its status.
pub(super) fn apply(state: &mut State, mut value: Value) -> Result<Value, Refusal> {
    let mut route = route_of(state, &value)?;
    let status = value.get("status").cloned();
    metadata(&mut value).remove("resourceVersion");
    let old = state.get(&id(&route)).cloned();
    let stored = match old {
        Some(old) => {
            let version = old.revision().to_string();
            metadata(&mut value).insert("resourceVersion".to_owned(), version.into());
            update(state, &route, value)?
        }
        None => {
            let name = route.name.take();
            let made = create(state, &route, value)?;
            route.name = name;
            made
        }
    };
    let Some(status) = status.filter(|_| route.resource.status) else {
        return Ok(stored.value.clone());
    };
    let mut value = stored.value.clone();
    value["status"] = status;
    route.subresource = Some("status".to_owned());
    update(state, &route, value).map(|stored| stored.value.clone())
}

fn id_of(state: &State, path: &str) -> Option<Id> {
    let uri = path.parse().ok()?;
    let find = |group: &str, version: &str, plural: &str| state.resource(group, version, plural);
    route::route(&http::Method::GET, &uri, find)
        .ok()
        .map(|route| read::id(&route))
}

/// The object at a path.
pub(super) fn object(state: &State, path: &str) -> Option<Value> {
    state
        .get(&id_of(state, path)?)
        .map(|stored| stored.value.clone())
}

/// Removes the object at a path.
pub(super) fn remove(state: &mut State, path: &str) -> bool {
    let id = id_of(state, path);
    id.is_some_and(|id| state.remove(&id).is_some())
}
