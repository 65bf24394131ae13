//! With the reference plugins, written in Go, and a real agent: before and after ours in a chain, ours as their IPAM, one of
//! theirs as our IPAM. Debian's containernetworking-plugins in /usr/lib/cni.

use std::path::Path;

use ocicat_cni::runtime::{Attachment, Conflist};
use serde_json::{Value, json};

#[path = "cni_nodes/nodes.rs"]
mod cni_nodes;

use cni_nodes::host::run;
use cni_nodes::{Node, Nodes, Sandbox};
use ocicat_datastore::model::IpPool;

fn nodes() -> Nodes {
    assert!(
        Path::new("/usr/lib/cni/ptp").exists(),
        "/usr/lib/cni has no reference plugins: apt-get install containernetworking-plugins"
    );
    Nodes::start(1)
}

/// The versions of the Go plugins end at 1.0.0.
fn list(name: &str, plugins: Value) -> Conflist {
    let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": plugins});
    Conflist::from_value(list).unwrap()
}

fn pod(id: &str, sandbox: &Sandbox) -> Attachment {
    Attachment::new(id, "eth0")
        .unwrap()
        .netns(sandbox.path())
        .arg("IgnoreUnknown", "1")
}

fn ping(from: &Sandbox, address: &str) {
    run(from.command("ping").args(["-c", "1", "-W", "2", address]));
}

/// Our entry under `ipam` of another plugin.
fn ipam(node: &Node) -> Value {
    json!({"type": "ocicat-ipam", "socket": node.socket(),
        "tombstones": node.folder.join("state/tombstones"),
        "ipv4_pools": ["others"], "routes": [{"dst": "0.0.0.0/0"}]})
}

/// A pod of our own, and its address.
fn routed_pod(node: &Node) -> (Sandbox, std::net::IpAddr) {
    let only = json!({"ipam": {"type": "ocicat-ipam", "ipv4_pools": ["pods"]}});
    let (list, sandbox) = (node.list("k8s-pod-network", only), Sandbox::new());
    let added = node.runtime().add(&list, &pod("routed", &sandbox));
    (sandbox, added.unwrap().ips[0].address.ip())
}

#[test]
fn ptp_bridge_and_macvlan_take_our_addresses() {
    let nodes = nodes();
    let node = &nodes.nodes[0];
    nodes
        .cluster
        .put::<IpPool>(json!({"metadata": {"name": "others"},
        "spec": {"cidr": "10.250.0.0/20"}}));
    let runtime = node.runtime();
    let (routed, routed_address) = routed_pod(node);
    node.host.ip("link add segment type bridge");
    node.host.ip("link set segment up");
    for (plugin, length) in [
        (json!({"type": "ptp"}), 26),
        (
            json!({"type": "bridge", "bridge": "br-ocicat", "isGateway": true}),
            26,
        ),
        (
            json!({"type": "macvlan", "master": "segment", "mode": "bridge"}),
            20,
        ),
    ] {
        let name = plugin["type"].as_str().unwrap().to_owned();
        let mut plugin = plugin;
        plugin["ipam"] = ipam(node);
        let list = list(&name, json!([plugin]));
        let (first, second) = (Sandbox::new(), Sandbox::new());
        let add = |id, sandbox| runtime.add(&list, &pod(id, sandbox)).unwrap();
        let results = [add("a", &first), add("b", &second)];
        let addresses = results.each_ref().map(|result| result.ips[0].address);
        assert_eq!(addresses[0].prefix(), length, "{name}");
        ping(&first, &addresses[1].ip().to_string());
        // The kernel lets nobody reach a container of macvlan from the node that has its link.
        if name != "macvlan" {
            let gateway = results[0].ips[0].gateway.unwrap();
            ping(&first, &gateway.to_string());
            let from_node = format!("ping -c 1 -W 2 {}", addresses[1].ip());
            run(node.host.command("sh").args(["-c", &from_node]));
            ping(&routed, &addresses[1].ip().to_string());
            ping(&second, &routed_address.to_string());
        }
        let held = nodes.cluster.held();
        assert_eq!(held.keys().filter(|h| h.starts_with(&name)).count(), 2);
        runtime.check(&list, &pod("a", &first)).unwrap();
        for (id, sandbox) in [("a", &first), ("b", &second)] {
            runtime.del(&list, &pod(id, sandbox)).unwrap();
            runtime.del(&list, &pod(id, sandbox)).unwrap();
        }
        assert!(
            !nodes.cluster.held().keys().any(|h| h.starts_with(&name)),
            "{name}"
        );
    }
}

#[test]
fn portmap_bandwidth_and_tuning_come_after_ours() {
    let nodes = nodes();
    let node = &nodes.nodes[0];
    let ours = node.conflist(json!({}))["plugins"][0].clone();
    let mut plugins = vec![
        ours,
        json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}),
        json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
        json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}),
    ];
    let chain = list("chain", json!(plugins));
    let sandbox = Sandbox::new();
    let pod = pod("a", &sandbox)
        .capability(
            "bandwidth",
            json!({"ingressRate": 1_000_000, "ingressBurst": 1_000_000,
            "egressRate": 1_000_000, "egressBurst": 1_000_000}),
        )
        .capability(
            "portMappings",
            json!([{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}]),
        )
        .capability("ips", json!(["10.244.99.7"]))
        .capability("mac", json!("02:00:00:00:00:07"));
    let runtime = node.runtime();
    let result = runtime.add(&chain, &pod).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.244.99.7/32");
    assert!(sandbox.ip("link show eth0").contains("02:00:00:00:00:07"));
    let qdiscs = run(node.host.command("tc").args(["qdisc", "show"]));
    assert!(qdiscs.contains("tbf"), "{qdiscs}");
    // Without portmap, whose CHECK in Debian's version asks for an IPv6 rule that there is none of.
    plugins.truncate(3);
    runtime.check(&list("chain", json!(plugins)), &pod).unwrap();
    std::fs::write(node.folder.join("index.html"), "mapped").unwrap();
    let mut server = sandbox.command("busybox");
    server.args(["httpd", "-f", "-p", "80", "-h"]);
    let _server = cni_nodes::host::Running(server.arg(&node.folder).spawn().unwrap());
    let get = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 2 192.168.90.1 18080";
    cni_nodes::host::eventually(10, || {
        let output = node.host.command("sh").args(["-c", get]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("mapped") {
            Ok(())
        } else {
            Err(format!("{output:?}"))
        }
    });
    runtime.del(&chain, &pod).unwrap();
    nodes.cluster.assert_empty();
}

#[test]
fn host_local_gives_the_addresses_and_we_the_rest() {
    let nodes = nodes();
    let node = &nodes.nodes[0];
    let data = node.folder.join("host-local");
    let range = json!({"type": "host-local", "dataDir": data,
        "ranges": [[{"subnet": "10.66.0.0/24"}]]});
    let (first, second) = (Sandbox::new(), Sandbox::new());
    let runtime = node.runtime();
    // host-local ends at version 1.0.0.
    let mut ours = node.conflist(json!({"ipam": range}));
    ours["plugins"].as_array_mut().unwrap().truncate(1);
    let list = Conflist::from_value(ours).unwrap();
    let add = |id, sandbox| runtime.add(&list, &pod(id, sandbox)).unwrap();
    let results = [add("a", &first), add("b", &second)];
    assert_eq!(results[0].ips[0].address.to_string(), "10.66.0.2/32");
    ping(&first, "10.66.0.3");
    runtime.check(&list, &pod("a", &first)).unwrap();
    assert!(nodes.cluster.held().is_empty(), "our IPAM is not asked");
    assert_eq!(nodes.cluster.endpoints().len(), 2);
    for (id, sandbox) in [("a", &first), ("b", &second)] {
        runtime.del(&list, &pod(id, sandbox)).unwrap();
    }
    let left = std::fs::read_dir(data.join("k8s-pod-network"))
        .unwrap()
        .flatten();
    let left = left.filter(|file| file.file_name().to_string_lossy().starts_with("10."));
    assert_eq!(left.count(), 0);
    nodes.cluster.assert_empty();
}
