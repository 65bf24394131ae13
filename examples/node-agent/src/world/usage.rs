//! How many addresses of which pool this node uses.

use std::collections::BTreeMap;

use ocicat_dataplane::Prefix;
use ocicat_datastore::model::IpamBlock;
use ocicat_datastore::{Object, StoreError};

use super::{Touched, World, changed, read};
use crate::network::pool_of;

/// What this node has of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolUse {
    /// The pool.
    pub pool: String,
    /// How many addresses it has; IPv6 pools have more than an integer holds.
    pub size: f64,
    /// Blocks of this node in it.
    pub blocks: usize,
    /// Addresses in use in them.
    pub in_use: usize,
    /// Addresses that this node has of other nodes' blocks.
    pub borrowed: usize,
}

/// The addresses in use in a block of this node; none in another's.
fn in_use(block: &IpamBlock, node: &str) -> Option<usize> {
    let affinity = block.spec.affinity.as_deref()?;
    let own = affinity.strip_prefix("host:") == Some(node);
    own.then(|| block.spec.allocations.iter().flatten().count())
}

impl World {
    /// Notes what is in use in a block, and where.
    pub(super) fn put_block(
        &mut self,
        object: &Object,
        block: &IpamBlock,
    ) -> Result<Touched, StoreError> {
        let name = object.name.clone();
        let range = read::prefix(object, "spec.cidr", &block.spec.cidr)?;
        let list = read::borrowed(object, block)?;
        match in_use(block, &self.own) {
            Some(count) => self.own_used.insert(name.clone(), (range, count)),
            None => self.own_used.remove(&name),
        };
        let old = if list.is_empty() {
            self.borrowed.remove(&name).unwrap_or_default()
        } else {
            self.borrowed.insert(name, list.clone()).unwrap_or_default()
        };
        Ok(changed(old != list, Touched::NETWORK))
    }

    /// Whether a claim of this node was left half done: begun and not confirmed, or without its block.
    #[must_use]
    pub fn has_unsettled(&self) -> bool {
        let blocks = self.own_used.values();
        !self.unsettled.is_empty()
            || self
                .own_blocks
                .iter()
                .any(|claimed| !blocks.clone().any(|(block, _)| block == claimed))
    }

    /// What this node has of each pool, by the pools' names.
    #[must_use]
    pub fn pool_uses(&self) -> Vec<PoolUse> {
        let of = |prefix: Prefix| {
            let pool = pool_of(&self.pools, prefix);
            self.pools
                .iter()
                .find(|(_, one)| pool.is_some_and(|pool| std::ptr::eq(*one, pool)))
        };
        let mut uses: BTreeMap<&str, PoolUse> = BTreeMap::new();
        for (name, pool) in &self.pools {
            let bits = if pool.range.is_ipv4() { 32 } else { 128 };
            let one = PoolUse {
                pool: name.clone(),
                size: 2_f64.powi(bits - i32::from(pool.range.length())),
                ..PoolUse::default()
            };
            uses.insert(name, one);
        }
        for (prefix, count) in self.own_used.values() {
            if let Some(one) = of(*prefix).and_then(|(name, _)| uses.get_mut(name.as_str())) {
                one.blocks += 1;
                one.in_use += count;
            }
        }
        for (address, node) in self.borrowed.values().flatten() {
            if *node == self.own
                && let Some((name, _)) = of(Prefix::host(*address))
                && let Some(one) = uses.get_mut(name.as_str())
            {
                one.borrowed += 1;
            }
        }
        uses.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_addresses_and_what_is_borrowed_are_counted_by_pool() {
        let mut world = World::new("n1");
        let mut put = |kind: &str, name: &str, spec: serde_json::Value| {
            let value = json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec});
            world.put(&Object::from_value(value).unwrap()).unwrap();
        };
        put("IPPool", "a", json!({"cidr": "10.0.0.0/16"}));
        put("IPPool", "six", json!({"cidr": "fd00::/64"}));
        let of = |node: &str| json!({"handle_id": "h", "secondary": {"node": node}});
        let block = |cidr: &str, owner: &str, users: &[&str]| {
            let mut allocations: Vec<Option<usize>> = (0..users.len()).map(Some).collect();
            allocations.resize(4, None);
            json!({"cidr": cidr, "affinity": format!("host:{owner}"), "allocations": allocations,
                "attributes": users.iter().map(|node| of(node)).collect::<Vec<_>>(), "unallocated": []})
        };
        put(
            "IPAMBlock",
            "10-0-0-0-30",
            block("10.0.0.0/30", "n1", &["n1", "n2", "n1"]),
        );
        put("IPAMBlock", "2", block("10.0.0.4/30", "n2", &["n1", "n2"]));
        put("IPAMBlock", "3", block("fd00::/126", "n1", &["n1"]));
        let uses = world.pool_uses();
        let counts = |one: &PoolUse| (one.pool.clone(), one.blocks, one.in_use, one.borrowed);
        assert_eq!(
            uses.iter().map(counts).collect::<Vec<_>>(),
            [("a".to_owned(), 1, 3, 1), ("six".to_owned(), 1, 1, 0)]
        );
        assert!((uses[0].size - 65536.0).abs() < 0.5);
        assert!(uses[1].size > 1e19);
        world.delete(&ocicat_datastore::Key::cluster(
            ocicat_datastore::Kind::IpamBlock,
            "10-0-0-0-30",
        ));
        assert_eq!(world.pool_uses()[0].blocks, 0);
    }
}
