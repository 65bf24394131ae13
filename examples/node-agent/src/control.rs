//! The agent's control socket, `<run>/node.sock`: questions that a command line or a lab asks a running agent.
//!
//! One request a connection, one answer, both JSON in a frame of a four-byte big-endian length and that many bytes
//! (a request at most 1 MiB, an answer at most 64 MiB). `events` answers with a stream of frames until either side
//! closes, `diags` with one for each file.

use serde::{Deserialize, Serialize};

mod answers;
mod client;
mod diags;
mod frame;
mod server;
#[cfg(test)]
mod tests;

pub use answers::{
    BgpShown, Configuration, DatastoreShown, Drained, Endpoint, PolicyCount, PolicyCounters,
    RuleCount, Version,
};
pub use client::{Client, ControlError, Events};
pub(crate) use server::{KernelPart, Question, Serving, serve};

/// The version of what is asked and answered here. Requests and fields are added; a change of meaning counts it up.
pub const PROTOCOL: u32 = 1;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Request {
    /// Answers when the agent has seen every object at its revision, or a later one, and what follows from them is
    /// in the kernel.
    Wait {
        /// The objects that were written.
        objects: Vec<Written>,
        /// How long to wait, in milliseconds, before answering with what is missing.
        #[serde(default = "default_timeout")]
        timeout_ms: u64,
    },
    /// What the agent is and knows.
    Status,
    /// The routes that the speaker knows, with the reason for each choice.
    Routes,
    /// What happens, as it happens.
    Events,
    /// The versions of the program, its protocols and its files.
    Version,
    /// Every parameter in force, and where its value comes from.
    Config,
    /// The pods of this node.
    Endpoints,
    /// How many packets each rule has met, and how many were dropped for which reason.
    Counters,
    /// Announces this node's routes as ones that go away (RFC 8326), or as usual again.
    Drain {
        /// Whether the node is drained.
        on: bool,
    },
    /// Everything that helps to find a fault, secrets taken out; a frame for each file.
    Diags,
}

const fn default_timeout() -> u64 {
    30_000
}

/// An object that somebody wrote, and the revision that the datastore gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The kind, as in the object's own `kind` field.
    pub kind: String,
    /// The namespace, for kinds that have one.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The revision of the write, or of the deletion.
    pub revision: u64,
}

/// The answer to [`Request::Wait`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// Whether everything is in force.
    pub ok: bool,
    /// How long that took, in milliseconds.
    pub waited_ms: u64,
    /// What is missing, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The answer to [`Request::Status`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// The version of the agent.
    pub version: String,
    /// Whether the first complete state is in the kernel.
    pub ready: bool,
    /// Why it is not ready, or what is wrong all the same.
    pub reasons: Vec<String>,
    /// BGP peers.
    pub peers: Vec<Peer>,
    /// Address blocks with a confirmed affinity to this node.
    pub blocks: Vec<String>,
    /// How many routes the agent keeps in the kernel.
    pub routes: usize,
    /// How many pods' interfaces there are on this node.
    pub endpoints: usize,
    /// How many policies are in force on this node.
    pub policies: usize,
    /// How many times a state has been applied.
    pub applies: u64,
    /// What is known of the datastore.
    pub datastore: DatastoreShown,
    /// Who the speaker is.
    pub bgp: BgpShown,
    /// Whether the node is being drained.
    pub draining: bool,
}

/// A BGP peer, as [`Status`] shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// The peer's address.
    pub address: String,
    /// Its AS number.
    #[serde(rename = "as")]
    pub as_number: u32,
    /// `node-to-node mesh`, `node specific` or `global`, in calicoctl's words.
    #[serde(rename = "type")]
    pub kind: String,
    /// The session's state (RFC 4271, section 8.2.2).
    pub state: String,
    /// Whether routes are exchanged.
    pub established: bool,
    /// Seconds since the state was entered.
    pub since_s: f64,
    /// The last error, in words.
    pub last_error: Option<String>,
    /// Routes learned from the peer.
    pub routes: usize,
    /// The object that asks for the session.
    pub object: String,
    /// UPDATE messages received.
    pub updates: u64,
    /// How often a session was established.
    pub sessions: u64,
}
