//! What attaching a pod costs: `ocicat` with a real agent beside Debian's `ptp` with `host-local`, in the same run, taking
//! turns, so that whatever else the machine does hits both.
//!
//! `cargo xtask bench cni` builds the programs for it and names their folder in `OCICAT_PROGRAMS`.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{clock_getcpuclockid, clock_gettime};
use serde_json::{Value, json};

#[path = "../tests/cni_nodes/nodes.rs"]
mod cni_nodes;

use cni_nodes::{Node, Nodes, Sandbox};

/// As many turns as make a median.
const TURNS: usize = 60;
/// As many pods as kubelet puts on a node.
const PODS: usize = 110;

/// A plugin and its configuration.
struct Subject {
    name: &'static str,
    program: std::path::PathBuf,
    config: Value,
}

/// What one call of it took.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    /// Of the process and those that it started.
    cpu: Duration,
}

impl Subject {
    /// Runs `start` with a call's variables and configuration.
    fn run(&self, mut start: Command, verb: &str, at: usize, sandbox: &Sandbox) -> Output {
        start
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("{}{at}", self.name))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", sandbox.path())
            .env("CNI_PATH", "/usr/lib/cni")
            .env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=pod-{at}"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = start.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Fits into the pipe.
        stdin.write_all(self.config.to_string().as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// One call, in the network namespace of this thread. Alone, its processor time is that of all children.
    fn call(&self, verb: &str, at: usize, sandbox: &Sandbox) -> Cost {
        let (cpu, start) = (children(), Instant::now());
        let output = self.run(Command::new(&self.program), verb, at, sandbox);
        let wall = start.elapsed();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{} {verb}: {text}", self.name);
        Cost {
            wall,
            cpu: children().saturating_sub(cpu),
        }
    }

    /// The most memory of a call, in kilobytes, as GNU's `time` sees it: a parent of few pages.
    fn memory(&self, verb: &str, at: usize, sandbox: &Sandbox) -> Option<u64> {
        let mut timed = Command::new("/usr/bin/time");
        timed.args(["-f", "%M"]).arg(&self.program);
        let output = self.run(timed, verb, at, sandbox);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().last()?.trim().parse().ok()
    }
}

fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| {
            let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        })
        .sum()
}

/// The processor time of a process, of all its threads, also those that have ended.
fn processor_time(id: u32) -> Duration {
    let process = nix::unistd::Pid::from_raw(i32::try_from(id).unwrap());
    let clock = clock_getcpuclockid(process).unwrap();
    Duration::from(clock_gettime(clock).unwrap())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    milliseconds(all[all.len() / 2])
}

fn mean(all: &[Duration]) -> f64 {
    milliseconds(all.iter().sum::<Duration>()) / all.len() as f64
}

/// ADD and DEL one at a time, in turns; and the kernel's own time for removing a pair.
fn one_at_a_time(subjects: [&Subject; 2], node: &Node, sandboxes: &[Sandbox]) {
    let mut add = [Vec::new(), Vec::new()];
    let mut del = [Vec::new(), Vec::new()];
    let mut floor = Vec::new();
    let mut agent = [Duration::ZERO; 2];
    for turn in 0..TURNS {
        for (at, subject) in subjects.iter().enumerate() {
            let sandbox = &sandboxes[(2 * turn + at) % sandboxes.len()];
            let before = processor_time(node.agent_id());
            add[at].push(subject.call("ADD", turn, sandbox));
            let between = processor_time(node.agent_id());
            del[at].push(subject.call("DEL", turn, sandbox));
            if at == 0 {
                agent[0] += between.saturating_sub(before);
                agent[1] += processor_time(node.agent_id()).saturating_sub(between);
            }
        }
        floor.push(removal(&sandboxes[turn % sandboxes.len()]));
    }
    let walls = |all: &[Cost]| median(all.iter().map(|cost| cost.wall).collect());
    let cpus = |all: &[Cost]| mean(&all.iter().map(|cost| cost.cpu).collect::<Vec<_>>());
    let share = |agent: Duration| milliseconds(agent) / TURNS as f64;
    for (verb, costs, agent) in [("ADD", &add, agent[0]), ("DEL", &del, agent[1])] {
        let (ours, theirs) = (&costs[0], &costs[1]);
        let cpu = cpus(ours) + share(agent);
        println!(
            "{verb} median: {:.1} ms, ptp {:.1} ms, ratio {:.2}; CPU: {:.1} ms + agent {:.1} ms, ptp {:.1} ms, ratio {:.2}",
            walls(ours),
            walls(theirs),
            walls(ours) / walls(theirs),
            cpus(ours),
            share(agent),
            cpus(theirs),
            cpu / cpus(theirs)
        );
    }
    println!(
        "DEL floor, the kernel's removal of such a pair: {:.1} ms",
        median(floor)
    );
}

/// How long `RTM_DELLINK` takes for a pair like a pod's, `ip` starting included.
fn removal(sandbox: &Sandbox) -> Duration {
    let path = sandbox.path();
    let name = path.file_name().unwrap().to_str().unwrap();
    let ip = |words: &str| {
        let mut command = Command::new("ip");
        command.args(words.split(' ')).stdin(Stdio::null());
        assert!(command.status().unwrap().success(), "ip {words}");
    };
    ip(&format!(
        "link add floor type veth peer name eth9 netns {name}"
    ));
    ip("link set floor up");
    let start = Instant::now();
    ip("link del floor");
    start.elapsed()
}

/// Calls from so many threads at once; the time until the last is answered.
fn at_once(
    subject: &Subject,
    command: &str,
    node: &Node,
    threads: usize,
    sandboxes: &[Sandbox],
) -> Duration {
    let next = AtomicUsize::new(0);
    let host = File::open(node.host.path()).unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                setns(&host, CloneFlags::CLONE_NEWNET).unwrap();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(sandbox) = sandboxes.get(at) else {
                        return;
                    };
                    subject.call(command, 1000 + at, sandbox);
                }
            });
        }
    });
    start.elapsed()
}

fn main() {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let data = nodes.folder.path().join("host-local");
    let ours = Subject {
        name: "ocicat",
        program: cni_nodes::program("ocicat"),
        config: json!({"cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "ocicat",
            "socket": node.socket(), "ipam": {"type": "ocicat-ipam"}}),
    };
    let theirs = Subject {
        name: "ptp",
        program: "/usr/lib/cni/ptp".into(),
        config: json!({"cniVersion": "1.0.0", "name": "go", "type": "ptp", "ipam": {
            "type": "host-local", "dataDir": data, "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "10.99.0.0/16"}]]}}),
    };
    let sandboxes: Vec<Sandbox> = (0..PODS).map(|_| Sandbox::new()).collect();
    let host = File::open(node.host.path()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            setns(&host, CloneFlags::CLONE_NEWNET).unwrap();
            one_at_a_time([&ours, &theirs], node, &sandboxes);
            let memory = |subject: &Subject| {
                let most = (0..5).filter_map(|at| {
                    let add = subject.memory("ADD", 500 + at, &sandboxes[at]);
                    subject.call("DEL", 500 + at, &sandboxes[at]);
                    add
                });
                most.max()
                    .map_or_else(|| "unknown".to_owned(), |most| format!("{most} kB"))
            };
            println!("memory of ADD: {}, ptp {}", memory(&ours), memory(&theirs));
            let size =
                |subject: &Subject| std::fs::metadata(&subject.program).unwrap().len() / 1000;
            println!("size: {} kB, ptp {} kB", size(&ours), size(&theirs));
        });
    });
    for subject in [&ours, &theirs, &ours, &theirs] {
        let some = &sandboxes[..64];
        let add = at_once(subject, "ADD", node, 8, some);
        let del = at_once(subject, "DEL", node, 8, some);
        let rate = |time: Duration| some.len() as f64 / time.as_secs_f64();
        println!(
            "8 in parallel, {}: {:.0} ADD/s, {:.0} DEL/s",
            subject.name,
            rate(add),
            rate(del)
        );
    }
    for subject in [&ours, &theirs] {
        let add = at_once(subject, "ADD", node, PODS, &sandboxes);
        let del = at_once(subject, "DEL", node, PODS, &sandboxes);
        println!(
            "{PODS} pods at once, {}: the last ADD after {:.2} s, the last DEL after {:.2} s",
            subject.name,
            add.as_secs_f64(),
            del.as_secs_f64()
        );
    }
    nodes.cluster.assert_empty();
}
