//! Plugins without an agent under podman: `ocicat-direct`, and another vendor's plugin on the same crates.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::cni_nodes::{Host, program};
use super::podman::{NETWORK, Podman};
use super::{IDLE, SERVE, image, reaches};

/// Two containers of one host reach each other and the host them; when they are gone, so is everything of theirs.
fn containers_reach_each_other(plugin: &str, config: impl FnOnce(&Path) -> Value, link: &str) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    image::write(&archive);
    let programs = folder.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(program(plugin), programs.join(plugin)).unwrap();
    let (host, other) = (Arc::new(Host::new()), Host::new());
    host.join(&other, ["192.168.90.1/24", "192.168.90.2/24"]);
    let list = json!({"cniVersion": "1.0.0", "name": NETWORK, "plugins": [config(folder.path())]});
    let podman = Podman::on(Arc::clone(&host), folder.path(), &list, &archive);
    podman.start("web", &[], SERVE);
    podman.start("client", &[], IDLE);
    let address = podman.inspect("web", "IPAddress");
    reaches(|script| podman.exec("client", script).1, &address);
    let from_host = |script: &str| {
        let output = host.command("busybox").args(["sh", "-c", script]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    reaches(from_host, &address);
    let links = || {
        let links = host.ip("-brief link");
        let ends = links.lines().filter(|line| line.starts_with(link));
        ends.filter(|line| !line.starts_with("manul0")).count()
    };
    assert_eq!(links(), 2);
    for name in ["web", "client"] {
        podman.remove(name);
    }
    assert_eq!(links(), 0);
    podman.start("again", &[], IDLE);
    podman.remove("again");
}

#[test]
#[ignore = "needs root, podman and the programs of the examples: cargo xtask test"]
fn ocicat_direct_connects_podmans_containers() {
    let config = |folder: &Path| {
        let datastore = format!("sqlite:{}", folder.join("ocicat.db").display());
        json!({"type": "ocicat-direct", "datastore": datastore, "nodename": "host",
            "pool": "10.88.0.0/16"})
    };
    containers_reach_each_other("ocicat-direct", config, "cali");
}

#[test]
#[ignore = "needs root, podman and the programs of the examples: cargo xtask test"]
fn another_vendors_plugin_connects_podmans_containers() {
    let config = |folder: &Path| {
        let datastore = format!("sqlite:{}", folder.join("manul.db").display());
        json!({"type": "manul", "datastore": datastore, "range": "10.80.0.0/24"})
    };
    containers_reach_each_other("manul", config, "man");
}
