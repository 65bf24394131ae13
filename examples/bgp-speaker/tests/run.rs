//! Speakers as processes, on the loopback.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ocicat_bgpd::control;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Each test has addresses of its own.
static NEXT: AtomicU16 = AtomicU16::new(0);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < end, "in 120 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Speaker {
    folder: TempDir,
    child: Child,
}

impl Speaker {
    fn start(mut config: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config["socket"] = json!(folder.path().join("ctl"));
        std::fs::write(folder.path().join("bgpd.json"), config.to_string()).unwrap();
        let child = Self::spawn(&folder);
        let speaker = Self { folder, child };
        speaker.wait();
        speaker
    }

    fn spawn(folder: &TempDir) -> Child {
        Command::new(env!("CARGO_BIN_EXE_ocicat-bgpd"))
            .args(["run", "--config"])
            .arg(folder.path().join("bgpd.json"))
            .spawn()
            .unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("ctl")
    }

    fn wait(&self) {
        until("the speaker answers", || {
            control::ask(&self.socket(), "status").is_ok()
        });
    }

    fn configuration(&self) -> Value {
        let path = self.folder.path().join("bgpd.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.configuration();
        change(&mut config);
        std::fs::write(self.folder.path().join("bgpd.json"), config.to_string()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends the process and starts it again.
    fn again(&mut self, signal: Signal) {
        self.signal(signal);
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.folder);
        self.wait();
    }

    fn routes(&self) -> Vec<(String, bool)> {
        let routes = control::ask(&self.socket(), "routes").unwrap();
        let mut routes: Vec<_> = routes
            .as_array()
            .unwrap()
            .iter()
            .filter(|route| !route["paths"][0]["from"].is_null())
            .map(|route| {
                let prefix = route["prefix"].as_str().unwrap().to_owned();
                (prefix, route["paths"][0]["stale"] == json!(true))
            })
            .collect();
        routes.sort();
        routes
    }

    fn sees(&self, what: &str, expected: &[(&str, bool)]) {
        let mut last = Vec::new();
        let end = Instant::now() + Duration::from_secs(120);
        while Instant::now() < end {
            last = self.routes();
            if last
                .iter()
                .map(|(prefix, stale)| (prefix.as_str(), *stale))
                .eq(expected.iter().copied())
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what}: {last:?} instead of {expected:?}");
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A reflector and a node that dials it.
fn pair() -> (Speaker, Speaker) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (a, b) = (format!("127.81.{number}.1"), format!("127.81.{number}.2"));
    let port = 20_000 + (std::process::id() % 20_000) as u16;
    let reflector = Speaker::start(json!({
        "as": 64512, "router_id": a, "addr": a, "port": port, "hold": 9,
        "peers": [{"prefix": format!("127.81.{number}.0/24"), "as": 64512, "rr_client": true, "insecure": true, "gr": 20}],
    }));
    let node = Speaker::start(json!({
        "as": 64512, "router_id": b, "addr": b, "port": port, "hold": 9, "restarting": true,
        "networks": ["10.1.0.0/26", "10.2.0.0/26"],
        "peers": [{"addr": a, "as": 64512, "port": port, "local_address": b, "gr": 20}],
    }));
    (reflector, node)
}

const BOTH: &[(&str, bool)] = &[("10.1.0.0/26", false), ("10.2.0.0/26", false)];
const STALE: &[(&str, bool)] = &[("10.1.0.0/26", true), ("10.2.0.0/26", true)];

/// SIGKILL and SIGUSR2 leave the routes with the neighbour, SIGTERM takes them along.
#[test]
fn ends_with_and_without_a_word() {
    let (reflector, mut node) = pair();
    reflector.sees("at first", BOTH);
    for signal in [Signal::SIGKILL, Signal::SIGUSR2] {
        node.signal(signal);
        node.child.wait().unwrap();
        reflector.sees("kept", STALE);
        node.child = Speaker::spawn(&node.folder);
        reflector.sees("back", BOTH);
    }
    node.wait();
    node.signal(Signal::SIGTERM);
    assert!(node.child.wait().unwrap().success());
    reflector.sees("gone", &[]);
    assert!(!node.socket().exists());
}

/// A filter that a reload brings takes effect on the session that is up; counters and reasons can be asked for.
#[test]
fn a_reload_brings_a_filter() {
    let (reflector, node) = pair();
    reflector.sees("at first", BOTH);
    node.configure(|config| {
        config["peers"][0]["filter"] = json!({"exportV4": [
            {"action": "Reject", "cidr": "10.2.0.0/16", "matchOperator": "In"}]});
    });
    node.signal(Signal::SIGHUP);
    reflector.sees("filtered", &BOTH[..1]);
    let metrics = control::ask(&reflector.socket(), "metrics").unwrap();
    let text = metrics.as_str().unwrap();
    assert!(
        text.contains("ocicat_bgp_peer_sessions_total{peer=\"127.81."),
        "{text}"
    );
    node.configure(|config| config["peers"][0]["filter"] = json!({}));
    node.signal(Signal::SIGHUP);
    reflector.sees("without the filter", BOTH);
    let neighbors = control::ask(&reflector.socket(), "neighbors").unwrap();
    assert_eq!(neighbors[0]["sessions"], json!(1), "{neighbors}");
}

/// SIGHUP changes what the file changed and leaves sessions alone.
#[test]
fn reloads() {
    let (reflector, node) = pair();
    reflector.sees("at first", BOTH);
    node.configure(|config| config["networks"] = json!(["10.2.0.0/26", "10.3.0.0/26"]));
    node.signal(Signal::SIGHUP);
    reflector.sees("changed", &[("10.2.0.0/26", false), ("10.3.0.0/26", false)]);
    let sessions = |speaker: &Speaker| {
        control::ask(&speaker.socket(), "neighbors").unwrap()[0]["sessions"].clone()
    };
    assert_eq!(sessions(&node), json!(1));
    node.configure(|config| config["peers"] = json!([]));
    node.signal(Signal::SIGHUP);
    reflector.sees("no neighbour any more", &[]);
    // A file that cannot be read changes nothing.
    node.configure(|config| config["networks"] = json!(["10.9.9.9/8"]));
    node.signal(Signal::SIGHUP);
    until("the speaker still answers", || {
        control::ask(&node.socket(), "status").is_ok()
    });
}

/// A prefix that is gone from the file: whoever came from it is sent away and not let in again.
#[test]
fn a_prefix_is_removed_by_a_reload() {
    let (reflector, node) = pair();
    reflector.sees("at first", BOTH);
    let kept = reflector.configuration()["peers"].clone();
    reflector.configure(|config| config["peers"] = json!([]));
    reflector.signal(Signal::SIGHUP);
    reflector.sees("nobody", &[]);
    let neighbors = control::ask(&reflector.socket(), "neighbors").unwrap();
    assert_eq!(neighbors, json!([]));
    let sessions = || control::ask(&node.socket(), "neighbors").unwrap()[0]["sessions"].clone();
    assert_eq!(sessions(), json!(1), "it is not let in again");
    reflector.configure(|config| config["peers"] = kept);
    reflector.signal(Signal::SIGHUP);
    reflector.sees("let in again", BOTH);
}

#[test]
fn a_killed_speaker_leaves_no_lock_behind() {
    let (reflector, mut node) = pair();
    reflector.sees("at first", BOTH);
    node.again(Signal::SIGKILL);
    reflector.sees("again", BOTH);
    let second = control::listen(&node.socket());
    assert!(second.is_err(), "another speaker's socket is not taken");
}

/// The configuration in the README is one.
#[test]
fn the_readme_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("nodes");
    std::fs::write(&secret, "secret\n").unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let readme = include_str!("../README.md");
    let text = readme
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let text = text.expect("a TOML block");
    let text = text.replace("/etc/ocicat/secrets/nodes", &secret.display().to_string());
    // What is commented out holds as well.
    let whole: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") => setting,
            _ => line,
        })
        .collect();
    for text in [text.clone(), whole.join("\n")] {
        let path = folder.path().join("bgpd.toml");
        std::fs::write(&path, text).unwrap();
        let config = ocicat_bgpd::config::Config::load(&path).unwrap();
        let (single, dynamic) = config.neighbours().unwrap();
        assert_eq!((single.len(), dynamic.len()), (1, 1));
        assert!(single[0].import.is_some() && single[0].export.is_some());
    }
}

#[test]
fn refuses_bad_files_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let base = json!({"as": 1, "router_id": "192.0.2.1", "addr": "127.0.0.1", "port": 0});
    let open = folder.path().join("open");
    std::fs::write(&open, "secret").unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o640)).unwrap();
    for (change, expected) in [
        (json!({"surprise": 1}), "surprise"),
        (json!({"networks": ["10.0.0.1/8"]}), "networks"),
        (
            json!({"peers": [{"as": 1}]}),
            "peers[0]: either addr or prefix",
        ),
        (
            json!({"peers": [{"prefix": "10.0.0.0/8", "as": 1}]}),
            "insecure",
        ),
        (
            json!({"peers": [{"addr": "192.0.2.2", "as": 1, "families": ["ipx"]}]}),
            "ipx",
        ),
        (
            json!({"peers": [{"addr": "192.0.2.2", "as": 1, "md5": ""}]}),
            "1 to 80",
        ),
        (
            json!({"peers": [{"addr": "192.0.2.2", "as": 1, "role": "king"}]}),
            "king",
        ),
        (
            json!({"peers": [{"addr": "192.0.2.2", "as": 1, "filter": {"exportV4": [
                {"action": "Reject", "cidr": "10.0.0.0/8"}]}}]}),
            "peers[0]: filter: exportV4[0]: matchOperator is missing",
        ),
        (
            json!({"peers": [{"addr": "192.0.2.2", "as": 1, "password_file": open}]}),
            "group or others can read it",
        ),
    ] {
        let mut config = base.clone();
        for (key, value) in change.as_object().unwrap() {
            config[key] = value.clone();
        }
        let path = folder.path().join("bgpd.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_ocicat-bgpd"))
            .args(["run", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
