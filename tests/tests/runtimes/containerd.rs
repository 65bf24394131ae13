//! containerd on a node, with folders of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::cni_nodes::host::{Running, eventually, run};
use crate::cni_nodes::{Host, Node};

use super::cri::Cri;
use super::image;

/// A containerd. When the value goes, so does everything that it started.
pub(crate) struct Containerd {
    host: Arc<Host>,
    folder: PathBuf,
    process: Option<Running>,
}

impl Containerd {
    /// Starts one for a node and gives it the image.
    pub(crate) fn start(node: &Node, image: &Path) -> Self {
        let folder = node.folder.join("containerd");
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let plugins = node.folder.display();
        // Without restrict_oom_score_adj runc fails where root may not lower its own score.
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n[grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{}\"\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{plugins}/bin\"\nconf_dir = \"{plugins}/net.d\"\n",
            path("root"),
            path("state"),
            path("c.sock"),
            path("ttrpc.sock"),
            image::NAME,
        );
        std::fs::write(folder.join("config.toml"), config).unwrap();
        let mut containerd = Self {
            host: Arc::clone(&node.host),
            folder,
            process: None,
        };
        containerd.spawn();
        for namespace in ["k8s.io", "default"] {
            run(containerd
                .ctr()
                .args(["-n", namespace, "images", "import"])
                .arg(image));
        }
        containerd
    }

    /// Starts the process and waits until it answers.
    pub(crate) fn spawn(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .unwrap();
        let mut command = self.host.command("containerd");
        command.arg("-c").arg(self.folder.join("config.toml"));
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.process = Some(Running(child));
        eventually(30, || self.cri().and_then(|cri| cri.version()));
    }

    /// kill -9; containers run on.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// A connection to it.
    pub(crate) fn cri(&self) -> Result<Cri, String> {
        Cri::connect(&self.folder.join("c.sock"))
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.folder.join("c.sock"));
        command
    }

    /// `ctr run --cni`, which takes plugins and lists from fixed folders: it sees this node's there.
    pub(crate) fn ctr_run(&self, node: &Node, id: &str, script: &str) -> String {
        let folder = node.folder.display();
        let mounts = format!(
            "mkdir -p /etc/cni && mount -t tmpfs tmpfs /opt && mount -t tmpfs tmpfs /etc/cni && mkdir /opt/cni && \
             ln -s {folder}/bin /opt/cni/bin && ln -s {folder}/net.d /etc/cni/net.d && exec \"$@\""
        );
        let mut command = self.host.command("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-c", &mounts, "sh"]);
        command.args(["ctr", "-a"]).arg(self.folder.join("c.sock"));
        command.args(["run", "--rm", "--cni", image::NAME, id]);
        run(command.args(["/bin/sh", "-c", script]))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process = None;
        // The shims of containers that are left, which have our folder in their arguments, and what they run.
        let ours = self.folder.display().to_string();
        for shim in processes().filter(|id| arguments(*id).contains(&ours)) {
            let children = processes().filter(|id| parent(*id) == Some(shim));
            for id in children.chain([shim]).collect::<Vec<_>>() {
                let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| point.starts_with(&ours)) {
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn arguments(id: u32) -> String {
    std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default()
}

fn parent(id: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let after = stat.rsplit_once(") ")?.1;
    after.split(' ').nth(1)?.parse().ok()
}
