//! `ocicat` with the real agent keeps the rules that `plugin_kit` tests: a fresh `ocicat-node` for each of them.
//!
//! Needs root, `ip`, and the program `ocicat-node` in the target folder or in `OCICAT_NODE`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ocicat_cni::NetworkConfig;
use ocicat_cni::agent::{Client, NetworkRequest};
use ocicat_cni::testing::plugin_kit::{Kit, Prepared};
use ocicat_datastore::Store;
use ocicat_datastore::model::{IpPool, Node};
use serde_json::json;

/// An agent on a host of its own; killed when the check is over, with its folder.
struct Running {
    child: Child,
    folder: tempfile::TempDir,
    link: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.link);
        if let Ok(keep) = std::env::var("OCICAT_KEEP_LOGS") {
            let name = self.folder.path().file_name().unwrap().to_owned();
            let _ = std::fs::copy(self.folder.path().join("log"), Path::new(&keep).join(name));
        }
    }
}

fn program() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().unwrap();
        test.parent()
            .and_then(Path::parent)
            .unwrap()
            .join("ocicat-node")
    };
    let program = std::env::var_os("OCICAT_NODE").map_or_else(beside, PathBuf::from);
    assert!(
        program.exists(),
        "{} is missing: cargo build -p ocicat-node",
        program.display()
    );
    program
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("ip {arguments:?}: {status}"))
    }
}

/// Starts an agent on this host, with a pool, and waits until it would serve ADD. `link` leads to its folder.
fn start(link: &Path) -> Result<Prepared, String> {
    ip(&[
        "link", "add", "uplink", "type", "veth", "peer", "name", "world",
    ])?;
    ip(&["address", "add", "192.168.77.1/24", "dev", "uplink"])?;
    ip(&["link", "set", "uplink", "up"])?;
    ip(&["link", "set", "world", "up"])?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let url = format!("sqlite:{}", path("ocicat.db"));
    prepare_store(&url)?;
    let config = format!(
        "[node]\nname = \"kit\"\n[datastore]\nurl = \"{url}\"\n[paths]\nrun = \"{}\"\nstate = \"{}\"\n[bgp]\nlisten = \"127.0.0.1:1790\"\n",
        path("run"),
        path("state")
    );
    std::fs::write(path("node.toml"), config).map_err(|error| error.to_string())?;
    let log = std::fs::File::create(path("log")).map_err(|error| error.to_string())?;
    let child = Command::new(program())
        .args(["--config", &path("node.toml")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| error.to_string())?;
    let _ = std::fs::remove_file(link);
    std::os::unix::fs::symlink(folder.path(), link).map_err(|error| error.to_string())?;
    let running = Running {
        child,
        folder,
        link: link.to_owned(),
    };
    let network =
        NetworkConfig::from_value(json!({"cniVersion": "1.1.0", "name": "kit", "type": "ocicat"}));
    let status = NetworkRequest::new(network.map_err(|error| error.to_string())?);
    let patience = Instant::now() + Duration::from_secs(120);
    while let Err(error) = Client::new(link.join("run/cni.sock")).status(&status) {
        if Instant::now() > patience {
            let log =
                std::fs::read_to_string(running.folder.path().join("log")).unwrap_or_default();
            return Err(format!("the agent is not ready: {error}\n{log}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Box::new(running))
}

fn prepare_store(url: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let store = Store::new(ocicat_datastore::open(url).map_err(|error| error.to_string())?);
        let mut pool = IpPool::default();
        pool.metadata.name = "kit".to_owned();
        pool.spec.cidr = "10.88.0.0/16".to_owned();
        store
            .create(pool)
            .await
            .map_err(|error| error.to_string())?;
        let mut node = Node::default();
        node.metadata.name = "kit".to_owned();
        store
            .create(node)
            .await
            .map_err(|error| error.to_string())?;
        Ok(())
    })
}

#[test]
#[ignore = "needs the program ocicat-node: cargo build -p ocicat-node, then cargo test -- --ignored"]
fn ocicat_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("agent");
    let config = json!({"socket": link.join("run/cni.sock"), "tombstones": link.join("state/tombstones"),
        "ipam": {"type": "ocicat-ipam"}});
    let kit = Kit::new(env!("CARGO_BIN_EXE_ocicat"), config).before_each(move || start(&link));
    let report = kit.run();
    println!("{report}");
    report.assert();
}
