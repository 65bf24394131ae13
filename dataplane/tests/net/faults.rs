//! What goes wrong in a kernel that others work on too: lost notices, dumps that are overtaken, links that go while
//! they are written to, and a restart that nobody may notice.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ocicat_dataplane::state::{Hop, Route, RouteKey};
use ocicat_dataplane::testing::ready;
use ocicat_dataplane::{
    ApplyError, Attach as _, AttachError, Attachment, Dataplane as _, Fault, LinuxAttach, Prefix,
    State, names,
};

use crate::sandbox::{async_node, container, heard, ip, kernel, name, node, our_routes};

fn blackholes(count: u16) -> State {
    let key = |at: u16| {
        let [high, low] = at.to_be_bytes();
        RouteKey::main(Prefix::host([10, 1, high, low].into()))
    };
    let route = Route {
        hops: vec![Hop::Blackhole],
        source: None,
    };
    let routes: BTreeMap<_, _> = (0..count).map(|at| (key(at), route.clone())).collect();
    State {
        routes: Arc::new(routes),
        ..State::default()
    }
}

/// Runs many commands in one `ip`.
fn batch(commands: impl Iterator<Item = String>) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for command in commands {
        writeln!(input, "{command}").unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn lost_notices_make_it_read_again() {
    async_node(async || {
        let mut kernel = kernel();
        let state = blackholes(10);
        kernel.apply(&state).await.unwrap();
        // More than any receive buffer holds; then the one that counts is not heard.
        batch((0..40_000).map(|at: u32| {
            format!(
                "route add blackhole 10.77.{}.{}/32 proto 80",
                at / 256,
                at % 256
            )
        }));
        ip("route del 10.1.0.3");
        heard(&mut kernel).await;
        let report = kernel.apply(&state).await.unwrap();
        assert_eq!((report.changed, report.failed), (40_001, vec![]));
        assert_eq!(our_routes().len(), 10);
    });
}

#[test]
fn a_dump_that_is_overtaken_is_not_believed() {
    async_node(async || {
        let mut kernel = kernel();
        let state = blackholes(3000);
        kernel.apply(&state).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let churn = std::thread::spawn({
            let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            let stop = Arc::clone(&stop);
            move || {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let commands = ["add", "del"].into_iter().flat_map(|verb| {
                        let link = (0..20).map(move |at| format!("link {verb} br{at} type bridge"));
                        let route = |at: u32| {
                            format!("blackhole 10.2.{}.{}/32 proto 99", at / 256, at % 256)
                        };
                        link.chain((0..500).map(move |at| format!("route {verb} {}", route(at))))
                    });
                    batch(commands);
                }
            }
        });
        for _ in 0..30 {
            kernel.invalidate();
            match kernel.apply(&state).await {
                Ok(report) => assert_eq!((report.changed, report.failed), (0, vec![])),
                // Overtaken ten times in a row: nothing was believed, and nothing done.
                Err(ApplyError::Network { source, .. }) => {
                    assert!(source.is_transient(), "{source}")
                }
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        churn.join().unwrap();
        assert_eq!(our_routes().len(), 3000);
    });
}

#[test]
fn links_that_come_and_go_meanwhile_are_never_an_error() {
    async_node(async || {
        let mut kernel = kernel();
        let key = |at: u8| RouteKey::main(Prefix::host([10, 1, 0, at].into()));
        let route = |at: u8| Route {
            hops: vec![Hop::Link(name(&format!("cali{at}")))],
            source: None,
        };
        let routes: BTreeMap<_, _> = (0..20).map(|at| (key(at), route(at))).collect();
        let state = State {
            routes: Arc::new(routes),
            ..State::default()
        };
        let up = |at: u8| format!("link add cali{at} up type bridge");
        let flapping = std::thread::spawn({
            let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            move || {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                for _ in 0..5 {
                    batch((0..20).map(up));
                    batch((0..20).map(|at| format!("link del cali{at}")));
                }
                batch((0..20).map(up));
            }
        });
        while !flapping.is_finished() {
            let _ = ready(kernel.changed());
            let report = kernel.apply(&state).await.unwrap();
            for failure in report.failed {
                let refused = matches!(
                    failure.fault,
                    Fault::LinkMissing(_) | Fault::LinkDown(_) | Fault::Kernel(_)
                );
                assert!(refused, "{failure}");
            }
            tokio::task::yield_now().await;
        }
        flapping.join().unwrap();
        // What the notices say is enough: nothing is read again.
        let _ = ready(kernel.changed());
        let report = kernel.apply(&state).await.unwrap();
        assert_eq!(report.failed, []);
        assert_eq!(our_routes().len(), 20);
    });
}

#[test]
fn a_container_that_ends_while_it_is_attached_leaves_nothing() {
    node(|| {
        let attach = LinuxAttach::new();
        let pod = container();
        let link = names::pod_link("default", "web");
        let wanted = Attachment::new(pod, name("eth0"), link, "one/eth0")
            .addresses(["10.1.0.5".parse().unwrap()]);
        // Somebody who removes the link as soon as it is there.
        let stop = AtomicBool::new(false);
        let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        std::thread::scope(|scope| {
            let (stop, namespace) = (&stop, &namespace);
            scope.spawn(move || {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let quiet = Command::new("ip")
                        .args(["link", "del", "cali68caf03a5f4"])
                        .stderr(Stdio::null())
                        .status();
                    quiet.unwrap();
                }
            });
            let expected = |answer: &Result<_, AttachError>| {
                use AttachError::{Exists, Kernel, Sysctl};
                // The container's end may outlive the node's by a moment: then its name is still taken.
                matches!(
                    answer,
                    Ok(_) | Err(Exists { .. } | Kernel { .. } | Sysctl { .. })
                )
            };
            let answers = (0..50).map(|_| attach.attach(&wanted));
            let other = answers.map(|answer| (expected(&answer), answer));
            let other = other.into_iter().find(|(expected, _)| !expected);
            // Before anything is judged: the scope waits for its thread.
            stop.store(true, Ordering::Relaxed);
            assert!(other.is_none(), "{other:?}");
        });
        attach.attach(&wanted).unwrap();
        assert_eq!(attach.check(&wanted).unwrap(), []);
        assert_eq!(our_routes(), ["10.1.0.5 dev cali68caf03a5f4 scope link"]);
    });
}

/// What `ip monitor route` says, line by line.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    /// Starts to listen; returns when it does.
    fn new() -> Self {
        let mut command = Command::new("ip");
        command.args(["monitor", "route"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .all(|line| tell.send(line).is_ok())
        });
        let watch = Self { child, lines };
        // A route that is there already is not spoken of again: it comes and goes until somebody listens.
        loop {
            ip("route add blackhole 198.51.100.1 proto 99");
            ip("route del blackhole 198.51.100.1 proto 99");
            if watch.lines.recv_timeout(Duration::from_millis(100)).is_ok() {
                break;
            }
        }
        ip("route add blackhole 198.51.100.2 proto 99");
        watch.until("198.51.100.2");
        watch
    }

    /// The lines up to one with this text.
    fn until(&self, text: &str) -> Vec<String> {
        let line = || self.lines.recv_timeout(Duration::from_secs(10)).unwrap();
        std::iter::repeat_with(line)
            .take_while(|line| !line.contains(text))
            .collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_restart_is_not_heard_of() {
    async_node(async || {
        let mut state = blackholes(50);
        let uplink = Hop::Via {
            gateway: "192.168.0.9".parse().unwrap(),
            link: Some(name("up0")),
            onlink: true,
        };
        ip("link add up0 up type bridge");
        ip("addr add 192.168.0.1/24 dev up0");
        let more = (
            RouteKey::main("10.9.0.0/24".parse().unwrap()),
            Route {
                hops: vec![uplink],
                source: None,
            },
        );
        Arc::make_mut(&mut state.routes).extend([more]);
        kernel().apply(&state).await.unwrap();
        let watch = Watch::new();
        let mut restarted = kernel();
        state.incomplete = true;
        restarted.apply(&state).await.unwrap();
        state.incomplete = false;
        restarted.apply(&state).await.unwrap();
        restarted.invalidate();
        restarted.apply(&state).await.unwrap();
        ip("route add blackhole 198.51.100.3 proto 99");
        assert_eq!(watch.until("198.51.100.3"), [] as [String; 0]);
    });
}

#[test]
fn pods_whose_namespaces_end_while_their_routes_are_written_are_never_an_error() {
    async_node(async || {
        let attach = LinuxAttach::new();
        let mut kernel = kernel();
        let round = |count: u8| {
            let one = |number: u8| {
                let link = names::pod_link("default", &format!("web{number}"));
                let address = std::net::IpAddr::from([10, 1, 0, number]);
                let pod = container();
                let alias = format!("id{number}/eth0");
                let wanted = Attachment::new(pod.clone(), name("eth0"), link.clone(), alias)
                    .addresses([address]);
                attach.attach(&wanted).unwrap();
                let route = Route {
                    hops: vec![Hop::Link(link)],
                    source: None,
                };
                (pod, (RouteKey::main(Prefix::host(address)), route))
            };
            let (pods, routes): (Vec<_>, BTreeMap<_, _>) = (0..count).map(one).unzip();
            let state = State {
                routes: Arc::new(routes),
                ..State::default()
            };
            (pods, state)
        };
        let (pods, state) = round(20);
        // One after the other, as the last descriptor of each goes; the kernel takes its time for what is in them.
        let ending = std::thread::spawn(move || pods.into_iter().for_each(drop));
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            kernel.invalidate();
            let report = kernel.apply(&state).await.unwrap();
            for failure in &report.failed {
                let going = matches!(
                    &failure.fault,
                    Fault::LinkMissing(_) | Fault::LinkDown(_) | Fault::Kernel(_)
                );
                assert!(going, "{failure}");
            }
            if report.failed.len() == 20 && our_routes().is_empty() {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{:?}", report.failed);
        }
        ending.join().unwrap();
        // The same pods again, and everything is as it should be.
        let (_pods, state) = round(20);
        let report = kernel.apply(&state).await.unwrap();
        assert_eq!(report.failed, []);
        assert_eq!(our_routes().len(), 20);
    });
}
