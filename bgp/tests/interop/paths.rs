//! Beyond the base protocol: several paths per prefix (RFC 7911), IPv4 routes over IPv6 next hops (RFC 8950), long
//! messages (RFC 8654), roles (RFC 9234).

use std::net::IpAddr;

use ocicat_bgp::{AddPath, Attributes, Families, PeerConfig, Role, State};

use super::exabgp::{exabgp, heard, it};
use super::gobgp::gobgp;
use super::lab::{Lab, until};
use super::ours::{OUR_V4, Ours, THEIR_V4, THEIR_V6, peer, prefix, speaker};

const EVERY_PATH: AddPath = AddPath::both(Families::BOTH);

/// The identifiers of the paths that we have.
fn ids(ours: &Ours, prefix: &str) -> Vec<u32> {
    let routes = ours.routes();
    let route = routes.iter().find(|route| route.prefix == self::prefix(prefix));
    let mut ids: Vec<u32> = route.map_or(Vec::new(), |route| {
        route.paths.iter().map(|path| path.path_id).collect()
    });
    ids.sort_unstable();
    ids
}

fn two_more_paths(ours: &Ours, next_hop: [u8; 4]) {
    // The neighbour's own route once more by way of us: with it there are two paths to send back.
    let attributes = Attributes::builder().next_hop(IpAddr::from(next_hop)).med(9);
    ours.handle.originate(prefix(THEIR_V4), attributes.build());
}
