//! Prometheus metrics: Felix's names where the meaning is the same, `ocicat_` otherwise.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeGaugeValue;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use crate::collect::Collected;
use crate::control::{Peer, PolicyCounters, Question, Serving};
use crate::figures::Figures;
use crate::world::PoolUse;

mod cni;

pub(crate) use cni::{CniMeters, Metered};

type Labels = Vec<(&'static str, String)>;

/// What is measured while the agent works.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    /// How long it took to bring the kernel to a state, in seconds.
    pub(crate) apply: Histogram,
    /// How long it took to compute a state, in seconds.
    pub(crate) compute: Histogram,
    /// How long it took to bring the kernel to a state after it was read anew, in seconds.
    pub(crate) resync: Histogram,
    /// Requests of the CNI plugin.
    pub(crate) cni: CniMeters,
}

impl Default for Meters {
    fn default() -> Self {
        // A tenth of a millisecond to some thirteen seconds.
        let times = || Histogram::new(exponential_buckets(0.0001, 2.0, 18));
        Self {
            apply: times(),
            compute: times(),
            resync: times(),
            cni: CniMeters::default(),
        }
    }
}

/// Where the figures come from.
pub(crate) struct Metrics {
    pub(crate) serving: Serving,
    pub(crate) meters: Meters,
    pub(crate) collected: Arc<Collected>,
}

struct Page(Registry);

impl Page {
    fn gauge<N>(&mut self, name: &str, help: &str, value: N)
    where
        N: EncodeGaugeValue + fmt::Debug + Send + Sync + Clone + 'static,
    {
        self.0.register(name, help, ConstGauge::new(value));
    }

    fn count(&mut self, name: &str, help: &str, value: usize) {
        self.gauge(name, help, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn total(&mut self, name: &str, help: &str, value: u64) {
        self.0.register(name, help, ConstCounter::new(value));
    }

    fn labelled(&mut self, name: &str, help: &str, values: impl Iterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }
}

impl Metrics {
    /// The page that Prometheus reads.
    ///
    /// # Errors
    /// When the core does not answer.
    pub(crate) async fn text(&self) -> Result<String, String> {
        let asked = async {
            let (answer, figures) = oneshot::channel();
            let _ = self.serving.core.send(Question::Figures(answer)).await;
            figures.await.ok()
        };
        let figures = tokio::time::timeout(Duration::from_secs(5), asked).await;
        let figures = figures.ok().flatten().ok_or("the core does not answer\n")?;
        // Without counters the page has less, and that is all.
        let counters = self.serving.counters().await.unwrap_or_default();
        written(&figures, &self.meters, &self.collected, &counters)
    }
}

fn written(
    figures: &Figures,
    meters: &Meters,
    collected: &Collected,
    counters: &PolicyCounters,
) -> Result<String, String> {
    let mut page = Page(Registry::default());
    felix(&mut page, figures);
    felix_work(&mut page, figures);
    felix_times(&mut page, figures, meters);
    own(&mut page, figures);
    addresses(&mut page, figures);
    self::collected(&mut page, collected);
    peers(&mut page, &figures.peers);
    policies(&mut page, counters);
    meters.cni.show(&mut page);
    let mut text = String::new();
    encode(&mut text, &page.0).map_err(|error| error.to_string())?;
    Ok(text)
}

/// What Felix measures too, under its names.
fn felix(page: &mut Page, figures: &Figures) {
    page.count(
        "felix_active_local_endpoints",
        "Endpoints of this node under policy",
        figures.local_endpoints,
    );
    page.count(
        "felix_active_local_policies",
        "Policies in force on this node",
        figures.local_policies,
    );
    page.count(
        "felix_cluster_num_hosts",
        "Nodes of the cluster",
        figures.nodes,
    );
    page.count(
        "felix_cluster_num_workload_endpoints",
        "Pods of the cluster",
        figures.workloads,
    );
    page.count(
        "felix_cluster_num_policies",
        "Policies of the cluster",
        figures.cluster_policies,
    );
    page.count(
        "felix_ipsets_calico",
        "Sets that rules refer to",
        figures.sets,
    );
    page.count(
        "felix_route_table_num_routes",
        "Routes that this node should have",
        figures.routes,
    );
}

/// Felix's own inner workings.
fn felix_work(page: &mut Page, figures: &Figures) {
    let state: i64 = match (figures.in_sync, figures.connected) {
        (true, _) => 3,
        (false, true) => 2,
        (false, false) => 1,
    };
    page.gauge(
        "felix_resync_state",
        "1 waits for the datastore, 2 reads it, 3 in sync",
        state,
    );
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    page.gauge(
        "felix_int_dataplane_failures",
        "Times that the kernel could not be programmed",
        number(figures.failed_applies),
    );
    page.gauge(
        "felix_calc_graph_updates_processed",
        "Objects taken in",
        number(figures.updates),
    );
    page.count(
        "felix_active_local_selectors",
        "Selectors in use on this node",
        figures.selectors,
    );
    page.gauge(
        "felix_label_index_selector_evals",
        "Evaluations of selectors so far",
        number(figures.evaluations),
    );
    page.gauge(
        "felix_nft_errors",
        "Parts of policy that nftables refused so far",
        number(figures.refused),
    );
    page.gauge(
        "felix_log_errors",
        "Errors in the log so far",
        number(crate::log::errors()),
    );
}

/// How long things take, as Felix calls it.
fn felix_times(page: &mut Page, figures: &Figures, meters: &Meters) {
    page.gauge(
        "felix_int_dataplane_initial_resync_time_seconds",
        "Time from the start until the first complete state was in the kernel; 0 before",
        figures.first_ready.unwrap_or_default().as_secs_f64(),
    );
    page.0.register(
        "felix_route_table_resync_seconds",
        "Time to read the kernel anew and to bring it to a state, in seconds",
        meters.resync.clone(),
    );
    let help = "Time to bring the kernel to a state, in seconds";
    page.0.register(
        "felix_int_dataplane_apply_time_seconds",
        help,
        meters.apply.clone(),
    );
    let help = "Time to compute a state, in seconds";
    page.0.register(
        "felix_calc_graph_update_time_seconds",
        help,
        meters.compute.clone(),
    );
}

fn own(page: &mut Page, figures: &Figures) {
    let truth = |value: bool| i64::from(value);
    page.gauge(
        "ocicat_ready",
        "1 when the first complete state is in the kernel, and the datastore is not locked",
        truth(figures.ready),
    );
    page.gauge(
        "ocicat_datastore_locked",
        "1 while the datastore is locked",
        truth(figures.locked),
    );
    page.gauge(
        "ocicat_datastore_connected",
        "1 when the last word of the datastore was no error",
        truth(figures.connected),
    );
    page.gauge(
        "ocicat_restored",
        "1 while the agent lives by its snapshot",
        truth(figures.restored),
    );
    page.gauge(
        "ocicat_draining",
        "1 while the node is drained",
        truth(figures.draining),
    );
    own_counts(page, figures);
}

fn own_counts(page: &mut Page, figures: &Figures) {
    page.count(
        "ocicat_ipam_blocks",
        "Address blocks of this node",
        figures.own_blocks,
    );
    page.count(
        "ocicat_bgp_routes_learned",
        "Prefixes with a best path from a peer",
        figures.learned,
    );
    page.count(
        "ocicat_bgp_routes_announced",
        "Prefixes that this node announces",
        figures.announced,
    );
    page.count(
        "ocicat_bgp_origin_violations",
        "Routes whose announcer has no claim to them",
        figures.astray,
    );
    page.count(
        "ocicat_dataplane_failed_objects",
        "Objects that are not in the kernel as they should be",
        figures.failures,
    );
    page.count(
        "ocicat_problems",
        "Objects that cannot be followed as they are written",
        figures.problems,
    );
    page.count(
        "ocicat_waits",
        "Requests that wait for the kernel",
        figures.waits,
    );
    page.total(
        "ocicat_applies",
        "States that were given to the kernel",
        figures.applies,
    );
}

/// Addresses of this node, by pool: the sum over the nodes is the cluster's.
fn addresses(page: &mut Page, figures: &Figures) {
    type Value = fn(&PoolUse) -> usize;
    let each: [(&str, &str, Value); 3] = [
        ("ipam_blocks", "Blocks of the node", |one| one.blocks),
        (
            "ipam_allocations_in_use",
            "Addresses in use in the node's blocks",
            |one| one.in_use,
        ),
        (
            "ipam_allocations_borrowed",
            "Addresses that the node has of other nodes' blocks",
            |one| one.borrowed,
        ),
    ];
    for (name, help, value) in each {
        let values = figures.pools.iter().map(|one| {
            let labels = vec![("ippool", one.pool.clone()), ("node", figures.node.clone())];
            (labels, value(one) as u64)
        });
        page.labelled(name, help, values);
    }
    let sizes = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    for one in &figures.pools {
        let labels = vec![("ippool", one.pool.clone())];
        sizes.get_or_create(&labels).set(one.size);
    }
    page.0
        .register("ipam_ippool_size", "Addresses of the pool", sizes);
}

fn collected(page: &mut Page, figures: &Collected) {
    let value = |one: &AtomicU64| one.load(Ordering::Relaxed);
    page.total(
        "ocicat_ipam_collected_addresses",
        "Addresses that nobody used any more",
        value(&figures.released),
    );
    page.total(
        "ocicat_ipam_collected_blocks",
        "Blocks given up because they stayed empty",
        value(&figures.blocks),
    );
    let number = |one: u64| i64::try_from(one).unwrap_or(i64::MAX);
    page.gauge(
        "ipam_allocations_gc_candidates",
        "Addresses that seem to be unused",
        number(value(&figures.suspects)),
    );
    page.gauge(
        "ocicat_ipam_collector",
        "1 while this agent collects for nodes that are gone",
        number(value(&figures.leader)),
    );
}

fn peers(page: &mut Page, peers: &[Peer]) {
    let labels = |peer: &Peer| -> Labels {
        vec![("peer", peer.address.clone()), ("type", peer.kind.clone())]
    };
    let mut each = |name: &str, help: &str, value: fn(&Peer) -> u64| {
        page.labelled(
            name,
            help,
            peers.iter().map(|peer| (labels(peer), value(peer))),
        );
    };
    each(
        "ocicat_bgp_peer_established",
        "1 when routes are exchanged",
        |peer| u64::from(peer.established),
    );
    each(
        "ocicat_bgp_peer_routes",
        "Routes learned from the peer",
        |peer| peer.routes as u64,
    );
    each(
        "ocicat_bgp_peer_updates",
        "UPDATE messages received",
        |peer| peer.updates,
    );
    each(
        "ocicat_bgp_peer_sessions",
        "Sessions that were established",
        |peer| peer.sessions,
    );
}

fn policies(page: &mut Page, counters: &PolicyCounters) {
    let packets = counters.policies.iter().map(|one| {
        let labels = vec![
            ("policy", one.policy.clone()),
            ("direction", one.direction.clone()),
        ];
        (labels, one.rules.iter().map(|rule| rule.packets).sum())
    });
    page.labelled(
        "ocicat_policy_packets",
        "Packets that rules of the policy have met",
        packets,
    );
    let dropped = counters.drops.iter();
    let dropped = dropped.map(|one| (vec![("reason", one.rule.clone())], one.packets));
    page.labelled(
        "ocicat_dropped_packets",
        "Packets that were dropped, by reason",
        dropped,
    );
    // Felix has a table for each version of IP; here one has both.
    let table = || -> Labels {
        let labels = [("ip_version", "inet"), ("table", "ocicat")];
        labels.map(|(name, value)| (name, value.to_owned())).into()
    };
    let one = |count: Option<usize>| count.map(|count| (table(), count as u64)).into_iter();
    let help = "Chains in the kernel";
    page.labelled("felix_nft_chains", help, one(counters.chains));
    let help = "Rules in the kernel";
    page.labelled("felix_nft_rules", help, one(counters.rules));
}

#[cfg(test)]
mod tests;
