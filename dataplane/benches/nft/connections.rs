//! New connections through a node: without a table, with connection tracking alone, and under policy.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;
use ocicat_dataplane::State;
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{Action, Policy, ProfileId, Rule, Set, SetId};

use crate::cluster::{address, both_ways, cluster_of};
use crate::{load, median, microseconds};

/// Connections one after the other, in turns of the variants, so that other work on the machine meets all alike.
const TURN: usize = 100;
const TURNS: usize = 40;

/// What is measured, and the state of the node.
type Kind = (&'static str, fn() -> Option<State>);

/// What any firewall with state costs: one rule that lets open connections through.
const TRACKED: &str = "connection tracking alone";

pub(crate) fn bench() {
    let kinds: [Kind; 7] = [
        ("no table", || None),
        (TRACKED, || None),
        ("2 endpoints, no policy", || Some(open())),
        ("1000 endpoints, 10 policies in", || {
            Some(state(1_000, false))
        }),
        ("10000 endpoints, 10 policies in", || {
            Some(state(10_000, false))
        }),
        ("1000 endpoints, 10 policies in, 10 out", || {
            Some(state(1_000, true))
        }),
        ("10000 endpoints, 10 policies in, 10 out", || {
            Some(state(10_000, true))
        }),
    ];
    let routers: Vec<Router> = kinds
        .iter()
        .map(|(name, state)| Router::new(state(), *name == TRACKED))
        .collect();
    let mut times = vec![Vec::new(); routers.len()];
    for _ in 0..TURNS {
        for (router, times) in routers.iter().zip(&mut times) {
            times.extend(router.turn());
        }
    }
    let medians: Vec<Duration> = times.into_iter().map(median).collect();
    for ((name, _), time) in kinds.iter().zip(&medians) {
        println!(
            "{{\"bench\":\"new connection, {name}\",\"us_p50\":{},\"ratio\":{:.2}}}",
            microseconds(*time),
            time.as_secs_f64() / medians[0].as_secs_f64(),
        );
    }
}

/// The pods `cali00000000000` and `cali00000000001` are really there: the last policy of each lets them through.
fn state(endpoints: usize, both: bool) -> State {
    let mut state = cluster_of(endpoints, 10, false);
    let members = (0..20).map(|n| address(0x0a42_0000 + n));
    for number in [9, 37 + 9] {
        let id = SetId::new(&format!("s:{number}"));
        state.sets.insert(id, Set::new(members.clone()));
    }
    if both {
        both_ways(&mut state);
    }
    open_else(&mut state);
    state
}

/// The two pods, and no policy for them.
fn open() -> State {
    let mut state = cluster_of(2, 0, false);
    for pod in state.workloads.values_mut() {
        Arc::make_mut(pod).ingress.clear();
    }
    open_else(&mut state);
    state
}

/// What no policy is about is allowed, by a profile.
fn open_else(state: &mut State) {
    let id = ProfileId::new("open");
    let allow = || vec![Rule::new(Action::Allow)];
    let profile = Policy {
        ingress: allow(),
        egress: allow(),
    };
    state.profiles.insert(id.clone(), profile.into());
    for pod in state.workloads.values_mut() {
        Arc::make_mut(pod).profiles.push(id.clone());
    }
}

/// A node with two pods.
struct Router {
    ask: Sender<()>,
    answer: Receiver<Vec<Duration>>,
    /// The namespace and its table live as long.
    _node: OwnedFd,
    _table: Option<Table>,
}

impl Router {
    fn new(state: Option<State>, tracked: bool) -> Self {
        let pods = [pod(), pod()];
        let build = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root or under `unshare -Urnm`");
            for (number, pod) in pods.iter().enumerate() {
                wire(number, pod);
            }
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            if tracked {
                load::nft(
                    "table inet t { chain c { type filter hook forward priority 0; \
                     ct state established,related counter accept; }; }",
                );
            }
            let table = state.map(|state| {
                let mut table = Table::open().unwrap();
                table.apply(&state).unwrap();
                table
            });
            (here(), table)
        };
        let (node, table) = std::thread::scope(|scope| scope.spawn(build).join().unwrap());
        let [client, server] = pods;
        let to = SocketAddrV4::new(own(1), 80);
        let (ready, started) = channel();
        std::thread::spawn(move || {
            enter(&server);
            stay();
            let listener = TcpListener::bind(to).unwrap();
            ready.send(()).unwrap();
            serve(&listener);
        });
        started.recv().unwrap();
        let ((ask, asked), (told, answer)) = (channel(), channel());
        std::thread::spawn(move || {
            enter(&client);
            stay();
            while asked.recv().is_ok() {
                told.send((0..TURN).map(|_| connection(to)).collect())
                    .unwrap();
            }
        });
        Self {
            ask,
            answer,
            _node: node,
            _table: table,
        }
    }

    fn turn(&self) -> Vec<Duration> {
        self.ask.send(()).unwrap();
        self.answer.recv().unwrap()
    }
}

/// Connect, request, answer, close.
fn connection(to: SocketAddrV4) -> Duration {
    let start = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(b"?").unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    drop(stream);
    start.elapsed()
}

fn serve(listener: &TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0];
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(&asked).unwrap();
    }
}

fn pod() -> Arc<OwnedFd> {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("run as root or under `unshare -Urnm`");
        here()
    };
    Arc::new(std::thread::spawn(make).join().unwrap())
}

fn here() -> OwnedFd {
    std::fs::File::open("/proc/thread-self/ns/net")
        .unwrap()
        .into()
}

/// Both ends on one processor: from one to another takes longer than all of the node's work, and only sometimes.
fn stay() {
    let mut one = CpuSet::new();
    one.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

fn enter(pod: &OwnedFd) {
    setns(pod, CloneFlags::CLONE_NEWNET).unwrap();
}

fn own(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, 0, number)
}

/// Gives the node a link to a pod.
fn wire(number: usize, pod: &Arc<OwnedFd>) {
    let name = format!("cali{number:011x}");
    let address = own(u8::try_from(number).unwrap());
    let path = format!("/proc/{}/fd/{}", std::process::id(), pod.as_raw_fd());
    ip(&format!("link add {name} type veth peer name eth0"));
    ip(&format!("link set eth0 netns {path}"));
    ip(&format!("address add 169.254.1.1/32 dev {name}"));
    ip(&format!("link set {name} up"));
    let inside = || {
        enter(pod);
        ip("link set eth0 up");
        ip(&format!("address add {address}/32 dev eth0"));
        ip("route add 169.254.1.1 dev eth0 scope link");
        ip("route add default via 169.254.1.1");
    };
    std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
    ip(&format!("route add {address}/32 dev {name}"));
}

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status().unwrap();
    assert!(status.success(), "ip {line}");
}
