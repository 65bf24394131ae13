//! The kit on a real etcd, and what happens when it goes away and comes back. Needs Debian's `etcd-server`.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use ocicat_datastore::model::{GlobalNetworkSet, NetworkSetSpec};
use ocicat_datastore::testing::backend_kit::{self, Fixture};
use ocicat_datastore::{Backend, Event, Follow, Kind, Metadata, Scope, Store, StoreError, follow};

use common::Server;

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

/// The next event of this kind, past interruptions.
async fn put(follow: &mut Follow) -> String {
    loop {
        if let Event::Put(object) = follow.next().await {
            return object.name;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_survives_a_server_that_is_killed() {
    let mut server = Server::start();
    let store = Store::new(Arc::new(server.store()));
    store.create(set("before")).await.expect("a write");
    let mut follow = follow(&store, [Kind::GlobalNetworkSet]);
    assert_eq!(put(&mut follow).await, "before");
    server.kill();
    assert!(matches!(
        store.create(set("down")).await,
        Err(StoreError::Unavailable { .. })
    ));
    server.run();
    store
        .create(set("after"))
        .await
        .expect("a write to the server that is back");
    assert_eq!(put(&mut follow).await, "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_calicos() {
    let server = Server::start();
    let store = Store::new(Arc::new(server.store()));
    store.create(set("nets")).await.expect("a write");
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
