//! The task that owns the dataplane: brings the kernel to the latest desired state, and repairs what others change.

use std::time::Duration;

use ocicat_dataplane::{ApplyError, Count, Dataplane, Direction, Fault, Report};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::control::{PolicyCount, PolicyCounters, RuleCount};
use crate::core::{Applied, Desired};
use crate::metrics::Meters;

/// The pause after a failure: doubles up to a hundred times this.
const RETRY: Duration = Duration::from_millis(100);

/// What else the task that owns the dataplane is told and asked.
pub(crate) struct Driving {
    /// Who wants to know what the rules have met.
    pub(crate) counting: mpsc::Receiver<Counting>,
    /// How often the kernel is read anew, whether or not anybody said that it changed.
    pub(crate) resync: watch::Receiver<Duration>,
    /// How long it takes.
    pub(crate) meters: Meters,
}

/// Where counters are to go.
pub(crate) type Counting = oneshot::Sender<Result<PolicyCounters, String>>;

/// Applies what is desired until the sender of desired states is gone.
pub(crate) async fn drive(
    mut dataplane: Box<dyn Dataplane>,
    mut desired: watch::Receiver<Desired>,
    reports: mpsc::Sender<Applied>,
    Driving {
        mut counting,
        mut resync,
        meters,
    }: Driving,
) {
    let every = *resync.borrow();
    let mut resync_at = Instant::now() + every;
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
            Some(answer) = counting.recv() => {
                let _ = answer.send(counters(&mut *dataplane));
                continue;
            }
            Ok(()) = resync.changed() => {
                resync_at = resync_at.min(Instant::now() + *resync.borrow_and_update());
                continue;
            }
            () = tokio::time::sleep_until(wake) => {}
        }
        let now = Instant::now();
        let anew = now >= resync_at;
        if anew {
            dataplane.invalidate();
            resync_at = now + *resync.borrow();
        }
        let Desired { generation, state } = desired.borrow_and_update().clone();
        if generation == 0 {
            continue;
        }
        let outcome = dataplane.apply(&state).await;
        meters.apply.observe(now.elapsed().as_secs_f64());
        if anew {
            meters.resync.observe(now.elapsed().as_secs_f64());
        }
        retry = told(&outcome, retry.is_none()).then(|| {
            let pause = retry.map_or(RETRY, |(_, pause)| (pause * 2).min(RETRY * 100));
            (Instant::now() + pause, pause)
        });
        let outcome = outcome.map_err(|error| chain(&error));
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

/// Tells the log what could not be done; true when it is to be tried again.
///
/// A link that is not there at first is no news: a pod's goes a moment before the datastore says so.
fn told(outcome: &Result<Report, ApplyError>, first: bool) -> bool {
    match outcome {
        Ok(report) => {
            for failure in &report.failed {
                let awaited = matches!(failure.fault, Fault::LinkMissing(_) | Fault::LinkDown(_));
                if first && awaited {
                    tracing::debug!(%failure, "not as desired; tried again");
                } else {
                    tracing::warn!(%failure, "not as desired; tried again");
                }
            }
            !report.is_complete()
        }
        Err(error) => {
            let error = chain(error);
            tracing::error!(
                error,
                "the kernel could not be brought to the desired state"
            );
            true
        }
    }
}

/// What the rules have met since they are there.
fn counters(dataplane: &mut dyn Dataplane) -> Result<PolicyCounters, String> {
    let counters = dataplane.counters().map_err(|error| chain(&error))?;
    let count = |rule: String, count: &Count| RuleCount {
        rule,
        packets: count.packets,
        bytes: count.bytes,
    };
    let policy = |policy: String, direction: Direction, rules: &[Count]| PolicyCount {
        policy,
        direction: match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
        .to_owned(),
        rules: rules
            .iter()
            .enumerate()
            .map(|(place, one)| count(place.to_string(), one))
            .collect(),
    };
    let policies = counters
        .policies
        .iter()
        .map(|((id, direction), rules)| policy(id.to_string(), *direction, rules));
    let profiles = counters
        .profiles
        .iter()
        .map(|((id, direction), rules)| policy(format!("profile/{id}"), *direction, rules));
    Ok(PolicyCounters {
        policies: policies.chain(profiles).collect(),
        drops: counters
            .denied
            .iter()
            .map(|(reason, one)| count(reason.clone(), one))
            .collect(),
        chains: Some(counters.chains),
        rules: Some(counters.rules),
    })
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
