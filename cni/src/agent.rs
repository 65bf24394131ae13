//! The protocol between a thin plugin and a node agent, version 1.
//!
//! The plugin opens the container's network namespace, sends its file descriptor and the request over a unix stream
//! socket, and prints what comes back. The agent needs no path of the plugin's mount namespace then, the plugin needs no
//! credentials, and the agent can batch, wait and roll back.
//!
//! One connection carries one request and one reply. Each is a frame: four bytes of length (big endian, at most
//! [`FRAME_LIMIT`]), then that many bytes of JSON.
//!
//! | request | |
//! |---|---|
//! | `protocol` | 1. Another one is refused with the numbers that the agent speaks |
//! | `command` | `ADD`, `DEL`, `CHECK`, `GC`, `STATUS` |
//! | `role` | `network` (default), or `ipam` when the plugin is an IPAM plugin that another one calls |
//! | `container_id`, `ifname` | for ADD, DEL, CHECK |
//! | `netns` | the path of the namespace as the runtime gave it, for the result; may be missing for DEL |
//! | `args` | the pairs of `CNI_ARGS` as an object |
//! | `config` | the network configuration as the plugin got it |
//! | `ipam_result` | the result of an IPAM plugin that the plugin has called |
//! | `deadline_ms` | how long the plugin waits for the reply, in milliseconds from now |
//!
//! ADD and CHECK in role `network` carry exactly one file descriptor (SCM_RIGHTS, beside the first bytes), DEL none or one, the
//! rest none. The reply is `{"protocol":1,"ok":RESULT}`, where RESULT is `null` but for ADD, or `{"protocol":1,"error":{code,msg,details}}`.
//! A plugin that hangs up before the reply has given up: what its ADD did is undone.
//!
//! ```no_run
//! use std::os::fd::AsFd;
//! use ocicat_cni::agent::{Client, Request};
//! use ocicat_cni::{AddResult, Call, CniError};
//!
//! fn add(call: &Call<serde_json::Value>) -> Result<AddResult, CniError> {
//!     let path = call.netns.as_deref().ok_or_else(|| CniError::environment("CNI_NETNS", "not set"))?;
//!     let netns = std::fs::File::open(path).map_err(|cause| CniError::io("opening the namespace", cause))?;
//!     let answer = Client::new("/run/mine/cni.sock").add(&Request::from_call(call), netns.as_fd())?;
//!     Ok(answer)
//! }
//! ```

use std::path::PathBuf;
use std::time::Duration;

use crate::{AddResult, Args, AttachmentId, Call, GcCall, NetworkConfig, StatusCall};

mod client;
mod fd;
#[cfg(feature = "tokio")]
mod server;
mod tombstone;
mod wire;

pub use client::{CallError, Client};
#[cfg(feature = "tokio")]
pub use server::{Agent, Caller, Limits, serve, serve_until};
pub use tombstone::{Tombstone, TombstoneError, Tombstones};

/// The version of the protocol.
pub const PROTOCOL: u32 = 1;

/// The longest frame, in bytes without the length: 1 MiB.
pub const FRAME_LIMIT: usize = 1 << 20;

/// How long a plugin waits when it does not say: 90 s, below the two minutes after which kubelet gives up.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(90);

/// One ADD, CHECK or DEL on its way to the agent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// Which interface of which container.
    pub attachment: AttachmentId,
    /// The path of the network namespace as the runtime gave it: for the result, never to be opened by the agent.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: Args,
    /// The network configuration, with every key in `raw`.
    pub network: NetworkConfig,
    /// What an IPAM plugin has answered that the plugin has called itself.
    pub ipam_result: Option<AddResult>,
    /// How long the plugin waits for the reply.
    pub deadline: Duration,
}

/// One GC or STATUS on its way to the agent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkRequest {
    /// The network configuration, with every key in `raw`.
    pub network: NetworkConfig,
    /// GC: the attachments of this network that are in use. Empty for STATUS.
    pub keep: Vec<AttachmentId>,
    /// How long the plugin waits for the reply.
    pub deadline: Duration,
}

#[cfg(feature = "testing")]
pub(crate) fn read_request(json: &[u8]) -> Result<(), crate::CniError> {
    use crate::Command;
    let message = wire::Message::parse(json)?;
    match message.command {
        Command::Gc | Command::Status => message.into_network_request().map(drop),
        _ => message.into_request().map(drop),
    }
}

impl Request {
    /// A request about this attachment, without a path and arguments, and with the default deadline.
    #[must_use]
    pub fn new(network: NetworkConfig, attachment: AttachmentId) -> Self {
        Self {
            attachment,
            netns: None,
            args: Args::new(),
            network,
            ipam_result: None,
            deadline: DEFAULT_DEADLINE,
        }
    }

    /// What a plugin was called with.
    #[must_use]
    pub fn from_call<C>(call: &Call<C>) -> Self {
        Self {
            netns: call.netns.clone(),
            args: call.args.clone(),
            ..Self::new(call.network.clone(), call.attachment.clone())
        }
    }

    /// The same with the result of an IPAM plugin.
    #[must_use]
    pub fn ipam_result(mut self, result: AddResult) -> Self {
        self.ipam_result = Some(result);
        self
    }

    /// The same with another deadline.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

impl NetworkRequest {
    /// A request about a network, with nothing to keep and the default deadline.
    #[must_use]
    pub const fn new(network: NetworkConfig) -> Self {
        Self {
            network,
            keep: Vec::new(),
            deadline: DEFAULT_DEADLINE,
        }
    }

    /// What a plugin's GC was called with.
    #[must_use]
    pub fn from_gc<C>(call: &GcCall<C>) -> Self {
        Self {
            keep: call.keep.clone(),
            ..Self::new(call.network.clone())
        }
    }

    /// What a plugin's STATUS was called with.
    #[must_use]
    pub fn from_status<C>(call: &StatusCall<C>) -> Self {
        Self::new(call.network.clone())
    }
}
