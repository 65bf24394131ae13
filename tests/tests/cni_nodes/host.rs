//! Hosts: network namespaces with names, joined by links. They go with the value, and with whatever is still in them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
}

impl Host {
    /// A host without links.
    pub(crate) fn new() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ocni{}-{count}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let host = Self { name };
        host.ip("link set lo up");
        host
    }

    /// Joins two hosts by a link `uplink` on each, with these addresses.
    pub(crate) fn join(&self, other: &Self, addresses: [&str; 2]) {
        let peer = format!("netns {}", other.name);
        self.ip(&format!(
            "link add uplink type veth peer name uplink {peer}"
        ));
        for (host, address) in [self, other].into_iter().zip(addresses) {
            host.ip(&format!("address add {address} dev uplink"));
            host.ip("link set uplink up");
        }
    }

    /// The path of the namespace.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command in this host's network. Not with `ip netns exec`, which mounts /sys anew, without cgroups; the process
    /// id is that of the program.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// `ip` with these words, in this host.
    pub(crate) fn ip(&self, words: &str) -> String {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(words.split_whitespace()))
    }

    /// The names of the links to pods.
    pub(crate) fn pod_links(&self) -> Vec<String> {
        let links = self.ip("-brief link");
        let names = links
            .lines()
            .filter_map(|line| line.split(['@', ' ']).next());
        names
            .filter(|name| name.starts_with("cali"))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// A container's network namespace, under a path that others can open.
#[derive(Debug)]
pub(crate) struct Sandbox(Host);

impl Sandbox {
    /// A new one.
    pub(crate) fn new() -> Self {
        Self(Host::new())
    }

    /// Its path.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// `ip` inside.
    pub(crate) fn ip(&self, words: &str) -> String {
        self.0.ip(words)
    }

    /// A command inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.0.command(program)
    }
}

/// Runs a command and returns what it printed.
///
/// # Panics
/// With everything that it printed, when it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{out}{err}",
        output.status
    );
    out
}

/// A program that is killed when the test is over.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// SIGKILL, and waits for it.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Polls until something foreign is as it should be.
///
/// # Panics
/// With the last reason, after the patience is over.
pub(crate) fn eventually<T>(seconds: u64, mut look: impl FnMut() -> Result<T, String>) -> T {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) if std::time::Instant::now() > patience => panic!("{why}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    }
}
