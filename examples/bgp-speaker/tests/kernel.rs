//! The best routes in the kernel, in network namespaces. Needs root and iproute2.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().expect("sh");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < end, "in 120 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Two namespaces on one link, a speaker in each; `b` exports into its kernel.
struct Lab {
    name: String,
    folder: TempDir,
    speakers: Vec<Option<Child>>,
}

impl Lab {
    fn new(configs: [Value; 2]) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let name = format!("bgpd-{}", std::process::id());
        let mut lab = Self {
            name: name.clone(),
            folder: tempfile::tempdir().unwrap(),
            speakers: Vec::new(),
        };
        sh(&format!(
            "ip netns add {name}-a; ip netns add {name}-b
             ip link add v0 netns {name}-a type veth peer name v0 netns {name}-b
             for i in a:1 b:2; do ns={name}-${{i%:*}}; k=${{i#*:}}
               ip -n $ns addr add 192.0.2.$k/24 dev v0
               ip -n $ns addr add 2001:db8::$k/64 dev v0 nodad
               ip -n $ns link set v0 up; ip -n $ns link set lo up
             done"
        ));
        for (side, mut config) in ["a", "b"].into_iter().zip(configs) {
            config["socket"] = json!(lab.folder.path().join(side));
            let path = lab.folder.path().join(format!("{side}.json"));
            std::fs::write(path, config.to_string()).unwrap();
            let child = lab.spawn(side);
            lab.speakers.push(Some(child));
        }
        lab
    }

    fn spawn(&self, side: &str) -> Child {
        Command::new("ip")
            .args(["netns", "exec", &format!("{}-{side}", self.name)])
            .args([env!("CARGO_BIN_EXE_ocicat-bgpd"), "run", "--config"])
            .arg(self.folder.path().join(format!("{side}.json")))
            .spawn()
            .expect("ip runs; apt-get install iproute2")
    }

    fn end(&mut self, at: usize, signal: Signal) {
        if let Some(mut child) = self.speakers[at].take() {
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
            child.wait().unwrap();
        }
    }

    /// Destination and gateway of every route that is the exporter's.
    fn kernel(&self) -> Vec<(String, String)> {
        let mut routes = Vec::new();
        for family in ["-4", "-6"] {
            let line = format!(
                "ip -n {}-b -j {family} route show table main proto bgp",
                self.name
            );
            let found: Value = serde_json::from_str(&sh(&line)).unwrap_or_else(|_| json!([]));
            for route in found.as_array().unwrap() {
                let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
                routes.push((text("dst"), text("gateway")));
            }
        }
        routes
    }

    fn holds(&self, what: &str, expected: &[(&str, &str)]) {
        until(what, || {
            let routes = self.kernel();
            routes
                .iter()
                .map(|(dst, via)| (dst.as_str(), via.as_str()))
                .eq(expected.iter().copied())
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for at in 0..self.speakers.len() {
            self.end(at, Signal::SIGKILL);
        }
        for side in ["a", "b"] {
            let name = format!("{}-{side}", self.name);
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

const BOTH: &[(&str, &str)] = &[
    ("10.1.0.0/26", "192.0.2.1"),
    ("2001:db8:1::/64", "2001:db8::1"),
];

/// Best routes come and go in the kernel; a silent end leaves them, a farewell takes them along; what is not ours
/// stays.
#[test]
fn best_routes_are_in_the_kernel() {
    let a = json!({
        "as": 64512, "router_id": "192.0.2.1", "hold": 9, "networks": ["10.1.0.0/26", "2001:db8:1::/64"],
        "peers": [
            {"addr": "192.0.2.2", "as": 64512, "local_address": "192.0.2.1", "families": ["ipv4"]},
            {"addr": "2001:db8::2", "as": 64512, "local_address": "2001:db8::1", "families": ["ipv6"]},
        ],
    });
    let b = json!({
        "as": 64512, "router_id": "192.0.2.2", "hold": 9, "kernel": {"export": true}, "restarting": true,
        "networks": ["10.2.0.0/26"],
        "peers": [
            {"addr": "192.0.2.1", "as": 64512, "local_address": "192.0.2.2", "families": ["ipv4"]},
            {"addr": "2001:db8::1", "as": 64512, "local_address": "2001:db8::2", "families": ["ipv6"]},
        ],
    });
    let mut lab = Lab::new([a, b]);
    sh(&format!(
        "ip -n {}-b route add 10.9.0.0/16 via 192.0.2.1 proto 77",
        lab.name
    ));
    lab.holds("learned routes", BOTH);

    // Somebody removes one: it comes back.
    sh(&format!("ip -n {}-b route del 10.1.0.0/26", lab.name));
    lab.holds("the route that was removed", BOTH);

    lab.end(1, Signal::SIGUSR2);
    lab.holds("routes after a silent end", BOTH);
    lab.speakers[1] = Some(lab.spawn("b"));
    // The first speaker ends with a Cease: only the new process can hear it and clean up.
    until("the new process answers", || {
        ocicat_bgpd::control::ask(&lab.folder.path().join("b"), "routes")
            .is_ok_and(|routes| routes.as_array().is_some_and(|all| all.len() == 3))
    });
    lab.holds("routes after the restart", BOTH);
    lab.end(0, Signal::SIGTERM);
    lab.holds("nothing after the neighbour's farewell", &[]);

    lab.speakers[0] = Some(lab.spawn("a"));
    lab.holds("the neighbour's return", BOTH);
    lab.end(1, Signal::SIGTERM);
    lab.holds("nothing after our own farewell", &[]);
    let others = sh(&format!("ip -n {}-b route show proto 77", lab.name));
    assert!(others.contains("10.9.0.0/16"), "{others}");
}
