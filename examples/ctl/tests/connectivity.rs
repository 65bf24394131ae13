//! `connectivity test` on Kubernetes: an API server in this process, and a kubelet that plays the pods.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocicat_datastore::ApiGroup;
use ocicat_datastore::testing::kubernetes::ApiServer;
use serde_json::{Value, json};

const HOME: &str = "/api/v1/namespaces/ocicat-connectivity";
const POLICY: &str =
    "/apis/networking.k8s.io/v1/namespaces/ocicat-connectivity/networkpolicies/admitted-alone";

/// A cluster of two nodes; a third is not ready.
struct Cluster {
    server: ApiServer,
    folder: tempfile::TempDir,
    end: Arc<AtomicBool>,
    kubelet: Option<std::thread::JoinHandle<()>>,
    _runtime: tokio::runtime::Runtime,
}

impl Cluster {
    /// With `enforced`, policies mean something there.
    fn new(enforced: bool) -> Self {
        let server = ApiServer::with_calico(&ApiGroup::v3());
        for (name, ready) in [("n1", "True"), ("n2", "True"), ("n3", "False")] {
            let node = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                "status": {"conditions": [{"type": "Ready", "status": ready, "message": "no network"}]},
            });
            server.apply(node).unwrap();
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.unwrap();
        let kubeconfig = ApiServer::kubeconfig(listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig).unwrap();
        let serving = server.clone();
        runtime.spawn(async move { serving.serve(listener).await });
        let end = Arc::new(AtomicBool::new(false));
        let (ended, kubelets) = (end.clone(), server.clone());
        let kubelet = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                play(&kubelets, enforced);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            server,
            folder,
            end,
            kubelet: Some(kubelet),
            _runtime: runtime,
        }
    }

    fn command(&self) -> Command {
        let kubeconfig = self.folder.path().join("kubeconfig");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocicatctl"));
        command.args([
            "--datastore",
            &format!("kubernetes:{}", kubeconfig.display()),
        ]);
        command.args(["connectivity", "test"]);
        command
    }

    fn has_namespace(&self) -> bool {
        self.server.object(HOME).is_some()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(kubelet) = self.kubelet.take() {
            let _ = kubelet.join();
        }
    }
}

/// What kubelets do: servers get addresses and are ready, clients end with what they found.
fn play(server: &ApiServer, enforced: bool) {
    let clients = ["open", "denied", "admitted", "again"]
        .into_iter()
        .flat_map(|phase| (0..2).map(move |index| format!("client-{index}-{phase}")));
    let names = (0..2).map(|index| format!("server-{index}")).chain(clients);
    for name in names {
        let Some(mut pod) = server.object(&format!("{HOME}/pods/{name}")) else {
            continue;
        };
        if pod["status"]["containerStatuses"].is_array() {
            continue;
        }
        pod["status"] = if name.starts_with("server") {
            let address = format!("10.0.0.{}", name.len() + usize::from(name.ends_with('1')));
            json!({"phase": "Running", "podIPs": [{"ip": address}], "containerStatuses": [{"ready": true}]})
        } else {
            let message = found(server, &pod, enforced);
            json!({"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"message": message}}}]})
        };
        // It may be gone by now.
        let _ = server.apply(pod);
    }
}

/// What a client finds: the policy admits those with its label alone.
fn found(server: &ApiServer, pod: &Value, enforced: bool) -> String {
    let policy = enforced && server.object(POLICY).is_some();
    let admitted = pod["metadata"]["labels"]["ocicat.io/connectivity-admitted"] == "yes";
    let words = pod["spec"]["containers"][0]["command"].as_array().unwrap();
    let asked = words
        .iter()
        .filter(|word| word.as_str().unwrap().ends_with(":8080"));
    let answer = |_| match policy && !admitted {
        true => json!({"e": "no answer"}),
        false => json!({"t": 1.5}),
    };
    Value::Array(asked.map(answer).collect()).to_string()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn pods_ask_each_other_in_four_phases_and_are_gone() {
    let cluster = Cluster::new(true);
    let output = cluster.command().output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    for line in [
        "policy denies   pod on n1  pod on n2",
        "policy removed  pod on n2  pod on the same node",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(
        out.contains("not tested: node n3: is not ready: no network"),
        "{out}"
    );
    assert!(
        err.contains("16 questions, all answered as they should be"),
        "{err}"
    );
    assert!(!cluster.has_namespace());
}

#[test]
fn a_network_without_policy_is_found_out() {
    let cluster = Cluster::new(false);
    let output = cluster.command().args(["-o", "json"]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(4), "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let wrong = report["questions"].as_array().unwrap().iter();
    let wrong: Vec<_> = wrong.filter(|one| one["right"] == false).collect();
    assert_eq!(wrong.len(), 4, "{out}");
    assert!(
        wrong.iter().all(|one| one["test"] == "policy denies"),
        "{out}"
    );
    assert!(!cluster.has_namespace());
}

#[test]
fn one_that_is_interrupted_leaves_nothing() {
    let mut cluster = Cluster::new(true);
    // Without a kubelet it waits for its servers.
    cluster.end.store(true, Ordering::Relaxed);
    cluster.kubelet.take().unwrap().join().unwrap();
    let mut command = cluster.command();
    let child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    while cluster
        .server
        .object(&format!("{HOME}/pods/server-1"))
        .is_none()
    {
        assert!(Instant::now() < until, "it makes no pods");
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("interrupted"));
    assert!(!cluster.has_namespace());
}

#[test]
fn another_test_is_not_disturbed_and_pods_that_do_not_start_are_named() {
    let mut cluster = Cluster::new(true);
    cluster.end.store(true, Ordering::Relaxed);
    cluster.kubelet.take().unwrap().join().unwrap();
    let output = cluster.command().args(["--start", "1"]).output().unwrap();
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("pod server-1 on node n2 is not there after 1 s"),
        "{err}"
    );
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ocicat-connectivity"},
    });
    cluster.server.apply(namespace).unwrap();
    let output = cluster.command().output().unwrap();
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(5), "{err}");
    assert!(
        err.contains("kubectl delete namespace ocicat-connectivity"),
        "{err}"
    );
    assert!(cluster.has_namespace());
}
