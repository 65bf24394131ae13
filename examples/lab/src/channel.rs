//! The socket between a lab in the background and the commands that reach it.
//!
//! It is an abstract unix socket of the caller's network namespace: it needs no file, is gone with the lab, and another
//! lab may have another name. Both ends check that the other one runs as the same user.

use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg, sockopt,
};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::launch::{Bundle, File};
use crate::probe::{End, Probe};
use crate::scenario::Protocol;

/// What a command asks of a running lab: one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Send what is said while the lab comes up; the lab ends when this connection does, until it is up.
    Attach,
    /// End.
    Down,
    /// Write these manifests.
    Apply {
        /// The files, as the user named them.
        files: Vec<File>,
    },
    /// Delete what these manifests name.
    Delete {
        /// The files, as the user named them.
        files: Vec<File>,
    },
    /// Become equal to another scenario.
    Sync {
        /// The scenario and its manifests.
        bundle: Bundle,
    },
    /// Ask with packets.
    Probe(Questions),
    /// Hand over the namespaces of an end, for a program to be run there.
    Enter {
        /// A pod, node or host.
        end: End,
    },
}

/// Which probes to run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Questions {
    /// Exactly these, instead of all pairs.
    pub probes: Option<Vec<Probe>>,
    /// Only from this end.
    pub from: Option<End>,
    /// Only to this end.
    pub to: Option<End>,
    /// Only this port.
    pub port: Option<std::num::NonZeroU16>,
    /// Only this protocol.
    pub protocol: Option<Protocol>,
    /// The time after which no answer is a denial, in milliseconds.
    pub timeout_ms: u64,
    /// Answers as lines of JSON.
    pub json: bool,
}

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// A line for standard output.
    Line(String),
    /// A line for standard error.
    Error(String),
    /// The namespaces that follow as descriptors.
    Namespaces {
        /// Which of user, process-id, mount and network are there.
        kinds: Vec<String>,
        /// The URL of the lab's datastore.
        datastore: String,
    },
    /// The end: the exit code.
    Done(u8),
}

/// The socket's address for a lab of the calling user.
fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("ocicat-lab/{}/{name}", Uid::effective()))
}

/// Makes the socket of a lab.
///
/// # Errors
/// When a lab of that name runs.
pub fn listen(name: &str) -> Result<UnixListener> {
    UnixListener::bind_addr(&address(name)?)
        .with_context(|| format!("a lab named {name} runs already; ocicat-lab down {name}"))
}

/// The names of the calling user's labs that run.
///
/// # Errors
/// When `/proc/net/unix` cannot be read.
pub fn running() -> Result<Vec<String>> {
    let prefix = format!("@ocicat-lab/{}/", Uid::effective());
    let sockets = std::fs::read_to_string("/proc/net/unix")?;
    let name = |line: &str| Some(line.split_once(&prefix)?.1.to_owned());
    let mut names: Vec<String> = sockets.lines().filter_map(name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// One connection, from either end.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Channel {
    /// Reaches a lab by name; the only one that runs, when there is no name.
    ///
    /// # Errors
    /// When no lab runs, or several do and none is named.
    pub fn connect(name: Option<&str>) -> Result<Self> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => match running()?.as_slice() {
                [only] => only.clone(),
                [] => bail!("no lab runs; ocicat-lab up -f SCENARIO starts one"),
                names => bail!(
                    "several labs run, say which one with --name: {}",
                    names.join(", ")
                ),
            },
        };
        let stream = UnixStream::connect_addr(&address(&name)?)
            .with_context(|| format!("no lab named {name} runs"))?;
        Self::new(stream)
    }

    /// A channel over an accepted or connected socket.
    ///
    /// # Errors
    /// When the other end is run by another user.
    pub fn new(stream: UnixStream) -> Result<Self> {
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        let own = Uid::effective().as_raw();
        if peer.uid() != own && peer.uid() != 0 {
            bail!(
                "the other end of the lab's socket is run by user {}",
                peer.uid()
            );
        }
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, reader })
    }

    /// Sends a line of JSON.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        Ok(self.stream.write_all(&line)?)
    }

    /// Receives a line of JSON; nothing at the end of the stream.
    ///
    /// # Errors
    /// When the line is not the message that is expected.
    pub fn receive<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }

    /// Sends descriptors, with one byte that carries them.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send_descriptors(&self, descriptors: &[RawFd]) -> Result<()> {
        let rights = [ControlMessage::ScmRights(descriptors)];
        sendmsg::<UnixAddr>(
            self.stream.as_raw_fd(),
            &[IoSlice::new(b".")],
            &rights,
            MsgFlags::empty(),
            None,
        )?;
        Ok(())
    }

    /// Receives descriptors; the line before them must have been the last one that was sent.
    ///
    /// # Errors
    /// When none come.
    pub fn receive_descriptors(&self) -> Result<Vec<OwnedFd>> {
        let mut byte = [0u8; 1];
        let mut space = nix::cmsg_space!([RawFd; 8]);
        let mut slices = [IoSliceMut::new(&mut byte)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<UnixAddr>(
            self.stream.as_fd().as_raw_fd(),
            &mut slices,
            Some(&mut space),
            flags,
        )?;
        let mut received = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                received.extend(descriptors);
            }
        }
        owned(&received)
    }

    /// The socket, to be watched for its end.
    ///
    /// # Errors
    /// When it cannot be duplicated.
    pub fn stream(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }
}

/// The kernel made these descriptors for this process a moment ago; taking them over by name keeps this file free of
/// raw ownership, at the price of one `open` each.
fn owned(received: &[RawFd]) -> Result<Vec<OwnedFd>> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    let take = |raw: &RawFd| {
        let opened = open(
            format!("/proc/self/fd/{raw}").as_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        );
        let _ = nix::unistd::close(*raw);
        opened.context("taking over a namespace")
    };
    received.iter().map(take).collect()
}
