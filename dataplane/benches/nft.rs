//! Speed of the nftables table: ours, a peer (`nft -f` of the same table) and a floor (the same messages, made
//! beforehand, on one socket) in one run. Needs root or `unshare -Urnm`; prints one JSON object a line.
//!
//! `cargo bench -p ocicat-dataplane --features linux,testing --bench nft [-- load | changes | connections]`

#![allow(missing_docs, reason = "a program")]

use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

#[path = "nft/changes.rs"]
mod changes;
#[path = "nft/cluster.rs"]
mod cluster;
#[path = "nft/connections.rs"]
mod connections;
#[path = "nft/floor.rs"]
mod floor;
#[path = "nft/load.rs"]
mod load;
#[path = "../tests/common/netfilter.rs"]
mod netfilter;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    machine();
    if wanted("load") {
        load::bench();
    }
    if wanted("changes") {
        in_namespace(changes::bench);
    }
    if wanted("connections") {
        in_namespace(connections::bench);
    }
}

/// Says what it runs on: what is measured means nothing without.
fn machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    println!(
        "{{\"bench\":\"machine\",\"cpus\":{cpus},\"model\":\"{}\",\"kernel\":\"{}\",\"load\":\"{}\"}}",
        model.unwrap_or("").trim_start_matches(['\t', ' ', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").trim()
    );
}

pub(crate) fn in_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root or under `unshare -Urnm`");
            work()
        };
        scope.spawn(run).join().unwrap()
    })
}

pub(crate) fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

pub(crate) fn microseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000_000.0).round() / 10.0
}
