//! How soon another process hears of a write.

use std::future::poll_fn;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocicat_datastore::model::{GlobalNetworkSet, NetworkSetSpec};
use ocicat_datastore::{Backend, Change, Kind, Metadata, Object, Op, Revision, Scope, Sqlite};
use tokio::runtime::Runtime;

const CHILD: &str = "OCICAT_BENCH_WRITER";
const SAMPLES: usize = 1000;

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("a clock").as_micros()).expect("this century")
}

/// In the other process: writes when it is told, and when the write was answered.
pub(crate) fn serve() -> bool {
    let Ok(path) = std::env::var(CHILD) else {
        return false;
    };
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = Sqlite::open(Path::new(&path)).expect("a store");
        let mut pace = tokio::time::interval(Duration::from_millis(4));
        let mut answered = clock();
        for number in 0..SAMPLES {
            pace.tick().await;
            let began = clock();
            let set = GlobalNetworkSet {
                metadata: Metadata::named(format!("time-{}", number % 50)),
                spec: NetworkSetSpec {
                    nets: vec![began.to_string(), answered.to_string()],
                },
            };
            let put = Op::Put(Object::encode(&set).expect("an object"));
            let written = store.write(vec![put]).await;
            assert!(written[0].is_ok(), "{written:?}");
            answered = clock() - began;
        }
    });
    true
}

pub(crate) fn run(runtime: &Runtime) {
    let folder = tempfile::tempdir_in(".").expect("a folder on a disk");
    let path = folder.path().join("store.db");
    let mut delays = Vec::new();
    let mut writes = Vec::new();
    runtime.block_on(async {
        let store = Sqlite::open(&path).expect("a store");
        let scope = Scope::all(Kind::GlobalNetworkSet);
        let mut watch = store.watch(&scope, Revision::NONE).await.expect("a watch");
        let mut writer = Command::new(std::env::current_exe().expect("our own path"))
            .env(CHILD, &path)
            .spawn()
            .expect("a writer");
        while delays.len() < SAMPLES {
            let next = poll_fn(|context| watch.as_mut().poll_next(context)).await;
            let heard = clock();
            let Some(Ok(Change::Put(object))) = next else {
                panic!("the watch reports {next:?}")
            };
            let number = |at: usize| -> u64 {
                let text = object.value["spec"]["nets"][at].as_str();
                text.and_then(|text| text.parse().ok()).expect("a time")
            };
            delays.push(heard.saturating_sub(number(0)));
            // How long the write before took for its writer.
            writes.push(number(1));
        }
        writer.wait().expect("an end");
    });
    writes.remove(0);
    let at = |times: &mut Vec<u64>, percent: usize| {
        times.sort_unstable();
        times[(times.len() - 1) * percent / 100]
    };
    println!(
        "sqlite: another process hears of a write after {} us (p50), {} us (p99; goal 10,000), counted from before it; the write alone is answered after {} us (p50), {} us (p99)",
        at(&mut delays, 50),
        at(&mut delays, 99),
        at(&mut writes, 50),
        at(&mut writes, 99)
    );
}
