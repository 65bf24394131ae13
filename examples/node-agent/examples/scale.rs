//! What one agent costs in a large cluster: `scale [NODES PODS POLICIES [AGENTS]]`.
//!
//! An API server in memory holds the cluster; an agent in a process of its own reads it over a socket and computes the
//! whole desired state for a kernel in memory, which is in the same process and counts too. Printed are its processor time
//! until it is ready and its memory then, beside what they should be. Afterwards many agents read a small cluster at once,
//! and what they ask for is counted, also in each second.

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ocicat_dataplane::testing::{FakeDataplane, FakeKernel};
use ocicat_datastore::testing::kubernetes::ApiServer;
use ocicat_datastore::{ApiGroup, Backend, Event, Object, Op, Store};
use ocicat_node::agent::Agent;
use ocicat_node::config::Config;
use ocicat_node::control::Client;
use ocicat_node::world::KINDS;
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

/// How large a cluster is.
#[derive(Clone, Copy)]
struct Size {
    nodes: u32,
    pods: u32,
    policies: u32,
}

impl Size {
    /// Blocks of a node.
    const fn blocks(self) -> u32 {
        self.pods.div_ceil(self.nodes).div_ceil(64)
    }
}

/// What an agent may cost.
#[derive(Clone, Copy)]
struct Goal {
    seconds: Option<f64>,
    mebibytes: u64,
}

/// The node that the agent is on.
const NODE: &str = "node-0";
/// How long a cluster of this size may take to be read.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, kubeconfig, folder] = arguments.as_slice()
        && word == "agent"
    {
        return agent(kubeconfig, Path::new(folder));
    }
    let number = |place: usize, usual: u32| -> Result<u32, Failure> {
        Ok(arguments
            .get(place)
            .map_or(Ok(usual), |text| text.parse())?)
    };
    let large = Size {
        nodes: number(0, 5000)?,
        pods: number(1, 150_000)?,
        policies: number(2, 1000)?,
    };
    let small = Size {
        nodes: 3,
        pods: 60,
        policies: 10,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let idle = Goal {
            seconds: None,
            mebibytes: 30,
        };
        let scale = Goal {
            seconds: Some(5.0),
            mebibytes: 150,
        };
        for (name, size, goal) in [("small", small, idle), ("large", large, scale)] {
            let server = cluster(size).await?;
            println!(
                "{name}: {} nodes, {} pods, {} policies",
                size.nodes, size.pods, size.policies
            );
            one_agent(&server).await?;
            println!(
                "  goals: {}{} MiB",
                goal.seconds
                    .map(|most| format!("{most} s of processor time, "))
                    .unwrap_or_default(),
                goal.mebibytes
            );
        }
        many_agents(number(3, 1000)?).await
    })
}

/// Fills an API server.
async fn cluster(size: Size) -> Result<ApiServer, Failure> {
    let server = ApiServer::with_calico(&ApiGroup::v3());
    for node in 0..size.nodes {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 1)) + node);
        server.apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": format!("node-{node}"), "labels": {"rack": format!("r{}", node % 50)},
            "annotations": {"projectcalico.org/IPv4Address": format!("{address}/12")}},
            "status": {"addresses": [{"type": "InternalIP", "address": address.to_string()}]}}))?;
    }
    for namespace in 0..100 {
        let labels = json!({"team": format!("t{}", namespace % 10)});
        server.apply(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": format!("ns-{namespace}"), "labels": labels}}))?;
    }
    for pod in 0..size.pods {
        server.apply(pod_object(pod, size))?;
    }
    let store = server.store();
    let mut ops = vec![
        calico(
            "IPPool",
            "pods",
            json!({"cidr": "10.0.0.0/8", "natOutgoing": true}),
        ),
        calico(
            "BGPConfiguration",
            "default",
            json!({"nodeToNodeMeshEnabled": false}),
        ),
    ];
    for block in 0..size.nodes * size.blocks() {
        ops.extend(claimed(block, size));
    }
    for policy in 0..size.policies {
        // The sources are there: 1,250 of 150,000 pods, in each of 120 sets.
        let (team, app) = ((policy + 1) % 10, policy % 40);
        ops.push(calico("GlobalNetworkPolicy", &format!("policy-{policy}"), json!({
            "selector": format!("app == 'a{app}'"), "order": policy,
            "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80, 443]},
                "source": {"selector": format!("app == 'a{}' && tier == 't{}'", (app + 1) % 40, policy % 3),
                    "namespaceSelector": format!("team == 't{team}'")}}],
            "types": ["Ingress"]})));
    }
    for op in ops {
        for written in store.write(vec![op?]).await {
            written?;
        }
    }
    Ok(server)
}

fn calico(kind: &str, name: &str, spec: Value) -> Result<Op, Failure> {
    let value = json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec});
    Ok(Op::Create(Object::from_value(value)?))
}

/// A node's block and its claim.
fn claimed(block: u32, size: Size) -> [Result<Op, Failure>; 2] {
    let first = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + block * 64);
    let node = format!("node-{}", block / size.blocks());
    let (cidr, name) = (format!("{first}/26"), format!("host:{node}:{first}-26"));
    let used: Vec<u32> = (0..64)
        .filter(|ordinal| (block % size.blocks() * 64 + ordinal) * size.nodes < size.pods)
        .collect();
    let attributes: Vec<Value> = used
        .iter()
        .map(|ordinal| {
            json!({"handle_id": format!("k8s-pod-network.{block:032x}{ordinal:032x}"),
            "secondary": {"node": node, "namespace": "ns-1", "pod": format!("app-{ordinal}")}})
        })
        .collect();
    let allocations: Vec<Option<u32>> = (0..64)
        .map(|one| used.contains(&one).then_some(one))
        .collect();
    let free: Vec<u32> = (0..64).filter(|one| !used.contains(one)).collect();
    [
        calico(
            "BlockAffinity",
            &name,
            json!({"cidr": cidr, "node": node, "state": "confirmed", "type": "host"}),
        ),
        calico(
            "IPAMBlock",
            &format!("{}-26", first.to_string().replace('.', "-")),
            json!({
            "cidr": cidr, "affinity": format!("host:{node}"), "allocations": allocations, "attributes": attributes,
            "unallocated": free, "deleted": false}),
        ),
    ]
}

/// Pods of a node are in its blocks.
fn pod_object(pod: u32, size: Size) -> Value {
    let (node, place) = (pod % size.nodes, pod / size.nodes);
    let block = node * size.blocks() + place / 64;
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    let address = Ipv4Addr::from(first + block * 64 + place % 64).to_string();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": format!("app-{pod}-7d9c6b8f5-x{}", pod % 9973), "namespace": format!("ns-{}", pod % 100),
            "uid": format!("00000000-0000-4000-8000-{pod:012}"),
            "labels": {"app": format!("a{}", pod % 40), "tier": format!("t{}", pod % 3), "pod-template-hash": "7d9c6b8f5"}},
        "spec": {"nodeName": format!("node-{node}"), "serviceAccountName": "default",
            "containers": [{"name": "main", "image": "registry.example/app:1", "ports": [{"name": "http", "containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
}

/// An agent in a process of its own reads the cluster.
async fn one_agent(server: &ApiServer) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, ApiServer::kubeconfig(address))?;
    server.reset_requests();
    let serving = {
        let server = server.clone();
        tokio::spawn(async move { server.serve(listener).await })
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("agent").arg(&kubeconfig).arg(folder.path());
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    serving.abort();
    let asked = server.requests();
    let lists: Vec<(&str, u64)> = asked
        .iter()
        .filter(|((verb, _), _)| verb == "list")
        .map(|((_, resource), count)| (resource.as_str(), *count))
        .collect();
    let total = lists.iter().map(|(_, n)| n).sum::<u64>();
    let again = lists.iter().filter(|(_, count)| *count > 1);
    let again: Vec<String> = again
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    println!(
        "  lists asked for: {total} of {} kinds; more than once: {}",
        lists.len(),
        again.join(", ")
    );
    if status.success() {
        Ok(())
    } else {
        Err("the agent failed".into())
    }
}

/// The agent's own process.
fn agent(kubeconfig: &str, folder: &Path) -> Result<(), Failure> {
    let mut config = Config::default();
    config.node.name = Some(NODE.to_owned());
    config.node.address_detection = Some("first-found".to_owned());
    config.datastore.url = format!("kubernetes:{kubeconfig}");
    config.bgp.listen = Some("127.0.0.1:0".parse()?);
    config.namespace = "kube-system".to_owned();
    (config.paths.run, config.paths.state) = (folder.join("run"), folder.join("state"));
    let socket = config.paths.run.join("node.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let began = Instant::now();
    runtime.block_on(async {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let dataplane = Box::new(FakeDataplane::new(&FakeKernel::new()));
        let running = Agent::new(config).dataplane(dataplane).run(async {
            let _ = stopped.await;
        });
        let running = tokio::spawn(running);
        let watched = tokio::task::spawn_blocking(move || watch(&socket, began));
        tokio::select! {
            watched = watched => watched??,
            ended = running => {
                ended??;
                return Err("the agent ended".into());
            }
        }
        drop(stop);
        Ok(())
    })
}

/// Waits until the agent is ready, and measures it then and a while later.
fn watch(socket: &PathBuf, began: Instant) -> Result<(), Failure> {
    let client = Client::new(socket);
    loop {
        match client.status() {
            Ok(status) if status.ready => break,
            Ok(status) if began.elapsed() > PATIENCE => {
                return Err(status.reasons.join("; ").into());
            }
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    let processor = processor_seconds()?;
    println!(
        "  ready after {:.2} s, {processor:.2} s of processor time, {} MiB (peak {} MiB)",
        began.elapsed().as_secs_f64(),
        memory("VmRSS")?,
        memory("VmHWM")?
    );
    std::thread::sleep(Duration::from_secs(15));
    let idle = processor_seconds()? - processor;
    println!(
        "  15 s later: {} MiB, {idle:.2} s of processor time more",
        memory("VmRSS")?
    );
    Ok(())
}

/// User and system time of this process; the clock ticks a hundred times a second.
fn processor_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks =
        |place: usize| -> Result<f64, Failure> { Ok(fields.get(place).ok_or("stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn memory(name: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("status")?
        .parse()?;
    Ok(kilobytes / 1024)
}

/// Many agents read a cluster at once.
async fn many_agents(agents: u32) -> Result<(), Failure> {
    let size = Size {
        nodes: 100,
        pods: 1000,
        policies: 20,
    };
    let server = cluster(size).await?;
    server.reset_requests();
    let began = Instant::now();
    let each_second = {
        let server = server.clone();
        tokio::spawn(async move {
            let (mut rates, mut before) = (Vec::new(), 0);
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let now: u64 = server.requests().values().sum();
                rates.push(now - before);
                before = now;
                if rates.ends_with(&[0, 0]) {
                    return rates;
                }
            }
        })
    };
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..agents {
        let store = Store::new(std::sync::Arc::new(server.store()));
        reading.spawn(async move {
            let mut follow = ocicat_datastore::follow(&store, KINDS);
            let mut left: std::collections::BTreeSet<_> = KINDS.into();
            while !left.is_empty() {
                if let Event::InSync { kind, .. } = follow.next().await {
                    left.remove(&kind);
                }
            }
        });
    }
    while let Some(done) = reading.join_next().await {
        done?;
    }
    let took = began.elapsed().as_secs_f64();
    let asked = server.requests();
    let of = |verb: &str| {
        asked
            .iter()
            .filter(|((one, _), _)| one == verb)
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    let (lists, watches) = (of("list"), of("watch"));
    println!(
        "{agents} agents at once over {} nodes and {} pods: {lists} lists, {:.1} an agent, and {watches} watches, in {took:.1} s",
        size.nodes,
        size.pods,
        lists as f64 / f64::from(agents),
    );
    println!("  requests in each second: {:?}", each_second.await?);
    Ok(())
}
