//! An IPAM strategy of your own: the pods of one application are spread over racks.
//!
//! Every rack has pools of its own. A request whose attribute `app` says to which application its pod belongs gets its
//! addresses from the racks in which that application has the fewest, so that the loss of a rack's network takes as
//! few pods as possible with it. Within a rack, addresses come from blocks as usual: that part is the default strategy's.
//!
//! Run `cargo test -p ocicat-example-custom-ipam`: no store, no runtime, no cluster.

use std::collections::BTreeMap;

use ocicat_ipam::{Ask, BlockAffine, Pool, Reason, Step, Strategy, View};

/// Spreads the addresses of an application over racks.
#[derive(Clone, Debug, Default)]
pub struct SpreadOverRacks {
    racks: BTreeMap<String, String>,
}

impl SpreadOverRacks {
    /// A pool, by its name, belongs to a rack. A pool that belongs to none is a rack of its own.
    #[must_use]
    pub fn pool(mut self, pool: &str, rack: &str) -> Self {
        self.racks.insert(pool.to_owned(), rack.to_owned());
        self
    }

    fn rack<'a>(&'a self, pool: &'a Pool) -> &'a str {
        self.racks.get(&pool.name).unwrap_or(&pool.name)
    }

    /// How many addresses an application has in each rack.
    fn held<'a>(&'a self, app: &str, pools: &'a [Pool], view: &View) -> BTreeMap<&'a str, usize> {
        let mut held = BTreeMap::new();
        for block in view.blocks() {
            let Some(pool) = pools.iter().find(|pool| pool.has_block(&block.cidr())) else {
                continue;
            };
            let of_app = |attributes: &BTreeMap<String, String>| {
                attributes.get("app").is_some_and(|found| found == app)
            };
            let count = block
                .held()
                .filter(|(_, by)| of_app(&by.attributes))
                .count();
            *held.entry(self.rack(pool)).or_default() += count;
        }
        held
    }
}

impl Strategy for SpreadOverRacks {
    fn next(&self, ask: &Ask<'_>, view: &View) -> Step {
        let Some(app) = ask.request.attributes.get("app") else {
            return BlockAffine.next(ask, view);
        };
        // Where the application has its addresses is known once everybody's blocks are.
        if !view.surveyed() {
            return Step::Survey;
        }
        let held = self.held(app, ask.pools, view);
        let mut pools: Vec<&Pool> = ask.pools.iter().collect();
        pools.sort_by_key(|pool| held.get(self.rack(pool)).copied().unwrap_or(0));
        let mut last = Step::Stop(Reason::Other("no pool to spread over".to_owned()));
        for pool in pools {
            // One address at a time: the next may belong into another rack.
            let ask = Ask {
                pools: std::slice::from_ref(pool),
                missing: 1,
                ..*ask
            };
            last = BlockAffine.next(&ask, view);
            if !matches!(last, Step::Stop(_)) {
                return last;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests;
