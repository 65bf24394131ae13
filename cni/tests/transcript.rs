//! What plugins of version 1 of the agent protocol sent, as it was recorded between such a plugin and a listener that answered
//! in version 1. An agent of today serves them, and its answers are of the form that those plugins took.
//!
//! Needs a network namespace of its own: root, or user namespaces. Fails where neither is there.

use std::collections::BTreeSet;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use ocicat_cni::agent::Limits;
use ocicat_cni::testing::{FakeAgent, ServedAgent};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

#[path = "agent/namespace.rs"]
mod namespace;

/// Sends a request as it was sent, with the descriptor of a namespace where there was one.
fn asked(socket: &Path, request: &Value, netns: Option<&impl AsFd>) -> Value {
    let body = request.to_string().into_bytes();
    let bytes = [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat();
    let descriptors: Vec<_> = netns.iter().map(|netns| netns.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let stream = UnixStream::connect(socket).unwrap();
    let slices = [std::io::IoSlice::new(&bytes)];
    let sent = sendmsg(&stream, &slices, &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
    let mut reply = Vec::new();
    (&stream).read_to_end(&mut reply).unwrap();
    serde_json::from_slice(&reply[4..]).unwrap()
}

fn members(value: &Value) -> BTreeSet<&str> {
    let object = value.as_object();
    object
        .into_iter()
        .flat_map(|object| object.keys().map(String::as_str))
        .collect()
}

#[test]
fn plugins_of_version_1_are_served() {
    let record = include_str!("data/agent-1.jsonl");
    let netns = namespace::network();
    let folder = tempfile::tempdir().unwrap();
    let agent = Arc::new(FakeAgent::new());
    let mut limits = Limits::default();
    limits.user = rustix::process::getuid().as_raw();
    let socket = folder.path().join("cni.sock");
    let server = ServedAgent::start_with(agent.clone(), socket.clone(), limits).unwrap();
    let mut result = Value::Null;
    for line in record.lines() {
        let recorded: Value = serde_json::from_str(line).unwrap();
        let mut request = recorded["request"].clone();
        if request["config"].get("prevResult").is_some() {
            // What today's agent answered, as a runtime hands it on.
            result["cniVersion"] = json!("1.1.0");
            request["config"]["prevResult"] = result.clone();
        }
        let netns = (recorded["fds"] == 1).then_some(&netns);
        let reply = asked(&socket, &request, netns);
        assert_eq!(
            members(&reply),
            members(&recorded["reply"]),
            "{reply}: {request}"
        );
        assert_eq!(reply["protocol"], recorded["reply"]["protocol"]);
        let taken = &recorded["reply"]["ok"];
        assert_eq!(reply["ok"].is_null(), taken.is_null(), "{reply}");
        if request["role"] == "network" && request["command"] == "ADD" {
            assert!(members(&reply["ok"]).is_superset(&["interfaces", "ips"].into()));
            result = reply["ok"].clone();
        }
    }
    server.stop().unwrap();
    assert_eq!(
        agent.calls(),
        [
            "ADD c1/eth0",
            "CHECK c1/eth0",
            "DEL c1/eth0",
            "GC pods",
            "STATUS pods",
            "IPAM ADD c1/eth0",
            "IPAM DEL c1/eth0"
        ]
    );
}
