//! What `ocicat-lab test` does with a scenario's cluster: steps that do something, and steps that expect something.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};

use serde::Deserialize;
use serde_json::Value;

use super::{Pod, Protocol};
use crate::probe::{End, Family};

/// One step; the scenario's `steps` are done in their order.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// A line for people: what follows.
    Say(String),
    /// Asks with packets. `all`: every pair, and what policy says of it is what is expected; `again`: the same questions,
    /// and the same answers are expected, whatever the datastore says or whether it says anything.
    Probe(Expected),
    /// Runs a command somewhere and looks at what it prints, again and again until it is as expected.
    Run(Exec),
    /// Writes an object, as `apply` does.
    Put(Value),
    /// Merges a part into an object that is there (RFC 7386).
    Patch(Patch),
    /// Deletes an object: `kind`, `name` and perhaps `namespace`.
    Delete(Patch),
    /// Makes a pod; with `fails` the plugin has to refuse it with a message that has this text, and nothing may stay.
    Add {
        /// The pod.
        pod: Box<Pod>,
        /// What the refusal says.
        #[serde(default)]
        fails: Option<String>,
    },
    /// Takes pods away.
    Remove(Vec<String>),
    /// The pools that pods have their addresses from.
    Pools(BTreeMap<String, String>),
    /// Numbered datagrams and a TCP stream flow from now on.
    Traffic(Flow),
    /// All traffic ends; so many datagrams of each may be lost.
    Arrived {
        /// As many as this may be missing.
        lost: u64,
    },
    /// Kills agents, starts them again, or restarts one after the other.
    Agents(Agents),
    /// Stops or starts the lab's own etcd.
    Datastore(Store),
    /// Waits so many seconds: for what should not happen.
    Wait(u64),
    /// Waits until every BGP session is established and every machine has a route to every pod.
    Settled(Value),
    /// Address management agrees with itself and with the pods that there are.
    NoLeaks(Value),
}

/// What a probe should find.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Expected {
    /// `all` or `again`.
    Word(String),
    /// One question.
    One(Box<Asked>),
}

/// One question and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Who asks.
    pub from: End,
    /// Who is asked.
    pub to: End,
    /// The port; none for ICMP.
    #[serde(default)]
    pub port: Option<NonZeroU16>,
    /// TCP unless stated.
    #[serde(default)]
    pub protocol: Protocol,
    /// 4 or 6.
    #[serde(default)]
    pub family: Option<Family>,
    /// `allowed` or `denied`.
    pub expect: crate::probe::Verdict,
}

/// A command and what it should print.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// `namespace/pod`, `node:NAME`, `host:NAME`, `router` or `lab`, where etcd runs.
    pub on: String,
    /// A line for `sh`; the lab's programs are in its PATH, and it knows the datastore.
    pub command: String,
    /// Texts that must be in the output.
    #[serde(default)]
    pub has: Vec<String>,
    /// Texts that must not be.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// How many seconds it may take until all that is so.
    #[serde(default = "ten")]
    pub within: u64,
}

const fn ten() -> u64 {
    10
}

/// An object, and perhaps a part of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The object's kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// What is merged into its `metadata`.
    #[serde(default)]
    pub metadata: Option<Value>,
    /// What is merged into its `spec`.
    #[serde(default)]
    pub spec: Option<Value>,
}

/// Traffic.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// The pod that sends.
    pub from: String,
    /// The pod that sends everything back.
    pub to: String,
    /// A TCP port that it serves.
    pub port: NonZeroU16,
    /// Datagrams a second, each way.
    #[serde(default = "usual")]
    pub rate: NonZeroU32,
}

fn usual() -> NonZeroU32 {
    NonZeroU32::new(crate::traffic::RATE).unwrap_or(NonZeroU32::MIN)
}

/// What is done to agents, and to which nodes'; an empty list is all.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Agents {
    /// SIGKILL.
    Kill(Vec<String>),
    /// Start again.
    Start(Vec<String>),
    /// One after the other: SIGTERM, start, and wait until its sessions are back.
    Restart(Vec<String>),
    /// One after the other: SIGKILL and start. No other machine may change a route, no counter of its rules may be reset.
    Replace(Vec<String>),
}

/// What is done to the lab's own etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Store {
    /// SIGKILL.
    Stopped,
    /// Start again, with the data that it had.
    Started,
}
