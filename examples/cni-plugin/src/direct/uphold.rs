//! Containers that run and that the records do not know, as after an older copy of the datastore was put back: their
//! addresses are written down again before any is handed out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ocicat_cni::{AttachmentId, CniError};
use ocicat_dataplane::linux::{interfaces, routes_of};
use ocicat_dataplane::names;
use ocicat_dataplane::state::Hop;

/// An address that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) address: IpAddr,
    /// Whose it is, by the alias of its link.
    pub(super) attachment: AttachmentId,
}

/// Every address with a route of its own to a pod's link, in the network namespace of this thread.
pub(super) fn live() -> Result<Vec<Live>, CniError> {
    let failed = |cause| CniError::io("reading the kernel's routes to containers", cause);
    let routes = routes_of(names::ROUTE_PROTOCOL).map_err(failed)?;
    if routes.is_empty() {
        return Ok(Vec::new());
    }
    let links = interfaces().map_err(failed)?.into_iter();
    let owners: BTreeMap<_, _> = links
        .filter_map(|link| Some((link.name, attachment(&link.alias?)?)))
        .collect();
    Ok(routes
        .iter()
        .filter(|(key, _)| key.prefix.is_host())
        .filter_map(|(key, route)| {
            let [Hop::Link(link)] = route.hops.as_slice() else {
                return None;
            };
            Some(Live {
                address: key.prefix.address(),
                attachment: owners.get(link)?.clone(),
            })
        })
        .collect())
}

fn attachment(alias: &str) -> Option<AttachmentId> {
    let (container, interface) = alias.rsplit_once('/')?;
    Some(AttachmentId::new(
        container.parse().ok()?,
        interface.parse().ok()?,
    ))
}
