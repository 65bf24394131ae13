use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ocicat_dataplane::Prefix;
use serde::{Deserialize, Serialize};

/// The file as written, before the checks that need more than one field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    pub(super) name: Option<String>,
    #[serde(default, rename = "datastore")]
    _datastore: Option<String>,
    #[serde(default)]
    pub(super) bgp: Bgp,
    pub(super) racks: Vec<Rack>,
    pub(super) nodes: Vec<Node>,
    #[serde(default)]
    pub(super) hosts: Vec<Host>,
    #[serde(default)]
    pub(super) pools: Vec<Pool>,
    #[serde(default)]
    pub(super) namespaces: Vec<Namespace>,
    #[serde(default)]
    pub(super) service_accounts: Vec<ServiceAccount>,
    #[serde(default)]
    pub(super) pods: Vec<Pod>,
    #[serde(default)]
    pub(super) apply: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Bgp {
    #[serde(rename = "topology")]
    _topology: Option<String>,
    pub(super) as_number: u32,
    pub(super) router: bool,
}

impl Default for Bgp {
    fn default() -> Self {
        Self {
            _topology: None,
            as_number: 64512,
            router: true,
        }
    }
}

/// An underlay subnet, joined to the others by the router.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rack {
    /// The rack's name, at most 10 characters: it becomes part of a link's name.
    pub name: String,
    /// The subnet; the router has its first address.
    #[serde(deserialize_with = "parsed")]
    pub cidr: Prefix,
}

impl Rack {
    /// The router's address in the rack: the first one behind the network's own.
    #[must_use]
    pub fn router(&self) -> Option<IpAddr> {
        match self.cidr.address() {
            IpAddr::V4(network) if self.cidr.length() <= 30 => {
                Some(IpAddr::V4(Ipv4Addr::from(u32::from(network) + 1)))
            }
            _ => None,
        }
    }
}

/// A node of the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// The rack that it stands in.
    pub rack: String,
    /// Its address in the rack; given out from the rack's eleventh on when the file names none.
    #[serde(default)]
    pub ip: Vec<IpAddr>,
    /// The labels of its Node object.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A machine outside the cluster, behind the router.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The host's name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// What it serves.
    #[serde(default)]
    pub ports: Vec<Port>,
}

/// An address pool: the fields of Calico's IPPool spec, with a name.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pool {
    /// The pool's name.
    #[serde(skip_serializing)]
    pub name: String,
    /// Its range.
    #[serde(deserialize_with = "parsed", serialize_with = "shown")]
    pub cidr: Prefix,
    /// The prefix length of its blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// `Never` is the only mode so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<String>,
    /// `Never` or `CrossSubnet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<String>,
    /// Whether packets that leave the pools get the node's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing: Option<bool>,
    /// The nodes that may draw from the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// The namespaces that may draw from the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// `Automatic` or `Manual`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<String>,
    /// What addresses may be drawn for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_uses: Option<Vec<String>>,
    /// Whether the pool gives out nothing new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Whether its blocks are kept from BGP peers.
    #[serde(skip_serializing_if = "Option::is_none", rename = "disableBGPExport")]
    pub disable_bgp_export: Option<bool>,
}

/// A namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// The namespace's name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Namespace {
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// A service account.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A pod.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pod {
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    #[serde(default = "default_name")]
    pub namespace: String,
    /// The node that it runs on.
    pub node: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its service account.
    #[serde(default = "default_name")]
    pub service_account: String,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The addresses that it asks for: shorthand for the annotation `cni.projectcalico.org/ipAddrs`.
    #[serde(default)]
    pub ip: Vec<IpAddr>,
    /// What it serves.
    #[serde(default)]
    pub ports: Vec<Port>,
}

impl Pod {
    /// `namespace/name`, as probes and commands call it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn default_name() -> String {
    "default".to_owned()
}

/// A port that a pod or host serves.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The port's name, for policies with named ports.
    #[serde(default)]
    pub name: Option<String>,
    /// The number, not 0.
    pub port: std::num::NonZeroU16,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What a probe speaks, and a port is served with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE", try_from = "String")]
pub enum Protocol {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo; has no port.
    Icmp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
        })
    }
}

impl TryFrom<String> for Protocol {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "ICMP" => Ok(Self::Icmp),
            "SCTP" => Err("SCTP: not supported yet".to_owned()),
            _ => Err(format!(
                "{text:?} is no protocol; TCP, UDP or ICMP is expected"
            )),
        }
    }
}

fn parsed<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Prefix, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

fn shown<S: serde::Serializer>(prefix: &Prefix, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(prefix)
}
