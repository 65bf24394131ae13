//! The program `ocicat` as a runtime calls it, with a fake agent, none, and a delegated IPAM plugin.
//!
//! These make network namespaces: root, or a user namespace. They fail where neither is there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ocicat_cni::agent::Tombstones;
use ocicat_cni::runtime::{Attachment, Conflist, Runtime};
use ocicat_cni::testing::{FakeAgent, ServedAgent};
use ocicat_cni::{AttachmentId, CniError, ContainerId, InterfaceName};
use serde_json::{Value, json};

#[path = "network/common.rs"]
mod common;
#[path = "network/programs.rs"]
mod programs;

use common::{Namespace, in_own_namespace};
use programs::programs;

/// A folder with the programs, a socket's place, and a runtime.
struct Bench {
    folder: tempfile::TempDir,
    runtime: Runtime,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let programs = programs(folder.path());
    let runtime = Runtime::new([programs], folder.path().join("cache"));
    Bench { folder, runtime }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn serve(&self) -> (Arc<FakeAgent>, ServedAgent) {
        let agent = Arc::new(FakeAgent::new());
        let served = ServedAgent::start(agent.clone(), self.path("cni.sock")).unwrap();
        (agent, served)
    }

    fn list(&self, more: &Value) -> Conflist {
        let mut plugin = json!({"type": "ocicat", "socket": self.path("cni.sock"),
            "tombstones": self.path("tombstones"), "ipam": {"type": "ocicat-ipam"}});
        for (key, value) in more.as_object().unwrap() {
            plugin[key] = value.clone();
        }
        Conflist::from_value(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [plugin]}))
            .unwrap()
    }

    /// A plugin of the delegated kind: a script that notes its command and answers ADD.
    fn script(&self, name: &str, add: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("bin").join(name);
        let log = self.path("log");
        let script = format!(
            "#!/bin/sh\necho \"$CNI_COMMAND\" >> {}\ncat > /dev/null\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\n{add}\n",
            log.display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log"))
            .unwrap_or_default()
            .replace('\n', " ")
    }
}

fn pod(id: &str, netns: &Namespace) -> Attachment {
    Attachment::new(id, "eth0")
        .unwrap()
        .netns(netns.path())
        .arg("IgnoreUnknown", "1")
        .arg("K8S_POD_NAMESPACE", "shop")
        .arg("K8S_POD_NAME", "web")
}

fn id(id: &str) -> AttachmentId {
    AttachmentId::new(
        ContainerId::new(id).unwrap(),
        InterfaceName::new("eth0").unwrap(),
    )
}

fn code(outcome: Result<impl std::fmt::Debug, ocicat_cni::runtime::RuntimeError>) -> CniError {
    outcome.unwrap_err().plugin_error().unwrap().clone()
}

#[test]
fn the_agents_answers_are_printed() {
    let (bench, netns) = (bench(), Namespace::new());
    let (agent, _served) = bench.serve();
    let list = bench.list(&json!({}));
    let pod = pod("a", &netns);
    let result = bench.runtime.add(&list, &pod).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.255.0.1/32");
    assert_eq!(
        result.interfaces[0].sandbox.as_deref(),
        netns.path().to_str()
    );
    bench.runtime.check(&list, &pod).unwrap();
    bench.runtime.status(&list).unwrap();
    bench
        .runtime
        .gc(&list, std::slice::from_ref(&pod.id))
        .unwrap();
    assert_eq!(agent.attached("net"), [id("a")]);
    bench.runtime.del(&list, &pod).unwrap();
    bench.runtime.del(&list, &pod).unwrap();
    assert!(agent.attached("net").is_empty());
    agent.fail_next(CniError::new(
        CniError::LIMITED_CONNECTIVITY,
        "the dataplane is behind",
    ));
    assert_eq!(
        code(bench.runtime.status(&list)).code,
        CniError::LIMITED_CONNECTIVITY
    );
    agent.fail_next(CniError::new(123, "no address is left"));
    assert_eq!(code(bench.runtime.add(&list, &pod)).code, 123);
}

#[test]
fn every_version_gets_its_form() {
    let (bench, netns) = (bench(), Namespace::new());
    let (_agent, _served) = bench.serve();
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut raw = bench.list(&json!({})).raw().clone();
        raw["cniVersion"] = version.into();
        let list = Conflist::from_value(raw).unwrap();
        bench.runtime.add(&list, &pod("a", &netns)).unwrap();
        bench.runtime.del(&list, &pod("a", &netns)).unwrap();
    }
}

#[test]
fn a_container_with_the_hosts_namespace_is_refused() {
    let bench = bench();
    let (agent, _served) = bench.serve();
    let host = Attachment::new("a", "eth0")
        .unwrap()
        .netns("/proc/self/ns/net");
    let error = code(bench.runtime.add(&bench.list(&json!({})), &host));
    assert_eq!(error.code, CniError::INVALID_ENVIRONMENT, "{error}");
    let gone = Attachment::new("a", "eth0")
        .unwrap()
        .netns("/run/netns/ocicat-none");
    let error = code(bench.runtime.add(&bench.list(&json!({})), &gone));
    assert_eq!(error.code, CniError::INVALID_ENVIRONMENT, "{error}");
    assert!(error.msg.contains("/run/netns/ocicat-none"), "{error}");
    bench.runtime.del(&bench.list(&json!({})), &gone).unwrap();
    assert!(agent.calls().iter().all(|call| call.starts_with("DEL")));
}

#[test]
fn without_an_agent_add_fails_and_del_removes_the_link() {
    in_own_namespace(|| {
        let (bench, netns) = (bench(), Namespace::new());
        let list = bench.list(&json!({}));
        let pod = pod("a", &netns);
        // The failed ADD has cleaned up with a DEL, which leaves its own note.
        let error = code(bench.runtime.add(&list, &pod));
        assert_eq!(error.code, CniError::TRY_AGAIN_LATER);
        assert!(
            error.msg.contains("the node agent does not answer on"),
            "{error}"
        );
        assert_eq!(
            code(bench.runtime.status(&list)).code,
            CniError::PLUGIN_NOT_AVAILABLE
        );
        assert_eq!(
            code(bench.runtime.gc(&list, &[])).code,
            CniError::TRY_AGAIN_LATER
        );

        for (alias, goes) in [("a/eth0", true), ("newer/eth0", false)] {
            let link = ocicat_dataplane::names::pod_link("shop", "web").to_string();
            ip(&[
                "link", "add", &link, "type", "veth", "peer", "name", "other",
            ]);
            ip(&["link", "set", &link, "alias", alias]);
            bench.runtime.del(&list, &pod).unwrap();
            assert_eq!(!exists(&link), goes, "{alias}");
            bench.runtime.del(&list, &pod).unwrap();
            if exists(&link) {
                ip(&["link", "del", &link]);
            }
        }
        let notes = Tombstones::new(bench.path("tombstones")).list().unwrap();
        let notes: Vec<_> = notes.into_iter().map(Result::unwrap).collect();
        assert_eq!(notes.len(), 1);
        assert_eq!(notes[0].request.attachment, id("a"));
        assert_eq!(notes[0].request.args.get("K8S_POD_NAME"), Some("web"));
        Tombstones::new(bench.path("tombstones"))
            .remove(&notes[0].request, notes[0].ipam)
            .unwrap();
        assert!(
            Tombstones::new(bench.path("tombstones"))
                .list()
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn an_agent_that_is_not_in_sync_is_as_good_as_none_for_del() {
    let (bench, netns) = (bench(), Namespace::new());
    let (agent, _served) = bench.serve();
    let list = bench.list(&json!({}));
    agent.fail_next(CniError::try_again("not in sync"));
    bench.runtime.del(&list, &pod("a", &netns)).unwrap();
    assert_eq!(
        Tombstones::new(bench.path("tombstones"))
            .list()
            .unwrap()
            .len(),
        1
    );
    agent.fail_next(CniError::internal("the disk is full"));
    let error = code(bench.runtime.del(&list, &pod("b", &netns)));
    assert_eq!(error.code, CniError::INTERNAL);
}

#[test]
fn a_plugin_that_is_killed_leaves_nothing_attached() {
    let (bench, netns) = (bench(), Namespace::new());
    let (agent, served) = bench.serve();
    let gate = agent.hold();
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_ocicat"))
        .envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "a"),
            ("CNI_IFNAME", "eth0"),
        ])
        .env("CNI_NETNS", netns.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let list = bench.list(&json!({}));
    let mut config = list.raw()["plugins"][0].clone();
    config["cniVersion"] = "1.1.0".into();
    config["name"] = "net".into();
    std::io::Write::write_all(
        &mut plugin.stdin.take().unwrap(),
        config.to_string().as_bytes(),
    )
    .unwrap();
    while agent.calls().is_empty() {
        std::thread::yield_now();
    }
    plugin.kill().unwrap();
    plugin.wait().unwrap();
    drop(gate);
    served.stop().unwrap();
    assert_eq!(agent.calls(), ["ADD a/eth0", "DEL a/eth0"]);
    assert!(agent.attached("net").is_empty());
}

#[test]
fn another_ipam_plugin_is_run_and_its_result_goes_along() {
    let (bench, netns) = (bench(), Namespace::new());
    let (agent, _served) = bench.serve();
    bench.script("local", r#"echo '{"ips":[{"address":"10.7.0.9/24"}]}'"#);
    let list = bench.list(&json!({"ipam": {"type": "local"}}));
    bench.runtime.add(&list, &pod("a", &netns)).unwrap();
    bench.runtime.check(&list, &pod("a", &netns)).unwrap();
    bench.runtime.status(&list).unwrap();
    bench.runtime.gc(&list, &[id("a")]).unwrap();
    bench.runtime.del(&list, &pod("a", &netns)).unwrap();
    assert_eq!(bench.log(), "ADD CHECK STATUS GC DEL ");
    agent.fail_next(CniError::try_again("not in sync"));
    bench.runtime.add(&list, &pod("b", &netns)).unwrap_err();
    // The plugin's own undoing, then the runtime's.
    assert_eq!(bench.log(), "ADD CHECK STATUS GC DEL ADD DEL DEL ");
    bench.script(
        "full",
        r#"echo '{"code":100,"msg":"no address is left"}'; exit 1"#,
    );
    let error = code(bench.runtime.add(
        &bench.list(&json!({"ipam": {"type": "full"}})),
        &pod("c", &netns),
    ));
    assert_eq!(
        (error.code, error.msg.as_str()),
        (100, "plugin full (ADD): no address is left")
    );
    let error = code(bench.runtime.add(
        &bench.list(&json!({"ipam": {"type": "none"}})),
        &pod("c", &netns),
    ));
    assert_eq!(error.code, CniError::INVALID_CONFIG, "{error}");
    assert!(agent.attached("net").is_empty());
}

#[test]
fn the_ipam_plugin_serves_others() {
    let (bench, netns) = (bench(), Namespace::new());
    let (agent, served) = bench.serve();
    // As ptp and bridge call it: their own configuration, its keys under ipam.
    let list = Conflist::from_value(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [
        {"type": "ocicat-ipam", "ipam": {"type": "ocicat-ipam", "socket": bench.path("cni.sock"),
            "tombstones": bench.path("tombstones")}}]}))
    .unwrap();
    let pod = pod("a", &netns);
    let result = bench.runtime.add(&list, &pod).unwrap();
    assert!(result.interfaces.is_empty());
    assert_eq!(result.ips.len(), 1);
    bench.runtime.check(&list, &pod).unwrap();
    bench
        .runtime
        .gc(&list, std::slice::from_ref(&pod.id))
        .unwrap();
    bench.runtime.status(&list).unwrap();
    bench.runtime.del(&list, &pod).unwrap();
    assert!(agent.attached("net").is_empty());
    served.stop().unwrap();
    bench.runtime.del(&list, &pod).unwrap();
    let notes = Tombstones::new(bench.path("tombstones")).list().unwrap();
    assert!(notes[0].as_ref().unwrap().ipam);
    assert_eq!(
        code(bench.runtime.add(&list, &pod)).code,
        CniError::TRY_AGAIN_LATER
    );
}

#[test]
fn fifty_pods_at_once() {
    let (bench, netns) = (bench(), Namespace::new());
    let (agent, _served) = bench.serve();
    let list = bench.list(&json!({}));
    let addresses = std::thread::scope(|scope| {
        let adds: Vec<_> = (0..50)
            .map(|i| {
                let (bench, list, netns) = (&bench, &list, &netns);
                scope.spawn(move || {
                    bench
                        .runtime
                        .add(list, &pod(&format!("c{i}"), netns))
                        .unwrap()
                })
            })
            .collect();
        let results = adds
            .into_iter()
            .map(|add| add.join().unwrap().ips[0].address);
        results.collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(addresses.len(), 50);
    bench.runtime.gc(&list, &[]).unwrap();
    assert!(agent.attached("net").is_empty());
}

#[test]
fn podman_asks_for_versions_with_dummies() {
    for program in [
        env!("CARGO_BIN_EXE_ocicat"),
        env!("CARGO_BIN_EXE_ocicat-ipam"),
    ] {
        let output = Command::new(program)
            .envs([
                ("CNI_COMMAND", "VERSION"),
                ("CNI_NETNS", "dummy"),
                ("CNI_IFNAME", "dummy"),
            ])
            .env("CNI_PATH", "dummy")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["supportedVersions"].as_array().unwrap().len(), 5);
        let output = Command::new(program).arg("--version").output().unwrap();
        assert_eq!(
            output.stdout,
            format!("{}\n", env!("CARGO_PKG_VERSION")).as_bytes()
        );
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .expect("running ip of iproute2");
    assert!(status.success(), "ip {arguments:?}");
}

fn exists(link: &str) -> bool {
    // /sys shows the links of the namespace that it was mounted in; /proc those of the process.
    let links = std::fs::read_to_string(Path::new("/proc/thread-self/net/dev")).unwrap();
    links
        .lines()
        .any(|line| line.trim_start().starts_with(&format!("{link}:")))
}

#[test]
fn an_id_that_comes_back_is_not_hit_by_its_own_past() {
    let (bench, netns) = (bench(), Namespace::new());
    let list = bench.list(&json!({}));
    let ipam = Conflist::from_value(json!({"cniVersion": "1.1.0", "name": "other", "plugins": [
        {"type": "ocicat-ipam", "socket": bench.path("cni.sock"), "tombstones": bench.path("tombstones")}]}))
    .unwrap();
    // There is no agent: both leave notes.
    bench.runtime.del(&list, &pod("a", &netns)).unwrap();
    bench.runtime.del(&ipam, &pod("a", &netns)).unwrap();
    let notes = Tombstones::new(bench.path("tombstones"));
    assert_eq!(notes.list().unwrap().len(), 2);
    let (agent, _served) = bench.serve();
    bench.runtime.add(&list, &pod("a", &netns)).unwrap();
    bench.runtime.add(&ipam, &pod("a", &netns)).unwrap();
    assert!(notes.list().unwrap().is_empty());
    let calls = [
        "DEL a/eth0",
        "ADD a/eth0",
        "IPAM DEL a/eth0",
        "IPAM ADD a/eth0",
    ];
    assert_eq!(agent.calls(), calls);
    // A note that is left when the agent does the DEL itself goes with it.
    let note = ocicat_cni::agent::Request::new(
        ocicat_cni::NetworkConfig::from_value(
            json!({"cniVersion": "1.1.0", "name": "net", "type": "ocicat"}),
        )
        .unwrap(),
        id("a"),
    );
    notes.write(&note, false).unwrap();
    bench.runtime.del(&list, &pod("a", &netns)).unwrap();
    assert!(notes.list().unwrap().is_empty());
}
