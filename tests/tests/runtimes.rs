//! Container runtimes as they come from Debian, with ocicat as their network: containerd by way of `ctr` and of CRI, and
//! podman, each on two nodes.
//!
//! Needs the real root, containerd, runc, podman with conmon, busybox-static, and the programs of the examples: `cargo
//! xtask test` installs and builds them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ocicat_datastore::model;
use serde_json::json;

#[path = "runtimes/agentless.rs"]
mod agentless;
#[path = "cni_nodes/nodes.rs"]
mod cni_nodes;
#[path = "runtimes/containerd.rs"]
mod containerd;
#[path = "runtimes/cri.rs"]
mod cri;
#[path = "runtimes/image.rs"]
mod image;
#[path = "runtimes/podman.rs"]
mod podman;

use cni_nodes::host::eventually;
use cni_nodes::{Cluster, Nodes};
use containerd::Containerd;
use cri::{Cri, CriPod};
use podman::{NETWORK, Podman};

/// Serves HTTP on ports 80 and 81.
const SERVE: &str =
    "echo it-works > /tmp/index.html; httpd -p 81 -h /tmp; exec httpd -f -p 80 -h /tmp";
const IDLE: &str = "exec sleep 100000";

/// Two nodes, and an image.
fn bench() -> (Nodes, PathBuf) {
    let nodes = Nodes::start(2);
    let image = nodes.folder.path().join("image.tar");
    image::write(&image);
    (nodes, image)
}

/// A shell command that asks for a page of this address and port.
fn get(address: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port}")
}

fn ping(address: &str) -> String {
    format!("ping -c 1 -W 1 {address}")
}

/// What came back shows that it got there.
fn arrived(output: &str) -> bool {
    output.contains("it-works") || output.contains("1 packets received")
}

/// Until the other node has heard of it, a pod may be out of reach.
fn reaches(exec: impl Fn(&str) -> String, address: &str) {
    for script in [ping(address), get(address, 80)] {
        eventually(20, || {
            let output = exec(&script);
            if arrived(&output) {
                Ok(())
            } else {
                Err(format!("{script}: {output}"))
            }
        });
    }
}

fn is_denied(exec: impl Fn(&str) -> String, script: &str) {
    let output = exec(script);
    assert!(!arrived(&output), "{script}: {output}");
}

fn policy_of_web(cluster: &Cluster) {
    for (name, app) in [
        ("web", "web"),
        ("late", "web"),
        ("client", "client"),
        ("other", "other"),
    ] {
        cluster.pod(name, json!({"app": app}), json!({}));
    }
    cluster.put::<model::NetworkPolicy>(json!({
        "metadata": {"name": "default.web", "namespace": "shop"},
        "spec": {"selector": "app == 'web'", "types": ["Ingress"], "ingress": [
            {"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'client'"},
                "destination": {"ports": [80]}},
            {"action": "Allow", "protocol": "ICMP", "source": {"selector": "app == 'client'"}}]}}));
}

fn in_pod<'a>(cri: &'a Cri, pod: &'a CriPod) -> impl Fn(&str) -> String + 'a {
    |script| cri.exec(pod, script).unwrap().1
}

#[test]
#[ignore = "needs root, containerd and the programs of the examples: cargo xtask test"]
fn pods_of_two_containerds_reach_each_other_under_policy() {
    let (mut bench, image) = bench();
    policy_of_web(&bench.cluster);
    let mut first = Containerd::start(&bench.nodes[0], &image);
    let second = Containerd::start(&bench.nodes[1], &image);
    let (one, two) = (first.cri().unwrap(), second.cri().unwrap());
    let web = one.pod("web", SERVE, Some(18080)).unwrap();
    let client = two.pod("client", IDLE, None).unwrap();
    let other = two.pod("other", IDLE, None).unwrap();
    let from_client = in_pod(&two, &client);
    let from_other = in_pod(&two, &other);
    let policy_holds = |address: &str| {
        reaches(&from_client, address);
        is_denied(&from_client, &get(address, 81));
        is_denied(&from_other, &get(address, 80));
        is_denied(&from_other, &ping(address));
    };
    policy_holds(&web.ip);

    // containerd dies: the pod runs on, and is there again afterwards.
    first.kill();
    policy_holds(&web.ip);
    first.spawn();
    let one = first.cri().unwrap();
    assert_eq!(one.sandboxes().unwrap(), std::slice::from_ref(&web.sandbox));

    // The agent dies: what it made stays, a pod that is removed meanwhile is gone at once, a new one is refused.
    bench.nodes[0].kill();
    policy_holds(&web.ip);
    let refused = one.pod("late", SERVE, None).unwrap_err();
    assert!(refused.contains("does not answer on"), "{refused}");
    one.remove(&web).unwrap();
    assert!(bench.nodes[0].host.pod_links().is_empty());
    bench.nodes[0].start();
    let gone = format!("k8s-pod-network.{}", web.sandbox);
    eventually(20, || match bench.cluster.held().contains_key(&gone) {
        true => Err("the address of the removed pod is held still".to_owned()),
        false => Ok(()),
    });
    let late = one.pod("late", SERVE, None).unwrap();
    policy_holds(&late.ip);

    // The runtimes' lists and IPAM's are the same.
    let sandboxes = [one.sandboxes().unwrap(), two.sandboxes().unwrap()].concat();
    let running: BTreeSet<String> = sandboxes
        .iter()
        .map(|id| format!("k8s-pod-network.{id}"))
        .collect();
    assert_eq!(running.len(), 3);
    let held: BTreeSet<String> = bench.cluster.held().into_keys().collect();
    assert_eq!(held, running);
    assert_eq!(bench.cluster.ipam_findings(), Vec::<String>::new());
    one.remove(&late).unwrap();
    two.remove(&client).unwrap();
    two.remove(&other).unwrap();
    bench.cluster.assert_empty();
    for node in &bench.nodes {
        assert!(node.host.pod_links().is_empty());
    }
}

#[test]
#[ignore = "needs root, containerd and the programs of the examples: cargo xtask test"]
fn ctr_runs_containers_on_two_nodes() {
    let (bench, image) = bench();
    let containerds: Vec<_> = bench
        .nodes
        .iter()
        .map(|node| Containerd::start(node, &image))
        .collect();
    std::thread::scope(|scope| {
        // Until the client has said good-bye.
        let serve = "ip -4 -o address show eth0; httpd -p 80 -h /etc; nc -l -p 9";
        let server = scope.spawn(|| containerds[0].ctr_run(&bench.nodes[0], "web", serve));
        let address = eventually(20, || {
            let endpoints = bench.cluster.endpoints();
            let first = endpoints.first().ok_or("no endpoint yet")?;
            Ok(first.spec.ip_networks[0].replace("/32", ""))
        });
        let script = format!(
            "for i in 1 2 3 4 5 6 7 8 9; do {} && break; sleep 1; done; \
             printf 'GET /group HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80; \
             echo bye | nc -w 1 {address} 9",
            ping(&address)
        );
        let seen = containerds[1].ctr_run(&bench.nodes[1], "client", &script);
        assert!(seen.contains("1 packets received"), "{seen}");
        assert!(seen.contains("200 OK"), "{seen}");
        let shown = server.join().unwrap();
        assert!(shown.contains(&format!("{address}/32")), "{shown}");
    });
    bench.cluster.assert_empty();
}

#[test]
#[ignore = "needs root, podman and the programs of the examples: cargo xtask test"]
fn containers_of_two_podmans_reach_each_other_under_policy() {
    let (bench, image) = bench();
    // By the labels of the namespace, on both sides; without them neither would the policy be the containers', nor a rule.
    bench.cluster.put::<model::GlobalNetworkPolicy>(json!({
        "metadata": {"name": "default.podman"},
        "spec": {"selector": "runtime == 'podman'", "namespaceSelector": "stage == 'prod'",
            "types": ["Ingress"], "ingress": [
            {"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]},
                "source": {"namespaceSelector": "stage == 'prod' && projectcalico.org/name == 'default'"}},
            {"action": "Allow", "protocol": "TCP", "destination": {"ports": [81]},
                "source": {"namespaceSelector": "stage == 'test'"}},
            {"action": "Allow", "protocol": "ICMP"}]}}));
    bench
        .cluster
        .put::<model::Profile>(json!({"metadata": {"name": NETWORK},
        "spec": {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]}}));
    let [one, two] = [0, 1].map(|at: usize| Podman::new(&bench.nodes[at], &image));
    // podman hands what is asked for over in CNI_ARGS.
    let asked = format!("--network={NETWORK}:ip=10.244.200.7,mac=02:00:00:00:00:42");
    one.start("web", &[&asked], SERVE);
    two.start("client", &[], IDLE);
    let address = one.inspect("web", "IPAddress");
    assert_eq!(address, "10.244.200.7");
    assert_eq!(one.inspect("web", "MacAddress"), "02:00:00:00:00:42");
    let from_client = |script: &str| two.exec("client", script).1;
    reaches(from_client, &address);
    is_denied(from_client, &get(&address, 81));
    let running: BTreeSet<String> = [one.containers(), two.containers()]
        .concat()
        .iter()
        .map(|id| format!("{NETWORK}.{id}"))
        .collect();
    let held: BTreeSet<String> = bench.cluster.held().into_keys().collect();
    assert_eq!(held, running);
    one.remove("web");
    two.remove("client");
    bench.cluster.assert_empty();
}
