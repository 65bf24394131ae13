//! Listing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;

use super::connection::{self, Call, escaped};
use super::place::{Found, Place};
use super::split::Splitter;
use super::{Api, asked};
use crate::backend::{Listing, Parts};
use crate::error::StoreError;
use crate::object::{Object, Revision, Scope};

/// How many objects come at a time. What the API server has in memory it sends at once all the same; it is then taken in by
/// as many.
const PAGE: usize = 500;

/// What a list says beside its items.
#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
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
    /// The answer that is being read.
    open: Option<Answer>,
}

/// An answer, as far as it has come.
struct Answer {
    body: Body,
    splitter: Splitter,
}

/// Takes the JSON of an object.
type Take<'a> = dyn FnMut(&[u8]) -> Result<(), serde_json::Error> + Send + 'a;

impl Pages {
    const fn new(place: Place, path: String, query: String, moment: Moment) -> Self {
        Self {
            place,
            path,
            query,
            moment,
            next: None,
            open: None,
        }
    }

    /// Takes in about a page; when this was so if there is no more.
    async fn next(
        &mut self,
        api: &Api,
        take: &mut Take<'_>,
    ) -> Result<Option<Revision>, StoreError> {
        let mut answer = match self.open.take() {
            Some(answer) => answer,
            None => self.ask(api).await?,
        };
        let (mut taken, mut broken) = (0, None);
        loop {
            if let Some(error) = broken {
                return Err(self.unreadable(&error));
            }
            if taken >= PAGE {
                self.open = Some(answer);
                return Ok(None);
            }
            let Some(data) = connection::data(&mut answer.body).await? else {
                break;
            };
            answer.splitter.feed(&data, |element| {
                taken += 1;
                if let Err(error) = take(element) {
                    broken.get_or_insert(error);
                }
            });
        }
        let rest = serde_json::from_slice(answer.splitter.rest());
        let Page { metadata } = rest.map_err(|error| self.unreadable(&error))?;
        let more = !metadata.r#continue.is_empty();
        self.next = Some(metadata.r#continue);
        let now = || Revision(metadata.resource_version.parse().unwrap_or(0));
        Ok((!more).then(now))
    }

    /// Asks for the next page.
    async fn ask(&mut self, api: &Api) -> Result<Answer, StoreError> {
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
        match api.connection.stream(&call).await? {
            Ok(body) => Ok(Answer {
                body,
                splitter: Splitter::default(),
            }),
            Err(status) => Err(asked.refused(&status)),
        }
    }

    fn unreadable(&self, error: &serde_json::Error) -> StoreError {
        let reason = format!("list {}: {error}", self.place.resource);
        StoreError::Unavailable { reason }
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
        let mut objects: Vec<Object> = Vec::new();
        let (place, scope) = (pages.place.clone(), &self.scope);
        let mut take = |text: &[u8]| {
            if let Found::Object(object) = place.read_text(text)?
                && scope.covers(&object.key())
            {
                objects.push(object);
            }
            Ok(())
        };
        let last = pages.next(&self.api, &mut take).await?;
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
        let mut read = |text: &[u8]| {
            take(serde_json::from_slice(text)?);
            Ok(())
        };
        loop {
            if let Some(now) = pages.next(self, &mut read).await? {
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
