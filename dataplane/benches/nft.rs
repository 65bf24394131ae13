//! Speed of the nftables table: ours and a peer (`nft -f` of the same table) in one run. Needs root or
//! `unshare -Urnm`; prints one JSON object a line.
//!
//! `cargo bench -p ocicat-dataplane --features linux --bench nft`

#![allow(missing_docs, reason = "a program")]

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use ocicat_dataplane::nft::{Table, render};
use ocicat_dataplane::state::{
    Action, EndTier, LinkName, Member, Policy, PolicyId, PortRange, Protocol, Rule, Set, SetId,
    Tier, Workload,
};
use ocicat_dataplane::{Prefix, State};

const ENDPOINTS: usize = 1_000;
const POLICIES: usize = 200;

fn main() {
    for (name, each, apart) in [
        ("5 policies each", 5, false),
        ("200 policies each, the same", 200, false),
        ("200 policies each, every list different", 200, true),
    ] {
        let state = cluster(each, apart);
        let mut ours = Vec::new();
        let mut transactions = Vec::new();
        let mut cpu = Vec::new();
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
            "{{\"what\":\"load, {ENDPOINTS} endpoints, {name}\",\"rules\":{rules},\"ms\":{},\"cpu_ms\":{},\"adopt_ms\":{},\
             \"nft_ms\":{},\"operations_transactions_bytes\":\"{:?}\"}}",
            milliseconds(median(ours)),
            milliseconds(median(cpu)),
            milliseconds(adopt),
            milliseconds(median(peer)),
            transactions[0],
        );
    }
    in_namespace(changes);
}

/// Small changes in a large table.
fn changes() {
    let mut state = cluster(5, false);
    let many = (0..100_000_u32).map(|n| address(0x0a80_0000 + n));
    state.sets.insert(SetId::new("s:many"), Set::new(many));
    use_set(&mut state, "s:many");
    let mut table = Table::open().unwrap();
    table.apply(&state).unwrap();
    let same = samples(1_000, || {
        assert_eq!(table.apply(&state).unwrap().changed, 0)
    });
    println!(
        "{{\"what\":\"unchanged state\",\"us_p50\":{}}}",
        microseconds(median(same))
    );

    let id = SetId::new("s:0");
    let mut number = 0;
    let one = samples(1_000, || {
        let set = state.sets.get_mut(&id).unwrap();
        set.remove(&address(0x0b00_0000 + number));
        number += 1;
        set.insert(address(0x0b00_0000 + number));
    });
    let own = microseconds(median(one));
    let mut element = Vec::new();
    for _ in 0..1_000 {
        let set = state.sets.get_mut(&id).unwrap();
        number += 1;
        set.insert(address(0x0b00_0000 + number));
        let start = Instant::now();
        assert_eq!(table.apply(&state).unwrap().changed, 1);
        element.push(start.elapsed());
    }
    println!(
        "{{\"what\":\"one element, 100k elsewhere\",\"us_p50\":{},\"state_us\":{own}}}",
        microseconds(median(element)),
    );
    larger_changes(&mut table, &mut state);
}

/// Changes that make the kernel look at all jumps again.
fn larger_changes(table: &mut Table, state: &mut State) {
    let mut replaced = Vec::new();
    for number in 0..200_u16 {
        let id = PolicyId::new(&format!("np/default/default/{}", number % 200));
        state
            .policies
            .insert(id, policy(usize::from(number), 1_000 + number));
        let start = Instant::now();
        assert!(table.apply(state).unwrap().changed > 0);
        replaced.push(start.elapsed());
    }
    println!(
        "{{\"what\":\"one policy replaced\",\"us_p50\":{}}}",
        microseconds(median(replaced))
    );

    let mut added = Vec::new();
    for number in 0..200 {
        let (name, pod) = workload(5_000 + number, 5, false);
        state.workloads.insert(name, pod);
        let start = Instant::now();
        assert!(table.apply(state).unwrap().changed > 0);
        added.push(start.elapsed());
    }
    println!(
        "{{\"what\":\"one endpoint added\",\"us_p50\":{}}}",
        microseconds(median(added))
    );
}

fn cluster(each: usize, apart: bool) -> State {
    let mut state = State::default();
    for number in 0..POLICIES {
        let id = PolicyId::new(&format!("np/default/default/{number}"));
        state.policies.insert(id, policy(number, 80));
        let members = (0..20_u32).map(|n| address(0x0a41_0000 + n * 7));
        state
            .sets
            .insert(SetId::new(&format!("s:{number}")), Set::new(members));
    }
    for number in 0..ENDPOINTS {
        let (name, pod) = workload(number, each, apart);
        state.workloads.insert(name, pod);
    }
    state
}

fn policy(number: usize, port: u16) -> Arc<Policy> {
    let rule = |port| {
        let mut rule = Rule::new(Action::Allow);
        rule.protocol = Some(Protocol::TCP);
        rule.source.sets.push(SetId::new(&format!("s:{number}")));
        rule.destination.ports.push(PortRange {
            first: port,
            last: port,
        });
        rule
    };
    Arc::new(Policy {
        ingress: vec![rule(port), rule(port + 1)],
        egress: Vec::new(),
    })
}

fn workload(number: usize, each: usize, apart: bool) -> (LinkName, Arc<Workload>) {
    let step = if apart {
        [1, 3, 7, 9, 11, 13, 17, 19][number % 8]
    } else {
        1
    };
    let start = if each == POLICIES && !apart {
        0
    } else {
        number * 37
    };
    let policies = (0..each).map(|at| (start + at * step) % POLICIES);
    let policies = policies
        .map(|at| PolicyId::new(&format!("np/default/default/{at}")))
        .collect();
    let tier = Tier {
        name: "default".into(),
        policies,
        end: EndTier::Deny,
    };
    let Member::Net(own) = address(0x0a42_0000 + u32::try_from(number).unwrap()) else {
        unreachable!()
    };
    let pod = Workload {
        addresses: vec![own.address()],
        allowed_sources: Vec::new(),
        ingress: vec![tier],
        egress: Vec::new(),
        profiles: Vec::new(),
        up: true,
    };
    (
        LinkName::new(format!("cali{number:011x}")).unwrap(),
        Arc::new(pod),
    )
}

/// Makes a policy look at a set.
fn use_set(state: &mut State, set: &str) {
    let id = PolicyId::new("np/default/default/0");
    let mut policy = (*state.policies[&id]).clone();
    policy.ingress[0].source.not_sets.push(SetId::new(set));
    state.policies.insert(id, policy.into());
}

fn address(number: u32) -> Member {
    Member::Net(Prefix::host(IpAddr::V4(number.into())))
}

fn in_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root or under `unshare -Urnm`");
            work()
        };
        scope.spawn(run).join().unwrap()
    })
}

/// How long this thread has been running, to a few milliseconds: other programs on the machine do not count.
fn running() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn nft(text: &str) -> Duration {
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

fn samples(count: usize, mut work: impl FnMut()) -> Vec<Duration> {
    let mut one = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..count).map(|_| one()).collect()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn microseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000_000.0).round() / 10.0
}
