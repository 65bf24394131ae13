//! What an agent does before it begins: its own Node object, and what its predecessor left in the kernel.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
    pub(crate) address: IpNetwork,
    pub(crate) uplink: Uplink,
}

/// What the speaker needs before the first session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BgpSettings {
    pub(crate) as_number: u32,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) listen: SocketAddr,
    pub(crate) local: IpAddr,
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
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    });
    let port = spec.listen_port.unwrap_or(DEFAULT_PORT);
    let listen = config
        .listen
        .unwrap_or_else(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
    Ok(BgpSettings {
        as_number: as_number.map_or(DEFAULT_AS, |number| number.0),
        router_id,
        listen,
        local,
    })
}

/// Finds the node's address among the interfaces.
pub(crate) fn place(
    method: &Method,
    interfaces: &[Interface],
    source: Option<IpAddr>,
) -> Result<Place, DetectError> {
    let (address, why) = detect::choose(method, true, interfaces, source)?;
    tracing::info!(%address, why, "this node's address");
    let holds = |interface: &&Interface| interface.addresses.contains(&address);
    let uplink = interfaces.iter().find(holds).map(|interface| Uplink {
        name: interface.name.clone(),
        mtu: interface.mtu,
    });
    let uplink = uplink.ok_or_else(|| DetectError::None {
        method: method.clone(),
        seen: String::new(),
    })?;
    Ok(Place { address, uplink })
}

/// Writes the node's address into its Node object, which is made when it is missing. Labels and everything else that
/// is there stay. Tries until the datastore answers.
pub(crate) async fn ensure_node(
    store: &Store,
    name: &str,
    address: IpNetwork,
) -> Result<(), StoreError> {
    let mut pause = Duration::from_millis(100);
    loop {
        match try_ensure_node(store, name, address).await {
            Err(error) if error.is_transient() || error.is_conflict() => {
                tracing::warn!(%error, "the Node object could not be written; tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
            done => return done,
        }
    }
}

async fn try_ensure_node(store: &Store, name: &str, address: IpNetwork) -> Result<(), StoreError> {
    refuse_duplicate(store, name, address.ip()).await?;
    let text = address.to_string();
    let Some(mut node) = store.get::<Node>(name).await? else {
        let mut node = Node {
            metadata: Metadata {
                name: name.to_owned(),
                ..Metadata::default()
            },
            ..Node::default()
        };
        state_address(&mut node, &text);
        store.create(node).await?;
        return Ok(());
    };
    let stated = node
        .spec
        .bgp
        .as_ref()
        .and_then(|bgp| bgp.ipv4_address.as_ref());
    if stated == Some(&text) && !node.spec.addresses.is_empty() {
        return Ok(());
    }
    state_address(&mut node.value, &text);
    store.update(node).await?;
    Ok(())
}

fn state_address(node: &mut Node, text: &str) {
    node.spec
        .bgp
        .get_or_insert_with(NodeBgp::default)
        .ipv4_address = Some(text.to_owned());
    node.spec.addresses = vec![NodeAddress {
        address: text.to_owned(),
        r#type: Some("CalicoNodeIP".to_owned()),
    }];
}

/// Two nodes with one address would steal each other's sessions and packets.
async fn refuse_duplicate(store: &Store, name: &str, address: IpAddr) -> Result<(), StoreError> {
    for other in &store.list::<Node>().await? {
        let stated = other
            .spec
            .bgp
            .as_ref()
            .and_then(|bgp| bgp.ipv4_address.as_ref());
        let stated: Option<IpNetwork> = stated.and_then(|text| text.parse().ok());
        if other.metadata.name != name && stated.is_some_and(|stated| stated.ip() == address) {
            return Err(StoreError::Invalid {
                key: None,
                field: "spec.bgp.ipv4Address".to_owned(),
                reason: format!(
                    "{address} is the address of Node {} already; delete that object if the node is gone, or set [node] address-detection",
                    other.metadata.name
                ),
            });
        }
    }
    Ok(())
}
