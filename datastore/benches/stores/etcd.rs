use std::sync::Arc;
use std::time::Instant;

use ocicat_datastore::{Backend, Store};

use crate::common::Server;
use crate::{assign, give_back, make_pool, median, now, over, rate, request};

const ROUNDS: u32 = 3;
const PUTS: u32 = 100;
const NODES: usize = 1000;
const AT_ONCE: usize = 50;

/// Addresses in a second beside puts in the same etcd, and a thousand nodes that start.
pub(crate) async fn run() {
    let server = Server::start();
    let backend: Arc<dyn Backend> = Arc::new(server.store());
    make_pool(&Store::new(Arc::clone(&backend)), "10.0.0.0/8").await;
    let mut raw = etcd_client::Client::connect([server.url()], None)
        .await
        .expect("a client");
    let ipam = over(&backend);
    let (mut bare, mut alone, mut together) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begin = Instant::now();
        for number in 0..PUTS {
            let key = format!("/bench/{number}");
            raw.put(key, "one row", None).await.expect("a put");
        }
        bare.push(rate(PUTS, begin));
        let (single, batched) = assign(&ipam, round, PUTS, 100).await;
        alone.push(single);
        together.push(batched);
        give_back(&ipam).await;
    }
    println!("etcd: {:.0} puts a second, one by one", median(bare));
    println!(
        "etcd: {:.0} addresses a second one by one, {:.0} by the hundred",
        median(alone),
        median(together)
    );
    start_nodes(&server).await;
}

/// Every node reads its claims, looks at all blocks, claims one and takes an address of it.
async fn start_nodes(server: &Server) {
    let begin = Instant::now();
    let mut slowest = 0.0_f64;
    for first in (0..NODES).step_by(AT_ONCE) {
        let mut starting = Vec::new();
        for number in first..first + AT_ONCE {
            let backend: Arc<dyn Backend> = Arc::new(server.store());
            starting.push(tokio::spawn(async move {
                let begin = Instant::now();
                let node = format!("node{number}");
                let one = request(&node, format!("first-{number}"));
                let got = over(&backend).assign(&one, now()).await;
                got.expect("an address");
                begin.elapsed().as_secs_f64()
            }));
        }
        for node in starting {
            slowest = slowest.max(node.await.expect("a node"));
        }
    }
    println!(
        "etcd: {NODES} nodes have their first address after {:.2} s, {AT_ONCE} at a time; the slowest after {slowest:.2} s",
        begin.elapsed().as_secs_f64()
    );
}
