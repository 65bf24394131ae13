//! Together with the reference plugins, written in Go: Debian's containernetworking-plugins in /usr/lib/cni.
//!
//! These make network namespaces: root, or a user namespace. They fail where something of this is not there.

use std::path::Path;
use std::sync::Arc;

use ocicat_cni::runtime::{Attachment, Conflist, Runtime};
use ocicat_cni::testing::{FakeAgent, ServedAgent};
use serde_json::{Value, json};

#[path = "network/common.rs"]
mod common;
#[path = "network/programs.rs"]
mod programs;

use common::{Namespace, in_own_namespace};
use programs::programs;

const GO: &str = "/usr/lib/cni";

struct Bench {
    folder: tempfile::TempDir,
    agent: Arc<FakeAgent>,
    _served: ServedAgent,
    runtime: Runtime,
}

fn bench() -> Bench {
    assert!(
        Path::new(GO).join("host-local").exists(),
        "{GO} has no reference plugins: apt-get install containernetworking-plugins"
    );
    let folder = tempfile::tempdir().unwrap();
    let programs = programs(folder.path());
    let agent = Arc::new(FakeAgent::new());
    let served = ServedAgent::start(agent.clone(), folder.path().join("cni.sock")).unwrap();
    let runtime = Runtime::new([programs, GO.into()], folder.path().join("cache"));
    Bench {
        folder,
        agent,
        _served: served,
        runtime,
    }
}

impl Bench {
    /// The versions of the Go plugins end at 1.0.0.
    fn list(&self, plugins: &Value) -> Conflist {
        let mut list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": plugins});
        for plugin in list["plugins"].as_array_mut().unwrap() {
            if plugin["type"] == "ocicat" {
                plugin["socket"] = json!(self.folder.path().join("cni.sock"));
            } else if plugin["ipam"]["type"] == "ocicat-ipam" {
                plugin["ipam"]["socket"] = json!(self.folder.path().join("cni.sock"));
            }
        }
        Conflist::from_value(list).unwrap()
    }
}

fn pod(id: &str, netns: &Namespace) -> Attachment {
    Attachment::new(id, "eth0")
        .unwrap()
        .netns(netns.path())
        .arg("IgnoreUnknown", "1")
}

#[test]
fn host_local_is_delegated_to() {
    let bench = bench();
    let data = bench.folder.path().join("host-local");
    let list = bench.list(
        &json!([{"type": "ocicat", "ipam": {"type": "host-local", "dataDir": data,
        "ranges": [[{"subnet": "10.66.0.0/24"}]]}}]),
    );
    let (first, second) = (Namespace::new(), Namespace::new());
    let address = |id, netns| bench.runtime.add(&list, &pod(id, netns)).unwrap().ips[0].address;
    assert_eq!(address("a", &first).to_string(), "10.66.0.2/24");
    assert_eq!(address("b", &second).to_string(), "10.66.0.3/24");
    bench.runtime.check(&list, &pod("a", &first)).unwrap();
    let held = || {
        std::fs::read_dir(data.join("net"))
            .unwrap()
            .flatten()
            .map(|file| file.file_name())
    };
    let held = || {
        held()
            .filter(|name| name.to_string_lossy().starts_with("10.66."))
            .count()
    };
    assert_eq!(held(), 2);
    for (id, netns) in [("a", &first), ("b", &second)] {
        bench.runtime.del(&list, &pod(id, netns)).unwrap();
        bench.runtime.del(&list, &pod(id, netns)).unwrap();
    }
    assert_eq!(held(), 0);
    // An agent that refuses: what host-local gave is given back.
    bench
        .agent
        .fail_next(ocicat_cni::CniError::try_again("not in sync"));
    bench.runtime.add(&list, &pod("c", &first)).unwrap_err();
    assert_eq!(held(), 0);
    assert!(bench.agent.attached("net").is_empty());
}

#[test]
fn ptp_and_bridge_take_the_agents_addresses() {
    in_own_namespace(|| {
        for plugin in [
            json!({"type": "ptp"}),
            json!({"type": "bridge", "bridge": "ocicat-t0", "isGateway": false}),
        ] {
            let (bench, netns) = (bench(), Namespace::new());
            let mut plugin = plugin;
            plugin["ipam"] = json!({"type": "ocicat-ipam"});
            let list = bench.list(&json!([plugin, {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}]));
            let result = bench.runtime.add(&list, &pod("a", &netns)).unwrap();
            assert_eq!(result.ips[0].address.to_string(), "10.255.0.1/16");
            bench.runtime.check(&list, &pod("a", &netns)).unwrap();
            bench.runtime.del(&list, &pod("a", &netns)).unwrap();
            let calls = ["IPAM ADD a/eth0", "IPAM CHECK a/eth0", "IPAM DEL a/eth0"];
            assert_eq!(bench.agent.calls(), calls);
        }
    });
}
