//! Writes that come together share a commit, and reads wait for nobody. On the disk, whatever it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ocicat_datastore::model::{GlobalNetworkSet, NetworkSetSpec};
use ocicat_datastore::{Backend, Key, Kind, Metadata, Object, Op, Sqlite, StoreError};

fn object(name: &str) -> Object {
    let set = GlobalNetworkSet {
        metadata: Metadata::named(name),
        spec: NetworkSetSpec::default(),
    };
    Object::encode(&set).expect("an object")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_many_callers_share_commits() {
    const CALLERS: usize = 64;
    const EACH: usize = 20;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let store = Arc::new(Sqlite::open(&path).expect("the store opens"));
    // While another process has the lock nothing can be committed: what was asked meanwhile is one commit.
    let raw = rusqlite::Connection::open(&path).expect("the file");
    raw.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let first = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.write(vec![Op::Create(object("first"))]).await }
    });
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let store = Arc::clone(&store);
        callers.push(tokio::spawn(async move {
            for number in 0..EACH {
                let create = Op::Create(object(&format!("s{caller}-{number}")));
                let again = create.clone();
                // Of two of a name in one commit, the second still fails by itself.
                let answers = store.write(vec![create, again]).await;
                assert!(answers[0].is_ok(), "{answers:?}");
                assert!(matches!(answers[1], Err(StoreError::Exists { .. })));
            }
        }));
    }
    raw.execute_batch("COMMIT").expect("the lock is given back");
    for caller in callers {
        caller.await.expect("a caller");
    }
    assert!(first.await.expect("a caller")[0].is_ok());
    let commits = store.commits();
    println!("{} writes in {commits} commits", CALLERS * EACH);
    assert!(commits >= EACH as u64, "each caller waits for its answer");
    let most = (CALLERS * EACH / 4) as u64;
    assert!(commits <= most, "{commits} commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_do_not_wait_for_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let store = Arc::new(Sqlite::open(&path).expect("the store opens"));
    let written = store.write(vec![Op::Create(object("a"))]).await;
    assert!(written[0].is_ok());
    // Another process has the lock: our thread waits for it with a write, reads go on.
    let raw = rusqlite::Connection::open(&path).expect("the file");
    raw.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let done = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        async move {
            let written = store.write(vec![Op::Create(object("b"))]).await;
            done.store(true, Ordering::Relaxed);
            written
        }
    });
    let begin = Instant::now();
    for _ in 0..1000 {
        let key = Key::cluster(Kind::GlobalNetworkSet, "a");
        assert!(store.get(&key).await.expect("a read").is_some());
    }
    assert!(!done.load(Ordering::Relaxed), "the write still waits");
    println!(
        "1000 reads beside a write that waits: {:?}",
        begin.elapsed()
    );
    raw.execute_batch("COMMIT").expect("the lock is given back");
    assert!(writing.await.expect("a write")[0].is_ok());
    // What was answered is seen at once, by any connection.
    let key = Key::cluster(Kind::GlobalNetworkSet, "b");
    assert!(store.get(&key).await.expect("a read").is_some());
}

#[tokio::test]
async fn writes_in_order_are_one_commit_up_to_the_first_that_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path().join("store.db")).expect("the store opens");
    assert!(store.is_ordered());
    let create = |name: &str| Op::Create(object(name));
    let answers = store.write_in_order(vec![create("a"), create("b")]).await;
    assert!(
        answers.len() == 2 && answers.iter().all(Result::is_ok),
        "{answers:?}"
    );
    assert_eq!(store.commits(), 1);
    let ops = ["c", "a", "d"].map(create);
    let answers = store.write_in_order(ops.into()).await;
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers[0].is_ok() && matches!(answers[1], Err(StoreError::Exists { .. })));
    for (name, there) in [("c", true), ("d", false)] {
        let key = Key::cluster(Kind::GlobalNetworkSet, name);
        let found = store.get(&key).await.expect("a read");
        assert_eq!(found.is_some(), there, "{name}");
    }
}
