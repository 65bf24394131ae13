//! One plugin's connection: receive, check, dispatch, answer or undo.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::{AddResult, CniError, Command, Version};

use super::{Agent, Caller, Server};
use crate::agent::fd::receive;
use crate::agent::wire::{self, Message, Reply, Role};
use crate::agent::{NetworkRequest, Request};

/// The most descriptors that are taken before a request is refused; it should have one.
const ENOUGH: usize = 2;

pub(super) async fn handle(server: &Arc<Server>, stream: UnixStream) {
    let answer = match accept(server, &stream).await {
        Ok(accepted) => return serve(server, &stream, accepted).await,
        Err(error) => Err(error),
    };
    // A plugin that is refused may be gone already; there is nobody else to tell.
    let _ = reply(&stream, answer, server.limits.arrival).await;
}

/// A request that has passed every check.
struct Accepted {
    job: Job,
    key: Option<String>,
    deadline: Duration,
    process: Option<i32>,
}

enum Job {
    Add(Request, OwnedFd),
    Del(Request, Option<OwnedFd>),
    Check(Request, OwnedFd),
    Gc(NetworkRequest),
    Status(NetworkRequest),
    IpamAdd(Request),
    IpamDel(Request),
    IpamCheck(Request),
    IpamGc(NetworkRequest),
}

async fn accept(server: &Server, stream: &UnixStream) -> Result<Accepted, CniError> {
    let peer = stream
        .peer_cred()
        .map_err(|cause| CniError::io("asking who calls", cause))?;
    if peer.uid() != server.limits.user {
        let text = format!("user {} may not use the node agent", peer.uid());
        return Err(CniError::io(
            text,
            format_args!("only user {} may", server.limits.user),
        ));
    }
    let mut descriptors = Vec::new();
    let arrival = tokio::time::timeout(server.limits.arrival, request(stream, &mut descriptors));
    let body = arrival
        .await
        .map_err(|_| CniError::io("receiving the request", "it took too long"))??;
    let message = Message::parse(&body)?;
    let deadline = message.deadline().min(server.limits.deadline);
    let job = job(server, message, descriptors)?;
    let key = job.key();
    Ok(Accepted {
        job,
        key,
        deadline,
        process: peer.pid(),
    })
}

fn job(server: &Server, message: Message, mut descriptors: Vec<OwnedFd>) -> Result<Job, CniError> {
    let (command, role) = (message.command, message.role);
    let wanted = match (role, command) {
        (Role::Network, Command::Add | Command::Check) => 1..=1,
        (Role::Network, Command::Del) => 0..=1,
        _ => 0..=0,
    };
    if !wanted.contains(&descriptors.len()) {
        let text = format!("{} file descriptors came with {command}", descriptors.len());
        return Err(CniError::environment("CNI_NETNS", text));
    }
    let netns = descriptors.pop();
    let verified = netns
        .as_ref()
        .map_or(Ok(()), |netns| server.host.verify(netns));
    let missing = || CniError::environment("CNI_NETNS", "no file descriptor came with the request");
    Ok(match (role, command) {
        (Role::Network, Command::Add) => {
            verified?;
            Job::Add(message.into_request()?, netns.ok_or_else(missing)?)
        }
        (Role::Network, Command::Check) => {
            verified?;
            Job::Check(message.into_request()?, netns.ok_or_else(missing)?)
        }
        // What cannot be the container's namespace is as good as gone: DEL goes by names.
        (Role::Network, Command::Del) => {
            Job::Del(message.into_request()?, netns.filter(|_| verified.is_ok()))
        }
        (Role::Network, Command::Gc) => Job::Gc(message.into_network_request()?),
        (_, Command::Status) => Job::Status(message.into_network_request()?),
        (Role::Ipam, Command::Add) => Job::IpamAdd(message.into_request()?),
        (Role::Ipam, Command::Del) => Job::IpamDel(message.into_request()?),
        (Role::Ipam, Command::Check) => Job::IpamCheck(message.into_request()?),
        (Role::Ipam, Command::Gc) => Job::IpamGc(message.into_network_request()?),
        (_, Command::Version) => {
            return Err(CniError::environment(
                "command",
                "VERSION is the plugin's own",
            ));
        }
    })
}

impl Job {
    /// What no two jobs may work on at once.
    fn key(&self) -> Option<String> {
        let (role, request) = match self {
            Self::Add(request, _) | Self::Del(request, _) | Self::Check(request, _) => {
                ("", request)
            }
            Self::IpamAdd(request) | Self::IpamDel(request) | Self::IpamCheck(request) => {
                ("ipam", request)
            }
            Self::Gc(_) | Self::Status(_) | Self::IpamGc(_) => return None,
        };
        Some(format!(
            "{role}/{}/{}",
            request.network.name, request.attachment
        ))
    }

    /// The request, when it is an ADD that may have to be undone.
    fn add(&self) -> Option<(Request, Role)> {
        match self {
            Self::Add(request, _) => Some((request.clone(), Role::Network)),
            Self::IpamAdd(request) => Some((request.clone(), Role::Ipam)),
            _ => None,
        }
    }

    async fn run(self, agent: &dyn Agent, caller: Caller) -> Result<Option<AddResult>, CniError> {
        match self {
            Self::Add(request, netns) => agent.add(request, netns, caller).await.map(Some),
            Self::Del(request, netns) => agent.del(request, netns).await.map(|()| None),
            Self::Check(request, netns) => agent.check(request, netns).await.map(|()| None),
            Self::Gc(request) => agent.gc(request).await.map(|()| None),
            Self::Status(request) => agent.status(request).await.map(|()| None),
            Self::IpamAdd(request) => agent.ipam_add(request, caller).await.map(Some),
            Self::IpamDel(request) => agent.ipam_del(request).await.map(|()| None),
            Self::IpamCheck(request) => agent.ipam_check(request).await.map(|()| None),
            Self::IpamGc(request) => agent.ipam_gc(request).await.map(|()| None),
        }
    }
}

async fn serve(server: &Arc<Server>, stream: &UnixStream, accepted: Accepted) {
    let (told, gone) = watch::channel(false);
    let caller = Caller {
        process: accepted.process,
        gone,
    };
    let undo = accepted.job.add();
    let deadline = tokio::time::Instant::now() + accepted.deadline;
    let answering = AtomicBool::new(false);
    let work = async {
        let _guard = match accepted.key {
            Some(key) => Some(server.locks.lock(key).await),
            None => None,
        };
        // A plugin that went while it was waiting for its turn has done nothing yet, and does nothing more.
        if undo.is_some() && caller.is_gone() {
            return;
        }
        let answer = accepted.job.run(&*server.agent, caller.clone()).await;
        let result = answer.as_ref().ok().cloned().flatten();
        let late = caller.is_gone() || {
            answering.store(true, Ordering::Relaxed);
            let value = answer.map(|result| value(result.as_ref()));
            reply(stream, value, server.limits.arrival).await.is_err()
        };
        if let (true, Some((request, role)), Some(result)) = (late, undo, result) {
            // The implementation has logged it; DEL comes from the runtime in any case.
            let _ = match role {
                Role::Network => server.agent.abandoned(request, result).await,
                Role::Ipam => server.agent.ipam_del(request).await,
            };
        }
    };
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => return,
        () = hung_up(stream) => {}
        () = tokio::time::sleep_until(deadline) => {
            if answering.load(Ordering::Relaxed) {
                return work.await;
            }
            let error = CniError::try_again("the node agent has not finished in time");
            let _ = reply(stream, Err(error), server.limits.arrival).await;
        }
    }
    let _ = told.send(true);
    work.await;
}

fn value(result: Option<&AddResult>) -> Value {
    result.map_or(Value::Null, |result| result.to_value(Version::LATEST))
}

/// Resolves when the plugin has closed its side. Bytes after the request count as that: there are none to come.
async fn hung_up(stream: &UnixStream) {
    let mut bytes = [0; 1];
    let mut descriptors = Vec::new();
    let _ = some_bytes(stream, &mut bytes, &mut descriptors).await;
}

async fn request(stream: &UnixStream, descriptors: &mut Vec<OwnedFd>) -> Result<Vec<u8>, CniError> {
    let mut header = [0; wire::HEADER];
    exactly(stream, &mut header, descriptors).await?;
    let length = wire::body_length(header).ok_or_else(|| {
        let length = u32::from_be_bytes(header);
        CniError::decode("the request is too long", format_args!("{length} bytes"))
    })?;
    // Grows with what arrives, not with what was announced.
    let mut body = Vec::new();
    while body.len() < length {
        let mut piece = [0; 16 << 10];
        let most = (length - body.len()).min(piece.len());
        let piece = piece.get_mut(..most).unwrap_or_default();
        exactly(stream, piece, descriptors).await?;
        body.extend_from_slice(piece);
    }
    Ok(body)
}

async fn exactly(
    stream: &UnixStream,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<(), CniError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let failed = |cause| CniError::io("receiving the request", cause);
        match some_bytes(stream, rest, descriptors)
            .await
            .map_err(failed)?
        {
            0 => {
                return Err(CniError::decode(
                    "the request does not decode",
                    "it ends early",
                ));
            }
            count => filled += count,
        }
    }
    Ok(())
}

async fn some_bytes(
    stream: &UnixStream,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || receive(stream, buffer, descriptors)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => {
                // Surplus ones are closed here; two say that there were too many.
                descriptors.truncate(ENOUGH);
                return outcome;
            }
        }
    }
}

async fn reply(
    stream: &UnixStream,
    answer: Result<Value, CniError>,
    patience: Duration,
) -> io::Result<()> {
    let too_long = || {
        wire::frame(&Reply::new(Err(CniError::internal(
            "the answer is too long",
        ))))
    };
    let frame = wire::frame(&Reply::new(answer))
        .or_else(too_long)
        .unwrap_or_default();
    let write = async {
        let mut left = frame.as_slice();
        while !left.is_empty() {
            stream.writable().await?;
            match stream.try_write(left) {
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    tokio::time::timeout(patience, write)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
