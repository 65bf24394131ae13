//! Following kinds of objects: a [`Reflector`] for each, driven on tokio's timers.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::time::Sleep;

use crate::backend::{Backend, Listing, Parts, Watch};
use crate::error::StoreError;
use crate::model::Kind;
use crate::object::{Revision, Scope};
use crate::reflector::{Event, Reflector, Step};
use crate::store::Store;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

enum Doing {
    Nothing,
    Asking(Answer<Parts>),
    /// With the revision of the last part.
    Listing(Parts, Revision),
    Opening(Answer<Watch>),
    Watching(Watch),
    Waiting(Pin<Box<Sleep>>),
}

struct Driver {
    backend: Arc<dyn Backend>,
    reflector: Reflector,
    doing: Doing,
}

/// Events of several kinds as they happen, without an end; made by [`follow`].
///
/// A stream without tasks: it makes progress while it is polled, and dropping it ends it. Events of one kind come
/// in the order in which things happened, those of different kinds side by side. Errors are events; what failed
/// is tried again, with growing waits of up to 15 s. Needs a tokio runtime with time.
pub struct Follow {
    drivers: Vec<Driver>,
    /// Which one is asked first, so that a busy kind does not hold up the others.
    next: usize,
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scopes = self.drivers.iter().map(|driver| driver.reflector.scope());
        f.debug_list().entries(scopes).finish()
    }
}

/// Follows all objects of these kinds.
#[must_use]
pub fn follow(store: &Store, kinds: impl IntoIterator<Item = Kind>) -> Follow {
    follow_scopes(store, kinds.into_iter().map(Scope::all))
}

/// Follows all objects of these scopes, which should not overlap.
#[must_use]
pub fn follow_scopes(store: &Store, scopes: impl IntoIterator<Item = Scope>) -> Follow {
    let driver = |scope| Driver {
        backend: Arc::clone(store.backend()),
        reflector: Reflector::new(scope),
        doing: Doing::Nothing,
    };
    Follow {
        drivers: scopes.into_iter().map(driver).collect(),
        next: 0,
    }
}

impl Follow {
    /// The next event. Never returns when nothing is followed.
    ///
    /// # Cancel safety
    /// No event is lost.
    pub async fn next(&mut self) -> Event {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let count = self.drivers.len();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            if let Some(driver) = self.drivers.get_mut(index)
                && let Poll::Ready(event) = driver.poll_event(context)
            {
                self.next = index;
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}

impl Stream for Follow {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(context).map(Some)
    }
}

impl Driver {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.reflector.poll_event() {
                return Poll::Ready(event);
            }
            match &mut self.doing {
                Doing::Nothing => self.begin(),
                Doing::Asking(answer) => match std::task::ready!(answer.as_mut().poll(context)) {
                    Ok(parts) => self.doing = Doing::Listing(parts, Revision::NONE),
                    Err(error) => self.failed(error),
                },
                Doing::Listing(parts, last) => {
                    match std::task::ready!(parts.as_mut().poll_next(context)) {
                        Some(Ok(part)) => {
                            *last = part.revision;
                            self.reflector.listed_part(part.objects);
                        }
                        Some(Err(error)) => self.failed(error),
                        None => {
                            let revision = *last;
                            self.doing = Doing::Nothing;
                            let objects = Vec::new();
                            self.reflector.listed(Listing { objects, revision });
                        }
                    }
                }
                Doing::Opening(answer) => match std::task::ready!(answer.as_mut().poll(context)) {
                    Ok(watch) => {
                        self.doing = Doing::Watching(watch);
                        self.reflector.watching();
                    }
                    Err(error) => self.failed(error),
                },
                Doing::Watching(watch) => {
                    match std::task::ready!(watch.as_mut().poll_next(context)) {
                        Some(Ok(change)) => self.reflector.changed(change),
                        Some(Err(error)) => self.failed(error),
                        None => self.failed(StoreError::Unavailable {
                            reason: "the watch ended".to_owned(),
                        }),
                    }
                }
                Doing::Waiting(sleep) => {
                    std::task::ready!(sleep.as_mut().poll(context));
                    self.doing = Doing::Nothing;
                    self.reflector.waited();
                }
            }
        }
    }

    fn begin(&mut self) {
        let backend = Arc::clone(&self.backend);
        let scope = self.reflector.scope().clone();
        self.doing = match self.reflector.step() {
            Step::List => {
                let oldest = self.reflector.revision();
                Doing::Asking(Box::pin(async move {
                    backend.list_in_parts(&scope, oldest).await
                }))
            }
            Step::Watch(since) => {
                Doing::Opening(Box::pin(async move { backend.watch(&scope, since).await }))
            }
            Step::Wait(time) => Doing::Waiting(Box::pin(tokio::time::sleep(time))),
        };
    }

    fn failed(&mut self, error: StoreError) {
        self.doing = Doing::Nothing;
        self.reflector.failed(error, random());
    }
}

/// A number in 0.0..1.0. The standard library seeds each hasher anew.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 40;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(1 << 24)
}
