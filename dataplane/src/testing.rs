//! For tests: a kernel in memory, and the kits that it and the real one pass.
//!
//! [`FakeKernel`] holds links, routes with their owners, neighbours and policy; [`FakeDataplane`] makes it follow a
//! state, and `FakeKernel` itself is an [`Attach`](crate::Attach). A test sets up links, breaks things on demand and
//! looks at what is there:
//!
//! ```
//! use std::sync::Arc;
//! use ocicat_dataplane::state::{Hop, Route, RouteKey};
//! use ocicat_dataplane::testing::{FakeDataplane, FakeKernel, ready};
//! use ocicat_dataplane::{Dataplane as _, State};
//!
//! let kernel = FakeKernel::new();
//! kernel.add_link(&"eth0".parse()?);
//! let mut dataplane = FakeDataplane::new(&kernel);
//! let key = RouteKey::main("10.1.0.0/26".parse()?);
//! let route = Route { hops: vec![Hop::Link("eth0".parse()?)], source: None };
//! let state = State { routes: Arc::new([(key.clone(), route)].into()), ..State::default() };
//! let report = ready(dataplane.apply(&state)).ok_or("it waits for nothing")??;
//! assert!(report.is_complete());
//! assert!(kernel.routes().contains_key(&key));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

pub mod attach_kit;
pub mod dataplane_kit;
mod fake;
mod kernel;

pub use fake::FakeDataplane;
pub use kernel::{FakeKernel, FakeLink};

/// Something that does not keep a promise of the seam that a kit checks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{case}: {why}")]
pub struct Violation {
    /// The promise.
    pub case: &'static str,
    /// What was seen instead.
    pub why: String,
}

/// The result of a future that has nothing to wait for; `None` when it waits.
pub fn ready<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn expect(case: &'static str, holds: bool, why: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation { case, why: why() })
    }
}
