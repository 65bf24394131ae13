//! Speed and memory of routes and attachments: ours, a peer (`ip -batch`) and a floor, in one run. Needs root or
//! `unshare -Urnm`; prints one JSON object a line.
//!
//! `cargo bench -p ocicat-dataplane --features linux,attach --bench net [-- ROUTES [ATTACHMENTS]]`

#![allow(missing_docs, reason = "a program")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use ocicat_dataplane::linux::{LinuxDataplane, Options};
use ocicat_dataplane::state::{Hop, LinkName, Route, RouteKey};
use ocicat_dataplane::{Dataplane as _, Prefix, State};

#[path = "net/attach.rs"]
mod attach;
#[path = "net/floor.rs"]
mod floor;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call to the system's allocator unchanged, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        let now = NOW.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let mut numbers = std::env::args().filter_map(|word| word.parse::<usize>().ok());
    let (routes, attachments) = (
        numbers.next().unwrap_or(100_000),
        numbers.next().unwrap_or(200),
    );
    fresh_namespace();
    for _ in 0..3 {
        bench_routes(routes);
    }
    attach::bench(attachments);
}

fn bench_routes(count: usize) {
    uplink();
    let before = NOW.load(Ordering::Relaxed);
    let state = state(count, 2);
    let state_bytes = NOW.load(Ordering::Relaxed) - before;
    let mut kernel = LinuxDataplane::new(Options::routes_only(80)).expect("netlink");
    let ours = apply(&mut kernel, &state);
    let same = apply(&mut kernel, &state);
    let moved = apply(&mut kernel, &self::state(count, 3));
    report("routes", "replace all", count, moved);
    report("routes", "program", count, ours);
    report("routes", "unchanged", count, same);
    let state = self::state(count, 3);
    let start = PEAK
        .load(Ordering::Relaxed)
        .max(NOW.load(Ordering::Relaxed));
    PEAK.store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    let base = NOW.load(Ordering::Relaxed);
    let mut second = LinuxDataplane::new(Options::routes_only(80)).expect("netlink");
    let adopt = apply(&mut second, &state);
    let peak = PEAK.load(Ordering::Relaxed) - base;
    let held = NOW.load(Ordering::Relaxed) - base;
    report("routes", "dump and adopt", count, adopt);
    println!(
        "{{\"bench\":\"routes\",\"what\":\"memory\",\"count\":{count},\"state_mb\":{:.1},\"view_mb\":{:.1},\"netlink_peak_mb\":{:.1},\"all_peak_mb\":{:.1}}}",
        mb(state_bytes),
        mb(held),
        mb(peak - held),
        mb(start)
    );
    bench_one_more(&mut second, &state, count);
    report(
        "routes",
        "remove all",
        count,
        apply(&mut second, &State::default()),
    );
    bench_peer(count);
    ip("route flush proto 80");
    ip("link del up0");
}

fn bench_one_more(second: &mut LinuxDataplane, state: &State, count: usize) {
    let started = Instant::now();
    let one = {
        let mut routes = (*state.routes).clone();
        routes.insert(
            RouteKey::main("192.0.2.0/24".parse().expect("a prefix")),
            route(2),
        );
        State {
            routes: Arc::new(routes),
            ..State::default()
        }
    };
    report("routes", "clone of the state", count, started.elapsed());
    report("routes", "one more", count, apply(second, &one));
}

/// The same routes by `ip`.
fn bench_peer(count: usize) {
    let mut batch = String::new();
    for at in 0..count {
        let _ = writeln!(
            batch,
            "route add {} via 192.168.0.2 dev up0 onlink proto 80",
            prefix(at)
        );
    }
    let started = Instant::now();
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), batch.as_bytes())
        .expect("a pipe");
    assert!(child.wait().expect("ip").success());
    report("routes", "peer: ip -batch", count, started.elapsed());
    let started = Instant::now();
    Command::new("ip")
        .args(["route", "show", "proto", "80"])
        .stdout(Stdio::null())
        .status()
        .expect("ip");
    report("routes", "peer: ip route show", count, started.elapsed());
}

fn apply(kernel: &mut LinuxDataplane, state: &State) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let started = Instant::now();
    let report = runtime.block_on(kernel.apply(state)).expect("an apply");
    let took = started.elapsed();
    assert_eq!(report.failed, [], "nothing fails here");
    took
}

fn report(bench: &str, what: &str, count: usize, took: Duration) {
    println!(
        "{{\"bench\":\"{bench}\",\"what\":\"{what}\",\"count\":{count},\"ms\":{:.3}}}",
        took.as_secs_f64() * 1e3
    );
}

fn mb(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn state(count: usize, gateway: u8) -> State {
    let routes = (0..count).map(|at| (RouteKey::main(prefix(at)), route(gateway)));
    State {
        routes: Arc::new(routes.collect()),
        ..State::default()
    }
}

fn route(gateway: u8) -> Route {
    let link = LinkName::new("up0").expect("a name");
    let hop = Hop::Via {
        gateway: [192, 168, 0, gateway].into(),
        link: Some(link),
        onlink: true,
    };
    Route {
        hops: vec![hop],
        source: None,
    }
}

fn prefix(at: usize) -> Prefix {
    let address = Ipv4Addr::from(0x0a00_0000 + (u32::try_from(at).expect("small") << 6));
    Prefix::containing(address.into(), 26).expect("a prefix")
}

fn uplink() {
    ip("link add up0 type bridge");
    ip("addr add 192.168.0.1/24 dev up0");
    ip("link set up0 up");
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status()
        .expect("ip");
    assert!(status.success(), "ip {arguments}");
}

fn container() -> Arc<OwnedFd> {
    let thread = std::thread::spawn(|| {
        fresh_namespace();
        std::fs::File::open("/proc/thread-self/ns/net").expect("proc")
    });
    Arc::new(thread.join().expect("a thread").into())
}

fn fresh_namespace() {
    unshare(CloneFlags::CLONE_NEWNET)
        .expect("a network namespace: run as root or under `unshare -Urnm`");
}
