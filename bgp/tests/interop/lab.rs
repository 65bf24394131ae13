//! Two network namespaces joined by a link, another speaker in one of them; our side is in the other.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Runs a program and fails with what it said.
pub(crate) fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().expect("sh");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{text}{error}");
    text
}

/// The link and what runs at its ends. 192.0.2.1 and 2001:db8::1 are ours, .2 and ::2 BIRD's.
pub(crate) struct Lab {
    name: String,
    folder: PathBuf,
    neighbour: Option<Child>,
}

/// Fails unless a program is there, with the package that has it.
pub(crate) fn needs(program: &str, package: &str) {
    assert!(
        Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .is_ok_and(|out| out.status.success()),
        "this test needs {program}: apt-get install {package}"
    );
}

impl Lab {
    pub(crate) fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bgp-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).unwrap();
        let lab = Self {
            name,
            folder,
            neighbour: None,
        };
        let n = &lab.name;
        sh(&format!(
            "ip netns add {n}-a; ip netns add {n}-b
             ip link add v0 netns {n}-a type veth peer name v0 netns {n}-b
             for i in a:1 b:2; do ns={n}-${{i%:*}}; k=${{i#*:}}
               ip -n $ns addr add 192.0.2.$k/24 dev v0
               ip -n $ns addr add 2001:db8::$k/64 dev v0 nodad
               ip -n $ns link set v0 up; ip -n $ns link set lo up
             done"
        ));
        lab
    }

    /// Starts BIRD with `config` behind the common part; `recover` as after a crash.
    pub(crate) fn start_bird(&mut self, config: &str, recover: bool) {
        needs("bird", "bird2");
        let folder = self.folder.display();
        let text = format!(
            "log \"{folder}/log\" all; router id 192.0.2.2;
             protocol device {{}} protocol direct {{ ipv4; ipv6; }}
             protocol static s4 {{ ipv4; route 10.2.0.0/26 blackhole {{
                bgp_community.add((64513,7)); bgp_large_community.add((64513,1,2)); }}; }}
             protocol static s6 {{ ipv6; route 2001:db8:2::/122 blackhole; }}
             {config}"
        );
        fs::write(self.folder.join("bird.conf"), text).unwrap();
        let recover = if recover { "-R" } else { "" };
        self.start_program(&format!(
            "bird -f {recover} -c {folder}/bird.conf -s {folder}/ctl -P {folder}/pid"
        ));
        let socket = self.folder.join("ctl");
        until("BIRD listens", || socket.exists());
    }

    /// Starts FRR's bgpd with `config` behind `router bgp NUMBER`, without zebra.
    pub(crate) fn start_frr(&mut self, number: u32, config: &str) {
        let program = "/usr/lib/frr/bgpd";
        needs(program, "frr");
        let folder = self.folder.display();
        let text = format!(
            "frr defaults traditional\nlog file {folder}/log\nrouter bgp {number}\n \
             bgp router-id 192.0.2.2\n no bgp ebgp-requires-policy\n \
             no bgp network import-check\n{config}\n"
        );
        fs::write(self.folder.join("frr.conf"), text).unwrap();
        sh(&format!("chmod -R a+rwX {folder}"));
        self.start_program(&format!(
            "{program} -Z -S -n -P 0 --vty_socket {folder} -f {folder}/frr.conf -i {folder}/pid"
        ));
        let socket = self.folder.join("bgpd.vty");
        until("FRR listens", || socket.exists());
    }

    /// The namespace of our side.
    pub(crate) fn namespace(&self) -> String {
        format!("/run/netns/{}-a", self.name)
    }

    /// Runs a program in our side's namespace.
    pub(crate) fn ask_our_side(&self, line: &str) -> String {
        sh(&format!("ip netns exec {}-a {line}", self.name))
    }

    /// A file of this lab.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts a program in the neighbour's namespace; what it prints goes to the log.
    pub(crate) fn start_program(&mut self, line: &str) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("output"))
            .unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("exec ip netns exec {}-b {line}", self.name)])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.neighbour = Some(child);
    }

    /// What a program prints in the neighbour's namespace, errors too.
    pub(crate) fn ask(&self, line: &str) -> String {
        let line = format!("ip netns exec {}-b {line} 2>&1", self.name);
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn vtysh(&self, command: &str) -> String {
        let output = Command::new("vtysh")
            .arg("--vty_socket")
            .arg(&self.folder)
            .args(["-d", "bgpd", "-c", command])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// SIGKILL.
    pub(crate) fn kill_neighbour(&mut self) {
        if let Some(mut neighbour) = self.neighbour.take() {
            neighbour.kill().unwrap();
            neighbour.wait().unwrap();
            let _ = fs::remove_file(self.folder.join("ctl"));
            let _ = fs::remove_file(self.folder.join("bgpd.vty"));
        }
    }

    pub(crate) fn birdc(&self, command: &str) -> String {
        let socket = self.folder.join("ctl");
        let output = Command::new("birdc")
            .arg("-s")
            .arg(socket)
            .args(command.split(' '))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether BIRD has a route to `prefix` from us.
    pub(crate) fn bird_has(&self, prefix: &str) -> bool {
        self.birdc(&format!("show route {prefix} all"))
            .contains("BGP.next_hop")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill_neighbour();
        for side in ["a", "b"] {
            let name = format!("{}-{side}", self.name);
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
        if std::thread::panicking() {
            for name in ["log", "output"] {
                let log = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
                eprintln!("--- {name}\n{log}");
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Asks again and again; fails after two minutes.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < end, "in 120 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
