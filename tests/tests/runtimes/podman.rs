//! podman on a node, with its CNI backend and folders of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cni_nodes::host::run;
use crate::cni_nodes::{Host, Node};

use super::image;

/// A node's podman; its containers are removed with the value.
pub(crate) struct Podman {
    host: Arc<Host>,
    folder: PathBuf,
}

/// The name of its network.
pub(crate) const NETWORK: &str = "podman-net";

impl Podman {
    /// podman on a node, with the image, and a network whose containers have the label `runtime: podman` and are in a
    /// namespace with the label `stage: prod`.
    pub(crate) fn new(node: &Node, image: &Path) -> Self {
        let labels = json!({"cni": {"labels": [{"key": "runtime", "value": "podman"}],
            "namespaceLabels": [{"key": "stage", "value": "prod"}]}});
        let mut list = node.conflist(json!({"args": labels}));
        list["name"] = json!(NETWORK);
        Self::on(Arc::clone(&node.host), &node.folder, &list, image)
    }

    /// podman on a host, with the plugins in `bin` of this folder, and a network of this list.
    pub(crate) fn on(host: Arc<Host>, home: &Path, list: &Value, image: &Path) -> Self {
        let folder = home.join("podman");
        std::fs::create_dir_all(folder.join("net.d")).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        std::fs::write(folder.join("net.d/10-podman.conflist"), list.to_string()).unwrap();
        let config = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{}/bin\"]\nnetwork_config_dir = \"{}\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\ntmp_dir = \"{}\"\n\
             [containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\nseccomp_profile = \"unconfined\"\n",
            home.display(),
            path("net.d"),
            path("tmp"),
        );
        std::fs::write(folder.join("containers.conf"), config).unwrap();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n",
            path("run"),
            path("root")
        );
        std::fs::write(folder.join("storage.conf"), storage).unwrap();
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        std::fs::write(folder.join("policy.json"), policy).unwrap();
        let podman = Self { host, folder };
        let policy = podman.folder.join("policy.json");
        run(podman
            .command()
            .args(["load", "--quiet", "--signature-policy"])
            .arg(policy)
            .arg("-i")
            .arg(image));
        podman
    }

    fn command(&self) -> Command {
        let mut command = self.host.command("podman");
        command
            .env("CONTAINERS_CONF", self.folder.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"));
        command
    }

    /// Starts a container that runs a shell command, with more arguments of `podman run`.
    pub(crate) fn start(&self, name: &str, more: &[&str], script: &str) {
        let network = format!("--network={NETWORK}");
        let mut command = self.command();
        command.args(["run", "-d", "--pull=never", "--name", name]);
        if !more.iter().any(|word| word.starts_with("--network")) {
            command.arg(network);
        }
        command.args(more).args(["--entrypoint", "/bin/sh"]);
        run(command.args([image::NAME, "-c", script]));
    }

    /// What `podman inspect` says of the container's network.
    pub(crate) fn inspect(&self, name: &str, field: &str) -> String {
        let template = format!(
            "{{{{(index .NetworkSettings.Networks \"{}\").{field}}}}}",
            NETWORK
        );
        let mut command = self.command();
        let text = run(command.args(["inspect", "--format", &template, name]));
        text.trim().to_owned()
    }

    /// The ids of its containers.
    pub(crate) fn containers(&self) -> Vec<String> {
        let text = run(self.command().args(["ps", "-aq", "--no-trunc"]));
        text.lines().map(str::to_owned).collect()
    }

    /// Runs a shell command in a container; whether it succeeded, and what it printed.
    pub(crate) fn exec(&self, name: &str, script: &str) -> (bool, String) {
        let mut command = self.command();
        let output = command
            .args(["exec", name, "/bin/sh", "-c", script])
            .output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// Removes a container.
    pub(crate) fn remove(&self, name: &str) {
        run(self.command().args(["rm", "-f", "-t", "0", name]));
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let mut rest = self.command();
        let _ = rest.args(["rm", "-f", "-a", "-t", "0"]).output();
        let ours = self.folder.display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| point.starts_with(&ours)) {
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }
}
