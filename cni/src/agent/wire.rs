//! The JSON of requests and replies, and the frames around it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    AddResult, Args, AttachmentId, CniError, Command, ContainerId, InterfaceName, NetworkConfig,
};

use super::{DEFAULT_DEADLINE, FRAME_LIMIT, NetworkRequest, PROTOCOL, Request};

/// Bytes of a frame's length.
pub(super) const HEADER: usize = 4;

/// Whether the plugin is the network's, or an IPAM plugin that another one calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    #[default]
    Network,
    Ipam,
}

/// A request as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) protocol: u32,
    pub(super) command: Command,
    #[serde(default)]
    pub(super) role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ifname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<PathBuf>,
    #[serde(default)]
    args: Args,
    config: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ipam_result: Option<Value>,
    #[serde(default = "default_deadline")]
    deadline_ms: u64,
}

const fn default_deadline() -> u64 {
    DEFAULT_DEADLINE.as_millis() as u64
}

/// A reply as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reply {
    protocol: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ok: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<CniError>,
}

impl Message {
    pub(super) fn about_attachment(command: Command, role: Role, request: &Request) -> Self {
        Self {
            protocol: PROTOCOL,
            command,
            role,
            container_id: Some(request.attachment.container_id.to_string()),
            ifname: Some(request.attachment.ifname.to_string()),
            netns: request.netns.clone(),
            args: request.args.clone(),
            config: request.network.raw.clone(),
            ipam_result: request
                .ipam_result
                .as_ref()
                .map(|r| r.to_value(crate::Version::LATEST)),
            deadline_ms: milliseconds(request.deadline),
        }
    }

    pub(super) fn about_network(command: Command, role: Role, request: &NetworkRequest) -> Self {
        let mut config = request.network.raw.clone();
        if command == Command::Gc {
            config["cni.dev/valid-attachments"] = serde_json::json!(request.keep);
        }
        Self {
            protocol: PROTOCOL,
            command,
            role,
            container_id: None,
            ifname: None,
            netns: None,
            args: Args::new(),
            config,
            ipam_result: None,
            deadline_ms: milliseconds(request.deadline),
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    pub(super) fn into_request(self) -> Result<Request, CniError> {
        let missing = |key: &str| CniError::environment(key, "missing in the request");
        let container_id = self.container_id.ok_or_else(|| missing("container_id"))?;
        let container_id = ContainerId::new(container_id)
            .map_err(|error| CniError::environment("container_id", error))?;
        let ifname = self.ifname.ok_or_else(|| missing("ifname"))?;
        let ifname =
            InterfaceName::new(ifname).map_err(|error| CniError::environment("ifname", error))?;
        let ipam_result = self
            .ipam_result
            .as_ref()
            .map(AddResult::from_value)
            .transpose()?;
        Ok(Request {
            attachment: AttachmentId::new(container_id, ifname),
            netns: self.netns,
            args: self.args,
            network: NetworkConfig::from_value(self.config)?,
            ipam_result,
            deadline: Duration::from_millis(self.deadline_ms),
        })
    }
}

#[cfg(feature = "tokio")]
impl Message {
    pub(super) fn into_network_request(self) -> Result<NetworkRequest, CniError> {
        let deadline = self.deadline();
        let network = NetworkConfig::from_value(self.config)?;
        let keep = match (self.command, &network.valid_attachments) {
            (Command::Gc, None) => {
                let text = "cni.dev/valid-attachments: is missing, so nothing is released";
                return Err(CniError::config(text));
            }
            (_, keep) => keep.clone().unwrap_or_default(),
        };
        Ok(NetworkRequest {
            network,
            keep,
            deadline,
        })
    }

    /// Reads a request's JSON and refuses another protocol.
    pub(super) fn parse(json: &[u8]) -> Result<Self, CniError> {
        let decode = |cause| CniError::decode("the request does not decode", cause);
        let value: Value = serde_json::from_slice(json).map_err(decode)?;
        match value.get("protocol").and_then(Value::as_u64) {
            Some(number) if number == u64::from(PROTOCOL) => {
                Self::deserialize(value).map_err(decode)
            }
            other => {
                let found = other.map_or_else(|| "none".to_owned(), |number| number.to_string());
                let text = format!("protocol: the agent speaks {PROTOCOL}, the plugin {found}");
                Err(CniError::new(CniError::INCOMPATIBLE_VERSION, text))
            }
        }
    }
}

impl Reply {
    #[cfg(feature = "tokio")]
    pub(super) fn new(answer: Result<Value, CniError>) -> Self {
        let (ok, error) = match answer {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            protocol: PROTOCOL,
            ok,
            error,
        }
    }

    pub(super) fn into_answer(self) -> Result<Value, CniError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.ok.unwrap_or_default()),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A frame around a value; `None` when it would be too long.
pub(super) fn frame(value: &impl Serialize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, value).ok()?;
    let length = u32::try_from(bytes.len() - HEADER)
        .ok()
        .filter(|l| *l as usize <= FRAME_LIMIT)?;
    bytes
        .get_mut(..HEADER)?
        .copy_from_slice(&length.to_be_bytes());
    Some(bytes)
}

/// The length in a frame's first bytes; `None` when it is above the limit.
pub(super) fn body_length(header: [u8; HEADER]) -> Option<usize> {
    let length = u32::from_be_bytes(header) as usize;
    (length <= FRAME_LIMIT).then_some(length)
}
