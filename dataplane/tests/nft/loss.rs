//! Not one packet of a permitted flow is lost while the table changes: counted where it is sent, and by nft before and
//! after our chains. `cargo xtask bench dataplane` runs it at 40,000 packets a second.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ocicat_dataplane::nft::Table;

use crate::lab::*;
use crate::updates::{UPDATES, flow};
use crate::wire::{End, forwarding};

/// Packets a second of a flow that has no answers, so that each walks the policy. `OCNFT_RATE` sets another rate.
const RATE: u32 = 2_000;
/// How long each kind of update goes on.
const EACH: Duration = Duration::from_millis(400);
/// How many updates of a kind there are however slow the machine is: some of the first change nothing.
const FEWEST: usize = 8;
/// How long packets may be on their way when nobody sends any more: a machine with other work hands them on late.
const PATIENCE: Duration = Duration::from_secs(60);

const COUNT: &str = "table inet ocnft-count {
    chain before { type filter hook prerouting priority -500; iifname \"cali1\" udp dport 5000 counter; }
    chain after { type filter hook postrouting priority 500; udp dport 5000 counter; }
}";

fn counted(chain: &str) -> u64 {
    let text = run(&format!("nft -j list chain inet ocnft-count {chain}"));
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    all["nftables"][2]["rule"]["expr"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|e| e["counter"]["packets"].as_u64())
        .unwrap()
}

/// What has been dropped so far, by who says so: rules of the table, connection tracking, the network stack.
fn drops() -> BTreeMap<String, u64> {
    let mut drops = dropped_by_rules();
    dropped_by_the_stack(&mut drops);
    drops
}

fn dropped_by_rules() -> BTreeMap<String, u64> {
    let mut drops = BTreeMap::new();
    let mut chain = String::new();
    for line in run("nft list table inet ocicat").lines() {
        if let Some(name) = line.trim().strip_prefix("chain ") {
            chain = name.trim_end_matches(" {").to_owned();
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| *word == "packets") else {
            continue;
        };
        if words.contains(&"drop") {
            let what = format!(
                "{chain}: {} {}",
                words[..at].join(" "),
                words[at + 4..].join(" ")
            );
            *drops.entry(what).or_default() += words[at + 1].parse::<u64>().unwrap();
        }
    }
    drops
}

fn dropped_by_the_stack(drops: &mut BTreeMap<String, u64>) {
    let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
    let conntrack = read("/proc/thread-self/net/stat/nf_conntrack");
    let mut lines = conntrack.lines().map(str::split_whitespace);
    let names: Vec<&str> = lines.next().into_iter().flatten().collect();
    for line in lines {
        for (name, value) in names.iter().zip(line) {
            if [
                "drop",
                "early_drop",
                "error",
                "invalid",
                "insert_failed",
                "clash_resolve",
                "search_restart",
                "chainlength",
            ]
            .contains(name)
            {
                *drops.entry(format!("conntrack {name}")).or_default() +=
                    u64::from_str_radix(value, 16).unwrap_or(0);
            }
        }
    }
    let snmp = read("/proc/thread-self/net/snmp");
    let lines: Vec<Vec<&str>> = snmp
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    for pair in lines
        .chunks(2)
        .filter(|pair| pair.len() == 2 && pair[0][0] == "Ip:")
    {
        for (name, value) in pair[0].iter().zip(&pair[1]).skip(1) {
            if let Ok(value) = value.parse() {
                drops.insert(format!("ip {name}"), value);
            }
        }
    }
    for (cpu, line) in read("/proc/net/softnet_stat").lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        drops.insert(
            format!("softnet {cpu} dropped"),
            u64::from_str_radix(words[1], 16).unwrap(),
        );
    }
}

/// A flow that stands still while it is counted.
#[derive(Default)]
struct Flow {
    going: AtomicBool,
    over: AtomicBool,
    standing: AtomicBool,
    sent: AtomicU64,
}

impl Flow {
    fn send(&self) {
        let socket = UdpSocket::bind("10.65.0.2:0").unwrap();
        let rate = std::env::var("OCNFT_RATE").map_or(RATE, |text| text.parse().unwrap());
        let (mut start, mut burst) = (Instant::now(), 0);
        while !self.over.load(Ordering::SeqCst) {
            if !self.going.load(Ordering::SeqCst) {
                self.standing.store(true, Ordering::SeqCst);
                std::thread::park_timeout(Duration::from_millis(1));
                (start, burst) = (Instant::now(), 0);
                continue;
            }
            self.standing.store(false, Ordering::SeqCst);
            socket.send_to(b"x", "10.65.0.3:5000").unwrap();
            self.sent.fetch_add(1, Ordering::SeqCst);
            burst += 1;
            let due = start + Duration::from_secs(1) * burst / rate;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    /// Stops the flow, waits until what was sent has come in and gone out, and says how many: sent, come in, gone out.
    fn count(&self) -> [u64; 3] {
        self.going.store(false, Ordering::SeqCst);
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Sent is read when nobody sends any more.
            let still = self.standing.load(Ordering::SeqCst);
            let sent = self.sent.load(Ordering::SeqCst);
            let counts = [sent, counted("before"), counted("after")];
            if still && counts == [sent; 3] || Instant::now() > deadline {
                return counts;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Lets the sender end when the test fails, too.
struct Ends<'a>(&'a Flow);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

#[test]
fn no_update_loses_a_packet() {
    node(|| {
        forwarding();
        let sender = End::new("cali1", "10.65.0.2", "fd00::2");
        let receiver = End::new("cali2", "10.65.0.3", "fd00::3");
        let mut table = Table::open().unwrap();
        table.apply(&self::flow()).unwrap();
        nft(COUNT);
        let _sink = inside(&receiver.namespace, || {
            UdpSocket::bind("10.65.0.3:5000").unwrap()
        });
        let flow = Flow::default();
        std::thread::scope(|scope| {
            let _ends = Ends(&flow);
            scope.spawn(|| inside(&sender.namespace, || flow.send()));
            updates(&flow, table);
        });
    });
}

fn updates(flow: &Flow, mut table: Table) {
    let mut lost = Vec::new();
    let mut before = [0; 3];
    for (name, update) in UPDATES {
        // Each kind begins with what it is about: what another has left may not be.
        let mut state = self::flow();
        table.apply(&state).unwrap();
        let was = drops();
        flow.going.store(true, Ordering::SeqCst);
        let (start, mut number, mut changes) = (Instant::now(), 0, 0);
        while start.elapsed() < EACH || number < FEWEST {
            update(&mut state, number);
            if name == "resync" {
                table = Table::open().unwrap();
            }
            let report = table
                .apply(&state)
                .unwrap_or_else(|error| panic!("{name} {number}: {error}"));
            assert_eq!(report.failed, [], "{name} {number}");
            changes += usize::from(report.changed > 0);
            number += 1;
        }
        let idle = matches!(name, "nothing" | "resync");
        assert!(
            idle || changes * 3 >= number,
            "{name}: {changes} of {number}"
        );
        let counts = flow.count();
        let [sent, come, gone] = std::array::from_fn(|at| counts[at] - before[at]);
        before = counts;
        // The benchmark reads this line, at its own rate.
        println!(
            "{}",
            serde_json::json!({"bench": "loss", "what": name, "updates": number, "sent": sent, "out": gone})
        );
        assert!(sent > 0, "{name}: the flow stood still");
        if sent != gone {
            let now = drops();
            let more = now
                .iter()
                .filter(|(what, count)| **count > was.get(*what).copied().unwrap_or(0));
            let more: Vec<String> = more
                .map(|(what, count)| {
                    format!(
                        "{what}: {} before, {count} now",
                        was.get(what).copied().unwrap_or(0)
                    )
                })
                .collect();
            lost.push(format!(
                "{name} ({number} updates): {sent} sent, {come} came in, {gone} went out; {more:#?}"
            ));
        }
    }
    assert!(lost.is_empty(), "packets were lost: {lost:#?}");
    assert!(before[0] > 2_000, "{before:?}");
}
