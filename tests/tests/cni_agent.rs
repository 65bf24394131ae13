//! The plugin with a real agent and a real kernel: repeated, racing, killed, rebooted. The runtime is our own.
//!
//! These need network namespaces, `ip`, and the programs of the examples: `cargo xtask test` builds them.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use ocicat_cni::agent::{CallError, Client, Request};
use ocicat_cni::runtime::{Attachment, Conflist, RuntimeError};
use ocicat_cni::{AddResult, CniError, NetworkConfig};
use ocicat_datastore::model::IpPool;
use serde_json::{Value, json};

#[path = "cni_nodes/nodes.rs"]
mod cni_nodes;

use cni_nodes::host::{Running, eventually};
use cni_nodes::{Node, Nodes, Sandbox, program};

const NETWORK: &str = "k8s-pod-network";

/// Interface `ifname` of container `id`, of pod `shop/web-<id>`.
fn pod(id: &str, ifname: &str, sandbox: &Sandbox) -> Attachment {
    named(id, ifname, sandbox, &format!("web-{id}"))
}

fn named(id: &str, ifname: &str, sandbox: &Sandbox, name: &str) -> Attachment {
    Attachment::new(id, ifname)
        .unwrap()
        .netns(sandbox.path())
        .arg("IgnoreUnknown", "1")
        .arg("K8S_POD_NAMESPACE", "shop")
        .arg("K8S_POD_NAME", name)
}

fn plain(node: &Node) -> Conflist {
    node.list(NETWORK, json!({}))
}

fn code<T: std::fmt::Debug>(outcome: Result<T, RuntimeError>) -> CniError {
    outcome.unwrap_err().plugin_error().unwrap().clone()
}

/// The plugin without the runtime side, which would clean up by itself.
fn call(node: &Node, verb: &str, id: &str, sandbox: Option<&Sandbox>) -> Child {
    let mut command = node.host.command(program("ocicat").to_str().unwrap());
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", id)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", node.folder.join("bin"))
        .env(
            "CNI_ARGS",
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-{id}"),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if let Some(sandbox) = sandbox {
        command.env("CNI_NETNS", sandbox.path());
    }
    let mut child = command.spawn().unwrap();
    let mut config = node.conflist(json!({}))["plugins"][0].clone();
    config["cniVersion"] = json!("1.1.0");
    config["name"] = json!(NETWORK);
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, config.to_string().as_bytes()).unwrap();
    child
}

fn succeeded(child: Child) -> Result<(), String> {
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn assert_nothing_left(nodes: &Nodes) {
    nodes.cluster.assert_empty();
    for node in &nodes.nodes {
        let links = node.host.pod_links();
        assert!(links.is_empty(), "{links:?}");
    }
}

#[test]
fn the_socket_is_roots_and_takes_no_namespace_of_the_host() {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&node.folder.join("run")) & 0o777, 0o700);
    assert_eq!(mode(&node.socket()) & 0o777, 0o600);
    // Past the plugin, which refuses it too.
    let config = json!({"cniVersion": "1.1.0", "name": NETWORK, "type": "ocicat"});
    let network = NetworkConfig::from_value(config).unwrap();
    let sandbox = Sandbox::new();
    let request = Request::new(network, pod("a", "eth0", &sandbox).id);
    let host = std::fs::File::open(node.host.path()).unwrap();
    let client = Client::new(node.socket());
    let refused = client.add(&request, std::os::fd::AsFd::as_fd(&host));
    match refused {
        Err(CallError::Refused(error)) => {
            assert_eq!(error.code, CniError::INVALID_ENVIRONMENT);
            assert!(error.msg.contains("host's own"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Whatever was entered for pods, the agent's own threads are where they were.
    let runtime = node.runtime();
    let list = plain(node);
    runtime.add(&list, &pod("a", "eth0", &sandbox)).unwrap();
    let own = std::fs::metadata(node.host.path()).unwrap();
    let tasks = format!("/proc/{}/task", node.agent_id());
    for task in std::fs::read_dir(tasks).unwrap() {
        let there = std::fs::metadata(task.unwrap().path().join("ns/net")).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!(there.ino(), own.ino());
    }
    runtime.del(&list, &pod("a", "eth0", &sandbox)).unwrap();
    assert_nothing_left(&nodes);
}

#[test]
fn repeated_outdated_and_racing_calls() {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let (first, second) = (Sandbox::new(), Sandbox::new());
    // ADD twice is the same pod; DEL many times is one.
    for _ in 0..2 {
        succeeded(call(node, "ADD", "a", Some(&first))).unwrap();
    }
    assert_eq!(nodes.cluster.held().len(), 1);
    assert_eq!(node.host.pod_links().len(), 1);
    for sandbox in [Some(&first), None, None] {
        succeeded(call(node, "DEL", "a", sandbox)).unwrap();
    }
    assert_nothing_left(&nodes);
    // A new container of the same pod; then the old one's DEL, late.
    let (runtime, list) = (node.runtime(), plain(node));
    runtime
        .add(&list, &named("old", "eth0", &first, "web"))
        .unwrap();
    let new = named("new", "eth0", &second, "web");
    runtime.add(&list, &new).unwrap();
    runtime
        .del(&list, &named("old", "eth0", &first, "web"))
        .unwrap();
    runtime.check(&list, &new).unwrap();
    // Two DELs at once.
    let both = [0, 1].map(|_| call(node, "DEL", "new", None));
    for child in both {
        succeeded(child).unwrap();
    }
    let both = ["new", "web"].map(|name| named("new", "eth0", &second, name));
    runtime.del(&list, &both[1]).unwrap();
    assert_nothing_left(&nodes);
}

/// DEL is answered when nobody sees the link any more, while the kernel still waits for those that might: what comes
/// right after must find nothing of it.
#[test]
fn what_follows_a_removal_at_once_finds_nothing_of_it() {
    let mut nodes = Nodes::start(1);
    let sandbox = Sandbox::new();
    {
        let node = &nodes.nodes[0];
        for _ in 0..20 {
            succeeded(call(node, "ADD", "p", Some(&sandbox))).unwrap();
            succeeded(call(node, "DEL", "p", Some(&sandbox))).unwrap();
            assert_nothing_left(&nodes);
            let routes = node.host.ip("route show proto 80");
            assert!(!routes.contains("cali"), "{routes}");
        }
        // The runtime removes the namespace directly after the answer, and the next pod of the name comes in a new one.
        for _ in 0..10 {
            let sandbox = Sandbox::new();
            succeeded(call(node, "ADD", "q", Some(&sandbox))).unwrap();
            succeeded(call(node, "DEL", "q", Some(&sandbox))).unwrap();
        }
        assert_nothing_left(&nodes);
    }
    // The agent dies between the answer and the end of the kernel's wait.
    for _ in 0..3 {
        let node = &mut nodes.nodes[0];
        succeeded(call(node, "ADD", "r", Some(&sandbox))).unwrap();
        succeeded(call(node, "DEL", "r", Some(&sandbox))).unwrap();
        node.kill();
        assert!(node.host.pod_links().is_empty());
        node.start();
        succeeded(call(node, "ADD", "r", Some(&sandbox))).unwrap();
        succeeded(call(node, "DEL", "r", Some(&sandbox))).unwrap();
        assert_nothing_left(&nodes);
    }
}

#[test]
fn fifty_at_once_get_an_address_each() {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let sandboxes: Vec<Sandbox> = (0..50).map(|_| Sandbox::new()).collect();
    let ids: Vec<String> = (0..50).map(|at| format!("c{at}")).collect();
    let each = |verb: &'static str| {
        let calls: Vec<Child> = ids
            .iter()
            .zip(&sandboxes)
            .map(|(id, sandbox)| call(node, verb, id, Some(sandbox)))
            .collect();
        for call in calls {
            succeeded(call).unwrap();
        }
    };
    each("ADD");
    let held = nodes.cluster.held();
    let mut addresses: Vec<_> = held.values().flatten().collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!((held.len(), addresses.len()), (50, 50));
    assert_eq!(node.host.pod_links().len(), 50);
    assert_eq!(nodes.cluster.ipam_findings(), Vec::<String>::new());
    each("DEL");
    assert_nothing_left(&nodes);
}

/// The plugin dies at some moment of ADD, and then the agent does; DEL, or GC, leaves nothing.
#[test]
fn killed_at_any_point_of_an_add() {
    let mut nodes = Nodes::start(1);
    let sandbox = Sandbox::new();
    let moment = |step: u64| std::thread::sleep(Duration::from_micros(step));
    for step in 0..20 {
        let node = &nodes.nodes[0];
        let mut add = call(node, "ADD", "p", Some(&sandbox));
        // Not to wait for something, but to hit different moments.
        moment(step * 700);
        add.kill().unwrap();
        add.wait().unwrap();
        succeeded(call(node, "DEL", "p", None)).unwrap();
        assert_nothing_left(&nodes);
    }
    for step in 0..6 {
        let add = call(&nodes.nodes[0], "ADD", "g", Some(&sandbox));
        moment(step * 2_000);
        nodes.nodes[0].kill();
        let answered = succeeded(add);
        let node = &mut nodes.nodes[0];
        if step % 2 == 0 {
            succeeded(call(node, "DEL", "g", None)).unwrap();
            assert!(node.host.pod_links().is_empty(), "{answered:?}");
            node.start();
        } else {
            node.start();
            node.runtime().gc(&plain(node), &[]).unwrap();
        }
        eventually(20, || {
            let held = nodes.cluster.held();
            let endpoints = nodes.cluster.endpoints().len();
            // The handle goes after the address.
            let findings = nodes.cluster.ipam_findings();
            if held.is_empty() && endpoints == 0 && findings.is_empty() {
                Ok(())
            } else {
                Err(format!(
                    "step {step}: {held:?}, {endpoints} endpoints, {findings:?}"
                ))
            }
        });
        assert_nothing_left(&nodes);
    }
}

#[test]
fn without_an_agent_and_after_a_reboot() {
    let mut nodes = Nodes::start(1);
    let (first, second) = (Sandbox::new(), Sandbox::new());
    let (runtime, list) = (nodes.nodes[0].runtime(), plain(&nodes.nodes[0]));
    runtime.add(&list, &pod("a", "eth0", &first)).unwrap();
    runtime.add(&list, &pod("b", "eth0", &second)).unwrap();
    nodes.nodes[0].kill();
    let error = code(runtime.add(&list, &pod("c", "eth0", &first)));
    assert_eq!(error.code, CniError::TRY_AGAIN_LATER, "{error}");
    assert_eq!(
        code(runtime.status(&list)).code,
        CniError::PLUGIN_NOT_AVAILABLE
    );
    // The link is gone at once, the rest when the agent is back.
    runtime.del(&list, &pod("a", "eth0", &first)).unwrap();
    assert_eq!(nodes.nodes[0].host.pod_links().len(), 1);
    assert_eq!(nodes.cluster.held().len(), 2);
    nodes.nodes[0].start();
    eventually(20, || match nodes.cluster.held().len() {
        1 => Ok(()),
        other => Err(format!("{other} held")),
    });
    // A reboot: namespaces and links are gone, the datastore and the runtime's cache are there.
    nodes.nodes[0].kill();
    for link in nodes.nodes[0].host.pod_links() {
        nodes.nodes[0].host.ip(&format!("link del {link}"));
    }
    drop(second);
    nodes.nodes[0].start();
    runtime.status(&list).unwrap();
    let fresh = Sandbox::new();
    runtime.add(&list, &pod("d", "eth0", &fresh)).unwrap();
    assert_eq!(nodes.cluster.held().len(), 2);
    runtime.gc(&list, &[pod("d", "eth0", &fresh).id]).unwrap();
    assert_eq!(nodes.cluster.held().len(), 1);
    runtime.del(&list, &pod("d", "eth0", &fresh)).unwrap();
    assert_nothing_left(&nodes);
}

#[test]
fn the_hosts_name_for_the_link_is_taken() {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let (runtime, list, sandbox) = (node.runtime(), plain(node), Sandbox::new());
    runtime.add(&list, &pod("a", "eth0", &sandbox)).unwrap();
    let link = node.host.pod_links().remove(0);
    runtime.del(&list, &pod("a", "eth0", &sandbox)).unwrap();
    // By something that is no pod's: it stays, and the pod is refused by its name.
    node.host.ip(&format!("link add {link} type bridge"));
    let error = code(runtime.add(&list, &pod("a", "eth0", &sandbox)));
    assert!(error.msg.contains(&link), "{error}");
    assert_eq!(node.host.pod_links(), std::slice::from_ref(&link));
    node.host.ip(&format!("link del {link}"));
    assert_nothing_left(&nodes);
    // By an earlier sandbox of the same pod that nobody removed: it is replaced.
    node.host
        .ip(&format!("link add {link} type veth peer name leftover"));
    node.host.ip(&format!("link set {link} alias gone/eth0"));
    runtime.add(&list, &pod("a", "eth0", &sandbox)).unwrap();
    runtime.check(&list, &pod("a", "eth0", &sandbox)).unwrap();
    runtime.del(&list, &pod("a", "eth0", &sandbox)).unwrap();
    assert_nothing_left(&nodes);
}

/// As multus attaches them: the default network's eth0, and further interfaces of any name and of other networks.
#[test]
fn several_networks_in_one_pod() {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let (runtime, sandbox) = (node.runtime(), Sandbox::new());
    let (default, second) = (plain(node), node.list("second", json!({})));
    let on = |ifname| pod("a", ifname, &sandbox);
    let results: Vec<AddResult> = [(&default, "eth0"), (&second, "net1"), (&second, "mgmt.7")]
        .iter()
        .map(|(list, ifname)| runtime.add(list, &on(ifname)).unwrap())
        .collect();
    for ((list, ifname), result) in [(&default, "eth0"), (&second, "net1"), (&second, "mgmt.7")]
        .iter()
        .zip(&results)
    {
        assert_eq!(result.interfaces[1].name, *ifname);
        runtime.check(list, &on(ifname)).unwrap();
    }
    runtime.del(&second, &on("net1")).unwrap();
    runtime.check(&default, &on("eth0")).unwrap();
    runtime.check(&second, &on("mgmt.7")).unwrap();
    // The second network's garbage is its own alone.
    runtime.gc(&second, &[]).unwrap();
    runtime.check(&default, &on("eth0")).unwrap();
    assert_eq!(nodes.cluster.held().len(), 1);
    runtime.del(&default, &on("eth0")).unwrap();
    assert_nothing_left(&nodes);
}

/// What an error says, and its number, by what is wrong.
#[test]
fn errors_have_numbers_and_names() {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let (runtime, sandbox) = (node.runtime(), Sandbox::new());
    let annotated = |name: &str, text: &str| {
        let annotation = format!("cni.projectcalico.org/{name}");
        json!({"args": {"cni": {"annotations": {annotation: text}}}})
    };
    let cases: [(Value, u32, &str); 9] = [
        (
            json!({"device_type": "netkit"}),
            CniError::UNSUPPORTED_FIELD,
            "device_type: netkit",
        ),
        (
            json!({"feature_control": {"floating_ips": true}}),
            CniError::UNSUPPORTED_FIELD,
            "feature_control.floating_ips: true",
        ),
        (
            annotated("floatingIPs", "[\"192.0.2.1\"]"),
            7,
            "cni.projectcalico.org/floatingIPs",
        ),
        (
            annotated("ipAddrs", "x"),
            7,
            "cni.projectcalico.org/ipAddrs",
        ),
        (annotated("ipv4pools", "[\"none\"]"), 100, "none"),
        (annotated("ipAddrs", "[\"192.0.2.1\"]"), 100, "192.0.2.1"),
        (
            annotated("ipAddrsNoIpam", "[\"192.0.2.1\"]"),
            7,
            "ip_addrs_no_ipam",
        ),
        (json!({"ipam": {"type": "host-local"}}), 100, "host-local"),
        (json!({"ipam": {"type": "no-such"}}), 7, "no-such"),
    ];
    for (more, number, named) in cases {
        let list = node.list(NETWORK, more.clone());
        let error = code(runtime.add(&list, &pod("a", "eth0", &sandbox)));
        let told = format!("{} {}", error.msg, error.details);
        assert!(told.contains(named), "{more}: {error:?}");
        assert!(
            error.code == number || named == "host-local",
            "{more}: {error:?}"
        );
        assert_nothing_left(&nodes);
    }
}

/// A container that nobody knows, and a kernel whose table belongs to somebody else.
#[test]
fn an_unknown_container_and_a_node_that_cannot_be_programmed() {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let (runtime, list, sandbox) = (node.runtime(), plain(node), Sandbox::new());
    runtime.add(&list, &pod("a", "eth0", &sandbox)).unwrap();
    succeeded(call(node, "DEL", "a", None)).unwrap();
    // By another name, for the same container: the plugin's own DEL was not seen by the runtime side.
    let error = code(runtime.check(&list, &pod("a", "eth0", &sandbox)));
    assert_eq!(error.code, CniError::UNKNOWN_CONTAINER, "{error:?}");

    let mut nft = node.host.command("nft");
    nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut owner = Running(nft.spawn().unwrap());
    let mut words = owner.0.stdin.take().unwrap();
    let taken = "delete table inet ocicat; add table inet ocicat { flags owner; }\n";
    std::io::Write::write_all(&mut words, taken.as_bytes()).unwrap();
    let mut turn = 0;
    let error = eventually(20, || {
        // Something for the agent to program.
        turn += 1;
        nodes.cluster.pod(&format!("x{turn}"), json!({}), json!({}));
        nodes
            .cluster
            .put::<IpPool>(json!({"metadata": {"name": format!("more-{turn}")},
            "spec": {"cidr": format!("10.{turn}.0.0/16"), "natOutgoing": true}}));
        match runtime.status(&list) {
            Ok(()) => Err("STATUS succeeds".to_owned()),
            Err(error) => match error.plugin_error() {
                Some(error) if error.code == CniError::LIMITED_CONNECTIVITY => Ok(error.clone()),
                other => Err(format!("{other:?}")),
            },
        }
    });
    assert!(!error.details.is_empty(), "{error:?}");
    let refused = code(runtime.add(&list, &pod("b", "eth0", &sandbox)));
    assert_eq!(refused.code, CniError::TRY_AGAIN_LATER, "{refused:?}");
    // It lets go: the agent programs its own table again.
    drop(words);
    drop(owner);
    eventually(40, || {
        runtime.status(&list).map_err(|error| error.to_string())
    });
}
