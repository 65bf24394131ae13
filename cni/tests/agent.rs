//! The agent protocol between the blocking client and the server, a test for each rule.
//!
//! These need network namespaces of their own: root, or user namespaces. They fail where neither is there.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use ocicat_cni::agent::{CallError, Client, Limits, NetworkRequest, Request};
use ocicat_cni::testing::{FakeAgent, ServedAgent};
use ocicat_cni::{AttachmentId, CniError, ContainerId, InterfaceName, NetworkConfig};
use serde_json::{Value, json};

#[path = "agent/limits.rs"]
mod limits;
#[path = "agent/namespace.rs"]
mod namespace;
#[path = "agent/users.rs"]
mod users;

struct Served {
    agent: Arc<FakeAgent>,
    server: ServedAgent,
    _folder: tempfile::TempDir,
}

fn served(limits: impl FnOnce(&mut Limits)) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let agent = Arc::new(FakeAgent::new());
    let mut bounds = Limits::default();
    bounds.user = rustix::process::getuid().as_raw();
    limits(&mut bounds);
    let socket = folder.path().join("cni.sock");
    let server = ServedAgent::start_with(agent.clone(), socket, bounds).unwrap();
    Served {
        agent,
        server,
        _folder: folder,
    }
}

impl Served {
    fn client(&self) -> Client {
        self.server.client()
    }

    /// Waits until every handler has ended.
    fn stop(self) -> Arc<FakeAgent> {
        self.server.stop().unwrap();
        self.agent
    }

    fn raw(&self, bytes: &[u8]) -> Value {
        let mut stream = UnixStream::connect(self.server.socket()).unwrap();
        // A server that refuses early may have closed already: its answer counts.
        let _ = stream.write_all(bytes);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        serde_json::from_slice(&reply[4..]).unwrap()
    }

    fn wait_for_call(&self, call: &str) {
        while !self.agent.calls().iter().any(|seen| seen == call) {
            std::thread::yield_now();
        }
    }
}

fn network() -> NetworkConfig {
    let json = json!({"cniVersion": "1.1.0", "name": "net", "type": "t"});
    NetworkConfig::from_value(json).unwrap()
}

fn request(id: &str) -> Request {
    let id = ContainerId::new(id).unwrap();
    Request::new(
        network(),
        AttachmentId::new(id, InterfaceName::new("eth0").unwrap()),
    )
}

fn frame(value: &Value) -> Vec<u8> {
    let body = value.to_string().into_bytes();
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

fn refused(outcome: Result<impl std::fmt::Debug, CallError>) -> CniError {
    match outcome {
        Err(CallError::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn every_command_is_answered() {
    let netns = namespace::network();
    let served = served(|_| {});
    let client = served.client();
    let result = client.add(&request("a"), netns.as_fd()).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.255.0.1/32");
    let mut check = request("a");
    check.network.raw["prevResult"] = json!({"ips": [{"address": "10.255.0.1/32", "interface": 0}],
        "interfaces": [{"name": "eth0"}]});
    client.check(&check, netns.as_fd()).unwrap();
    client.status(&NetworkRequest::new(network())).unwrap();
    client.ipam_add(&request("b")).unwrap();
    let mut gc = NetworkRequest::new(network());
    gc.keep = vec![request("a").attachment];
    client.ipam_gc(&gc).unwrap();
    client.gc(&gc).unwrap();
    assert_eq!(served.agent.attached("net"), [request("a").attachment]);
    client.ipam_del(&request("b")).unwrap();
    client.del(&request("a"), Some(netns.as_fd())).unwrap();
    client.del(&request("a"), None).unwrap();
    served.agent.fail_next(CniError::try_again("not in sync"));
    assert_eq!(
        refused(client.add(&request("a"), netns.as_fd())).code,
        CniError::TRY_AGAIN_LATER
    );
    assert!(served.stop().attached("net").is_empty());
}

#[test]
fn only_a_network_namespace_that_is_not_the_hosts_is_taken() {
    let served = served(|_| {});
    let client = served.client();
    let folder = tempfile::tempdir().unwrap();
    for (path, why) in [
        ("/proc/self/ns/net", "host's own"),
        ("/proc/self/ns/mnt", "another kind"),
        ("/dev/null", "no network namespace"),
        (folder.path().to_str().unwrap(), "no network namespace"),
    ] {
        let file = std::fs::File::open(path).unwrap();
        for outcome in [
            client.add(&request("a"), file.as_fd()).map(drop),
            client.check(&request("a"), file.as_fd()),
        ] {
            let error = refused(outcome);
            assert_eq!(error.code, CniError::INVALID_ENVIRONMENT, "{path}");
            assert!(error.msg.contains(why), "{path}: {error}");
        }
        client.del(&request("a"), Some(file.as_fd())).unwrap();
    }
    assert_eq!(served.stop().calls(), ["DEL a/eth0"; 4]);
}

#[test]
fn frames_and_requests_that_are_wrong_are_answered() {
    let served = served(|limits| limits.arrival = Duration::from_millis(200));
    let good = json!({"protocol": 1, "command": "DEL", "container_id": "a", "ifname": "eth0",
        "config": network().raw});
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        frame(&changed)
    };
    for (bytes, code) in [
        (u32::MAX.to_be_bytes().to_vec(), 6),
        ((1_u32 << 20 | 1).to_be_bytes().to_vec(), 6),
        (frame(&json!({})), 1),
        (frame(&json!("x")), 1),
        (with("protocol", json!(2)), 1),
        (with("protocol", json!("1")), 1),
        ([&5_u32.to_be_bytes()[..], b"nope!"].concat(), 6),
        (with("command", json!("VERSION")), 4),
        (with("command", json!("nope")), 6),
        (with("command", json!("ADD")), 4),
        (with("role", json!("nope")), 6),
        (with("container_id", json!("../x")), 4),
        (with("container_id", Value::Null), 4),
        (with("ifname", json!("a/b")), 4),
        (with("config", json!({})), 1),
        (with("config", json!({"cniVersion": "1.0.0"})), 7),
        (with("ipam_result", json!({"ips": 1})), 6),
        (with("args", json!([])), 6),
        (with("deadline_ms", json!(-1)), 6),
        (vec![0, 0], 5),
    ] {
        let reply = served.raw(&bytes);
        assert_eq!(
            reply["error"]["code"],
            code,
            "{}: {reply}",
            String::from_utf8_lossy(&bytes)
        );
    }
    let newer = with("unknown", json!({"x": 1}));
    assert_eq!(served.raw(&newer), json!({"protocol": 1, "ok": null}));
    assert_eq!(served.stop().calls(), ["DEL a/eth0"]);
}

#[test]
fn another_user_is_refused() {
    let own = rustix::process::getuid().as_raw();
    let served = served(|limits| limits.user = own + 1);
    let error = refused(served.client().del(&request("a"), None));
    assert_eq!(error.code, CniError::IO_FAILURE);
    assert!(
        error.msg.contains(&format!("user {own} may not")),
        "{error}"
    );
    assert!(served.stop().calls().is_empty());
}

#[test]
fn an_add_whose_plugin_is_gone_is_undone() {
    let netns = namespace::network();
    let served = served(|_| {});
    let gate = served.agent.hold();
    let hasty = request("a").deadline(Duration::ZERO);
    // The client of this one waits a second; the reply says that the deadline has passed.
    assert_eq!(
        refused(served.client().add(&hasty, netns.as_fd())).code,
        CniError::TRY_AGAIN_LATER
    );
    served.wait_for_call("ADD a/eth0");
    let raw = frame(
        &json!({"protocol": 1, "command": "ADD", "role": "ipam", "container_id": "b",
        "ifname": "eth0", "config": network().raw}),
    );
    let mut stream = UnixStream::connect(served.server.socket()).unwrap();
    stream.write_all(&raw).unwrap();
    served.wait_for_call("IPAM ADD b/eth0");
    drop(stream);
    drop(gate);
    let agent = served.stop();
    assert!(agent.attached("net").is_empty());
    let calls = agent.calls();
    assert!(calls.contains(&"DEL a/eth0".to_owned()), "{calls:?}");
    assert!(calls.contains(&"IPAM DEL b/eth0".to_owned()), "{calls:?}");
}

#[test]
fn calls_for_one_attachment_wait_for_each_other() {
    let netns = namespace::network();
    let served = served(|_| {});
    let gate = served.agent.hold();
    std::thread::scope(|scope| {
        let add = scope.spawn(|| served.client().add(&request("a"), netns.as_fd()));
        served.wait_for_call("ADD a/eth0");
        let del = scope.spawn(|| served.client().del(&request("a"), None));
        // Another attachment is not held up.
        served.client().del(&request("other"), None).unwrap();
        assert_eq!(served.agent.calls(), ["ADD a/eth0", "DEL other/eth0"]);
        drop(gate);
        add.join().unwrap().unwrap();
        del.join().unwrap().unwrap();
    });
    let agent = served.stop();
    assert_eq!(agent.calls().last().unwrap(), "DEL a/eth0");
    assert!(agent.attached("net").is_empty());
}

#[test]
fn more_plugins_than_connections_are_all_served() {
    let netns = namespace::network();
    let served = served(|limits| limits.connections = 2);
    std::thread::scope(|scope| {
        for i in 0..50 {
            let (served, netns) = (&served, &netns);
            scope.spawn(move || {
                served
                    .client()
                    .add(&request(&format!("c{i}")), netns.as_fd())
                    .unwrap();
            });
        }
    });
    assert_eq!(served.stop().attached("net").len(), 50);
}

#[test]
fn an_agent_that_is_not_there_or_dies() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("cni.sock");
    let client = Client::new(&socket);
    let error = client.del(&request("a"), None).unwrap_err();
    assert!(
        matches!(error, CallError::Unavailable { .. }) && error.is_unanswered(),
        "{error}"
    );
    let answer = CniError::from(error);
    assert_eq!(answer.code, CniError::TRY_AGAIN_LATER);
    assert!(answer.msg.contains("does not answer on"), "{answer}");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let thread = std::thread::spawn(move || drop(listener.accept()));
    let error = client.del(&request("a"), None).unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }), "{error}");
    thread.join().unwrap();
    let error = client.del(&request("a"), None).unwrap_err();
    assert!(matches!(error, CallError::Unavailable { .. }), "{error}");
}
