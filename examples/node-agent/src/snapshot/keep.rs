use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Snapshot;
use crate::drive::chain;

/// The shortest time between two snapshots: what changes meanwhile is in the next one.
const PAUSE: Duration = Duration::from_secs(10);

/// Writes each snapshot that is published, but the first at once and others not more often than every ten seconds.
/// Ends with the sender, after the last one was written.
pub(crate) async fn keep(path: PathBuf, mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>) {
    let mut next = Instant::now();
    loop {
        let alive = snapshots.changed().await.is_ok();
        if alive {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = closed(snapshots.clone()) => {}
            }
        }
        let latest = snapshots.borrow_and_update().clone();
        if let Some(snapshot) = latest {
            let path = path.clone();
            let saved = tokio::task::spawn_blocking(move || snapshot.save(&path)).await;
            match saved {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(
                    error = chain(&error),
                    "no snapshot for a start without the datastore"
                ),
                Err(error) => tracing::warn!(%error, "no snapshot was written"),
            }
        }
        if !alive {
            return;
        }
        next = Instant::now() + PAUSE;
    }
}

/// Waits until nobody publishes any more.
async fn closed(mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>) {
    while snapshots.changed().await.is_ok() {}
}
