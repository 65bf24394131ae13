//! The kit on a real etcd, and what happens when it goes away and comes back. Needs Debian's `etcd-server`.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use ocicat_datastore::model::{GlobalNetworkSet, NetworkSetSpec};
use ocicat_datastore::testing::backend_kit::{self, Fixture};
use ocicat_datastore::{
    Backend, Etcd, EtcdOptions, Event, Follow, Kind, Metadata, Scope, Store, StoreError, follow,
};

/// A server of our own, which ends with us.
struct Server {
    folder: tempfile::TempDir,
    client: u16,
    peer: u16,
    child: Option<Child>,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self {
            folder,
            client: free_port(),
            peer: free_port(),
            child: None,
        };
        server.run();
        server
    }

    /// Returns when it serves.
    fn run(&mut self) {
        let (client, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peer));
        let mut child = Command::new("etcd")
            .args(["--name", "ocicat-datastore", "--data-dir"])
            .arg(self.folder.path().join("data"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("ocicat-datastore={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd runs: apt-get install etcd-server");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        self.child = Some(child);
        let mut seen = String::new();
        let mut lines = log.lines().map_while(Result::ok);
        let served = lines.by_ref().any(|line| {
            seen.push_str(&line);
            seen.push('\n');
            line.contains("serving insecure client requests")
                || line.contains("serving client traffic")
        });
        assert!(served, "etcd does not start: {seen}");
        // So that it never waits for us to read its log.
        std::thread::spawn(move || lines.for_each(drop));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a kill");
            child.wait().expect("an end");
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    fn store(&self) -> Etcd {
        Etcd::new(EtcdOptions::new([self.url()])).expect("a store")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[async_trait]
impl Fixture for Server {
    async fn open(&self) -> Arc<dyn Backend> {
        Arc::new(self.store())
    }

    async fn compact(&self) -> bool {
        let store = self.store();
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
    let server = Server::start();
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
