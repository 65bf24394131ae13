//! etcd servers of our own, of Debian's `etcd-server`, which end with the test.

// Each test uses a part of it.
#![allow(dead_code)]

pub(crate) mod folder;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use ocicat_datastore::{Etcd, EtcdOptions, StoreError};

/// How long anything may take that these tests wait for: none of them is about time, and a machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Makes a call, again while the store cannot be reached. One that was not answered may have been done.
pub(crate) async fn patiently<T>(
    mut call: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let begin = Instant::now();
    loop {
        match call().await {
            Err(StoreError::Unavailable { .. }) if begin.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
    }
}

/// A server, with its data in a temporary folder, in memory where it can be.
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

    /// One that is alone, has its data on the disk, and serves.
    pub(crate) fn start_on_disk() -> Self {
        let mut server = Self::new(&[]);
        server.folder = folder::on_disk();
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
            folder: folder::in_memory(),
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

    /// Holds it in the middle of whatever it does, as a disk that does not answer would, or lets it go on.
    pub(crate) fn hold(&self, held: bool) {
        let child = self.child.as_ref().expect("it runs");
        let process = i32::try_from(child.id()).expect("a process id");
        let signal = if held { SIGSTOP } else { SIGCONT };
        kill(Pid::from_raw(process), signal).expect("a signal");
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
