//! What bounds a plugin: how many descriptors, how long a frame, how late an answer, how many at once.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ocicat_cni::agent::{Agent, Caller, Limits, NetworkRequest, Request};
use ocicat_cni::testing::ServedAgent;
use ocicat_cni::{AddResult, CniError};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use super::{frame, namespace, network, refused, request, served};

/// Sends a frame with the descriptor so many times, and reads the answer.
fn ask(stream: &UnixStream, bytes: &[u8], descriptor: &impl AsFd, count: usize) -> Value {
    let descriptors = vec![descriptor.as_fd(); count];
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if count > 0 {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let slices = [std::io::IoSlice::new(bytes)];
    let sent = sendmsg(stream, &slices, &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
    let mut reply = Vec::new();
    (&mut &*stream).read_to_end(&mut reply).unwrap();
    serde_json::from_slice(&reply[4..]).unwrap()
}

/// How many descriptors of this process are this namespace.
fn open_descriptors(inode: u64) -> usize {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let metadata = entries.filter_map(|entry| std::fs::metadata(entry.unwrap().path()).ok());
    metadata.filter(|metadata| metadata.ino() == inode).count()
}

#[test]
fn each_command_takes_its_number_of_descriptors() {
    let netns = namespace::network();
    let served = served(|_| {});
    let inode = std::os::unix::fs::MetadataExt::ino(&netns.metadata().unwrap());
    for (role, command, counts) in [
        ("network", "ADD", &[0, 2, 3, 200][..]),
        ("network", "CHECK", &[0, 2, 200]),
        ("network", "DEL", &[2, 200]),
        ("network", "GC", &[1]),
        ("network", "STATUS", &[1]),
        ("ipam", "ADD", &[1]),
        ("ipam", "DEL", &[1]),
    ] {
        for count in counts {
            let stream = UnixStream::connect(served.server.socket()).unwrap();
            let bytes = frame(
                &json!({"protocol": 1, "command": command, "role": role, "container_id": "a",
                "ifname": "eth0", "config": network().raw}),
            );
            let reply = ask(&stream, &bytes, &netns, *count);
            assert_eq!(
                reply["error"]["code"],
                CniError::INVALID_ENVIRONMENT,
                "{role} {command} with {count}: {reply}"
            );
        }
    }
    drop(netns);
    let agent = served.stop();
    assert!(agent.calls().is_empty(), "{:?}", agent.calls());
    assert_eq!(open_descriptors(inode), 0, "descriptors were leaked");
}

/// The longest frame is taken, one byte more is not.
#[test]
fn a_frame_has_at_most_a_mebibyte() {
    let served = served(|_| {});
    let with = |padding: usize| {
        frame(
            &json!({"protocol": 1, "command": "DEL", "container_id": "a", "ifname": "eth0",
            "config": network().raw, "padding": "x".repeat(padding)}),
        )
    };
    let empty = with(0).len() - 4;
    let longest = with((1 << 20) - empty);
    assert_eq!(longest.len(), 4 + (1 << 20));
    assert_eq!(served.raw(&longest), json!({"protocol": 1, "ok": null}));
    let reply = served.raw(&with((1 << 20) - empty + 1));
    assert_eq!(reply["error"]["code"], CniError::DECODE_FAILURE);
    assert_eq!(served.stop().calls(), ["DEL a/eth0"]);
}

/// Whatever deadline a plugin names, the agent's own counts when it is shorter; what comes later is undone.
#[test]
fn a_deadline_that_is_too_late_is_cut() {
    let netns = namespace::network();
    let served = served(|limits| limits.deadline = Duration::from_millis(50));
    let gate = served.agent.hold();
    let patient = request("a").deadline(Duration::from_secs(3600));
    let error = refused(served.client().add(&patient, netns.as_fd()));
    assert_eq!(error.code, CniError::TRY_AGAIN_LATER, "{error}");
    assert!(error.msg.contains("has not finished in time"), "{error}");
    drop(gate);
    let agent = served.stop();
    assert_eq!(agent.calls(), ["ADD a/eth0", "DEL a/eth0"]);
    assert!(agent.attached("net").is_empty());
}

#[test]
fn only_root_may_call_and_the_defaults_are_finite() {
    let limits = Limits::default();
    assert_eq!(limits.user, 0);
    assert_eq!(limits.connections, 256);
    assert_eq!(limits.arrival, Duration::from_secs(5));
    assert_eq!(limits.deadline, Duration::from_secs(120));
}

/// Counts its handlers; each waits until another runs beside it.
struct Pairs {
    running: AtomicUsize,
    most: AtomicUsize,
    both: tokio::sync::Barrier,
}

#[async_trait]
impl Agent for Pairs {
    async fn add(&self, _: Request, _: OwnedFd, _: Caller) -> Result<AddResult, CniError> {
        Ok(AddResult::new())
    }

    async fn del(&self, _: Request, _: Option<OwnedFd>) -> Result<(), CniError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.both.wait().await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    async fn check(&self, _: Request, _: OwnedFd) -> Result<(), CniError> {
        Ok(())
    }

    async fn gc(&self, _: NetworkRequest) -> Result<(), CniError> {
        Ok(())
    }

    async fn status(&self, _: NetworkRequest) -> Result<(), CniError> {
        Ok(())
    }
}

#[test]
fn no_more_handlers_than_connections_run_at_once() {
    let agent = Arc::new(Pairs {
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        both: tokio::sync::Barrier::new(2),
    });
    let folder = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    limits.user = rustix::process::getuid().as_raw();
    limits.connections = 2;
    let socket = folder.path().join("cni.sock");
    let server = ServedAgent::start_with(agent.clone(), socket, limits).unwrap();
    std::thread::scope(|scope| {
        for i in 0..40 {
            let client = server.client();
            scope.spawn(move || client.del(&request(&format!("c{i}")), None).unwrap());
        }
    });
    server.stop().unwrap();
    assert_eq!(agent.most.load(Ordering::SeqCst), 2);
}
