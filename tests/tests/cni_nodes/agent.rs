//! Nodes: a host, an agent on it, and the network that the plugin is configured for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use ocicat_cni::NetworkConfig;
use ocicat_cni::agent::{Client, NetworkRequest};
use ocicat_cni::runtime::{Conflist, Runtime};
use ocicat_cni::{Exec, Invocation};
use serde_json::{Value, json};

use super::host::{Host, Running, eventually};

/// A program of the examples' workspace: from the folder `OCICAT_PROGRAMS`, or as `cargo build` leaves it.
///
/// # Panics
/// When it has not been built.
pub(crate) fn program(name: &str) -> PathBuf {
    // target/tmp, beside target/debug.
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let built = tmp.parent().unwrap().join("debug");
    let folder = std::env::var_os("OCICAT_PROGRAMS").map_or(built, PathBuf::from);
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{} is missing: in examples/, cargo build -p ocicat && cargo build -p ocicat-node",
        program.display()
    );
    program
}

/// A node: a host and an agent on it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) host: Arc<Host>,
    pub(crate) folder: PathBuf,
    agent: Option<Running>,
}

impl Node {
    /// A node with its files in `folder`, over the datastore of this URL. Its agent is not running yet.
    pub(crate) fn new(name: &str, host: Arc<Host>, folder: &Path, datastore: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::fs::create_dir_all(folder.join("net.d")).unwrap();
        for name in ["ocicat", "ocicat-ipam"] {
            std::os::unix::fs::symlink(program(name), folder.join("bin").join(name)).unwrap();
        }
        for entry in std::fs::read_dir("/usr/lib/cni").into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_owned();
            std::os::unix::fs::symlink(&path, folder.join("bin").join(name)).unwrap();
        }
        let path = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "[node]\nname = \"{name}\"\naddress-detection = \"interface=uplink\"\n[datastore]\nurl = \"{datastore}\"\n\
             [paths]\nrun = \"{}\"\nstate = \"{}\"\n[felix]\nDefaultEndpointToHostAction = \"Accept\"\n",
            path("run"),
            path("state")
        );
        std::fs::write(folder.join("node.toml"), config).unwrap();
        let node = Self {
            name: name.to_owned(),
            host,
            folder,
            agent: None,
        };
        let list = node.conflist(json!({}));
        std::fs::write(
            node.folder.join("net.d/10-ocicat.conflist"),
            list.to_string(),
        )
        .unwrap();
        node
    }

    /// The plugin's entry and `portmap`'s, as they are installed; with more keys for the plugin.
    pub(crate) fn conflist(&self, more: Value) -> Value {
        let mut plugin = json!({"type": "ocicat", "socket": self.socket(),
            "tombstones": self.folder.join("state/tombstones"),
            "ipam": {"type": "ocicat-ipam"}, "policy": {"type": "k8s"},
            "capabilities": {"io.kubernetes.cri.pod-annotations": true, "ips": true, "mac": true}});
        for (key, value) in more.as_object().unwrap() {
            plugin[key] = value.clone();
        }
        json!({"cniVersion": "1.0.0", "name": "k8s-pod-network", "plugins": [plugin,
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]})
    }

    /// The agent's socket for plugins.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("run/cni.sock")
    }

    /// Starts the agent and waits until it would serve ADD.
    pub(crate) fn start(&mut self) {
        self.spawn();
        self.wait_until_ready();
    }

    /// Starts the agent.
    pub(crate) fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"));
        let mut command = self.host.command(program("ocicat-node").to_str().unwrap());
        command
            .arg("--config")
            .arg(self.folder.join("node.toml"))
            .env("OCICAT_LOG", "info")
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        self.agent = Some(Running(command.spawn().unwrap()));
    }

    /// Waits until the agent would serve ADD.
    pub(crate) fn wait_until_ready(&self) {
        let config = json!({"cniVersion": "1.1.0", "name": "k8s-pod-network", "type": "ocicat"});
        let status = NetworkRequest::new(NetworkConfig::from_value(config).unwrap());
        let client = Client::new(self.socket());
        eventually(60, || {
            client.status(&status).map_err(|error| {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                format!("the agent of {} is not ready: {error}\n{log}", self.name)
            })
        });
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.agent = None;
    }

    /// The process id of the agent.
    pub(crate) fn agent_id(&self) -> u32 {
        self.agent.as_ref().unwrap().0.id()
    }

    /// A runtime on this node: our own, whose plugins run in this host.
    pub(crate) fn runtime(&self) -> Runtime {
        let path = self.host.path();
        Runtime::new([self.folder.join("bin")], self.folder.join("cache")).exec(InHost(path))
    }

    /// A list of one plugin, with more keys.
    pub(crate) fn list(&self, name: &str, more: Value) -> Conflist {
        let mut list = self.conflist(more);
        list["name"] = json!(name);
        list["cniVersion"] = json!("1.1.0");
        list["plugins"].as_array_mut().unwrap().truncate(1);
        Conflist::from_value(list).unwrap()
    }
}

/// Runs plugins in a host's network.
#[derive(Debug)]
struct InHost(PathBuf);

impl Exec for InHost {
    fn exec(&self, invocation: &Invocation) -> std::io::Result<std::process::Output> {
        let mut command = std::process::Command::new("nsenter");
        command
            .arg(format!("--net={}", self.0.display()))
            .arg(&invocation.program);
        invocation.run(command)
    }
}
