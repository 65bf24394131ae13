//! Watching.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::connection::{Call, escaped, random};
use super::failure::Status;
use super::place::{Found, Place};
use super::{Api, asked, version};
use crate::backend::{Change, Watch};
use crate::error::StoreError;
use crate::object::{Revision, Scope};

/// The API server tells at least once a minute how far it is; one that says nothing for so long may be gone.
const QUIET: Duration = Duration::from_secs(150);
/// After how long the API server ends a watch, at the least; as much again at random.
const SECONDS: f64 = 300.0;
/// How long the report of a deletion is waited for.
const DELETION: Duration = Duration::from_secs(10);

/// Lines of an answer without an end.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// Up to here there is no end of a line.
    searched: usize,
}

impl Lines {
    const fn new(body: Body) -> Self {
        Self {
            body,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next line; `None` at the end. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let tail = self.buffer.split_off(self.searched + end + 1);
                let line = std::mem::replace(&mut self.buffer, tail);
                self.searched = 0;
                if line.len() > 1 {
                    return Ok(Some(line));
                }
                continue;
            }
            self.searched = self.buffer.len();
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => {
                    return Err(StoreError::Unavailable {
                        reason: format!("the watch was cut off: {error}"),
                    });
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: Value,
}

fn uri(path: &str, query: &str, since: Revision, seconds: u64) -> String {
    format!(
        "{path}?watch=true&allowWatchBookmarks=true&resourceVersion={since}&timeoutSeconds={seconds}{query}"
    )
}

/// A watch of one collection, which goes on when the API server ends it in good order.
struct Watching {
    api: Arc<Api>,
    place: Place,
    scope: Scope,
    path: String,
    query: String,
    since: Revision,
    lines: Option<Lines>,
    opened: Instant,
}

/// Watches what lies in one place.
pub(super) async fn open(
    api: &Arc<Api>,
    place: Place,
    scope: &Scope,
    since: Revision,
) -> Result<Watch, StoreError> {
    let selection = place.select(scope);
    let mut query = String::new();
    if let Some(fields) = &selection.fields {
        query.push_str(&format!("&fieldSelector={}", escaped(fields)));
    }
    let mut watching = Watching {
        api: Arc::clone(api),
        path: place.collection(selection.namespace.as_deref()),
        place,
        scope: scope.clone(),
        query,
        since,
        lines: None,
        opened: Instant::now(),
    };
    watching.connect().await?;
    Ok(Box::pin(Changes {
        next: Some(next(watching)),
    }))
}

impl Watching {
    async fn connect(&mut self) -> Result<(), StoreError> {
        // So that not all watches end at the same moment.
        let seconds = Duration::from_secs_f64(SECONDS * (1.0 + random())).as_secs();
        let call = Call::get(uri(&self.path, &self.query, self.since, seconds));
        match self.api.connection.stream(&call).await? {
            Ok(body) => {
                self.lines = Some(Lines::new(body));
                self.opened = Instant::now();
                Ok(())
            }
            Err(status) => Err(self.refused(&status)),
        }
    }

    fn refused(&self, status: &Status) -> StoreError {
        let mut asked = asked("watch", &self.place, None);
        asked.revision = self.since;
        let error = asked.refused(status);
        if matches!(error, StoreError::Compacted { .. }) {
            self.api.connection.crowd();
        }
        error
    }

    async fn next(&mut self) -> Result<Change, StoreError> {
        loop {
            let Some(lines) = &mut self.lines else {
                self.connect().await?;
                continue;
            };
            match tokio::time::timeout(QUIET, lines.next()).await {
                Ok(Ok(Some(line))) => {
                    if let Some(change) = self.take(&line)? {
                        return Ok(change);
                    }
                }
                Ok(Ok(None)) => {
                    self.lines = None;
                    let least = Duration::from_secs(1).mul_f64(0.5 + random());
                    tokio::time::sleep_until(self.opened + least).await;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => self.lines = None,
            }
        }
    }

    /// What a line says, if it is news.
    fn take(&mut self, line: &[u8]) -> Result<Option<Change>, StoreError> {
        let event: Event = serde_json::from_slice(line).map_err(|error| {
            let reason = format!("watch {}: {error}", self.place.resource);
            StoreError::Unavailable { reason }
        })?;
        if event.r#type == "ERROR" {
            let code = event.object.get("code").and_then(Value::as_u64);
            let code = code
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(500);
            let status = Status::read(code, event.object.to_string().as_bytes());
            return Err(self.refused(&status));
        }
        let revision = version(&event.object);
        self.since = self.since.max(revision);
        if event.r#type == "BOOKMARK" {
            return Ok(Some(Change::Bookmark(revision)));
        }
        let deleted = event.r#type == "DELETED";
        Ok(match self.place.read(event.object) {
            Found::Object(object) if self.scope.covers(&object.key()) => Some(if deleted {
                Change::Deleted {
                    key: object.key(),
                    revision,
                }
            } else {
                Change::Put(object)
            }),
            // That it is gone was told when it was marked.
            Found::Deleted(_) if deleted => Some(Change::Bookmark(revision)),
            Found::Deleted(key) if self.scope.covers(&key) => {
                Some(Change::Deleted { key, revision })
            }
            _ => None,
        })
    }
}

type Next = Pin<Box<dyn Future<Output = (Watching, Result<Change, StoreError>)> + Send>>;

fn next(mut watching: Watching) -> Next {
    Box::pin(async move {
        let change = watching.next().await;
        (watching, change)
    })
}

/// Changes of one collection.
struct Changes {
    next: Option<Next>,
}

impl Stream for Changes {
    type Item = Result<Change, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(future) = &mut self.next else {
            return Poll::Ready(None);
        };
        let (watching, change) = std::task::ready!(future.as_mut().poll(context));
        self.next = change.is_ok().then(|| next(watching));
        Poll::Ready(Some(change))
    }
}

/// Changes of several collections as those of one.
struct Merged {
    watches: Vec<(Watch, Revision)>,
    last: Revision,
    over: bool,
}

pub(super) fn merged(mut watches: Vec<Watch>, since: Revision) -> Watch {
    match (watches.len(), watches.pop()) {
        (1, Some(watch)) => watch,
        (_, last) => Box::pin(Merged {
            watches: watches
                .into_iter()
                .chain(last)
                .map(|watch| (watch, since))
                .collect(),
            last: since,
            over: false,
        }),
    }
}

impl Merged {
    /// What is told of a change of one of them. `None`: nothing yet.
    fn tell(&mut self, index: usize, change: Change) -> Option<Result<Change, StoreError>> {
        let revision = change.revision();
        if let Some((_, seen)) = self.watches.get_mut(index) {
            *seen = revision;
        }
        if let Change::Bookmark(_) = change {
            // Everything up to here has come from all of them.
            let all = self.watches.iter().map(|(_, seen)| *seen).min()?;
            let news = all > self.last;
            self.last = self.last.max(all);
            return news.then_some(Ok(Change::Bookmark(all)));
        }
        if revision <= self.last {
            // It happened before what was told already: the listing has the order again.
            return Some(Err(StoreError::Compacted {
                since: self.last,
                oldest: Revision::NONE,
            }));
        }
        self.last = revision;
        Some(Ok(change))
    }
}

impl Stream for Merged {
    type Item = Result<Change, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut index = 0;
        while !self.over {
            let Some((watch, _)) = self.watches.get_mut(index) else {
                return Poll::Pending;
            };
            let item = match watch.as_mut().poll_next(context) {
                Poll::Pending => {
                    index += 1;
                    continue;
                }
                Poll::Ready(Some(Ok(change))) => self.tell(index, change),
                Poll::Ready(Some(Err(error))) => Some(Err(error)),
                Poll::Ready(None) => None,
            };
            if let Some(item) = item {
                self.over = item.is_err();
                return Poll::Ready(Some(item));
            }
        }
        Poll::Ready(None)
    }
}

/// When an object was deleted that was there at `since`; `None` when that cannot be found out.
pub(super) async fn deletion(
    api: &Api,
    path: &str,
    query: &str,
    since: Revision,
) -> Option<Revision> {
    let call = Call::get(uri(path, query, since, DELETION.as_secs()));
    let report = async {
        let body = api.connection.stream(&call).await.ok()?.ok()?;
        let mut lines = Lines::new(body);
        while let Some(line) = lines.next().await.ok()? {
            let event: Event = serde_json::from_slice(&line).ok()?;
            match event.r#type.as_str() {
                "DELETED" => return Some(version(&event.object)),
                "ERROR" => return None,
                _ => {}
            }
        }
        None
    };
    tokio::time::timeout(DELETION, report).await.ok().flatten()
}
