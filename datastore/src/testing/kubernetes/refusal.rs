//! How an API server refuses.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};

use super::route::Route;

/// A refusal: its code and the body that says why.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) retry_after: Option<u32>,
    body: Value,
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason, "code": code,
        });
        Self {
            code,
            retry_after: None,
            body,
        }
    }

    fn about(mut self, route: &Route, name: &str) -> Self {
        let (group, kind) = (&route.resource.group, &route.resource.plural);
        let mut details = json!({ "kind": kind });
        if !name.is_empty() {
            details["name"] = name.into();
        }
        if !group.is_empty() {
            details["group"] = group.clone().into();
        }
        self.body["details"] = details;
        self
    }

    pub(super) fn missing(route: &Route, name: &str) -> Self {
        let message = format!("{} {name:?} not found", route.resource.title());
        Self::new(404, "NotFound", message).about(route, name)
    }

    pub(super) fn no_namespace(namespace: &str) -> Self {
        let mut refusal = Self::new(
            404,
            "NotFound",
            format!("namespaces {namespace:?} not found"),
        );
        refusal.body["details"] = json!({ "name": namespace, "kind": "namespaces" });
        refusal
    }

    pub(super) fn exists(route: &Route, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", route.resource.title());
        Self::new(409, "AlreadyExists", message).about(route, name)
    }

    pub(super) fn conflict(route: &Route, name: &str, why: &str) -> Self {
        let title = route.resource.title();
        let message = format!("Operation cannot be fulfilled on {title} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(route, name)
    }

    /// Of a version that is not the newest.
    pub(super) fn modified(route: &Route, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(route, name, why)
    }

    /// `causes`: fields and what is wrong with them.
    pub(super) fn invalid(route: &Route, name: &str, causes: &[(String, String)]) -> Self {
        let kind = &route.resource.kind;
        let texts: Vec<String> = causes
            .iter()
            .map(|(field, why)| format!("{field}: {why}"))
            .collect();
        let message = format!("{kind} {name:?} is invalid: {}", texts.join(", "));
        let mut refusal = Self::new(422, "Invalid", message).about(route, name);
        let causes: Vec<Value> = causes
            .iter()
            .map(|(field, why)| json!({ "reason": "FieldValueInvalid", "message": why, "field": field }))
            .collect();
        refusal = refusal.by_kind(kind);
        refusal.body["details"]["causes"] = causes.into();
        refusal
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// What a resource that nobody defined is answered with: a text.
    pub(super) fn unknown() -> Self {
        Self {
            code: 404,
            retry_after: None,
            body: Value::String("404 page not found\n".to_owned()),
        }
    }

    /// What a mistake is answered with that the server noticed late: a code, and no reason.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        let mut refusal = Self::new(500, "", message);
        if let Some(members) = refusal.body.as_object_mut() {
            members.remove("reason");
        }
        refusal
    }

    /// The same refusal, about the kind by its name.
    pub(super) fn by_kind(mut self, kind: &str) -> Self {
        self.body["details"]["kind"] = kind.into();
        self
    }

    pub(super) fn gone(since: u64, floor: u64) -> Self {
        Self::new(
            410,
            "Expired",
            format!("too old resource version: {since} ({floor})"),
        )
    }

    pub(super) fn too_large(wanted: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        let mut refusal = Self::new(504, "Timeout", message);
        refusal.body["details"] = json!({
            "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
            "retryAfterSeconds": 1,
        });
        refusal
    }

    /// The body, as an event of a watch carries it.
    pub(super) const fn body(&self) -> &Value {
        &self.body
    }

    pub(super) fn response(&self) -> Response {
        let text = match &self.body {
            Value::String(text) => text.clone(),
            body => body.to_string(),
        };
        let mut response = Response::new(Body::from(text));
        if let Ok(code) = self.code.try_into() {
            *response.status_mut() = code;
        }
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
