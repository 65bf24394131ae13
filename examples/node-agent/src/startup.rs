//! What an agent does before it begins: its own Node object, and what its predecessor left in the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnetwork::IpNetwork;
use ocicat_dataplane::interfaces::Interface;
use ocicat_datastore::model::{BgpConfiguration, Node, NodeAddress, NodeBgp};
use ocicat_datastore::{Metadata, Store, StoreError};

use crate::config::BgpConfig;
use crate::detect::{self, DetectError, Method};
use crate::network::Uplink;
use crate::peers::{DEFAULT_AS, DEFAULT_PORT};

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
    fn addresses(&self) -> impl Iterator<Item = IpNetwork> {
        let second = self.second.as_ref().map(|(address, _)| *address);
        [self.address].into_iter().chain(second)
    }

    /// The link with the IPv6 address, where that is not the other's.
    pub(crate) fn uplink_v6(&self) -> Option<Uplink> {
        let (_, uplink) = self.second.as_ref()?;
        (*uplink != self.uplink).then(|| uplink.clone())
    }
}

/// What the speaker needs before the first session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BgpSettings {
    pub(crate) as_number: u32,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) listen: SocketAddr,
    pub(crate) local: IpAddr,
    /// The next hop of IPv6 routes on sessions between IPv4 addresses.
    pub(crate) next_hop_v6: Option<Ipv6Addr>,
}

/// Reads them: the node's AS, else the cluster's; the configured port, else the cluster's.
pub(crate) async fn bgp(
    store: &Store,
    name: &str,
    place: &Place,
    config: &BgpConfig,
) -> Result<BgpSettings, StoreError> {
    let own = store
        .get::<BgpConfiguration>(format!("node.{name}").as_str())
        .await?;
    let cluster = match own {
        Some(own) => Some(own),
        None => store.get::<BgpConfiguration>("default").await?,
    };
    let spec = cluster.map(|one| one.value.spec).unwrap_or_default();
    let node = store
        .get::<Node>(name)
        .await?
        .and_then(|node| node.value.spec.bgp);
    let as_number = node.and_then(|bgp| bgp.as_number).or(spec.as_number);
    let local = place.address.ip();
    let router_id = config.router_id.unwrap_or(match local {
        IpAddr::V4(v4) => v4,
        // Any number that no other node has (RFC 6286).
        IpAddr::V6(_) => hashed_id(name),
    });
    let port = spec.listen_port.unwrap_or(DEFAULT_PORT);
    let listen = config.listen.unwrap_or_else(|| match local {
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
    });
    let next_hop_v6 = place.addresses().find_map(|address| match address.ip() {
        IpAddr::V6(v6) => Some(v6),
        IpAddr::V4(_) => None,
    });
    Ok(BgpSettings {
        as_number: as_number.map_or(DEFAULT_AS, |number| number.0),
        router_id,
        listen,
        local,
        next_hop_v6,
    })
}

/// A router id for a node without an IPv4 address: the first bytes of the SHA-1 of its name, outside of 0.0.0.0/8.
fn hashed_id(name: &str) -> Ipv4Addr {
    let [_, _, a, b, c, d] = ocicat_dataplane::names::vtep_mac(name).0;
    Ipv4Addr::from([a.max(1), b, c, d])
}

/// Finds the node's addresses among the interfaces: one of each family that there is, at least one.
pub(crate) fn place(
    method: &Method,
    interfaces: &[Interface],
    source: Option<IpAddr>,
) -> Result<Place, DetectError> {
    let found = |ipv4| {
        let (address, why) = detect::choose(method, ipv4, interfaces, source)?;
        tracing::info!(%address, why, "this node's address");
        Ok((address, uplink(method, interfaces, address)?))
    };
    let second = found(false);
    let (address, uplink, second) = match (found(true), second) {
        (Ok((address, uplink)), second) => (address, uplink, second.ok()),
        (Err(_), Ok((address, uplink))) => (address, uplink, None),
        (Err(error), Err(_)) => return Err(error),
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

/// Writes the node's address into its Node object, which is made when it is missing. Labels and everything else that
/// is there stay. Tries until the datastore answers.
pub(crate) async fn ensure_node(
    store: &Store,
    name: &str,
    place: &Place,
) -> Result<(), StoreError> {
    let mut pause = Duration::from_millis(100);
    loop {
        match try_ensure_node(store, name, place).await {
            Err(error) if error.is_transient() || error.is_conflict() => {
                tracing::warn!(%error, "the Node object could not be written; tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
            done => return done,
        }
    }
}

async fn try_ensure_node(store: &Store, name: &str, place: &Place) -> Result<(), StoreError> {
    for address in place.addresses() {
        refuse_duplicate(store, name, address.ip()).await?;
    }
    let Some(mut node) = store.get::<Node>(name).await? else {
        let mut node = Node {
            metadata: Metadata {
                name: name.to_owned(),
                ..Metadata::default()
            },
            ..Node::default()
        };
        state_addresses(&mut node, place);
        store.create(node).await?;
        return Ok(());
    };
    let before = node.spec.clone();
    state_addresses(&mut node.value, place);
    if node.spec != before {
        store.update(node).await?;
    }
    Ok(())
}

/// What is there is no reason to write: an address of a family that this node has none of is taken away.
fn state_addresses(node: &mut Node, place: &Place) {
    let of = |ipv4: bool| {
        let mut addresses = place.addresses();
        let found = addresses.find(|address| address.is_ipv4() == ipv4);
        found.map(|address| address.to_string())
    };
    let bgp = node.spec.bgp.get_or_insert_with(NodeBgp::default);
    (bgp.ipv4_address, bgp.ipv6_address) = (of(true), of(false));
    let stated = place.addresses().map(|address| NodeAddress {
        address: address.to_string(),
        r#type: Some("CalicoNodeIP".to_owned()),
    });
    node.spec.addresses = stated.collect();
}

/// Two nodes with one address would steal each other's sessions and packets.
async fn refuse_duplicate(store: &Store, name: &str, address: IpAddr) -> Result<(), StoreError> {
    for other in &store.list::<Node>().await? {
        let bgp = other.spec.bgp.as_ref();
        let (field, stated) = if address.is_ipv4() {
            let stated = bgp.and_then(|bgp| bgp.ipv4_address.as_ref());
            ("spec.bgp.ipv4Address", stated)
        } else {
            let stated = bgp.and_then(|bgp| bgp.ipv6_address.as_ref());
            ("spec.bgp.ipv6Address", stated)
        };
        let stated: Option<IpNetwork> = stated.and_then(|text| text.parse().ok());
        if other.metadata.name != name && stated.is_some_and(|stated| stated.ip() == address) {
            return Err(StoreError::Invalid {
                key: None,
                field: field.to_owned(),
                reason: format!(
                    "{address} is the address of Node {} already; delete that object if the node is gone, or set [node] address-detection",
                    other.metadata.name
                ),
            });
        }
    }
    Ok(())
}
