//! What address management costs over real stores: `cargo bench -p ocicat-datastore --all-features --bench stores`, or, with
//! the pure core beside it, `cargo xtask bench ipam`.
//!
//! Rates are given beside that of the bare store in the same run, taken in turns, so that they can be compared on a machine
//! that does other things too; each is the median of the turns. Nothing here fails for being slow.

#[path = "../../tests/common/mod.rs"]
mod common;

mod etcd;
mod news;
mod scale;
mod sqlite;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::model::{IpPool, IpPoolSpec};
use ocicat_datastore::{Backend, Metadata, Store};
use ocicat_ipam::{AssignRequest, BlockAffine, Ipam};

fn main() {
    if news::serve() {
        return;
    }
    machine();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(sqlite::run());
    news::run(&runtime);
    runtime.block_on(etcd::run());
    runtime.block_on(scale::run());
}

/// On what, and beside what else.
fn machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    println!(
        "machine: {}, {cores} cores, Linux {}; load {}",
        model.unwrap_or("unknown"),
        kernel.trim(),
        read("/proc/loadavg").trim()
    );
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How often something was done in a second.
pub(crate) fn rate(count: u32, since: Instant) -> f64 {
    f64::from(count) / since.elapsed().as_secs_f64()
}

pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

pub(crate) async fn make_pool(store: &Store, cidr: &str) {
    let spec = IpPoolSpec {
        cidr: cidr.to_owned(),
        ..IpPoolSpec::default()
    };
    let pool = IpPool {
        metadata: Metadata::named("p"),
        spec,
        status: None,
    };
    store.create(pool).await.expect("a pool");
}

pub(crate) fn over(backend: &Arc<dyn Backend>) -> Ipam {
    let port = StoreIpam::new(Store::new(Arc::clone(backend))).remembering();
    Ipam::new(Arc::new(port), Box::new(BlockAffine))
}

pub(crate) fn request(node: &str, handle: String) -> AssignRequest {
    AssignRequest::new(node, handle)
        .v4(1)
        .attribute("namespace", "shop")
        .attribute("pod", "web")
}

/// How many batches there are in a round: fewer addresses than a host's blocks may have.
const BATCHES: u32 = 9;

/// Assigns one address after the other, and so many together; rates of addresses.
pub(crate) async fn assign(ipam: &Ipam, round: u32, single: u32, together: u32) -> (f64, f64) {
    // A block with room is there.
    let warm = request("n", format!("warm-{round}"));
    ipam.assign(&warm, now()).await.expect("an address");
    let begin = Instant::now();
    for n in 0..single {
        let one = request("n", format!("s{round}-{n}"));
        ipam.assign(&one, now()).await.expect("an address");
    }
    let alone = rate(single, begin);
    let begin = Instant::now();
    for batch in 0..BATCHES {
        let many: Vec<_> = (0..together)
            .map(|n| request("n", format!("b{round}-{batch}-{n}")))
            .collect();
        for answer in ipam.assign_many(&many, now()).await {
            answer.expect("an address");
        }
    }
    (alone, rate(BATCHES * together, begin))
}

/// Gives back what was assigned in a round, so that blocks do not run out.
pub(crate) async fn give_back(ipam: &Ipam) {
    let owner = ocicat_ipam::Owner::host("n");
    ipam.remove_host(&owner, now()).await.expect("a removal");
}
