//! Listing.

use serde::Deserialize;
use serde_json::Value;

use super::connection::{Call, escaped};
use super::place::{Found, Place};
use super::{Api, asked};
use crate::backend::Listing;
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

impl Api {
    /// All objects of a scope: now when `oldest` is none, else as they were then or later.
    pub(super) async fn list(
        &self,
        scope: &Scope,
        oldest: Option<Revision>,
    ) -> Result<Listing, StoreError> {
        let mut moment = oldest.map_or(Moment::Now, Moment::Since);
        let mut objects: Vec<Object> = Vec::new();
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
                let mut take = |value| {
                    if let Found::Object(object) = place.read(value)
                        && scope.covers(&object.key())
                    {
                        objects.push(object);
                    }
                };
                let now = self.pages(&place, &path, &query, moment, &mut take).await?;
                // All parts are of one moment.
                moment = Moment::At(now);
            }
        }
        objects.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let revision = match moment {
            Moment::At(revision) => revision,
            Moment::Now | Moment::Since(_) => Revision::NONE,
        };
        Ok(Listing { objects, revision })
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
        let mut asked = asked("list", place, None);
        let moment = match moment {
            Moment::Now => String::new(),
            Moment::Since(Revision::NONE) => "&resourceVersion=0".to_owned(),
            Moment::Since(revision) => {
                asked.revision = revision;
                format!("&resourceVersion={revision}&resourceVersionMatch=NotOlderThan")
            }
            Moment::At(revision) => {
                asked.revision = revision;
                format!("&resourceVersion={revision}&resourceVersionMatch=Exact")
            }
        };
        let mut uri = format!("{path}?limit={PAGE}{query}{moment}");
        loop {
            let body = match self.connection.call(&Call::get(uri)).await? {
                Ok(body) => body,
                Err(status) => return Err(asked.refused(&status)),
            };
            let page: Page = serde_json::from_slice(&body).map_err(|error| {
                let reason = format!("list {}: {error}", place.resource);
                StoreError::Unavailable { reason }
            })?;
            drop(body);
            page.items.into_iter().flatten().for_each(&mut *take);
            let metadata = page.metadata;
            if metadata.r#continue.is_empty() {
                return Ok(Revision(metadata.resource_version.parse().unwrap_or(0)));
            }
            uri = format!(
                "{path}?limit={PAGE}{query}&continue={}",
                escaped(&metadata.r#continue)
            );
        }
    }
}
