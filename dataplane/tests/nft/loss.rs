//! Not one packet of a permitted flow is lost while the table changes: counted by nft before and after our chains.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocicat_dataplane::State;
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{
    Action, EndTier, Policy, PolicyId, ProfileId, Protocol, Rule, Set, SetId,
};

use crate::lab::*;
use crate::wire::{End, forwarding};

/// Packets a second of a flow that has no answers, so that each walks the policy. `OCNFT_RATE` sets another rate.
const RATE: u32 = 2_000;
/// How long each kind of update goes on.
const EACH: Duration = Duration::from_millis(400);

const COUNT: &str = "table inet ocnft-count {
    chain before { type filter hook prerouting priority -500; iifname \"cali1\" udp dport 5000 counter; }
    chain after { type filter hook postrouting priority 500; udp dport 5000 counter; }
}";

fn flow() -> State {
    let mut state = small();
    let policy = Policy {
        ingress: vec![allow_from("s:senders", Protocol::UDP, 5000)],
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("np/default/default/flow"), policy.into());
    state
        .sets
        .insert(SetId::new("s:senders"), Set::new([host("10.65.0.2")]));
    let ingress = vec![tier(&["np/default/default/flow"])];
    let receiver = workload(&["10.65.0.3", "fd00::3"], ingress, Vec::new());
    state.workloads.insert(link("cali2"), receiver.into());
    state
}

/// Changes the state, differently for odd and even numbers.
type Update = fn(&mut State, usize);

fn rules(state: &mut State, number: usize) {
    let mut policy = Policy {
        ingress: vec![allow_from("s:senders", Protocol::UDP, 5000)],
        egress: Vec::new(),
    };
    for _ in 0..number % 3 {
        policy.ingress.insert(0, Rule::new(Action::Log));
    }
    if number % 2 == 0 {
        // Nothing of the chain stays.
        policy.ingress = vec![Rule {
            protocol: Some(Protocol::UDP),
            ..Rule::new(Action::Allow)
        }];
    }
    state
        .policies
        .insert(PolicyId::new("np/default/default/flow"), policy.into());
}

fn members(state: &mut State, number: usize) {
    let set = state.sets.get_mut(&SetId::new("s:senders")).unwrap();
    for at in 0..50 {
        let member = host(&format!("10.66.{}.{at}", number % 200));
        set.insert(member);
    }
    let old = number.saturating_sub(1) % 200;
    for at in 0..50 {
        set.remove(&host(&format!("10.66.{old}.{at}")));
    }
}

fn ranges(state: &mut State, number: usize) {
    // From a hash set to one of ranges and back: another set each time, and other rules.
    let set = state.sets.get_mut(&SetId::new("s:senders")).unwrap();
    let wide = range("10.65.0.0/24");
    if number % 2 == 0 {
        set.insert(wide)
    } else {
        set.remove(&wide)
    };
}

fn cover(state: &mut State, number: usize) {
    // A range set whose elements cover each other in turn.
    let set = state.sets.get_mut(&SetId::new("s:senders")).unwrap();
    set.insert(range("172.16.0.0/12"));
    for (at, text) in ["10.65.0.0/24", "10.64.0.0/15", "10.0.0.0/8"]
        .into_iter()
        .enumerate()
    {
        if (number >> at) % 2 == 0 {
            set.insert(range(text))
        } else {
            set.remove(&range(text))
        };
    }
}

fn nets(state: &mut State, number: usize) {
    // The rule's own ranges: a new fixed set each time.
    let mut rule = Rule::new(Action::Allow);
    rule.source.nets = vec![
        net("10.65.0.0/24"),
        net(&format!("10.70.{}.0/24", number % 200)),
    ];
    let policy = Policy {
        ingress: vec![rule],
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("np/default/default/flow"), policy.into());
}

fn endpoints(state: &mut State, number: usize) {
    for at in 0..20 {
        let name = link(&format!("calix{at}"));
        if (number + at) % 2 == 0 {
            let address = format!("10.65.1.{at}");
            let web = vec![tier(&["np/default/default/web"])];
            let pod = workload(&[&address], web, Vec::new());
            state.workloads.insert(name, pod.into());
        } else {
            state.workloads.remove(&name);
        }
    }
}

fn tiers(state: &mut State, number: usize) {
    let mut first = tier(&["np/default/default/web"]);
    first.end = EndTier::Pass;
    let mut all = vec![tier(&["np/default/default/flow"])];
    if number % 2 == 0 {
        all.insert(0, first);
    }
    let receiver = workload(&["10.65.0.3", "fd00::3"], all, Vec::new());
    state.workloads.insert(link("cali2"), receiver.into());
}

fn profiles(state: &mut State, number: usize) {
    let mut profile = allow_all();
    profile
        .egress
        .splice(0..0, vec![Rule::new(Action::Log); number % 4]);
    state
        .profiles
        .insert(ProfileId::new("kns.default"), profile.into());
}

fn nothing(_: &mut State, _: usize) {}

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

#[test]
fn no_update_loses_a_packet() {
    node(|| {
        forwarding();
        let sender = End::new("cali1", "10.65.0.2", "fd00::2");
        let receiver = End::new("cali2", "10.65.0.3", "fd00::3");
        let mut state = flow();
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        nft(COUNT);
        let _sink = inside(&receiver.namespace, || {
            UdpSocket::bind("10.65.0.3:5000").unwrap()
        });
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let _stop = StopOnDrop(&stop);
            let sending = scope.spawn(|| {
                inside(&sender.namespace, || send(&stop));
            });
            let updates: [(&str, Update); 10] = [
                ("nothing", nothing),
                ("rules", rules),
                ("members", members),
                ("ranges", ranges),
                ("cover", cover),
                ("nets", nets),
                ("endpoints", endpoints),
                ("tiers", tiers),
                ("profiles", profiles),
                ("resync", nothing),
            ];
            for (name, update) in updates {
                let (start, mut number) = (Instant::now(), 0);
                while start.elapsed() < EACH {
                    update(&mut state, number);
                    if name == "resync" {
                        table = Table::open().unwrap();
                    }
                    table
                        .apply(&state)
                        .unwrap_or_else(|error| panic!("{name} {number}: {error}"));
                    number += 1;
                }
                // What has come in by now has gone out when the next count is read.
                let (before, after) = (counted("before"), counted("after"));
                eprintln!("{name}: {number} updates, {after} of at least {before} packets");
                assert!(after >= before, "{name} lost {} packets", before - after);
            }
            stop.store(true, Ordering::Relaxed);
            sending.join().unwrap();
        });
        let (before, after) = (counted("before"), counted("after"));
        assert!(before > 5_000, "{before}");
        assert_eq!(before, after, "packets were lost");
    });
}

/// Lets the sender end when the test fails, too.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn send(stop: &AtomicBool) {
    let socket = UdpSocket::bind("10.65.0.2:0").unwrap();
    let rate = std::env::var("OCNFT_RATE").map_or(RATE, |text| text.parse().unwrap());
    let start = Instant::now();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        socket.send_to(b"x", "10.65.0.3:5000").unwrap();
        sent += 1;
        let due = start + Duration::from_secs(1) * sent / rate;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
