//! What the agent asks the kernel directly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_dataplane::linux;
use ocicat_dataplane::names;
use ocicat_dataplane::state::{Hop, Route, RouteKey};

use super::AgentError;
use crate::control::KernelPart;

/// What diagnostics have of the kernel.
pub(super) const KERNEL: &[KernelPart] = &[
    ("kernel-routes.txt", || {
        match linux::routes_of(names::ROUTE_PROTOCOL) {
            Ok(routes) => routes
                .iter()
                .map(|(key, route)| format!("{key:?} {route:?}\n"))
                .collect(),
            Err(error) => error.to_string(),
        }
    }),
    ("kernel-interfaces.txt", || match linux::interfaces() {
        Ok(interfaces) => interfaces.iter().map(|one| format!("{one:?}\n")).collect(),
        Err(error) => error.to_string(),
    }),
];

/// The names of all links; none when the kernel cannot be read.
pub(super) fn links_of_pods() -> Option<BTreeSet<String>> {
    let found = linux::interfaces().ok()?;
    Some(found.into_iter().map(|one| one.name.to_string()).collect())
}

/// What an earlier agent left in the kernel: whether there is anything, and its routes by way of others, which are
/// kept until BGP has told what is so now.
pub(super) fn predecessors_routes() -> Result<(bool, BTreeMap<RouteKey, Route>), AgentError> {
    let routes = linux::routes_of(names::ROUTE_PROTOCOL)
        .map_err(|error| AgentError::Kernel(Box::new(error)))?;
    let by_others = |route: &Route| route.hops.iter().all(|hop| matches!(hop, Hop::Via { .. }));
    let found = !routes.is_empty();
    Ok((
        found,
        routes
            .into_iter()
            .filter(|(_, route)| by_others(route))
            .collect(),
    ))
}

/// How the kernel reaches an address that is no neighbour.
pub(super) fn way_to(address: IpAddr) -> Option<Hop> {
    let way = linux::way_to(address).ok()??;
    let gateway = way.gateway?;
    Some(Hop::Via {
        gateway,
        link: way.link,
        onlink: false,
    })
}
