//! Watches.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_core::Stream;
use http::header::CONTENT_TYPE;
use serde_json::json;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::refusal::Refusal;
use super::route::Route;
use super::selector::Selector;
use super::state::Entry;
use super::{ApiServer, Shared, lock};

struct Watching {
    shared: Arc<Shared>,
    title: String,
    kind: String,
    api_version: String,
    selector: Selector,
    cursor: u64,
    /// What is sent first.
    first: Option<String>,
    bookmarks: Option<Duration>,
    until: Instant,
    news: Receiver<u64>,
    ended: Receiver<(u64, bool)>,
    over: bool,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shared.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Begins a watch.
pub(super) fn watch(server: &ApiServer, route: &Route) -> Result<Response, Refusal> {
    let shared = &server.shared;
    let selector = Selector::of(route)?;
    let mut first = None;
    let state = lock(&shared.state);
    let since = route
        .revision()
        .map_err(|refusal| Refusal::internal(refusal.body()["message"].to_string()))?;
    let cursor = match since {
        // From what there is.
        None | Some(0) => {
            let all = state.all(&route.resource.title());
            let matching = all
                .values()
                .filter(|stored| selector.matches(&stored.value));
            first = Some(
                matching
                    .map(|stored| event("ADDED", &stored.text))
                    .collect(),
            );
            state.revision
        }
        Some(since) if since > state.revision => {
            return Err(Refusal::too_large(since, state.revision));
        }
        Some(since) => since,
    };
    drop(state);
    let seconds = route.parameter("timeoutSeconds").parse().unwrap_or(3600);
    let wanted = matches!(route.parameter("allowWatchBookmarks"), "true" | "1");
    shared.watches.fetch_add(1, Ordering::Relaxed);
    let watching = Watching {
        shared: Arc::clone(shared),
        title: route.resource.title(),
        kind: route.resource.kind.clone(),
        api_version: route.resource.api_version(),
        selector,
        cursor,
        first,
        bookmarks: wanted.then(|| *lock(&shared.bookmarks)),
        until: Instant::now() + Duration::from_secs(seconds),
        news: shared.news.subscribe(),
        ended: shared.ended.subscribe(),
        over: false,
    };
    let stream = Events {
        next: Some(next(watching)),
    };
    let mut response = Response::new(Body::from_stream(stream));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

impl Watching {
    /// What a write is to this watch.
    fn told(&self, entry: &Entry) -> Option<String> {
        let was = entry
            .before
            .as_ref()
            .is_some_and(|before| self.selector.matches(&before.value));
        let is = !entry.deleted && self.selector.matches(&entry.after.value);
        match (was, is) {
            (false, false) => None,
            (false, true) => Some(event("ADDED", &entry.after.text)),
            (true, true) => Some(event("MODIFIED", &entry.after.text)),
            (true, false) => Some(event("DELETED", &entry.after.text)),
        }
    }

    fn bookmark(&self) -> String {
        let object = json!({
            "kind": self.kind, "apiVersion": self.api_version,
            "metadata": { "resourceVersion": self.cursor.to_string() },
        });
        event("BOOKMARK", &object.to_string())
    }

    /// Everything that is new; `None` when nothing is.
    fn collect(&mut self) -> Option<String> {
        let shared = Arc::clone(&self.shared);
        let state = lock(&shared.state);
        let Some(entries) = state.since(self.cursor) else {
            self.over = true;
            let gone = Refusal::gone(self.cursor, state.floor);
            return Some(event("ERROR", &gone.body().to_string()));
        };
        let ours = entries.filter(|entry| entry.id.0 == self.title);
        let text: String = ours.filter_map(|entry| self.told(entry)).collect();
        self.cursor = state.revision;
        (!text.is_empty()).then_some(text)
    }

    /// The next that is sent; `None` at the end.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(Ok(first.into()));
        }
        loop {
            if self.over {
                return None;
            }
            self.news.borrow_and_update();
            if let Some(text) = self.collect() {
                return Some(Ok(text.into()));
            }
            let quiet = self.bookmarks.unwrap_or(Duration::from_secs(1 << 30));
            tokio::select! {
                changed = self.news.changed() => self.over = changed.is_err(),
                changed = self.ended.changed() => {
                    self.over = true;
                    let clean = changed.is_err() || self.ended.borrow().1;
                    return (!clean).then(|| Err(io::ErrorKind::ConnectionReset.into()));
                }
                () = tokio::time::sleep_until(self.until) => {
                    self.over = true;
                    return self.bookmarks.map(|_| Ok(self.bookmark().into()));
                }
                () = tokio::time::sleep(quiet) => return Some(Ok(self.bookmark().into())),
            }
        }
    }
}

type Next = Pin<Box<dyn Future<Output = (Watching, Option<io::Result<Bytes>>)> + Send>>;

fn next(mut watching: Watching) -> Next {
    Box::pin(async move {
        let item = watching.next().await;
        (watching, item)
    })
}

struct Events {
    next: Option<Next>,
}

impl Stream for Events {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(future) = &mut self.next else {
            return Poll::Ready(None);
        };
        let (watching, item) = std::task::ready!(future.as_mut().poll(context));
        self.next = matches!(item, Some(Ok(_))).then(|| next(watching));
        Poll::Ready(item)
    }
}
