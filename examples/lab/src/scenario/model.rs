use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ocicat_dataplane::Prefix;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scenario::Step;

/// The file as written, before the checks that need more than one field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) datastore: Datastore,
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
    #[serde(default)]
    pub(super) steps: Vec<Step>,
}

/// Where the cluster's objects are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Datastore {
    /// A file that all nodes see.
    #[default]
    Sqlite,
    /// An etcd of the lab's own, a machine beside the router.
    Etcd,
    /// An etcd that runs already, by its URL.
    Elsewhere(String),
}

impl TryFrom<String> for Datastore {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "sqlite" => Ok(Self::Sqlite),
            "etcd" => Ok(Self::Etcd),
            url if url.starts_with("etcd:") => Ok(Self::Elsewhere(text)),
            _ => Err(format!(
                "{text:?} is not one of sqlite, etcd, etcd:http://ADDRESS:PORT"
            )),
        }
    }
}

/// How nodes learn each other's routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// Every node has a session with every other.
    #[default]
    Mesh,
    /// Every node has a session with the reflectors alone.
    Reflectors,
}

/// What speaks BGP on the underlay's router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Router {
    /// Nothing.
    None,
    /// `ocicat-bgpd`, the default.
    #[default]
    Ocicat,
    /// BIRD 2.
    Bird,
    /// FRR's zebra and bgpd.
    Frr,
}

impl TryFrom<Value> for Router {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match (&value, value.as_str()) {
            (Value::Bool(true), _) => Ok(Self::Ocicat),
            (Value::Bool(false), _) => Ok(Self::None),
            (_, Some("bird")) => Ok(Self::Bird),
            (_, Some("frr")) => Ok(Self::Frr),
            _ => Err(format!("{value} is not one of true, false, bird, frr")),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Bgp {
    pub(super) topology: Topology,
    pub(super) reflectors: Vec<String>,
    pub(super) as_number: u32,
    pub(super) router: Router,
    pub(super) keepalive: u64,
}

impl Default for Bgp {
    fn default() -> Self {
        Self {
            topology: Topology::Mesh,
            reflectors: Vec::new(),
            as_number: 64512,
            router: Router::Ocicat,
            keepalive: 1,
        }
    }
}

/// An underlay subnet, joined to the others by the router.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rack {
    /// The rack's name, at most 10 characters: it becomes part of a link's name.
    pub name: String,
    /// The subnet; the router has its first address.
    #[serde(deserialize_with = "parsed")]
    pub cidr: Prefix,
    /// The IPv6 subnet; without, the rack has none.
    #[serde(default, deserialize_with = "perhaps_parsed")]
    pub cidr_v6: Option<Prefix>,
}

impl Rack {
    /// The router's IPv4 address in the rack: the first one behind the network's own.
    #[must_use]
    pub fn router(&self) -> Option<IpAddr> {
        first(self.cidr)
    }

    /// The router's addresses in the rack, with the lengths of their subnets.
    pub fn routers(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        let subnets = [Some(self.cidr), self.cidr_v6].into_iter().flatten();
        subnets.filter_map(|subnet| Some((first(subnet)?, subnet.length())))
    }

    /// The subnet that an address lies in.
    #[must_use]
    pub fn subnet_of(&self, address: IpAddr) -> Option<Prefix> {
        let mut subnets = [Some(self.cidr), self.cidr_v6].into_iter().flatten();
        subnets.find(|subnet| subnet.contains(address))
    }
}

fn first(subnet: Prefix) -> Option<IpAddr> {
    match subnet.address() {
        IpAddr::V4(network) if subnet.length() <= 30 => {
            Some(IpAddr::V4(Ipv4Addr::from(u32::from(network) + 1)))
        }
        IpAddr::V6(network) if subnet.length() <= 126 => {
            Some(IpAddr::V6(Ipv6Addr::from(u128::from(network) + 1)))
        }
        _ => None,
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
    /// Its addresses in the rack, one of each family that the rack has; given out from the rack's eleventh on when the
    /// file names none.
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
    /// Its address, or a list with one of each family.
    #[serde(deserialize_with = "one_or_more")]
    pub ip: Vec<IpAddr>,
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
    /// `Never`, `CrossSubnet` or `Always`; the kernel must have IP in IP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<String>,
    /// `Never`, `CrossSubnet` or `Always`.
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

fn perhaps_parsed<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Prefix>, D::Error> {
    parsed(deserializer).map(Some)
}

fn one_or_more<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let texts = match &value {
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        other => vec![other.as_str()],
    };
    let parse = |text: Option<&str>| {
        let text = text.unwrap_or_default();
        text.parse()
            .map_err(|_| serde::de::Error::custom(format!("{text:?} is no IP address")))
    };
    texts.into_iter().map(parse).collect()
}

fn shown<S: serde::Serializer>(prefix: &Prefix, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(prefix)
}
