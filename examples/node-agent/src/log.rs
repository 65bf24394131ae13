//! What the agent's own log says, in figures.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

static ERRORS: AtomicU64 = AtomicU64::new(0);

/// Counts events that say that something went wrong: a layer for the program's subscriber.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorCount;

impl<S: Subscriber> Layer<S> for ErrorCount {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            ERRORS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How many errors there were in this process since it began.
#[must_use]
pub fn errors() -> u64 {
    ERRORS.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn errors_alone_are_counted() {
        let subscriber = tracing_subscriber::registry().with(ErrorCount);
        tracing::subscriber::with_default(subscriber, || {
            let before = errors();
            tracing::warn!("a warning");
            tracing::error!("an error");
            // Other tests of this process have no such layer.
            assert_eq!(errors() - before, 1);
        });
    }
}
