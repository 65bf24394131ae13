use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

/// `runtimeConfig`: what a runtime wants of a plugin for one attachment, by the capabilities that the plugin declares.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RuntimeConfig {
    /// Capability `ips`: addresses that the container is to have, with or without a prefix length.
    #[serde(default)]
    pub ips: Vec<String>,
    /// Capability `mac`: the hardware address of the container's interface.
    #[serde(default)]
    pub mac: Option<String>,
    /// Capability `portMappings`.
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
    /// Capability `bandwidth`.
    #[serde(default)]
    pub bandwidth: Option<Bandwidth>,
    /// Capability `io.kubernetes.cri.pod-annotations`: the pod's annotations.
    #[serde(rename = "io.kubernetes.cri.pod-annotations", default)]
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
    #[serde(default, alias = "Protocol")]
    pub protocol: String,
    /// The host's address; empty means every one.
    #[serde(rename = "hostIP", alias = "HostIP", default)]
    pub host_ip: String,
}

/// Rates in bits a second and bursts in bits; 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Bandwidth {
    /// Towards the container.
    #[serde(default)]
    pub ingress_rate: u64,
    /// Towards the container.
    #[serde(default)]
    pub ingress_burst: u64,
    /// From the container.
    #[serde(default)]
    pub egress_rate: u64,
    /// From the container.
    #[serde(default)]
    pub egress_burst: u64,
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
