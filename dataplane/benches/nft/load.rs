//! A whole table: from nothing, by nft, and taken over by another process.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ocicat_dataplane::nft::{Table, render};

use crate::cluster::{ENDPOINTS, cluster};
use crate::floor::{Floor, any_generation};
use crate::{in_namespace, median, milliseconds};

pub(crate) fn bench() {
    for (name, each, apart) in [
        ("5 policies each", 5, false),
        ("200 policies each, the same", 200, false),
        ("200 policies each, every two another list", 200, true),
    ] {
        let state = cluster(each, apart);
        let mut ours = Vec::new();
        let mut transactions = Vec::new();
        let mut cpu = Vec::new();
        let mut kernel = Vec::new();
        for _ in 0..5 {
            ours.push(in_namespace(|| {
                let mut table = Table::open().unwrap();
                let (start, running) = (Instant::now(), running());
                let report = table.apply(&state).unwrap();
                let took = start.elapsed();
                cpu.push(self::running() - running);
                transactions.push((report.changed, report.transactions, report.longest));
                took
            }));
            // What a table sends is the same each time; to keep copies of it would count as its work above.
            let mut sent = Vec::new();
            in_namespace(|| {
                let mut table = Table::open().unwrap();
                table.record();
                table.apply(&state).unwrap();
                sent.extend(table.recorded().into_iter().map(any_generation));
            });
            let mut floor = in_namespace(Floor::open);
            kernel.push(sent.iter().map(|datagram| floor.send(datagram)).sum());
        }
        let text = render(&state);
        let rules = text.lines().filter(|line| line.contains("comment")).count();
        let peer = (0..3).map(|_| in_namespace(|| nft(&text))).collect();
        let adopt = in_namespace(|| {
            Table::open().unwrap().apply(&state).unwrap();
            let start = Instant::now();
            assert_eq!(Table::open().unwrap().apply(&state).unwrap().changed, 0);
            start.elapsed()
        });
        println!(
            "{{\"bench\":\"load, {ENDPOINTS} endpoints, {name}\",\"rules\":{rules},\"ms\":{},\"cpu_ms\":{},\"floor_ms\":{},\"adopt_ms\":{},\
             \"nft_ms\":{},\"operations_transactions_bytes\":\"{:?}\"}}",
            milliseconds(median(ours)),
            milliseconds(median(cpu)),
            milliseconds(median(kernel)),
            milliseconds(adopt),
            milliseconds(median(peer)),
            transactions[0],
        );
    }
}

/// How long this thread has been running, to a few milliseconds: other programs on the machine do not count.
fn running() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

pub(crate) fn nft(text: &str) -> Duration {
    let start = Instant::now();
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    start.elapsed()
}
