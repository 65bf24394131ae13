use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{AddResult, AttachmentId, CniError, Dns, NetworkName, PluginName, Version};

mod capability;

pub use capability::{Bandwidth, PortMapping, RuntimeConfig};

/// The network configuration as a plugin gets it on stdin: the keys that the specification names, and the rest raw.
///
/// A plugin's own keys are read from the same JSON into its [`Plugin::Config`](crate::Plugin::Config).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// The version that results and errors are written in.
    pub version: Version,
    /// The network's name.
    pub name: NetworkName,
    /// The plugin's own program name.
    pub plugin: PluginName,
    /// Whether the plugin should masquerade. Default: no.
    pub ip_masq: bool,
    /// The IPAM plugin; `None` when there is none or its `type` is missing.
    pub ipam: Option<PluginName>,
    /// DNS settings to hand to the container.
    pub dns: Dns,
    /// What the capabilities of this plugin are to do for this attachment.
    pub runtime_config: RuntimeConfig,
    /// What the plugins before this one have answered; for CHECK and DEL, what the whole chain has answered to ADD.
    pub prev_result: Option<AddResult>,
    /// GC: the attachments that are in use. `None` when the runtime gave no list.
    pub valid_attachments: Option<Vec<AttachmentId>>,
    /// The whole configuration, every key of it.
    pub raw: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    name: Option<String>,
    #[serde(rename = "type")]
    plugin: Option<String>,
    ip_masq: Option<bool>,
    #[serde(default)]
    ipam: Option<Map<String, Value>>,
    #[serde(default)]
    dns: Option<Dns>,
    #[serde(default)]
    runtime_config: Option<RuntimeConfig>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    valid_attachments: Option<Vec<AttachmentId>>,
    #[serde(rename = "cni.dev/attachments", default)]
    attachments: Option<Vec<AttachmentId>>,
}

impl NetworkConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`CniError::DECODE_FAILURE`] when the bytes are no JSON object, else the errors of [`from_value`](Self::from_value).
    pub fn parse(json: &[u8]) -> Result<Self, CniError> {
        Self::from_value(parse_object(json)?)
    }

    /// Reads a configuration that is JSON already.
    ///
    /// # Errors
    /// [`CniError::INCOMPATIBLE_VERSION`] when `cniVersion` is missing, which means 0.1.0, or not a known one;
    /// [`CniError::INVALID_CONFIG`] when a key that the specification names is missing or wrong;
    /// [`CniError::DECODE_FAILURE`] when `prevResult` is no result.
    pub fn from_value(raw: Value) -> Result<Self, CniError> {
        let version = version_of(&raw)?;
        let wire = Wire::deserialize(&raw).map_err(|cause| {
            CniError::config("the network configuration is not valid")
                .with_details(cause.to_string())
        })?;
        let name = wire
            .name
            .ok_or_else(|| CniError::config("name: is missing"))?;
        let plugin = wire
            .plugin
            .ok_or_else(|| CniError::config("type: is missing"))?;
        let ipam = wire.ipam.as_ref().and_then(|ipam| ipam.get("type"));
        let ipam = match ipam {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) if name.is_empty() => None,
            Some(Value::String(name)) => {
                Some(checked("ipam.type", PluginName::new(name.as_str()))?)
            }
            Some(other) => return Err(CniError::config(format!("ipam.type: {other} is no name"))),
        };
        let prev = raw.get("prevResult").filter(|prev| !prev.is_null());
        let prev_result = prev
            .map(AddResult::from_value)
            .transpose()
            .map_err(|error| CniError::decode("prevResult: is no result", error.details))?;
        Ok(Self {
            version,
            name: checked("name", NetworkName::new(name))?,
            plugin: checked("type", PluginName::new(plugin))?,
            ip_masq: wire.ip_masq.unwrap_or(false),
            ipam,
            dns: wire.dns.unwrap_or_default(),
            runtime_config: wire.runtime_config.unwrap_or_default(),
            prev_result,
            valid_attachments: wire.valid_attachments.or(wire.attachments),
            raw,
        })
    }

    /// Reads the plugin's own keys out of the same JSON.
    ///
    /// # Errors
    /// [`CniError::INVALID_CONFIG`] with what serde says about the key.
    pub fn own<C: serde::de::DeserializeOwned>(&self) -> Result<C, CniError> {
        C::deserialize(&self.raw).map_err(|cause| {
            CniError::config("the network configuration is not valid")
                .with_details(cause.to_string())
        })
    }

    /// A key of `args.cni`, the convention for data about one container: `labels`, `ips`, `mac` and others.
    #[must_use]
    pub fn cni_arg(&self, key: &str) -> Option<&Value> {
        self.raw.get("args")?.get("cni")?.get(key)
    }

    /// `args.cni.labels`: a list of `{"key": .., "value": ..}`. Entries of another form are left out.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.pairs("labels")
    }

    /// `args.cni.namespaceLabels`: likewise, the labels of the namespace that the container is in. No convention of CNI's;
    /// `ocicat` reads them where there is no Kubernetes to ask.
    #[must_use]
    pub fn namespace_labels(&self) -> BTreeMap<String, String> {
        self.pairs("namespaceLabels")
    }

    fn pairs(&self, key: &str) -> BTreeMap<String, String> {
        let labels = self.cni_arg(key).and_then(Value::as_array);
        let pair = |label: &Value| {
            let text = |key| label.get(key).and_then(Value::as_str).map(str::to_owned);
            Some((text("key")?, text("value").unwrap_or_default()))
        };
        labels.into_iter().flatten().filter_map(pair).collect()
    }
}

/// JSON that is an object.
pub(crate) fn parse_object(json: &[u8]) -> Result<Value, CniError> {
    let value: Value = serde_json::from_slice(json)
        .map_err(|cause| CniError::decode("the network configuration is not JSON", cause))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(CniError::decode(
            "the network configuration is not JSON",
            "it is no object",
        ))
    }
}

/// The version that a configuration asks for; none means 0.1.0, which is not supported.
pub(crate) fn version_of(raw: &Value) -> Result<Version, CniError> {
    let found = match raw.get("cniVersion") {
        None | Some(Value::Null) => "0.1.0",
        Some(Value::String(text)) if text.is_empty() => "0.1.0",
        Some(Value::String(text)) => text,
        Some(other) => {
            let why = format!("cniVersion: {other} is no text");
            return Err(CniError::decode(
                "the network configuration is not valid",
                why,
            ));
        }
    };
    found.parse().map_err(|error: crate::VersionError| {
        CniError::new(CniError::INCOMPATIBLE_VERSION, "incompatible CNI versions")
            .with_details(error.to_string())
    })
}

fn checked<T>(key: &str, parsed: Result<T, crate::IdentityError>) -> Result<T, CniError> {
    parsed.map_err(|error| CniError::config(format!("{key}: {error}")))
}

#[cfg(test)]
mod tests;
