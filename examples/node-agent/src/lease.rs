//! Who of several agents does what only one should: a Lease in the datastore, taken by compare-and-swap.

use std::time::{Duration, SystemTime};

use ocicat_datastore::model::{Lease, LeaseSpec};
use ocicat_datastore::{Metadata, Store, StoreError};
use ocicat_ipam::Timestamp;

/// How long a holder that says nothing is believed to be there.
pub(crate) const DURATION: Duration = Duration::from_secs(60);

/// Tries to get a lease, or to keep it. True when it is `holder`'s until [`DURATION`] from `now`.
///
/// Clocks of nodes may differ: a lease that somebody else renews is not taken before it was seen unchanged for the
/// whole duration by this node's clock, which is what `seen` remembers.
pub(crate) async fn acquire(
    store: &Store,
    (namespace, name): (&str, &str),
    holder: &str,
    now: SystemTime,
    seen: &mut Option<(String, SystemTime)>,
) -> Result<bool, StoreError> {
    let text = micro_time(now);
    let Some(mut lease) = store.get::<Lease>((namespace, name)).await? else {
        let lease = Lease {
            metadata: Metadata {
                name: name.to_owned(),
                namespace: Some(namespace.to_owned()),
                ..Metadata::default()
            },
            spec: held_by(holder, &text, None),
        };
        return won(store.create(lease).await);
    };
    let own = lease.spec.holder_identity.as_deref() == Some(holder);
    if !own
        && lease
            .spec
            .holder_identity
            .as_deref()
            .is_some_and(|one| !one.is_empty())
    {
        let state = format!(
            "{:?} {:?}",
            lease.spec.holder_identity, lease.spec.renew_time
        );
        match seen {
            Some((before, since)) if *before == state => {
                let duration = lease
                    .spec
                    .lease_duration_seconds
                    .and_then(|one| u64::try_from(one).ok());
                let duration = duration.map_or(DURATION, Duration::from_secs);
                if now.duration_since(*since).unwrap_or_default() < duration {
                    return Ok(false);
                }
            }
            _ => {
                *seen = Some((state, now));
                return Ok(false);
            }
        }
    }
    *seen = None;
    lease.value.spec = if own {
        let mut spec = lease.value.spec.clone();
        spec.renew_time = Some(text);
        spec
    } else {
        held_by(holder, &text, Some(&lease.spec))
    };
    won(store.update(lease).await)
}

/// As Kubernetes reads it: with six digits behind the second.
fn micro_time(now: SystemTime) -> String {
    let whole = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let text = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(whole)).to_string();
    text.replace('Z', ".000000Z")
}

fn held_by(holder: &str, now: &str, before: Option<&LeaseSpec>) -> LeaseSpec {
    let transitions = before.map(|before| before.lease_transitions.unwrap_or(0).saturating_add(1));
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(now.to_owned()),
        renew_time: Some(now.to_owned()),
        lease_transitions: Some(transitions.unwrap_or(0)),
    }
}

fn won<T>(outcome: Result<T, StoreError>) -> Result<bool, StoreError> {
    match outcome {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(StoreError::Missing { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ocicat_datastore::Memory;

    use super::*;

    const NAME: (&str, &str) = ("kube-system", "ocicat-ipam-collector");

    #[test]
    fn times_are_kubernetes_micro_times() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_250);
        assert_eq!(micro_time(at), "2027-01-15T08:00:00.000000Z");
    }

    #[tokio::test]
    async fn one_has_it_until_it_is_silent_for_long() {
        let store = Store::new(Arc::new(Memory::new()));
        let at =
            |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
        let (mut a, mut b) = (None, None);
        for (holder, seconds, expected) in [
            ("a", 0, true),
            ("b", 1, false),
            ("a", 30, true),
            ("b", 61, false), // renewed meanwhile: b's patience begins anew
            ("b", 100, false),
            ("b", 122, true),
            ("a", 123, false),
            ("b", 150, true),
        ] {
            let seen = if holder == "a" { &mut a } else { &mut b };
            let has = acquire(&store, NAME, holder, at(seconds), seen)
                .await
                .unwrap();
            assert_eq!(has, expected, "{holder} at {seconds}");
        }
        let lease = store.get::<Lease>(NAME).await.unwrap().unwrap();
        assert_eq!(lease.spec.lease_transitions, Some(1));
        assert_eq!(lease.spec.holder_identity.as_deref(), Some("b"));
    }
}
