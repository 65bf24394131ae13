//! Speed and memory of routes and attachments: ours, a peer (`ip -batch`) and a floor, in one run. Needs root or
//! `unshare -Urnm`; prints one JSON object a line.
//!
//! `cargo bench -p ocicat-dataplane --features linux,attach --bench net [-- ROUTES [ATTACHMENTS]]`

#![allow(missing_docs, reason = "a program")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sched::{CloneFlags, unshare};

#[path = "net/attach.rs"]
mod attach;
#[path = "net/depart.rs"]
mod depart;
#[path = "net/detach.rs"]
mod detach;
#[path = "net/floor.rs"]
mod floor;
#[path = "net/routes.rs"]
mod routes;

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
    machine();
    routes::bench(routes, 5);
    attach::bench(attachments);
    depart::bench(attachments);
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

/// Bytes that are allocated now.
fn allocated() -> usize {
    NOW.load(Ordering::Relaxed)
}

/// The most bytes that were allocated at once while something ran.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    PEAK.store(allocated(), Ordering::Relaxed);
    let done = work();
    (done, PEAK.load(Ordering::Relaxed))
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
