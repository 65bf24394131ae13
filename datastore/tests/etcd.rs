//! The kit on a real etcd, and what happens when it goes away and comes back. Needs Debian's `etcd-server`.

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ocicat_datastore::model::{GlobalNetworkSet, NetworkSetSpec};
use ocicat_datastore::testing::backend_kit::{self, Fixture};
use ocicat_datastore::{
    Backend, Etcd, EtcdOptions, Event, Follow, Kind, Metadata, Scope, Store, StoreError, follow,
};

use common::{Server, patiently};

struct Alone(Server);

#[async_trait]
impl Fixture for Alone {
    async fn open(&self) -> Arc<dyn Backend> {
        Arc::new(self.0.store())
    }

    async fn compact(&self) -> bool {
        let store = self.0.store();
        let now = store
            .list(&Scope::all(Kind::IpPool))
            .await
            .expect("a listing")
            .revision;
        store.compact(now).await.expect("a compaction");
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_passes_the_kit() {
    let server = Alone(Server::start());
    if let Err(failures) = backend_kit::run(&server).await {
        let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"));
    }
}

fn set(name: &str) -> GlobalNetworkSet {
    GlobalNetworkSet {
        metadata: Metadata::named(name),
        spec: NetworkSetSpec::default(),
    }
}

/// Waits until this object is told, past interruptions.
async fn told(follow: &mut Follow, name: &str) {
    loop {
        if matches!(follow.next().await, Event::Put(object) if object.name == name) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_survives_a_server_that_is_killed() {
    let mut server = Server::start();
    let store = Store::new(Arc::new(server.store()));
    let write = async |name| patiently(async || store.put(set(name)).await).await;
    write("before").await.expect("a write");
    let mut follow = follow(&store, [Kind::GlobalNetworkSet]);
    told(&mut follow, "before").await;
    server.kill();
    assert!(matches!(
        store.create(set("down")).await,
        Err(StoreError::Unavailable { .. })
    ));
    server.run();
    let written = write("after").await;
    written.expect("a write to the server that is back");
    told(&mut follow, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_calicos() {
    let server = Server::start_on_disk();
    let store = Store::new(Arc::new(server.store()));
    let written = patiently(async || store.put(set("nets")).await).await;
    written.expect("a write");
    let mut client = etcd_client::Client::connect([server.url()], None)
        .await
        .expect("a client");
    let key = "/calico/resources/v3/projectcalico.org/globalnetworksets/nets";
    let found = client.get(key, None).await.expect("an answer");
    let value = found
        .kvs()
        .first()
        .expect("the key is there")
        .value_str()
        .expect("a text");
    let value: serde_json::Value = serde_json::from_str(value).expect("JSON");
    assert_eq!(value["kind"], "GlobalNetworkSet");
    assert_eq!(value["apiVersion"], "projectcalico.org/v3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow_is_awaited() {
    let server = Server::start();
    let store = Store::new(Arc::new(server.store()));
    server.hold(true);
    // Longer than two members in a row may be silent before the next one is asked, too; there is no other here.
    let slowness = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        server.hold(false);
    };
    let (found, ()) = tokio::join!(store.get::<GlobalNetworkSet>("a"), slowness);
    assert_eq!(found.expect("an answer"), None);
}

/// Time is paused: it goes on when there is nothing to do but wait.
#[tokio::test(start_paused = true)]
async fn callers_of_a_server_that_never_answers_do_not_wait_for_each_other() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let store = Etcd::new(EtcdOptions::new([url.as_str()])).expect("a store");
    let store = Store::new(Arc::new(store));
    let begin = tokio::time::Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        callers.spawn(async move { store.get::<GlobalNetworkSet>("a").await });
    }
    for answer in callers.join_all().await {
        let error = answer.expect_err("no answer").to_string();
        assert!(error.contains(&url), "{error}");
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(25), "{took:?}");
}
