//! What a node announces to its BGP peers. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_dataplane::Prefix;
use ocicat_dataplane::state::LinkName;

use crate::network::{PoolView, pool_of};

/// The node's blocks, and the addresses of its pods that lie in no block of its own (borrowed ones: others reach them
/// by the longer prefix). Only what lies in a pool that is exported.
#[must_use]
pub fn originations(
    pools: &BTreeMap<String, PoolView>,
    own_blocks: &BTreeSet<Prefix>,
    pods: &BTreeMap<IpAddr, LinkName>,
) -> BTreeSet<Prefix> {
    let exported = |prefix: &Prefix| pool_of(pools, *prefix).is_some_and(|pool| pool.export);
    let borrowed = pods
        .keys()
        .filter(|address| !own_blocks.iter().any(|block| block.contains(**address)))
        .map(|address| Prefix::host(*address));
    own_blocks
        .iter()
        .copied()
        .chain(borrowed)
        .filter(exported)
        .collect()
}

#[cfg(test)]
mod tests {
    use ocicat_dataplane::hop::Encapsulation;

    use super::*;

    #[test]
    fn blocks_and_borrowed_addresses_of_exported_pools_are_announced() {
        let pool = |range: &str, export| PoolView {
            range: range.parse().unwrap(),
            encapsulation: Encapsulation::default(),
            nat_outgoing: false,
            disabled: false,
            export,
        };
        let pools = BTreeMap::from([
            ("a".to_owned(), pool("10.0.0.0/16", true)),
            ("quiet".to_owned(), pool("10.1.0.0/16", false)),
        ]);
        let blocks =
            ["10.0.0.0/26", "10.1.0.0/26", "172.16.0.0/26"].map(|block| block.parse().unwrap());
        let pods = ["10.0.0.5", "10.0.9.9", "10.1.9.9"]
            .map(|address| (address.parse().unwrap(), LinkName::new("cali0").unwrap()));
        let found = originations(&pools, &BTreeSet::from(blocks), &BTreeMap::from(pods));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.0/26", "10.0.9.9/32"]);
    }
}
