use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use ocicat_datastore::{Backend, Object, Op, Store};
use ocicat_node::agent::Agent;
use ocicat_node::config::Config;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// How long something may take that other programs or the kernel have to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const HEALTH: &str = "127.0.0.1:9099";
pub(crate) const METRICS: &str = "127.0.0.1:9091";

/// Runs a test in a network namespace with a loopback and `eth0`, which has 192.0.2.1/24.
pub(crate) fn node<T: Future<Output = ()>>(test: impl FnOnce() -> T + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap_or_else(|errno| {
            panic!(
                "a network namespace cannot be made ({errno}): run as root or under `unshare -Urnm`"
            )
        });
        for line in [
            "ip link set lo up",
            "ip link add eth0 type veth peer name uplink",
            "ip link set uplink up",
            "ip address add 192.0.2.1/24 dev eth0",
            "ip link set eth0 up",
        ] {
            run(line);
        }
        // Threads are in the namespace of the one that makes them.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test());
        runtime.shutdown_timeout(Duration::from_secs(5));
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command line without quotes, which must succeed; what it printed.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An agent that runs until it is stopped.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Running {
    /// The node `node1` over a store.
    pub(crate) fn start(folder: &Path, backend: Arc<dyn Backend>) -> Self {
        let file = folder.join("node.toml");
        let folder = folder.display();
        let text = format!(
            "[node]\nname = 'node1'\naddress-detection = 'interface=eth0'\n\
             [paths]\nrun = '{folder}/run'\nstate = '{folder}/state'\n\
             [health]\nlisten = '{HEALTH}'\n[metrics]\nlisten = '{METRICS}'\n"
        );
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file), Vec::new()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let agent = Agent::new(config).backend(backend);
        let ended = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            agent.run(stopped).await.unwrap();
        });
        Self { stop, ended }
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.ended.await.unwrap();
    }
}

/// The status and the body of what is answered over HTTP.
fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}

/// Asks until the answer is right; the body then.
pub(crate) async fn asked(
    address: &'static str,
    path: &'static str,
    right: impl Fn(u16, &str) -> bool,
) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = tokio::task::spawn_blocking(move || get(address, path)).await;
        let found = found.unwrap();
        if let Some((status, body)) = &found
            && right(*status, body)
        {
            return body.clone();
        }
        assert!(Instant::now() < until, "{path}: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes an object of Calico's.
pub(crate) async fn put(store: &Store, kind: &str, name: &str, spec: Value) {
    let metadata = json!({"name": name, "namespace": "shop"});
    let value = json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec});
    let object = Object::from_value(value).unwrap();
    let written = store.backend().write(vec![Op::Put(object)]).await;
    written.into_iter().next().unwrap().unwrap();
}
