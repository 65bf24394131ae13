use std::sync::Arc;
use std::time::Instant;

use ocicat_datastore::{Backend, Memory, Store};
use ocicat_ipam::{Census, InUse};

use crate::{make_pool, now, over, request};

const NODES: usize = 100;
const EACH: usize = 1000;

/// The check and the utilisation of a large cluster.
pub(crate) async fn run() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    make_pool(&Store::new(Arc::clone(&backend)), "10.0.0.0/8").await;
    let begin = Instant::now();
    let mut in_use = Vec::new();
    for number in 0..NODES {
        let node = format!("node{number}");
        let many: Vec<_> = (0..EACH)
            .map(|n| request(&node, format!("h{number}-{n}")))
            .collect();
        let answers = over(&backend).assign_many(&many, now()).await;
        for (one, answer) in many.iter().zip(answers) {
            let address = answer.expect("an address").addresses[0].address;
            in_use.push(InUse::new(address, "a pod").held_by(&one.handle));
        }
    }
    let count = in_use.len();
    println!(
        "{NODES} nodes with {EACH} pods each, over a store of objects in memory: made in {:.2} s",
        begin.elapsed().as_secs_f64()
    );
    let ipam = over(&backend);
    let begin = Instant::now();
    let used = ipam.utilisation().await.expect("numbers");
    let blocks = used[0].blocks.len();
    println!(
        "utilisation of {count} addresses in {blocks} blocks: {:.0} ms",
        begin.elapsed().as_secs_f64() * 1e3
    );
    let census = Census::new(in_use, (0..NODES).map(|n| format!("node{n}")));
    let begin = Instant::now();
    let report = ipam.check(&census).await.expect("a report");
    assert!(report.is_clean(), "{report}");
    println!(
        "the check of them: {:.0} ms",
        begin.elapsed().as_secs_f64() * 1e3
    );
}
