//! Which routes differ: pure, and in one pass over both sides.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::State;
use crate::netlink::route::{KernelRoute, kernel_key};
use crate::state::{Hop, Route, RouteKey};

type Routes = BTreeMap<RouteKey, Route>;

/// What of `wanted` is not in `since`, or not the same there; all of it without `since`.
pub(super) fn changed<'a>(
    wanted: &'a Routes,
    since: Option<&'a Routes>,
) -> impl Iterator<Item = (&'a RouteKey, &'a Route)> {
    let mut before = since.into_iter().flatten().peekable();
    wanted.iter().filter(move |(key, route)| {
        while before.next_if(|(old, _)| old < key).is_some() {}
        before
            .next_if(|(old, _)| old == key)
            .is_none_or(|(_, old)| old != *route)
    })
}

/// The keys of `since`, as the kernel has them, that `wanted` does not name.
pub(super) fn removed(since: &Routes, wanted: &Routes) -> Vec<RouteKey> {
    let mut now = wanted.keys().peekable();
    let gone = since.keys().filter(|key| {
        while now.next_if(|next| next < key).is_some() {}
        now.next_if(|next| next == key).is_none()
    });
    // The same route may have been named otherwise: IPv6's metric 0 is 1024.
    gone.map(kernel_key)
        .filter(|key| !names(wanted, key))
        .collect()
}

/// The routes of the kernel that `wanted` does not name.
pub(super) fn unnamed<'a>(
    found: impl Iterator<Item = (&'a RouteKey, &'a KernelRoute)>,
    wanted: &Routes,
) -> impl Iterator<Item = (&'a RouteKey, &'a KernelRoute)> {
    let mut named = wanted.keys().peekable();
    found.filter(move |(key, _)| {
        while named
            .peek()
            .is_some_and(|name| (*name).cmp(key) == Ordering::Less)
        {
            named.next();
        }
        named.peek() != Some(key) && !names(wanted, key)
    })
}

/// The addresses that were straight behind a pod's link and are not, or not behind that one: those that are elsewhere
/// now, and those that are gone.
pub(in crate::linux) fn departed(
    before: &State,
    now: &State,
) -> (BTreeSet<IpAddr>, BTreeSet<IpAddr>) {
    if Arc::ptr_eq(&before.routes, &now.routes) {
        return Default::default();
    }
    let prefix = &*now.host.workload_prefix;
    let left = changed(&before.routes, Some(&now.routes)).filter(|(key, route)| {
        let [Hop::Link(link)] = route.hops.as_slice() else {
            return false;
        };
        key.prefix.is_host() && link.as_str().starts_with(prefix)
    });
    let (moved, gone): (Vec<_>, Vec<_>) = left
        .map(|(key, _)| key)
        .partition(|key| now.routes.contains_key(key));
    let addresses = |keys: Vec<&RouteKey>| keys.iter().map(|key| key.prefix.address()).collect();
    (addresses(moved), addresses(gone))
}

/// Whether a state's routes name this key of the kernel.
pub(in crate::linux) fn names(routes: &Routes, key: &RouteKey) -> bool {
    routes.contains_key(key) || {
        let plain = RouteKey {
            metric: 0,
            ..key.clone()
        };
        kernel_key(&plain) == *key && routes.contains_key(&plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(of: &[(&str, u32, u8)]) -> Routes {
        let route = |hops| Route {
            hops: vec![Hop::Blackhole; usize::from(hops)],
            source: None,
        };
        let key = |prefix: &str, metric| RouteKey {
            prefix: prefix.parse().unwrap(),
            table: 254,
            metric,
        };
        of.iter()
            .map(|(prefix, metric, hops)| (key(prefix, *metric), route(*hops)))
            .collect()
    }

    fn prefixes<'a>(of: impl Iterator<Item = &'a RouteKey>) -> Vec<String> {
        of.map(|key| key.prefix.to_string()).collect()
    }

    #[test]
    fn only_what_differs_is_found() {
        let before = routes(&[
            ("10.0.0.0/8", 0, 1),
            ("10.1.0.0/16", 0, 1),
            ("10.2.0.0/16", 0, 1),
            ("fd00::/64", 0, 1),
        ]);
        let after = routes(&[
            ("9.0.0.0/8", 0, 1),
            ("10.1.0.0/16", 0, 2),
            ("10.2.0.0/16", 0, 1),
            ("fd00::/64", 1024, 1),
        ]);
        assert_eq!(
            prefixes(changed(&after, Some(&before)).map(|(key, _)| key)),
            ["9.0.0.0/8", "10.1.0.0/16", "fd00::/64"]
        );
        assert_eq!(changed(&after, None).count(), 4);
        assert_eq!(prefixes(removed(&before, &after).iter()), ["10.0.0.0/8"]);
    }

    #[test]
    fn a_metric_that_the_kernel_reads_back_otherwise_is_named() {
        let wanted = routes(&[
            ("10.0.0.0/8", 0, 1),
            ("fd00::/64", 0, 1),
            ("fd01::/64", 7, 1),
        ]);
        for (prefix, metric, expected) in [
            ("10.0.0.0/8", 0, true),
            ("10.0.0.0/8", 1024, false),
            ("fd00::/64", 1024, true),
            ("fd00::/64", 1, false),
            ("fd01::/64", 7, true),
            ("fd01::/64", 1024, false),
        ] {
            let key = RouteKey {
                prefix: prefix.parse().unwrap(),
                table: 254,
                metric,
            };
            assert_eq!(names(&wanted, &key), expected, "{prefix} metric {metric}");
        }
    }
}
