//! Listing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::Deserialize;
use serde_json::Value;

use super::connection::{Call, escaped};
use super::place::{Found, Place};
use super::{Api, asked};
use crate::backend::{Listing, Parts};
use crate::error::StoreError;
use crate::object::{Object, Revision, Scope};

/// How many objects come at a time.
const PAGE: usize = 500;

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct PageMetadata {
    resource_version: String,
    r#continue: String,
}

/// Which moment a listing is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// Now.
    Now,
    /// Not before this revision; whatever the API server has at hand when it is none.
    Since(Revision),
    /// Exactly then.
    At(Revision),
}

/// One collection, or a part of one, to be read page by page.
struct Pages {
    place: Place,
    path: String,
    query: String,
    moment: Moment,
    /// What the server said to go on with.
    next: Option<String>,
}

impl Pages {
    const fn new(place: Place, path: String, query: String, moment: Moment) -> Self {
        Self {
            place,
            path,
            query,
            moment,
            next: None,
        }
    }

    /// The next page, and when this was so if it is the last.
    async fn next(&mut self, api: &Api) -> Result<(Vec<Value>, Option<Revision>), StoreError> {
        let mut asked = asked("list", &self.place, None);
        let start = match (&self.next, self.moment) {
            (Some(next), _) => format!("&continue={}", escaped(next)),
            (None, Moment::Now) => String::new(),
            (None, Moment::Since(Revision::NONE)) => "&resourceVersion=0".to_owned(),
            (None, Moment::Since(revision)) => {
                format!("&resourceVersion={revision}&resourceVersionMatch=NotOlderThan")
            }
            (None, Moment::At(revision)) => {
                format!("&resourceVersion={revision}&resourceVersionMatch=Exact")
            }
        };
        if let Moment::Since(revision) | Moment::At(revision) = self.moment {
            asked.revision = revision;
        }
        let (path, query) = (&self.path, &self.query);
        let call = Call::get(format!("{path}?limit={PAGE}{query}{start}"));
        let body = match api.connection.call(&call).await? {
            Ok(body) => body,
            Err(status) => return Err(asked.refused(&status)),
        };
        let page: Page = serde_json::from_slice(&body).map_err(|error| {
            let reason = format!("list {}: {error}", self.place.resource);
            StoreError::Unavailable { reason }
        })?;
        let PageMetadata {
            resource_version,
            r#continue,
        } = page.metadata;
        let last = r#continue
            .is_empty()
            .then(|| Revision(resource_version.parse().unwrap_or(0)));
        self.next = Some(r#continue);
        Ok((page.items.unwrap_or_default(), last))
    }
}

/// Everything of a scope, collection by collection and page by page.
pub(super) struct Reading {
    api: Arc<Api>,
    scope: Scope,
    /// The first is being read; all are of one moment, which the first one says.
    left: VecDeque<Pages>,
}

impl Reading {
    /// The next part; none after the last.
    async fn next(&mut self) -> Result<Option<Listing>, StoreError> {
        let Some(pages) = self.left.front_mut() else {
            return Ok(None);
        };
        let (values, last) = pages.next(&self.api).await?;
        let found = values
            .into_iter()
            .filter_map(|value| match pages.place.read(value) {
                Found::Object(object) if self.scope.covers(&object.key()) => Some(object),
                _ => None,
            });
        let objects: Vec<Object> = found.collect();
        if let Some(now) = last {
            self.left.pop_front();
            for pages in &mut self.left {
                pages.moment = Moment::At(now);
            }
        }
        Ok(Some(Listing {
            objects,
            revision: last.unwrap_or(Revision::NONE),
        }))
    }
}

type Next = Pin<Box<dyn Future<Output = (Reading, Result<Option<Listing>, StoreError>)> + Send>>;

/// A reading as a stream.
struct Parting(Option<Next>);

impl Parting {
    fn ask(mut reading: Reading) -> Self {
        Self(Some(Box::pin(async move {
            let part = reading.next().await;
            (reading, part)
        })))
    }
}

impl Stream for Parting {
    type Item = Result<Listing, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(next) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let (reading, part) = std::task::ready!(next.as_mut().poll(context));
        *self = match &part {
            Ok(Some(_)) => Self::ask(reading),
            _ => Self(None),
        };
        Poll::Ready(part.transpose())
    }
}

impl Api {
    /// Begins to read a scope: as it is now when `oldest` is none, else as it was then or later.
    pub(super) async fn reading(
        self: &Arc<Self>,
        scope: &Scope,
        oldest: Option<Revision>,
    ) -> Result<Reading, StoreError> {
        let moment = oldest.map_or(Moment::Now, Moment::Since);
        let mut left = VecDeque::new();
        for place in self.places(scope.kind).await? {
            if !place.may_hold(scope) {
                continue;
            }
            let selection = place.select(scope);
            for labels in &selection.labels {
                let mut query = String::new();
                if let Some(fields) = &selection.fields {
                    query.push_str(&format!("&fieldSelector={}", escaped(fields)));
                }
                if let Some(labels) = labels {
                    query.push_str(&format!("&labelSelector={}", escaped(labels)));
                }
                let path = place.collection(selection.namespace.as_deref());
                left.push_back(Pages::new(place.clone(), path, query, moment));
            }
        }
        Ok(Reading {
            api: Arc::clone(self),
            scope: scope.clone(),
            left,
        })
    }

    /// All objects of a scope, sorted.
    pub(super) async fn list(
        self: &Arc<Self>,
        scope: &Scope,
        oldest: Option<Revision>,
    ) -> Result<Listing, StoreError> {
        let mut reading = self.reading(scope, oldest).await?;
        let mut whole = Listing::default();
        while let Some(mut part) = reading.next().await? {
            whole.objects.append(&mut part.objects);
            whole.revision = part.revision;
        }
        let place = |object: &Object| (object.namespace.clone(), object.name.clone());
        whole.objects.sort_by_cached_key(place);
        Ok(whole)
    }

    /// All objects of a scope in parts, the first of which is there already.
    pub(super) async fn parts(
        self: &Arc<Self>,
        scope: &Scope,
        oldest: Option<Revision>,
    ) -> Result<Parts, StoreError> {
        let mut reading = self.reading(scope, oldest).await?;
        let first = reading.next().await?;
        let rest = Parting::ask(reading);
        Ok(Box::pin(Begun { first, rest }))
    }

    /// Lists page by page; each object is taken as it comes. When this was so.
    pub(super) async fn pages(
        &self,
        place: &Place,
        path: &str,
        query: &str,
        moment: Moment,
        take: &mut (dyn FnMut(Value) + Send),
    ) -> Result<Revision, StoreError> {
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut pages = Pages::new(place.clone(), path, query, moment);
        loop {
            let (values, last) = pages.next(self).await?;
            values.into_iter().for_each(&mut *take);
            if let Some(now) = last {
                return Ok(now);
            }
        }
    }
}

/// A stream of which the first item is there.
struct Begun {
    first: Option<Listing>,
    rest: Parting,
}

impl Stream for Begun {
    type Item = Result<Listing, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.rest).poll_next(context),
        }
    }
}
