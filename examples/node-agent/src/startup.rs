//! Where an agent stands: the node's addresses and links, and who its speaker is. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;
use ocicat_dataplane::interfaces::Interface;

use crate::config::BgpConfig;
use crate::detect::{self, DetectError, Method};
use crate::network::Uplink;
use crate::peers::{BgpNode, BgpSettings};
use crate::speaker::Identity;

/// The node's own address and the link that it is on.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The address that sessions are from: the IPv4 one where there is one.
    pub(crate) address: IpNetwork,
    pub(crate) uplink: Uplink,
    /// The IPv6 address beside an IPv4 one.
    pub(crate) second: Option<(IpNetwork, Uplink)>,
}

impl Place {
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpNetwork> {
        let second = self.second.as_ref().map(|(address, _)| *address);
        [self.address].into_iter().chain(second)
    }

    /// The link with the IPv6 address, where that is not the other's.
    pub(crate) fn uplink_v6(&self) -> Option<Uplink> {
        let (_, uplink) = self.second.as_ref()?;
        (*uplink != self.uplink).then(|| uplink.clone())
    }
}

/// Who the node's speaker is: the node's AS, else the cluster's; the configured port, else the cluster's. The second
/// part is what is wrong with the node's settings.
pub(crate) fn identity(
    name: &str,
    addresses: Vec<IpAddr>,
    config: &BgpConfig,
    node: Option<&BgpNode>,
    settings: &BgpSettings,
) -> (Identity, Option<String>) {
    let four = addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    // Without an IPv4 address any number that no other node has (RFC 6286).
    let router_id = config.router_id.or(four).unwrap_or_else(|| hashed_id(name));
    let any = |address: &IpAddr| match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let listen = match config.listen {
        Some(listen) => vec![listen],
        None => addresses
            .iter()
            // What listens at [::] hears IPv6 alone.
            .map(|address| {
                if settings.bind_to_node {
                    *address
                } else {
                    any(address)
                }
            })
            .map(|address| SocketAddr::new(address, settings.port))
            .collect(),
    };
    let reflector = node.and_then(|node| node.reflector.as_ref());
    let cluster = reflector.map(|id| id.parse::<Ipv4Addr>());
    let problem = cluster.as_ref().and_then(|id| id.as_ref().err()).map(|_| {
        format!("Node {name}: spec.bgp.routeReflectorClusterID: expected four numbers such as 244.0.0.1; the router id is used")
    });
    let identity = Identity {
        as_number: node
            .and_then(|node| node.as_number)
            .unwrap_or(settings.as_number),
        router_id,
        cluster_id: cluster.and_then(Result::ok),
        listen,
        addresses,
    };
    (identity, problem)
}

/// A router id for a node without an IPv4 address: the first bytes of the SHA-1 of its name, outside of 0.0.0.0/8.
fn hashed_id(name: &str) -> Ipv4Addr {
    let [_, _, a, b, c, d] = ocicat_dataplane::names::vtep_mac(name).0;
    Ipv4Addr::from([a.max(1), b, c, d])
}

/// Finds the node's addresses among the interfaces: one of each family that there is, at least one. Each family has
/// its method, and no IPv6 address is looked for where it has none.
pub(crate) fn place(
    (method, method_v6): (&Method, Option<&Method>),
    interfaces: &[Interface],
    source: Option<IpAddr>,
) -> Result<Place, DetectError> {
    let found = |ipv4, method| {
        let (address, why) = detect::choose(method, ipv4, interfaces, source)?;
        tracing::info!(%address, why, "this node's address");
        Ok((address, uplink(method, interfaces, address)?))
    };
    let second = method_v6.map(|method| found(false, method));
    let (address, uplink, second) = match (found(true, method), second) {
        (Ok((address, uplink)), second) => (address, uplink, second.and_then(Result::ok)),
        (Err(_), Some(Ok((address, uplink)))) => (address, uplink, None),
        (Err(error), _) => return Err(error),
    };
    Ok(Place {
        address,
        uplink,
        second,
    })
}

/// The link that has an address.
fn uplink(
    method: &Method,
    interfaces: &[Interface],
    address: IpNetwork,
) -> Result<Uplink, DetectError> {
    let holds = |interface: &&Interface| interface.addresses.contains(&address);
    let uplink = interfaces.iter().find(holds).map(|interface| Uplink {
        name: interface.name.clone(),
        mtu: interface.mtu,
    });
    uplink.ok_or_else(|| DetectError::None {
        method: method.clone(),
        seen: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listens(config: &BgpConfig, bind_to_node: bool, addresses: &[&str]) -> Vec<String> {
        let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
        let settings = BgpSettings {
            bind_to_node,
            ..BgpSettings::default()
        };
        let (identity, _) = identity("a", addresses, config, None, &settings);
        identity.listen.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn where_the_speaker_listens() {
        let config = BgpConfig::default();
        let both = ["10.0.0.1", "fd00::1"];
        assert_eq!(listens(&config, false, &both), ["0.0.0.0:179", "[::]:179"]);
        assert_eq!(
            listens(&config, true, &both),
            ["10.0.0.1:179", "[fd00::1]:179"]
        );
        assert_eq!(listens(&config, false, &["fd00::1"]), ["[::]:179"]);
        let stated = BgpConfig {
            listen: "10.0.0.1:1179".parse().ok(),
            router_id: None,
        };
        assert_eq!(listens(&stated, true, &both), ["10.0.0.1:1179"]);
    }

    #[test]
    fn who_the_speaker_is() {
        let node = BgpNode {
            as_number: Some(65_000),
            reflector: Some("244.0.0.1".to_owned()),
            ..BgpNode::default()
        };
        let settings = BgpSettings::default();
        let config = BgpConfig::default();
        let of = |addresses: &[IpAddr], node: &BgpNode| {
            identity("a", addresses.to_vec(), &config, Some(node), &settings)
        };
        let (found, problem) = of(&[IpAddr::from([10, 0, 0, 1])], &node);
        assert_eq!((found.as_number, problem), (65_000, None));
        assert_eq!(found.router_id, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(found.cluster_id, Some(Ipv4Addr::new(244, 0, 0, 1)));
        let (six, _) = of(&["fd00::1".parse().unwrap()], &node);
        assert_eq!(six.router_id, hashed_id("a"));
        let bad = BgpNode {
            reflector: Some("one".to_owned()),
            ..BgpNode::default()
        };
        let (found, problem) = of(&[], &bad);
        assert_eq!(
            (found.cluster_id, found.as_number),
            (None, crate::peers::DEFAULT_AS)
        );
        assert!(problem.unwrap().contains("routeReflectorClusterID"));
    }
}
