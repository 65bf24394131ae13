use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// `runtimeConfig`: what a runtime wants of a plugin for one attachment, by the capabilities that the plugin declares.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RuntimeConfig {
    /// Capability `ips`: addresses that the container is to have, with or without a prefix length.
    #[serde(default, deserialize_with = "null_is_none_given")]
    pub ips: Vec<String>,
    /// Capability `mac`: the hardware address of the container's interface.
    #[serde(default, deserialize_with = "null_is_none_given")]
    pub mac: Option<String>,
    /// Capability `portMappings`.
    #[serde(default, deserialize_with = "null_is_none_given")]
    pub port_mappings: Vec<PortMapping>,
    /// Capability `bandwidth`.
    #[serde(default, deserialize_with = "null_is_none_given")]
    pub bandwidth: Option<Bandwidth>,
    /// Capability `io.kubernetes.cri.pod-annotations`: the pod's annotations.
    #[serde(
        rename = "io.kubernetes.cri.pod-annotations",
        default,
        deserialize_with = "null_is_none_given"
    )]
    pub pod_annotations: BTreeMap<String, String>,
    /// Every other key.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One port of the host that leads to a port of the container. containerd writes the keys with a capital.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct PortMapping {
    /// The port on the host.
    #[serde(rename = "hostPort", alias = "HostPort")]
    pub host_port: u16,
    /// The port in the container.
    #[serde(rename = "containerPort", alias = "ContainerPort")]
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`; empty means tcp.
    #[serde(default, alias = "Protocol", deserialize_with = "null_is_none_given")]
    pub protocol: String,
    /// The host's address; empty means every one.
    #[serde(
        rename = "hostIP",
        alias = "HostIP",
        default,
        deserialize_with = "null_is_none_given"
    )]
    pub host_ip: String,
}

/// Rates in bits a second and bursts in bits; 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Bandwidth {
    /// Towards the container.
    #[serde(default, deserialize_with = "null_is_none_given")]
    pub ingress_rate: u64,
    /// Towards the container.
    #[serde(default, deserialize_with = "null_is_none_given")]
    pub ingress_burst: u64,
    /// From the container.
    #[serde(default, deserialize_with = "null_is_none_given")]
    pub egress_rate: u64,
    /// From the container.
    #[serde(default, deserialize_with = "null_is_none_given")]
    pub egress_burst: u64,
}

/// Go writes what is empty as `null`: containerd so hands over the annotations of a pod that has none.
fn null_is_none_given<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl RuntimeConfig {
    /// The addresses of capability `ips`, without their prefix lengths.
    ///
    /// # Errors
    /// The first text that is no address.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        let address = |text: &String| {
            let bare = text
                .split_once('/')
                .map_or(text.as_str(), |(address, _)| address);
            bare.parse().map_err(|_| text.clone())
        };
        self.ips.iter().map(address).collect()
    }
}
