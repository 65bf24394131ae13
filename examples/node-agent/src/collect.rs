//! Addresses that were taken and forgotten go back: each node judges its own, and one of them, by a lease in the
//! datastore, those of nodes that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use ocicat_datastore::Store;
use ocicat_datastore::model::Node;
use ocicat_ipam::{Collector, Evidence, Held, Ipam, Judge, Liveness, Verdict};
use tokio::sync::{mpsc, oneshot, watch};

use crate::control::Question;
use crate::drive::chain;
use crate::facts::Facts;
use crate::lease;

/// How often is looked: two or three looks fall into the grace period.
const PERIOD: Duration = Duration::from_secs(5 * 60);
/// How often the lease is renewed, or tried for.
const RENEWAL: Duration = Duration::from_secs(20);
/// The attribute of an address with the name of the link that it was taken for.
const LINK: &str = "link";
const LEASE: &str = "ocicat-ipam-collector";

type Attributes = BTreeMap<String, String>;

/// The names of the links that there are.
pub(crate) type Links = fn() -> Option<BTreeSet<String>>;

/// What the collector has done, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) released: AtomicU64,
    pub(crate) suspects: AtomicU64,
    pub(crate) blocks: AtomicU64,
    /// 1 while this agent judges the addresses of nodes that are gone.
    pub(crate) leader: AtomicU64,
}

/// What collecting needs.
pub(crate) struct Collecting {
    pub(crate) node: String,
    pub(crate) namespace: String,
    pub(crate) store: Store,
    pub(crate) ipam: Arc<Ipam>,
    pub(crate) links: Links,
    pub(crate) core: mpsc::Sender<Question>,
    pub(crate) figures: Arc<Collected>,
}

impl Collecting {
    /// Collects until the sender of facts is gone. Nothing is judged before the agent is ready, nor while
    /// the datastore is locked.
    pub(crate) async fn run(self, mut facts: watch::Receiver<Arc<Facts>>) {
        let mut own = Collector::new(Judge::Node(self.node.clone()), Collector::GRACE);
        let mut gone = Collector::new(Judge::GoneNodes, Collector::GRACE);
        let (mut seen, mut next) = (None, tokio::time::Instant::now() + first_pause());
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                ended = ended(facts.clone()) => return ended,
            }
            if !facts.borrow_and_update().may_write() {
                continue;
            }
            let leader = self.leads(&mut seen).await;
            self.figures
                .leader
                .store(u64::from(leader), Ordering::Relaxed);
            if tokio::time::Instant::now() < next {
                continue;
            }
            next = tokio::time::Instant::now() + PERIOD;
            self.sweep(&mut own, &OwnLinks(&self)).await;
            if leader {
                self.sweep(&mut gone, &GoneNodes(&self.store)).await;
            }
        }
    }

    async fn leads(&self, seen: &mut Option<(String, SystemTime)>) -> bool {
        let name = (self.namespace.as_str(), LEASE);
        match lease::acquire(&self.store, name, &self.node, SystemTime::now(), seen).await {
            Ok(leads) => leads,
            Err(error) => {
                tracing::debug!(%error, "no lease to collect addresses of nodes that are gone");
                false
            }
        }
    }

    async fn sweep(&self, collector: &mut Collector, liveness: &dyn Liveness) {
        match collector
            .sweep(&self.ipam, liveness, SystemTime::now())
            .await
        {
            Ok(sweep) => {
                let add = |counter: &AtomicU64, count: usize| {
                    counter.fetch_add(count as u64, Ordering::Relaxed);
                };
                add(&self.figures.released, sweep.released.len());
                add(&self.figures.blocks, sweep.blocks.len());
                self.figures
                    .suspects
                    .store(sweep.suspects.len() as u64, Ordering::Relaxed);
                if !sweep.released.is_empty() || !sweep.blocks.is_empty() {
                    tracing::info!(addresses = ?sweep.released, blocks = ?sweep.blocks, "nobody used these any more");
                }
            }
            Err(error) => tracing::warn!(error = chain(&error), "addresses were not collected"),
        }
    }
}

/// Somewhere in the period, so that agents that start together do not look together.
fn first_pause() -> Duration {
    let bits = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8);
    PERIOD.mul_f64(0.5 + (bits >> 40) as f64 / f64::from(1_u32 << 24) / 2.0)
}

async fn ended(mut facts: watch::Receiver<Arc<Facts>>) {
    while facts.changed().await.is_ok() {}
}

/// The node's own: an address lives while its link is there, or an endpoint says so.
struct OwnLinks<'a>(&'a Collecting);

#[async_trait]
impl Liveness for OwnLinks<'_> {
    async fn verdicts(&self, held: &[Held]) -> Vec<Verdict> {
        let links = (self.0.links)();
        let Some(endpoints) = endpoints(&self.0.core).await else {
            return vec![Verdict::Unknown; held.len()];
        };
        held.iter()
            .map(|held| own_verdict(held.address, &held.attributes, links.as_ref(), &endpoints))
            .collect()
    }
}

/// Links that endpoints of this node name; the core knows them, so that no list of the cluster's is needed.
async fn endpoints(core: &mpsc::Sender<Question>) -> Option<BTreeSet<String>> {
    let (answer, question) = oneshot::channel();
    core.send(Question::Endpoints(answer)).await.ok()?;
    let endpoints = question.await.ok()?;
    Some(endpoints.into_iter().map(|one| one.link).collect())
}

fn own_verdict(
    address: IpAddr,
    attributes: &Attributes,
    links: Option<&BTreeSet<String>>,
    endpoints: &BTreeSet<String>,
) -> Verdict {
    // Without it the address was lent to another plugin, whose links this node does not know.
    let (Some(link), Some(links)) = (attributes.get(LINK), links) else {
        return Verdict::Unknown;
    };
    let there = links.contains(link);
    if !there && endpoints.contains(link) {
        return Verdict::Unknown;
    }
    Evidence::new().attachment(there).verdict(address)
}

/// Addresses of nodes that have no Node object any more.
struct GoneNodes<'a>(&'a Store);

#[async_trait]
impl Liveness for GoneNodes<'_> {
    async fn verdicts(&self, held: &[Held]) -> Vec<Verdict> {
        let Ok(nodes) = self.0.list::<Node>().await else {
            return vec![Verdict::Unknown; held.len()];
        };
        // An empty list, or one that could not be read whole, proves nothing.
        if nodes.is_empty() || !nodes.malformed.is_empty() {
            return vec![Verdict::Unknown; held.len()];
        }
        let names: BTreeSet<&str> = nodes.iter().map(|one| one.metadata.name.as_str()).collect();
        held.iter()
            .map(|held| gone(&held.attributes, &names))
            .collect()
    }
}

fn gone(attributes: &Attributes, names: &BTreeSet<&str>) -> Verdict {
    match attributes.get("node") {
        Some(node) if !names.contains(node.as_str()) => Verdict::NodeGone,
        _ => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(list: &[(&str, &str)]) -> Attributes {
        let list = list.iter();
        list.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn an_address_lives_as_long_as_its_link() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let links = BTreeSet::from(["cali1".to_owned()]);
        let endpoints = BTreeSet::from(["cali2".to_owned()]);
        for (link, expected) in [
            (Some("cali1"), Verdict::Alive),
            (Some("cali2"), Verdict::Unknown),
            (Some("cali3"), Verdict::Dead),
            (None, Verdict::Unknown),
        ] {
            let list: Vec<_> = link.map(|link| (LINK, link)).into_iter().collect();
            let found = own_verdict(address, &attributes(&list), Some(&links), &endpoints);
            assert_eq!(found, expected, "{link:?}");
            let unread = own_verdict(address, &attributes(&list), None, &endpoints);
            assert_eq!(unread, Verdict::Unknown, "the kernel could not be read");
        }
    }

    #[test]
    fn an_address_of_a_node_that_is_not_listed_is_nobodys() {
        let names = BTreeSet::from(["b"]);
        for (node, expected) in [("a", Verdict::NodeGone), ("b", Verdict::Unknown)] {
            assert_eq!(
                gone(&attributes(&[("node", node)]), &names),
                expected,
                "{node}"
            );
        }
        assert_eq!(gone(&attributes(&[]), &names), Verdict::Unknown);
    }

    #[tokio::test]
    async fn an_empty_list_of_nodes_proves_nothing() {
        let store = Store::new(Arc::new(ocicat_datastore::Memory::new()));
        assert!(GoneNodes(&store).verdicts(&[]).await.is_empty());
    }
}
