//! What a request asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use super::refusal::Refusal;
use super::resource::Resource;

/// A request for objects of one resource.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) resource: Arc<Resource>,
    pub(super) verb: &'static str,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    pub(super) query: BTreeMap<String, String>,
}

impl Route {
    /// `ippools.projectcalico.org`, `pods/status`.
    pub(super) fn counted(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource.title()),
            None => self.resource.title(),
        }
    }

    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(super) fn revision(&self) -> Result<Option<u64>, Refusal> {
        match self.parameter("resourceVersion") {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Refusal::bad(format!("resourceVersion: Invalid value: {text:?}"))),
        }
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8_lossy(&digits).into_owned();
                bytes.extend(u8::from_str_radix(&digits, 16));
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Group, version and the parts of a path after them; none for a path that is not of objects.
pub(super) fn parts(path: &str) -> Option<(String, String, Vec<String>)> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).map(decoded);
    let group = match parts.next()?.as_str() {
        "api" => String::new(),
        "apis" => parts.next()?,
        _ => return None,
    };
    let version = parts.next()?;
    Some((group, version, parts.collect()))
}

/// Namespace, plural, name and subresource.
type Target = (Option<String>, String, Option<String>, Option<String>);

fn target(parts: &[String]) -> Option<Target> {
    let (namespace, rest) = match parts {
        [home, namespace, plural, rest @ ..]
            if home == "namespaces" && plural != "status" && plural != "finalize" =>
        {
            let mut whole = vec![plural.clone()];
            whole.extend_from_slice(rest);
            (Some(namespace.clone()), whole)
        }
        rest => (None, rest.to_vec()),
    };
    let mut rest = rest.into_iter();
    let plural = rest.next()?;
    let (name, subresource) = (rest.next(), rest.next());
    rest.next()
        .is_none()
        .then_some((namespace, plural, name, subresource))
}

/// What a request asks for. `find` knows the resources, by group, version and plural.
pub(super) fn route(
    method: &Method,
    uri: &http::Uri,
    find: impl Fn(&str, &str, &str) -> Option<Arc<Resource>>,
) -> Result<Route, Refusal> {
    let (group, version, rest) = parts(uri.path()).ok_or_else(Refusal::unknown)?;
    let (namespace, plural, name, subresource) = target(&rest).ok_or_else(Refusal::unknown)?;
    let resource = find(&group, &version, &plural).ok_or_else(Refusal::unknown)?;
    let known = match subresource.as_deref() {
        None => true,
        Some("status") => resource.status,
        Some(_) => false,
    };
    if namespace.is_some() && !resource.namespaced {
        return Err(Refusal::unknown());
    }
    let pairs = uri.query().unwrap_or_default().split('&');
    let query: BTreeMap<String, String> = pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect();
    let watch = matches!(query.get("watch").map(String::as_str), Some("true" | "1"));
    let verb = match (method, name.is_some()) {
        (&Method::GET, true) => "get",
        (&Method::GET, false) if watch => "watch",
        (&Method::GET, false) => "list",
        (&Method::POST, false) => "create",
        (&Method::PUT, true) => "update",
        (&Method::PATCH, true) => "patch",
        (&Method::DELETE, true) => "delete",
        _ => {
            let message = "the server does not allow this method on the requested resource";
            return Err(Refusal::new(405, "MethodNotAllowed", message));
        }
    };
    let route = Route {
        resource,
        verb,
        namespace,
        name,
        subresource,
        query,
    };
    let homeless = route.resource.namespaced && route.namespace.is_none();
    match &route.name {
        // Objects in namespaces are written, and got one by one, there.
        name if homeless && (name.is_some() || route.verb == "create") => Err(Refusal::unknown()),
        Some(name) if !known => Err(Refusal::missing(&route, name)),
        _ => Ok(route),
    }
}
