//! What is answered beside the status.

use serde::{Deserialize, Serialize};

use crate::parameters::Shown;

/// What an agent knows of its datastore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatastoreShown {
    /// The last that was heard of it was no error.
    pub connected: bool,
    /// All of it has been read.
    pub in_sync: bool,
    /// The agent lives by its snapshot until then.
    pub restored: bool,
    /// What it says, when it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Who a speaker is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BgpShown {
    /// Its AS; 0 before it has begun.
    #[serde(rename = "as")]
    pub as_number: u32,
    /// Its router id.
    pub router_id: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// What it announces.
    pub announced: Vec<String>,
}

/// The answer to [`Request::Version`](super::Request::Version).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Version {
    /// The agent's.
    pub agent: String,
    /// That of this protocol.
    pub control: u32,
    /// That of the protocol of the CNI plugin.
    pub cni: u32,
    /// That of the snapshot on disk.
    pub snapshot: u32,
}

impl Version {
    /// This program's.
    #[must_use]
    pub fn own() -> Self {
        Self {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            control: super::PROTOCOL,
            cni: ocicat_cni::agent::PROTOCOL,
            snapshot: crate::snapshot::VERSION,
        }
    }
}

/// The answer to [`Request::Config`](super::Request::Config).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// Every parameter in force.
    pub values: Vec<Shown>,
    /// What is stated and has no effect.
    pub warnings: Vec<String>,
}

/// A pod of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Its namespace.
    pub namespace: String,
    /// The name of its WorkloadEndpoint.
    pub name: String,
    /// The node's end of its link.
    pub link: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// The policies that apply to it, tier by tier.
    pub policies: Vec<String>,
    /// `up` when its policy is in the kernel, else `pending`.
    pub status: String,
}

/// The answer to [`Request::Counters`](super::Request::Counters).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyCounters {
    /// By policy and direction.
    pub policies: Vec<PolicyCount>,
    /// Packets that were dropped, by reason.
    pub drops: Vec<RuleCount>,
    /// Chains of the agent's tables; older agents do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chains: Option<usize>,
    /// Rules in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<usize>,
}

/// What the rules of a policy have met in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyCount {
    /// The policy, or the profile.
    pub policy: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// Rule by rule, in its order.
    pub rules: Vec<RuleCount>,
}

/// A count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleCount {
    /// The rule's place from 0, or the reason.
    pub rule: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The answer to [`Request::Drain`](super::Request::Drain).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drained {
    /// Whether the node is being drained.
    pub draining: bool,
    /// For how many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_s: Option<f64>,
}
