//! The task that owns the dataplane: brings the kernel to the latest desired state, and repairs what others change.

use std::time::Duration;

use ocicat_dataplane::Dataplane;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::core::{Applied, Desired};

/// How often the kernel is read anew, whether or not anybody said that it changed.
const RESYNC: Duration = Duration::from_secs(90);
/// The pause after a failure: doubles up to a hundred times this.
const RETRY: Duration = Duration::from_millis(100);

/// Applies what is desired until the sender of desired states is gone.
pub(crate) async fn drive(
    mut dataplane: Box<dyn Dataplane>,
    mut desired: watch::Receiver<Desired>,
    reports: mpsc::Sender<Applied>,
) {
    let mut resync_at = Instant::now() + RESYNC;
    let mut retry: Option<(Instant, Duration)> = None;
    loop {
        let wake = retry.map_or(resync_at, |(at, _)| at.min(resync_at));
        tokio::select! {
            changed = desired.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = dataplane.changed() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
        let now = Instant::now();
        if now >= resync_at {
            dataplane.invalidate();
            resync_at = now + RESYNC;
        }
        let Desired { generation, state } = desired.borrow_and_update().clone();
        if generation == 0 {
            continue;
        }
        let outcome = dataplane.apply(&state).await;
        let complete = outcome
            .as_ref()
            .is_ok_and(ocicat_dataplane::Report::is_complete);
        retry = (!complete).then(|| {
            let pause = retry.map_or(RETRY, |(_, pause)| (pause * 2).min(RETRY * 100));
            (Instant::now() + pause, pause)
        });
        if let Ok(report) = &outcome {
            for failure in &report.failed {
                tracing::warn!(%failure, "not as desired; tried again");
            }
        }
        let outcome = outcome.map_err(|error| {
            let error = chain(&error);
            tracing::error!(
                error,
                "the kernel could not be brought to the desired state"
            );
            error
        });
        if reports
            .send(Applied {
                generation,
                outcome,
            })
            .await
            .is_err()
        {
            return;
        }
    }
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
