//! A Kubernetes API server in memory, for tests of what speaks to one.
//!
//! It keeps the promises that clients rely on: one revision for all writes, 404, 409, 410 and 422 as the real one, lists in
//! pages that are of one moment, watches from a revision with bookmarks, preconditions of deletions, finalizers, the
//! status written apart, merge patches, selectors, definitions with schemas that prune and refuse. It does not authorise,
//! default or validate Kubernetes' own kinds, nor does anything happen by itself: no controller, no kubelet.

mod change;
mod check;
mod faults;
mod read;
mod refusal;
mod resource;
mod route;
mod schema;
mod selector;
mod state;
mod watching;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::sync::watch::Sender;

use self::refusal::Refusal;
use self::route::Route;
use self::state::State;
use crate::crds;
use crate::group::ApiGroup;
use crate::kubernetes::Kubernetes;

pub use self::faults::{Fault, Trouble};

/// How many writes it remembers, so that watches can begin there.
const HISTORY: usize = 100_000;
/// The largest body of a request, bytes.
const LARGEST: usize = 3 << 20;

/// A Kubernetes API server in memory. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The revision of the last write.
    news: Sender<u64>,
    /// How often all watches were ended, and whether in good order the last time.
    ended: Sender<(u64, bool)>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<BTreeMap<(String, String), u64>>,
    watches: AtomicUsize,
    /// How often a watch is told how far it is.
    bookmarks: Mutex<Duration>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// A server with the namespaces `default` and `kube-system`, and no definitions.
    #[must_use]
    pub fn new() -> Self {
        let server = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new()),
                news: Sender::new(1),
                ended: Sender::new((0, true)),
                faults: Mutex::default(),
                requests: Mutex::default(),
                watches: AtomicUsize::new(0),
                bookmarks: Mutex::new(Duration::from_secs(60)),
            }),
        };
        for name in ["default", "kube-system"] {
            let namespace =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            // Nothing is there that could be in the way.
            drop(server.apply(namespace));
        }
        server
    }

    /// A server that has the definitions of all of Calico's kinds in this group.
    #[must_use]
    pub fn with_calico(group: &ApiGroup) -> Self {
        let server = Self::new();
        for definition in crds::definitions(group) {
            drop(server.apply(definition));
        }
        server
    }

    /// A store in this server, which finds out its group as in a cluster.
    #[must_use]
    pub fn store(&self) -> Kubernetes {
        self.store_in(None)
    }

    /// A store in this server that uses this group.
    #[must_use]
    pub fn store_in(&self, group: Option<ApiGroup>) -> Kubernetes {
        let service =
            tower::util::MapRequest::new(self.router(), |request: Request<kube::client::Body>| {
                request.map(Body::new)
            });
        Kubernetes::here(kube::Client::new(service, "default"), group)
    }

    /// What answers its requests.
    pub fn router(&self) -> Router {
        let server = self.clone();
        Router::new().fallback(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.handle(request).await }
        })
    }

    /// Answers what comes to a listener, until it is dropped.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(&self, listener: tokio::net::TcpListener) -> std::io::Result<()> {
        axum::serve(listener, self.router()).await
    }

    /// The kubeconfig of a server that is served at this address.
    #[must_use]
    pub fn kubeconfig(address: SocketAddr) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{ "name": "here", "cluster": { "server": format!("http://{address}") } }],
            "contexts": [{ "name": "here", "context": { "cluster": "here", "user": "us" } }],
            "users": [{ "name": "us", "user": { "token": "none" } }],
        })
        .to_string()
    }

    /// Creates or replaces an object, whatever is there, as if a client had; not counted, and no fault gets in its way.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn apply(&self, object: Value) -> Result<Value, String> {
        let state = &mut *lock(&self.shared.state);
        let applied = change::apply(state, object);
        self.written(state);
        applied.map_err(|refusal| refusal.body()["message"].to_string())
    }

    /// Removes the object at a path, `/api/v1/namespaces/default/pods/web`, at once and whatever its finalizers say; false
    /// when there is none.
    #[must_use]
    pub fn remove(&self, path: &str) -> bool {
        let state = &mut *lock(&self.shared.state);
        let removed = change::remove(state, path);
        self.written(state);
        removed
    }

    /// The object at a path, as it is stored.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<Value> {
        change::object(&lock(&self.shared.state), path)
    }

    /// The revision of the last write.
    #[must_use]
    pub fn revision(&self) -> u64 {
        lock(&self.shared.state).revision
    }

    /// Forgets its history: a watch or a page from before gets 410.
    pub fn compact(&self) {
        lock(&self.shared.state).compact();
    }

    /// Cuts off every watch, as a server that crashes does.
    pub fn cut_watches(&self) {
        self.shared
            .ended
            .send_modify(|ended| *ended = (ended.0 + 1, false));
    }

    /// Ends every watch in good order, as a server does after a time.
    pub fn end_watches(&self) {
        self.shared
            .ended
            .send_modify(|ended| *ended = (ended.0 + 1, true));
    }

    /// How often watches that begin from now on are told how far they are; every minute at first.
    pub fn set_bookmarks(&self, every: Duration) {
        *lock(&self.shared.bookmarks) = every;
    }

    /// Makes trouble, in addition to what was asked for before.
    pub fn add_fault(&self, fault: Fault) {
        lock(&self.shared.faults).push(fault);
    }

    /// Makes no more trouble.
    pub fn clear_faults(&self) {
        lock(&self.shared.faults).clear();
    }

    /// How many requests came, by verb and resource: `("list", "pods")`, `("patch", "nodes/status")`.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<(String, String), u64> {
        lock(&self.shared.requests).clone()
    }

    /// How many requests of a verb came for a resource.
    #[must_use]
    pub fn count(&self, verb: &str, resource: &str) -> u64 {
        let key = (verb.to_owned(), resource.to_owned());
        lock(&self.shared.requests).get(&key).copied().unwrap_or(0)
    }

    /// Counts requests from zero.
    pub fn reset_requests(&self) {
        lock(&self.shared.requests).clear();
    }

    /// How many watches are open.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.shared.watches.load(Ordering::Relaxed)
    }

    fn written(&self, state: &mut State) {
        state.trim(HISTORY);
        self.shared.news.send_replace(state.revision);
    }

    async fn handle(&self, request: Request<Body>) -> Response {
        match self.answer(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        }
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let routed = {
            let state = lock(&self.shared.state);
            if let Some(found) = read::discovery(&state, parts.uri.path()) {
                return Ok(json_response(200, found.to_string()));
            }
            route::route(&parts.method, &parts.uri, |group, version, plural| {
                state.resource(group, version, plural)
            })
        };
        let route = routed?;
        let counted = route.counted();
        let key = (route.verb.to_owned(), counted.clone());
        *lock(&self.shared.requests).entry(key).or_default() += 1;
        let lost = self.trouble(route.verb, &counted).await?;
        let body = axum::body::to_bytes(body, LARGEST).await;
        let body = body.map_err(|_| Refusal::new(413, "RequestEntityTooLarge", "too large"))?;
        let content_type = parts.headers.get(CONTENT_TYPE);
        let content_type = content_type
            .and_then(|text| text.to_str().ok())
            .unwrap_or_default();
        let done =
            match route.verb {
                "watch" => watching::watch(self, &route),
                "list" => read::list(&lock(&self.shared.state), &route)
                    .map(|text| json_response(200, text)),
                "get" => read::get(&lock(&self.shared.state), &route)
                    .map(|text| json_response(200, text)),
                _ => self.change(&route, content_type, &body),
            };
        if lost {
            return Err(faults::refusal(500, None));
        }
        done
    }

    /// Whether the answer is to be lost.
    async fn trouble(&self, verb: &str, resource: &str) -> Result<bool, Refusal> {
        let troubles = faults::next(&mut lock(&self.shared.faults), verb, resource);
        let mut lost = false;
        for trouble in troubles {
            match trouble {
                Trouble::Late(time) => tokio::time::sleep(time).await,
                Trouble::Refused { code, retry_after } => {
                    return Err(faults::refusal(code, retry_after));
                }
                Trouble::AnswerLost => lost = true,
            }
        }
        Ok(lost)
    }

    fn change(&self, route: &Route, content_type: &str, body: &[u8]) -> Result<Response, Refusal> {
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))?
        };
        let state = &mut *lock(&self.shared.state);
        let done = match route.verb {
            "create" => change::create(state, route, body).map(|stored| (201, stored.text.clone())),
            "update" => change::update(state, route, body).map(|stored| (200, stored.text.clone())),
            "patch" => change::patch(state, route, content_type, &body)
                .map(|stored| (200, stored.text.clone())),
            _ => change::delete(state, route, &body).map(|text| (200, text)),
        };
        self.written(state);
        done.map(|(code, text)| json_response(code, text))
    }
}

fn json_response(code: u16, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    if let Ok(code) = code.try_into() {
        *response.status_mut() = code;
    }
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
