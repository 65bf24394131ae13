//! Getting, listing, and what there is.

use std::sync::Arc;

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::route::{self, Route};
use super::selector::Selector;
use super::state::{Id, State, Stored};

/// What discovery answers at a path; none for a path of objects.
pub(super) fn discovery(state: &State, path: &str) -> Option<Value> {
    match path.trim_matches('/') {
        "version" => return Some(json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.0" })),
        "api" => return Some(json!({ "kind": "APIVersions", "versions": ["v1"] })),
        "apis" => {
            return Some(
                json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups(state) }),
            );
        }
        _ => {}
    }
    let (group, version, rest) = route::parts(path)?;
    if !rest.is_empty() {
        return None;
    }
    let of = state
        .resources()
        .filter(|one| one.group == group && one.version == version);
    let entries: Vec<Value> = of.flat_map(|one| one.discovery()).collect();
    let group_version = if group.is_empty() {
        version
    } else {
        format!("{group}/{version}")
    };
    (!entries.is_empty()).then(|| {
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries })
    })
}

fn groups(state: &State) -> Vec<Value> {
    let mut groups: Vec<(String, String)> = state
        .resources()
        .filter(|one| !one.group.is_empty())
        .map(|one| (one.group.clone(), one.version.clone()))
        .collect();
    groups.dedup();
    let entry = |(group, version): (String, String)| {
        let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
        json!({ "name": group, "versions": [version], "preferredVersion": version })
    };
    groups.into_iter().map(entry).collect()
}

/// Where the object of a route is.
pub(super) fn id(route: &Route) -> Id {
    let namespace = route.namespace.clone().unwrap_or_default();
    (
        route.resource.title(),
        namespace,
        route.name.clone().unwrap_or_default(),
    )
}

pub(super) fn get(state: &State, route: &Route) -> Result<String, Refusal> {
    let id = id(route);
    let found = state
        .get(&id)
        .ok_or_else(|| Refusal::missing(route, &id.2))?;
    Ok(found.text.clone())
}

/// The moment that a list is of, and the object that it goes on after.
fn moment(state: &State, route: &Route) -> Result<(u64, Option<Id>), Refusal> {
    let token = route.parameter("continue");
    if !token.is_empty() {
        let mut parts = token.splitn(3, '/').map(str::to_owned);
        let parsed = parts
            .next()
            .and_then(|text| text.parse().ok())
            .zip(parts.next())
            .zip(parts.next());
        let ((revision, namespace), name) =
            parsed.ok_or_else(|| Refusal::bad("continue key is not valid"))?;
        return Ok((revision, Some((route.resource.title(), namespace, name))));
    }
    let exact = match route.parameter("resourceVersionMatch") {
        "Exact" => true,
        "NotOlderThan" | "" => false,
        other => {
            return Err(Refusal::bad(format!(
                "resourceVersionMatch: Unsupported value: {other:?}"
            )));
        }
    };
    match route.revision()? {
        Some(revision) if revision > state.revision => {
            Err(Refusal::too_large(revision, state.revision))
        }
        Some(revision) if exact && revision > 0 => Ok((revision, None)),
        _ => Ok((state.revision, None)),
    }
}

pub(super) fn list(state: &State, route: &Route) -> Result<String, Refusal> {
    let selector = Selector::of(route)?;
    let (revision, after) = moment(state, route)?;
    let title = route.resource.title();
    let objects = if revision == state.revision {
        state.all(&title)
    } else {
        let old = state.all_at(&title, revision);
        old.ok_or_else(|| Refusal::gone(revision, state.floor))?
    };
    let matching = objects.into_iter().filter(|(id, stored)| {
        after.as_ref().is_none_or(|after| id > after) && selector.matches(&stored.value)
    });
    let matching: Vec<(Id, Arc<Stored>)> = matching.collect();
    let limit = match route.parameter("limit").parse::<usize>() {
        // What is served from memory is sent at once, as a real one does.
        _ if route.parameter("resourceVersion") == "0" => usize::MAX,
        Ok(limit) if limit > 0 => limit,
        _ => usize::MAX,
    };
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    if matching.len() > limit
        && let Some(((_, namespace, name), _)) = matching.get(limit - 1)
    {
        metadata["continue"] = format!("{revision}/{namespace}/{name}").into();
        if selector.is_everything() {
            metadata["remainingItemCount"] = (matching.len() - limit).into();
        }
    }
    let texts: Vec<&str> = matching
        .iter()
        .take(limit)
        .map(|(_, stored)| stored.text.as_str())
        .collect();
    Ok(format!(
        r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":[{}]}}"#,
        route.resource.kind,
        route.resource.api_version(),
        texts.join(","),
    ))
}
