//! A store that is replaced by an older backup of itself gives no address twice: what is attached on nodes wins.

#[path = "common/folder.rs"]
#[allow(dead_code)]
mod folder;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::model::{IpPool, IpPoolSpec};
use ocicat_datastore::{Metadata, Sqlite, Store};
use ocicat_ipam::{AssignRequest, Attached, BlockAffine, Census, HandleId, InUse, Ipam, Owner};

/// What nodes have: address, node, handle.
type Attachments = BTreeMap<IpAddr, (String, String)>;

fn over(path: &Path) -> (Arc<Sqlite>, Store, Ipam) {
    let sqlite = Arc::new(Sqlite::open(path).expect("the store opens"));
    let store = Store::new(Arc::clone(&sqlite) as Arc<_>);
    let port = Arc::new(StoreIpam::new(store.clone()));
    (sqlite, store, Ipam::new(port, Box::new(BlockAffine)))
}

async fn take(ipam: &Ipam, node: &str, handles: std::ops::Range<u32>, attached: &mut Attachments) {
    for number in handles {
        let handle = format!("net.{node}-{number}");
        let request = AssignRequest::new(node, handle.as_str()).v4(1);
        let got = ipam.assign(&request, SystemTime::now()).await;
        let address = got.expect("an address").addresses[0].address;
        let twice = attached.insert(address, (node.to_owned(), handle));
        assert_eq!(twice, None, "{address} was given twice");
    }
}

async fn give(ipam: &Ipam, attached: &mut Attachments, every: usize) {
    let leaving: Vec<IpAddr> = attached.keys().copied().step_by(every).collect();
    for address in leaving {
        let (_, handle) = attached.remove(&address).expect("it is attached");
        let handle = HandleId::new(&handle);
        let released = ipam.release_handle(&handle, SystemTime::now()).await;
        assert_eq!(released.expect("a release"), [address]);
    }
}

/// Takes a backup in the middle of it; what is attached in the end.
async fn live(path: &Path, backup: &Path) -> Attachments {
    let mut attached = Attachments::new();
    let (sqlite, store, ipam) = over(path);
    let spec = IpPoolSpec {
        cidr: "10.0.0.0/25".to_owned(),
        block_size: Some(28),
        ..IpPoolSpec::default()
    };
    let pool = IpPool {
        metadata: Metadata::named("p"),
        spec,
        status: None,
    };
    store.create(pool).await.expect("a pool");
    take(&ipam, "a", 0..20, &mut attached).await;
    take(&ipam, "b", 0..10, &mut attached).await;
    sqlite
        .backup(backup)
        .await
        .expect("a backup while it is in use");
    // Life goes on: addresses change hands, and new blocks are claimed.
    give(&ipam, &mut attached, 2).await;
    take(&ipam, "b", 10..40, &mut attached).await;
    take(&ipam, "a", 20..30, &mut attached).await;
    give(&ipam, &mut attached, 5).await;
    take(&ipam, "c", 0..10, &mut attached).await;
    attached
}

#[tokio::test]
async fn a_restored_backup_gives_no_address_twice() {
    let folder = folder::in_memory();
    let (path, backup) = (
        folder.path().join("store.db"),
        folder.path().join("backup.db"),
    );
    let mut attached = live(&path, &backup).await;
    std::fs::remove_file(folder.path().join("store.db-wal")).ok();
    std::fs::remove_file(folder.path().join("store.db-shm")).ok();
    std::fs::rename(&backup, &path).expect("the backup takes its place");

    let (_sqlite, _store, ipam) = over(&path);
    for node in ["a", "b", "c"] {
        let owner = Owner::host(node);
        ipam.settle_host(&owner, SystemTime::now())
            .await
            .expect("settled claims");
    }
    let records: Vec<Attached> = attached
        .iter()
        .map(|(address, (node, handle))| Attached::new(*address, node.as_str(), handle.as_str()))
        .collect();
    let upheld = ipam
        .uphold(&records, SystemTime::now())
        .await
        .expect("upheld");
    assert!(
        upheld.failed.is_empty() && upheld.outside.is_empty(),
        "{upheld:?}"
    );
    assert!(
        upheld.taken.len() > 20 && !upheld.ousted.is_empty(),
        "{upheld:?}"
    );
    // The check finds the handles of former times, and nothing else that is wrong.
    let in_use = attached
        .iter()
        .map(|(address, (_, handle))| InUse::new(*address, "a pod").held_by(handle.as_str()));
    let census = Census::new(in_use.collect(), ["a", "b", "c"].map(str::to_owned));
    let report = ipam.check(&census).await.expect("a check");
    let leaks = report.leaks().count();
    assert_eq!(report.findings.len(), leaks, "{report}");
    ipam.release_leaks(&report, SystemTime::now())
        .await
        .expect("a release");
    let report = ipam.check(&census).await.expect("a check");
    assert!(report.is_clean(), "{report}");
    // Every address that is left can be given, and none that is attached.
    let left = 128 - u32::try_from(attached.len()).expect("small");
    take(&ipam, "a", 1000..1000 + left, &mut attached).await;
    assert_eq!(attached.len(), 128);
}

#[tokio::test]
async fn an_address_is_one_commit_and_so_are_a_hundred() {
    let folder = folder::in_memory();
    let (sqlite, store, ipam) = over(&folder.path().join("store.db"));
    let spec = IpPoolSpec {
        cidr: "10.0.0.0/16".to_owned(),
        block_size: Some(24),
        ..IpPoolSpec::default()
    };
    let metadata = Metadata::named("p");
    let status = None;
    let pool = IpPool {
        metadata,
        spec,
        status,
    };
    store.create(pool).await.expect("a pool");
    let request = |n: u32| AssignRequest::new("a", format!("h{n}")).v4(1);
    let first = ipam.assign(&request(0), SystemTime::now()).await;
    first.expect("an address");
    let before = sqlite.commits();
    let second = ipam.assign(&request(1), SystemTime::now()).await;
    second.expect("an address");
    assert_eq!(sqlite.commits() - before, 1);
    let many: Vec<_> = (2..102).map(request).collect();
    let got = ipam.assign_many(&many, SystemTime::now()).await;
    assert!(got.iter().all(Result::is_ok), "{got:?}");
    assert_eq!(sqlite.commits() - before, 2);
}
