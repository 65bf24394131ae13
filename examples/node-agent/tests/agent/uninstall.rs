use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Instant;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::bench::{PATIENCE, node, run};

/// The folders of a host, and where the agent's container has them.
const MOUNTS: [&str; 4] = ["run", "state", "bin", "net.d"];

/// A host with folders of its own, and a container with them mounted.
struct Host {
    place: tempfile::TempDir,
}

impl Host {
    /// Mounts are this thread's alone from here on.
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap_or_else(|errno| {
            panic!(
                "mounts of its own cannot be made ({errno}): run as root or under `unshare -Urnm`"
            )
        });
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
        let place = tempfile::tempdir().unwrap();
        for folder in MOUNTS {
            let (host, pod) = (
                place.path().join("host").join(folder),
                place.path().join("pod").join(folder),
            );
            std::fs::create_dir_all(&host).unwrap();
            std::fs::create_dir_all(&pod).unwrap();
            mount(Some(&host), &pod, none, MsFlags::MS_BIND, none).unwrap();
        }
        let host = Self { place };
        for (file, text) in [
            ("image/ocicat", "the plugin"),
            ("image/ocicat-ipam", "the other"),
            ("image/portmap", "one that the image brings"),
            ("host/bin/portmap", "the host's own"),
            ("host/bin/loopback", "the host's own"),
            ("etc/NetworkManager/NetworkManager.conf", ""),
            ("etc/systemd/networkd.conf", ""),
        ] {
            let path = host.path(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let at = host.place.path().display();
        let text = format!(
            "[node]\nname = 'node1'\naddress-detection = 'interface=eth0'\n\
             [datastore]\nurl = 'sqlite:{at}/store.db'\n\
             [paths]\nrun = '{at}/pod/run'\nstate = '{at}/pod/state'\n\
             [install]\nplugins = '{at}/image'\ncni-bin = '{at}/pod/bin'\ncni-net = '{at}/pod/net.d'\nhost-etc = '{at}/etc'\n\
             [felix]\nEndpointStatusPathPrefix = '{at}/status/calico'\n"
        );
        std::fs::write(host.path("node.toml"), text).unwrap();
        host
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.place.path().join(inside)
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocicat-node"));
        command.arg("--config").arg(self.path("node.toml"));
        command.env("CALICO_IPV4POOL_VXLAN", "Always");
        command.env("CALICO_IPV4POOL_IPIP", "Never");
        command
    }

    fn uninstall(&self) -> Output {
        self.program().arg("uninstall").output().unwrap()
    }

    /// Runs an agent until it has done all that one does to a host.
    fn agent(&self) -> Agent {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let agent = Agent(self.program().stderr(log).spawn().unwrap());
        let done = || {
            self.path("host/net.d/10-ocicat.conflist").exists()
                && self.path("status/calico/endpoint-status").exists()
                && run("ip -br link").contains("vxlan.calico")
                && run("nft list tables").contains("ocicat")
        };
        self.until(done);
        agent
    }

    fn until(&self, done: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done() {
            let log = || std::fs::read_to_string(self.path("log")).unwrap();
            assert!(Instant::now() < until, "{}", log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Every file and every folder below a folder.
    fn below(&self, inside: &str) -> Vec<String> {
        let mut all = Vec::new();
        walk(&self.path(inside), &mut all);
        let start = format!("{}/", self.path(inside).display());
        let mut all: Vec<String> = all.iter().map(|path| path.replace(&start, "")).collect();
        all.sort();
        all
    }
}

fn walk(folder: &Path, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.push(path.display().to_string());
        if path.is_dir() {
            walk(&path, all);
        }
    }
}

/// Ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn nothing_of_an_agent_stays_on_its_host() {
    node(async || {
        let host = Host::new();
        let before = [
            run("ip -br link"),
            run("ip rule"),
            run("ip route show table all"),
        ];
        let agent = host.agent();
        run("ip link add cali1 type veth peer name pod1");
        run("ip link set cali1 alias c1/eth0");
        let (code, _, err) = text(&host.uninstall());
        assert!(code == Some(1) && err.contains("stop it first"), "{err}");
        assert!(host.path("host/bin/ocicat").exists());
        drop(agent);
        assert!(
            run("nft list tables").contains("ocicat"),
            "pods keep their network until here"
        );
        assert!(
            host.path("etc/systemd/networkd.conf.d/ocicat.conf")
                .exists()
        );

        stops_at_nothing(&host);
        let (code, out, err) = text(&host.uninstall());
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(host.below("host/state").is_empty());
        assert!(host.below("host/net.d").is_empty());
        assert!(!host.path("status").exists(), "folders that the agent made");
        let etc = [
            "NetworkManager",
            "NetworkManager/NetworkManager.conf",
            "systemd",
            "systemd/networkd.conf",
        ];
        assert_eq!(host.below("etc"), etc);
        let after = [
            run("ip -br link"),
            run("ip rule"),
            run("ip route show table all"),
        ];
        assert_eq!(without_states(&after), without_states(&before));
        // Once more: there is nothing to do.
        let (code, out, _) = text(&host.uninstall());
        assert_eq!(code, Some(0), "{out}");
    });
}

/// What cannot be removed is named, and the rest goes.
fn stops_at_nothing(host: &Host) {
    let conflist = host.path("host/net.d/10-ocicat.conflist");
    std::fs::remove_file(&conflist).unwrap();
    std::fs::create_dir_all(conflist.join("in the way")).unwrap();
    std::fs::write(host.path("host/bin/ocicat-ipam"), "another program").unwrap();
    let (code, out, err) = text(&host.uninstall());
    assert!(
        code == Some(1) && err.contains("not removed:") && err.contains("10-ocicat.conflist"),
        "{code:?} {out} {err}"
    );
    assert!(out.contains("link cali1\n"), "{out}");
    assert_eq!(
        host.below("host/bin"),
        ["loopback", "ocicat-ipam", "portmap"]
    );
    assert!(
        out.contains("ocicat-ipam: its content is not what the agent installs"),
        "{out}"
    );
    assert_eq!(
        std::fs::read(host.path("host/bin/portmap")).unwrap(),
        b"the host's own"
    );
    assert!(host.below("host/run").is_empty());
    assert_eq!(run("nft list ruleset"), "");
    assert_eq!(run("ip route show table all proto 80"), "");
    assert!(!run("ip -br link").contains("cali"));
    assert_eq!(
        host.below("host/state"),
        ["installed.json"],
        "what the next call needs"
    );
    std::fs::remove_dir_all(&conflist).unwrap();
}

/// Modules that were loaded meanwhile have links in every namespace, which nobody can delete.
fn without_states(shown: &[String; 3]) -> Vec<String> {
    let lines = shown.iter().flat_map(|text| text.lines());
    let of_modules = [
        "tunl0", "ip6tnl0", "gre", "sit0", "erspan0", "ip_vti0", "ip6_vti0",
    ];
    let lines = lines.filter(|line| !of_modules.iter().any(|name| line.starts_with(name)));
    lines.map(str::to_owned).collect()
}
