use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{CniError, Version};

mod text;

/// What ADD answers: interfaces, addresses, routes and DNS, in the shape of the newest version.
///
/// Keys that this crate does not know survive in `extra`, so that a chained plugin passes on what others wrote.
/// [`to_value`](Self::to_value) writes the form of a given version; reading takes any version from 0.3.0.
///
/// ```
/// use ocicat_cni::{AddResult, IpConfig, Version};
///
/// let result = AddResult::new().ip(IpConfig::new("10.1.0.5/32".parse()?));
/// assert_eq!(
///     result.to_value(Version::V0_4_0).to_string(),
///     r#"{"cniVersion":"0.4.0","dns":{},"ips":[{"address":"10.1.0.5/32","version":"4"}]}"#
/// );
/// # Ok::<(), ocicat_cni::ipnetwork::IpNetworkError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AddResult {
    /// The interfaces that were made, on the host and in the container. An IPAM plugin's result has none.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "text::list"
    )]
    pub interfaces: Vec<Interface>,
    /// The addresses that were assigned.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "text::list"
    )]
    pub ips: Vec<IpConfig>,
    /// The routes that were set in the container.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "text::list"
    )]
    pub routes: Vec<Route>,
    /// The DNS settings for the container.
    #[serde(default)]
    pub dns: Dns,
    /// Keys that the specification does not name. `cniVersion` is not kept: it is written anew.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One interface of a result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, such as `ee:ee:ee:ee:ee:ee`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its MTU in bytes. Not written before 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The path of the network namespace that it is in; `None` on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The path of a socket that belongs to it. Not written before 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// The PCI id of its device. Not written before 1.1.0.
    #[serde(rename = "pciID", default, skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
    /// Keys that the specification does not name.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One address of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IpConfig {
    /// The address with the length of its subnet; the host bits are the address's own.
    #[serde(with = "text::network")]
    pub address: IpNetwork,
    /// The gateway of that subnet.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::address"
    )]
    pub gateway: Option<IpAddr>,
    /// Which of the result's interfaces has the address, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// Keys that the specification does not name.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One route of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    #[serde(with = "text::network")]
    pub dst: IpNetwork,
    /// The next hop; `None` means a gateway among the addresses.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::address"
    )]
    pub gw: Option<IpAddr>,
    /// The MTU of the path in bytes. Not written before 1.1.0, nor are the fields below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The MSS to advertise to these destinations, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The route's priority; lower is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// The routing table, such as 254 for `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope: 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
    /// Keys that the specification does not name.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// DNS settings, in a result and in a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers by preference, as addresses.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "text::list"
    )]
    pub nameservers: Vec<String>,
    /// The local domain for short names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Search domains by preference.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "text::list"
    )]
    pub search: Vec<String>,
    /// Options for the resolver.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "text::list"
    )]
    pub options: Vec<String>,
}

const NEW_IN_1_1: [(&str, &[&str]); 2] = [
    ("interfaces", &["mtu", "socketPath", "pciID"]),
    ("routes", &["mtu", "advmss", "priority", "table", "scope"]),
];

impl AddResult {
    /// A result with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The result with an interface added.
    #[must_use]
    pub fn interface(mut self, interface: Interface) -> Self {
        self.interfaces.push(interface);
        self
    }

    /// The result with an address added.
    #[must_use]
    pub fn ip(mut self, ip: IpConfig) -> Self {
        self.ips.push(ip);
        self
    }

    /// The result with a route added.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Reads a result of any version from 0.3.0; what `cniVersion` it has does not matter.
    ///
    /// # Errors
    /// [`CniError::DECODE_FAILURE`] when it is not a result, and when an address names an interface that is not there.
    pub fn from_value(value: &Value) -> Result<Self, CniError> {
        let mut result = Self::deserialize(value)
            .map_err(|cause| CniError::decode("the result does not decode", cause))?;
        result.extra.remove("cniVersion");
        for ip in &mut result.ips {
            ip.extra.remove("version");
            let beyond = ip
                .interface
                .filter(|index| *index >= result.interfaces.len());
            if let Some(index) = beyond {
                return Err(CniError::decode(
                    "the result does not decode",
                    format!(
                        "ips: {} is on interface {index}, which is not there",
                        ip.address
                    ),
                ));
            }
        }
        Ok(result)
    }

    /// The result as a plugin of this version prints it: fields that are newer are left out.
    #[must_use]
    pub fn to_value(&self, version: Version) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["cniVersion"] = version.as_str().into();
        if version < Version::V1_1_0 {
            for (list, keys) in NEW_IN_1_1 {
                each(&mut value, list, |item| {
                    keys.iter().for_each(|key| drop(item.remove(*key)))
                });
            }
        }
        if version < Version::V1_0_0 {
            let families = self
                .ips
                .iter()
                .map(|ip| if ip.address.is_ipv4() { "4" } else { "6" });
            let mut families = families.collect::<Vec<_>>().into_iter();
            each(&mut value, "ips", |ip| {
                if let Some(family) = families.next() {
                    ip.insert("version".to_owned(), family.into());
                }
            });
        }
        value
    }
}

fn each(value: &mut Value, list: &str, mut edit: impl FnMut(&mut Map<String, Value>)) {
    let items = value.get_mut(list).and_then(Value::as_array_mut);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
        .for_each(&mut edit);
}

impl Interface {
    /// An interface with this name, on the host.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The same with a hardware address, such as `ee:ee:ee:ee:ee:ee`.
    #[must_use]
    pub fn mac(mut self, mac: impl Into<String>) -> Self {
        self.mac = Some(mac.into());
        self
    }

    /// The same with an MTU in bytes.
    #[must_use]
    pub const fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// The same inside a container's network namespace, given by its path.
    #[must_use]
    pub fn sandbox(mut self, path: impl Into<String>) -> Self {
        self.sandbox = Some(path.into());
        self
    }
}

impl IpConfig {
    /// An address without gateway and interface.
    #[must_use]
    pub fn new(address: IpNetwork) -> Self {
        Self {
            address,
            gateway: None,
            interface: None,
            extra: Map::new(),
        }
    }

    /// The same on the result's interface with this index, counted from 0.
    #[must_use]
    pub const fn interface(mut self, index: usize) -> Self {
        self.interface = Some(index);
        self
    }

    /// The same with a gateway.
    #[must_use]
    pub const fn gateway(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self
    }
}

impl Route {
    /// The default route of the gateway's family, through it.
    #[must_use]
    pub fn default_via(gateway: IpAddr) -> Self {
        let all = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        // Zero is a length of either family: the other arm is never taken.
        let all = IpNetwork::new(all, 0).unwrap_or_else(|_| IpNetwork::from(all));
        Self::new(all).via(gateway)
    }

    /// A route with nothing but its destination.
    #[must_use]
    pub fn new(dst: IpNetwork) -> Self {
        Self {
            dst,
            gw: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
            extra: Map::new(),
        }
    }

    /// The same through a gateway.
    #[must_use]
    pub const fn via(mut self, gateway: IpAddr) -> Self {
        self.gw = Some(gateway);
        self
    }
}

#[cfg(test)]
mod tests;
