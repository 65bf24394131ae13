//! etcd servers of our own, of Debian's `etcd-server`, which end with the test.

// Each test uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ocicat_datastore::{Etcd, EtcdOptions};

/// How long a server may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, with its data in a temporary folder.
pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    name: String,
    client: String,
    peer: String,
    cluster: String,
    extra: Vec<String>,
    child: Option<Child>,
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Server {
    /// One that is alone and serves.
    pub(crate) fn start() -> Self {
        let mut server = Self::new(&[]);
        server.run();
        server
    }

    /// One that is alone and not started yet. With arguments about TLS its URL is one of TLS.
    pub(crate) fn new(extra: &[String]) -> Self {
        Self::cluster(1, extra).remove(0)
    }

    /// The members of a cluster, not started yet.
    pub(crate) fn cluster(count: usize, extra: &[String]) -> Vec<Self> {
        let secure = extra.iter().any(|argument| argument == "--cert-file");
        let scheme = if secure { "https" } else { "http" };
        let peers: Vec<String> = (0..count)
            .map(|_| format!("http://127.0.0.1:{}", free_port()))
            .collect();
        let named = peers.iter().enumerate();
        let cluster: Vec<String> = named.map(|(n, peer)| format!("m{n}={peer}")).collect();
        let member = |(n, peer): (usize, String)| Self {
            folder: tempfile::tempdir().expect("a folder"),
            name: format!("m{n}"),
            client: format!("{scheme}://127.0.0.1:{}", free_port()),
            peer,
            cluster: cluster.join(","),
            extra: extra.to_vec(),
            child: None,
        };
        peers.into_iter().enumerate().map(member).collect()
    }

    /// Starts it, and returns when it serves.
    pub(crate) fn run(&mut self) {
        let ready = self.spawn();
        Self::await_ready(&ready);
    }

    /// Starts it; what it says when it serves comes later, as a member serves when there are enough of them.
    pub(crate) fn spawn(&mut self) -> mpsc::Receiver<()> {
        let mut child = Command::new("etcd")
            .args(["--name", &self.name, "--data-dir"])
            .arg(self.folder.path().join("data"))
            .args(["--listen-client-urls", &self.client])
            .args(["--advertise-client-urls", &self.client])
            .args(["--listen-peer-urls", &self.peer])
            .args(["--initial-advertise-peer-urls", &self.peer])
            .args(["--initial-cluster", &self.cluster])
            .args(&self.extra)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd runs: apt-get install etcd-server");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        self.child = Some(child);
        let (tell, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                // Told in other words by other versions.
                let serves = ["client requests on", "serving client traffic"];
                if serves.iter().any(|words| line.contains(words)) {
                    let _ = tell.send(());
                }
            }
        });
        ready
    }

    /// Returns when a server that was spawned serves.
    pub(crate) fn await_ready(ready: &mpsc::Receiver<()>) {
        ready.recv_timeout(PATIENCE).expect("etcd serves");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a kill");
            child.wait().expect("an end");
        }
    }

    pub(crate) fn url(&self) -> String {
        self.client.clone()
    }

    pub(crate) fn store(&self) -> Etcd {
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
