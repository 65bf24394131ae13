//! What address management asks of a store, counted, and pools with a lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::model::{IpPool, IpPoolSpec};
use ocicat_datastore::{
    Backend, Key, Kind, LEASE_ANNOTATION, Listing, Memory, Metadata, Object, Op, Revision, Scope,
    Store, StoreError, Watch,
};
use ocicat_ipam::{AssignRequest, BlockAffine, HandleId, Ipam};

/// A store that counts what it is asked.
#[derive(Default)]
struct Counting {
    memory: Memory,
    gets: AtomicUsize,
    lists: AtomicUsize,
    /// Calls that write, and what they write.
    writes: AtomicUsize,
    operations: AtomicUsize,
}

impl Counting {
    /// Reads, lists, calls that write and single writes since the last look.
    fn counts(&self) -> [usize; 4] {
        [&self.gets, &self.lists, &self.writes, &self.operations]
            .map(|count| count.swap(0, Ordering::Relaxed))
    }
}

#[async_trait]
impl Backend for Counting {
    async fn get(&self, key: &Key) -> Result<Option<Object>, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.memory.get(key).await
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, StoreError> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.memory.list(scope).await
    }

    async fn write(&self, ops: Vec<Op>) -> Vec<Result<Object, StoreError>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.operations.fetch_add(ops.len(), Ordering::Relaxed);
        self.memory.write(ops).await
    }

    async fn watch(&self, scope: &Scope, since: Revision) -> Result<Watch, StoreError> {
        self.memory.watch(scope, since).await
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_443_480 + seconds)
}

async fn put_pool(store: &Store, annotation: Option<&str>) {
    let mut metadata = Metadata::named("p");
    if let Some(value) = annotation {
        let name = LEASE_ANNOTATION.to_owned();
        metadata.annotations.insert(name, value.to_owned());
    }
    let spec = IpPoolSpec {
        cidr: "10.0.0.0/16".to_owned(),
        ..IpPoolSpec::default()
    };
    let status = None;
    let pool = IpPool {
        metadata,
        spec,
        status,
    };
    store.put(pool).await.expect("a pool");
}

fn over(store: &Store) -> (Arc<StoreIpam>, Ipam) {
    let port = Arc::new(StoreIpam::new(store.clone()).remembering());
    let ipam = Ipam::new(Arc::clone(&port) as Arc<_>, Box::new(BlockAffine));
    (port, ipam)
}

#[tokio::test]
async fn an_address_costs_one_list_at_the_start_and_then_two_writes() {
    let counting = Arc::new(Counting::default());
    let store = Store::new(Arc::clone(&counting) as Arc<dyn Backend>);
    put_pool(&store, None).await;
    let (port, ipam) = over(&store);
    let one = |n: u32| AssignRequest::new("n1", format!("h{n}")).v4(1);
    counting.counts();
    ipam.assign(&one(0), at(0)).await.expect("an address");
    let [gets, lists, ..] = counting.counts();
    // Reservations, pools and the host's claims; and all blocks, once.
    assert_eq!(
        (gets, lists),
        (1, 4),
        "the configuration is read, and four lists"
    );
    for n in 1..60 {
        ipam.assign(&one(n), at(0)).await.expect("an address");
        assert_eq!(counting.counts(), [0, 0, 2, 2], "the handle and the block");
    }
    let (_, fresh) = over(&store);
    fresh.assign(&one(60), at(0)).await.expect("an address");
    let [gets, lists, writes, _] = counting.counts();
    assert_eq!(
        (gets, lists, writes),
        (2, 3, 2),
        "no survey: its block is found by its claim"
    );
    let many: Vec<_> = (61..64).chain(100..150).map(one).collect();
    let got = fresh.assign_many(&many, at(0)).await;
    assert!(got.iter().all(Result::is_ok), "{got:?}");
    let [gets, lists, writes, operations] = counting.counts();
    // 53 handles in one batch and two blocks; the second block is claimed with three writes after a survey.
    assert_eq!((gets, lists), (0, 1));
    assert_eq!((writes, operations), (5, 53 + 3 + 2));
    fresh
        .release_handle(&HandleId::new("h1"), at(1))
        .await
        .expect("a release");
    assert_eq!(
        counting.counts(),
        [1, 0, 2, 2],
        "the handle is read; block and handle are written"
    );
    // A change of the pools costs one list with the next address.
    port.changed(Kind::IpPool);
    ipam.assign(&one(200), at(2)).await.expect("an address");
    assert_eq!(counting.counts()[1], 1);
}

#[tokio::test]
async fn a_pool_with_the_annotation_keeps_addresses() {
    for (annotation, keeps, problems) in [
        (None, false, 0),
        (Some("3600"), true, 0),
        (Some("0"), false, 0),
        (Some("1h"), false, 1),
    ] {
        let store = Store::new(Arc::new(Memory::new()));
        put_pool(&store, annotation).await;
        let (port, ipam) = over(&store);
        let get = async |handle: &str| {
            let request = AssignRequest::new("n1", handle)
                .v4(1)
                .workload("shop/web-0");
            let got = ipam.assign(&request, at(0)).await.expect("an address");
            got.addresses[0].address
        };
        let first = get("h1").await;
        ipam.release_handle(&HandleId::new("h1"), at(0))
            .await
            .expect("a release");
        let (_, other) = over(&store);
        let foreign = AssignRequest::new("n1", "h2").v4(1).workload("shop/web-1");
        other.assign(&foreign, at(1)).await.expect("an address");
        assert_eq!(get("h3").await == first, keeps, "{annotation:?}");
        assert_eq!(port.problems().len(), problems, "{:?}", port.problems());
    }
}
