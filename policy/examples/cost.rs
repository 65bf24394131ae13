//! What the graph costs on one node of a large cluster. Run it with `--release`; an argument scales the cluster.
//!
//! 5,000 endpoints, 150 of them on this node, 1,000 policies in 50 namespaces: the time of a full start, of a pod's
//! new label and of a policy's edit, each with the flush that follows, and the memory of the process; then what may
//! pass between this node's pods.

use std::time::{Duration, Instant};

use ocicat_dataplane::State;
use ocicat_datastore::Object;
use ocicat_policy::{Flow, Graph, Model, Update, reach};
use serde_json::{Value, json};

const NAMESPACES: usize = 50;

type Failure = Box<dyn std::error::Error>;

/// A node with the state that it made and the state that its dataplane applied last.
struct Node {
    graph: Graph,
    state: State,
    applied: State,
}

impl Node {
    fn time(
        &mut self,
        name: &str,
        of: impl Fn(usize) -> Result<Update, Failure>,
    ) -> Result<(), Failure> {
        let mut times: Vec<Duration> = Vec::new();
        for i in 0..1000 {
            let update = of(i)?;
            let start = Instant::now();
            self.graph.update(update);
            self.graph.flush(&mut self.state);
            times.push(start.elapsed());
            self.applied.clone_from(&self.state);
        }
        times.sort();
        let (median, slow, slowest) = (times[500], times[990], times[999]);
        println!("{name:18} median {median:?}, 99% {slow:?}, most {slowest:?}");
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let factor: f64 = std::env::args().nth(1).map_or(Ok(1.0), |f| f.parse())?;
    let scaled = |n: f64| (n * factor) as usize;
    let (endpoints, here, policies) = (scaled(5000.0), 150, scaled(1000.0));
    let updates = cluster(endpoints, here, policies)?;
    let mut node = Node {
        graph: Graph::new("n1"),
        state: State::default(),
        applied: State::default(),
    };
    let start = Instant::now();
    for update in updates {
        node.graph.update(update);
    }
    node.graph.flush(&mut node.state);
    println!("endpoints {endpoints}, here {here}, policies {policies}");
    println!("full start         {:?}", start.elapsed());
    let state = &node.state;
    let members: usize = state.sets.values().map(|s| s.members().len()).sum();
    let (workloads, in_force) = (state.workloads.len(), state.policies.len());
    let sets = state.sets.len();
    println!(
        "in the state       {workloads} workloads, {in_force} policies, {sets} sets with {members} members"
    );
    let app = |i: usize| format!("app{}", i % 20);
    node.time("relabel, here", |i| endpoint(i % here, true, &app(i)))?;
    node.time("relabel, elsewhere", |i| {
        endpoint(here + i % (endpoints - here), false, &app(i))
    })?;
    // The first policies select this node's pods, the others hardly any.
    node.time("policy edit, here", |i| {
        policy(i % here.min(policies), 5000 + i as u16)
    })?;
    node.time("policy edit, any", |i| {
        policy(i % policies, 1000 + i as u16)
    })?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    if let Some(line) = status.lines().find(|line| line.starts_with("VmRSS")) {
        let memory = line.trim_start_matches("VmRSS:").trim();
        println!("memory             {memory}");
    }
    questions(here, policies)
}

/// Every pair of the node's pods, and one flow, in a model with all policies.
fn questions(here: usize, policies: usize) -> Result<(), Failure> {
    let mut model = Model::new();
    for update in cluster(here, here, policies)? {
        model.update(update);
    }
    let start = Instant::now();
    let matrix = reach(&model, &[]);
    let (open, possible) = (matrix.open(), matrix.possible());
    let time = start.elapsed();
    println!("reach              {time:?}: {open} of {possible} pairs");
    let (from, to) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let start = Instant::now();
    let trace = model.evaluate(&Flow::tcp(from, to, 443));
    let time = start.elapsed();
    println!("one flow           {time:?}: {}", trace.verdict());
    Ok(())
}

fn cluster(endpoints: usize, here: usize, policies: usize) -> Result<Vec<Update>, Failure> {
    let mut updates = Vec::new();
    for n in 0..NAMESPACES {
        updates.push(update(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": format!("ns{n}"), "labels": {"team": format!("t{}", n % 7)}},
        }))?);
    }
    for i in 0..endpoints {
        updates.push(endpoint(
            i,
            i < here,
            &format!("app{}", i / NAMESPACES % 20),
        )?);
    }
    for i in 0..policies {
        updates.push(policy(i, 80)?);
    }
    Ok(updates)
}

fn update(value: Value) -> Result<Update, Failure> {
    Update::of(&Object::from_value(value)?)?.ok_or_else(|| "no update".into())
}

fn endpoint(i: usize, local: bool, app: &str) -> Result<Update, Failure> {
    let namespace = format!("ns{}", i % NAMESPACES);
    update(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
        "metadata": {"namespace": namespace, "name": format!("pod{i}"),
                     "labels": {"app": app, "tier": format!("t{}", i % 5)}},
        "spec": {"node": if local { "n1" } else { "n2" }, "orchestrator": "k8s",
                 "interfaceName": format!("cali{i}"), "profiles": [format!("kns.{namespace}")],
                 "ipNetworks": [format!("10.{}.{}.{}/32", i >> 16, i >> 8 & 255, i & 255)]},
    }))
}

fn policy(i: usize, port: u16) -> Result<Update, Failure> {
    update(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": format!("ns{}", i % NAMESPACES), "name": format!("p{i}")},
        "spec": {
            "podSelector": {"matchLabels": {"app": format!("app{}", i / NAMESPACES % 20)}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{
                "from": [{"podSelector": {"matchLabels": {"app": format!("app{}", (i / NAMESPACES + 1) % 20)}}},
                         {"namespaceSelector": {"matchLabels": {"team": format!("t{}", i % 7)}}}],
                "ports": [{"port": port}, {"port": 443}],
            }],
            "egress": [{"to": [{"podSelector": {}}]}, {"ports": [{"port": 53, "protocol": "UDP"}]}],
        },
    }))
}
