//! Address management under stress: eight processes over one store, killed with SIGKILL at random, each started again at
//! once; over sqlite, and over an etcd that is killed now and then too. No address is given twice, none is lost after
//! the check, and the store is whole.
//!
//! `OCICAT_STRESS_SECONDS` says for how long, 30 unless stated. A process is this program again, with
//! `OCICAT_STRESS_CHILD` set.

#[path = "../common/mod.rs"]
mod common;

mod audit;
mod dice;
mod node;
mod record;

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ocicat_datastore::model::{IpPool, IpPoolSpec};
use ocicat_datastore::{Metadata, Store, open};

use common::{PATIENCE, folder};
use dice::Dice;

const CHILD: &str = "OCICAT_STRESS_CHILD";
const NODES: usize = 8;
/// How many addresses are given at least, however long that takes.
const ENOUGH: usize = 100;
/// How many are given before another node is killed: on a slow machine nodes need their time to get anywhere.
const BETWEEN: usize = 3;

/// The pools: tight, so that nodes meet, and one that keeps addresses for their workloads.
const POOLS: [(&str, &str, u8, Option<&str>); 3] = [
    ("p", "10.0.0.0/25", 29, None),
    ("q", "10.1.0.0/27", 30, Some("2")),
    ("six", "fd00::/122", 125, None),
];

fn time() -> Duration {
    let seconds = std::env::var("OCICAT_STRESS_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(30))
}

/// In a child: serves as a node until it is killed.
fn serve() -> bool {
    let Ok(task) = std::env::var(CHILD) else {
        return false;
    };
    let (number, rest) = task.split_once(' ').expect("a number");
    let (folder, url) = rest.split_once(' ').expect("a folder and a store");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(node::run(number, Path::new(folder), url));
    true
}

fn start(test: &str, number: usize, folder: &Path, url: &str) -> Child {
    Command::new(std::env::current_exe().expect("the test's own path"))
        .args([test, "--exact", "--nocapture", "--quiet"])
        .env(CHILD, format!("{number} {} {url}", folder.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("a child process")
}

async fn make_pools(store: &Store) {
    for (name, cidr, size, lease) in POOLS {
        let mut metadata = Metadata::named(name);
        if let Some(lease) = lease {
            let annotation = ocicat_datastore::LEASE_ANNOTATION.to_owned();
            metadata.annotations.insert(annotation, lease.to_owned());
        }
        let spec = IpPoolSpec {
            cidr: cidr.to_owned(),
            block_size: Some(size),
            ..IpPoolSpec::default()
        };
        let pool = IpPool {
            metadata,
            spec,
            status: None,
        };
        let made = common::patiently(async || store.put(pool.clone()).await).await;
        made.expect("a pool");
    }
}

/// Lets nodes work for the time, killing one of them every now and then; `disturb` is asked as often.
fn torment(test: &str, folder: &Path, url: &str, mut disturb: impl FnMut(&mut Dice)) {
    let mut dice = Dice::new(u64::from(std::process::id()));
    let mut children: Vec<Child> = (0..NODES)
        .map(|number| start(test, number, folder, url))
        .collect();
    let end = Instant::now() + time();
    let mut kills = 0;
    let mut given = 0;
    while Instant::now() < end || given <= ENOUGH {
        // The pace of the torment; nothing is waited for.
        std::thread::sleep(Duration::from_millis(100 + dice.below(600)));
        disturb(&mut dice);
        given = progress(folder, given + BETWEEN, &mut children);
        let number = usize::try_from(dice.below(NODES as u64)).expect("small");
        children[number].kill().expect("a kill");
        children[number].wait().expect("an end");
        children[number] = start(test, number, folder, url);
        kills += 1;
    }
    for mut child in children {
        child.kill().expect("a kill");
        child.wait().expect("an end");
    }
    println!("{kills} processes were killed");
}

/// Waits until so many addresses were given; how many there are.
fn progress(folder: &Path, wanted: usize, children: &mut [Child]) -> usize {
    let begin = Instant::now();
    loop {
        for (number, child) in children.iter_mut().enumerate() {
            let ended = child.try_wait().expect("a child");
            assert_eq!(ended, None, "node {number} ended by itself");
        }
        let given = (0..NODES).map(|number| record::given(folder, number)).sum();
        if given >= wanted {
            return given;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "{given} addresses are given, and no more"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sqlite() {
    if serve() {
        return;
    }
    let folder = folder::in_memory();
    let file = folder.path().join("store.db");
    let url = format!("sqlite:{}", file.display());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(make_pools(&Store::new(open(&url).expect("a store"))));
    torment("sqlite", folder.path(), &url, |_| {});
    runtime.block_on(audit::run(&url, folder.path()));
    let raw = rusqlite::Connection::open(&file).expect("the file");
    let check = raw.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    assert_eq!(check, Ok("ok".to_owned()));
}

#[test]
fn etcd() {
    if serve() {
        return;
    }
    let folder = folder::in_memory();
    let mut server = common::Server::start();
    let url = format!("etcd:{}", server.url());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(make_pools(&Store::new(open(&url).expect("a store"))));
    torment("etcd", folder.path(), &url, |dice| {
        if dice.one_in(20) {
            server.kill();
            server.run();
        }
    });
    runtime.block_on(audit::run(&url, folder.path()));
}
