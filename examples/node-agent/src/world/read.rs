//! What is read out of objects, field by field.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use ocicat_bgp::filter::RuleSet;
use ocicat_dataplane::Prefix;
use ocicat_dataplane::hop::{Encapsulation, When};
use ocicat_dataplane::names;
use ocicat_dataplane::state::{LinkName, MacAddr};
use ocicat_datastore::model::{
    BlockAffinity, FelixConfiguration, IpPool, IpamBlock, Node, WorkloadEndpoint,
};
use ocicat_datastore::{Object, StoreError};

use super::LocalPod;
use crate::network::{NodeView, PoolView};
use crate::peers::BgpNode;

/// An address without the prefix length that may stand behind it.
pub(super) fn bare(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

/// A node's VXLAN device, as its Node object describes it.
pub(super) fn vtep(
    address: Option<&str>,
    mac: Option<&str>,
    derived: impl FnOnce() -> MacAddr,
) -> Option<(IpAddr, MacAddr)> {
    let address = address.and_then(bare)?;
    let mac = mac.and_then(|mac| mac.parse().ok());
    Some((address, mac.unwrap_or_else(derived)))
}

pub(super) fn malformed(object: &Object, field: &str, reason: impl ToString) -> StoreError {
    StoreError::Malformed {
        key: object.key(),
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

pub(super) fn prefix(object: &Object, field: &str, text: &str) -> Result<Prefix, StoreError> {
    text.parse()
        .map_err(|error| malformed(object, field, error))
}

pub(super) fn pool_view(object: &Object, pool: &IpPool) -> Result<PoolView, StoreError> {
    let when = |field: &str, mode: &Option<String>| match mode.as_deref() {
        None | Some("" | "Never") => Ok(When::Never),
        Some("Always") => Ok(When::Always),
        Some("CrossSubnet") => Ok(When::CrossSubnet),
        Some(other) => Err(malformed(
            object,
            field,
            format!("{other:?} is not Never, Always or CrossSubnet"),
        )),
    };
    Ok(PoolView {
        range: prefix(object, "spec.cidr", &pool.spec.cidr)?,
        encapsulation: Encapsulation {
            ipip: when("spec.ipipMode", &pool.spec.ipip_mode)?,
            vxlan: when("spec.vxlanMode", &pool.spec.vxlan_mode)?,
        },
        nat_outgoing: pool.spec.nat_outgoing,
        disabled: pool.spec.disabled,
        export: !pool.spec.disable_bgp_export,
    })
}

/// Addresses of a block that are in use on another node than the block belongs to.
pub(super) fn borrowed(
    object: &Object,
    block: &IpamBlock,
) -> Result<Vec<(IpAddr, String)>, StoreError> {
    let spec = &block.spec;
    let range = prefix(object, "spec.cidr", &spec.cidr)?;
    let owner = spec
        .affinity
        .as_deref()
        .and_then(|affinity| affinity.strip_prefix("host:"));
    let mut found = Vec::new();
    for (ordinal, index) in spec.allocations.iter().enumerate() {
        let Some(attribute) = index.and_then(|index| spec.attributes.get(index as usize)) else {
            continue;
        };
        let Some(node) = attribute.secondary.get("node") else {
            continue;
        };
        if owner != Some(node.as_str())
            && attribute.released_at.is_none()
            && let Some(address) = nth(range.address(), ordinal)
        {
            found.push((address, node.clone()));
        }
    }
    Ok(found)
}

pub(super) fn nth(first: IpAddr, ordinal: usize) -> Option<IpAddr> {
    match first {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_add(u32::try_from(ordinal).ok()?)
            .map(|sum| IpAddr::V4(sum.into())),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_add(ordinal as u128)
            .map(|sum| IpAddr::V6(sum.into())),
    }
}

/// A node, as routes and as BGP see it.
pub(super) fn node(name: &str, node: &Node) -> (NodeView, BgpNode) {
    let bgp = node.spec.bgp.clone().unwrap_or_default();
    let addresses: Vec<IpNetwork> = [&bgp.ipv4_address, &bgp.ipv6_address]
        .into_iter()
        .flatten()
        .filter_map(|text| text.parse().ok())
        .collect();
    let spec = &node.spec;
    let vtep = vtep(
        spec.ipv4_vxlan_tunnel_addr.as_deref(),
        spec.vxlan_tunnel_mac_addr.as_deref(),
        || names::vtep_mac(name),
    );
    let vtep_v6 = self::vtep(
        spec.ipv6_vxlan_tunnel_addr.as_deref(),
        spec.vxlan_tunnel_mac_addr_v6.as_deref(),
        || names::vtep_mac_v6(name),
    );
    let speaker = BgpNode {
        addresses: addresses.iter().map(IpNetwork::ip).collect(),
        as_number: bgp.as_number.map(|number| number.0),
        labels: node.metadata.labels.clone(),
        reflector: bgp.route_reflector_cluster_id.filter(|id| !id.is_empty()),
    };
    let view = NodeView {
        addresses,
        vtep,
        vtep_v6,
        ipip: bgp.ipv4_ipip_tunnel_addr.as_deref().and_then(bare),
    };
    (view, speaker)
}

/// The block and its node, where the claim is confirmed.
pub(super) fn claim(
    object: &Object,
    affinity: &BlockAffinity,
) -> Result<Option<(Prefix, String)>, StoreError> {
    let spec = &affinity.spec;
    let confirmed = (spec.state.is_empty() || spec.state == "confirmed") && !spec.deleted;
    let host = spec
        .r#type
        .as_deref()
        .is_none_or(|kind| kind.is_empty() || kind == "host");
    let range = prefix(object, "spec.cidr", &spec.cidr)?;
    Ok((confirmed && host).then(|| (range, spec.node.clone())))
}

/// A pod of this node.
pub(super) fn pod(object: &Object, endpoint: &WorkloadEndpoint) -> Result<LocalPod, StoreError> {
    let link = endpoint.spec.interface_name.clone().unwrap_or_default();
    let link =
        LinkName::new(link).map_err(|error| malformed(object, "spec.interfaceName", error))?;
    let addresses: Result<Vec<IpAddr>, _> = endpoint
        .spec
        .ip_networks
        .iter()
        .map(|text| {
            let network: Result<IpNetwork, _> = text.parse();
            network
                .map(|network| network.ip())
                .map_err(|error| malformed(object, "spec.ipNetworks", error))
        })
        .collect();
    Ok(LocalPod {
        addresses: addresses?,
        link,
        labels: endpoint.metadata.labels.clone(),
        status_file: crate::endpoint_status::file(
            object.namespace.as_deref().unwrap_or_default(),
            endpoint,
        ),
    })
}

/// The rules of a BGPFilter.
pub(super) fn rules(object: &Object) -> Result<RuleSet, StoreError> {
    let spec = object.value.get("spec").cloned().unwrap_or_default();
    if spec.is_null() {
        return Ok(RuleSet::default());
    }
    let rules: RuleSet =
        serde_json::from_value(spec).map_err(|error| malformed(object, "spec", error))?;
    rules.check().map_err(|error| {
        let field = format!("spec.{}[{}]", error.list, error.index);
        malformed(object, &field, error.fault)
    })?;
    Ok(rules)
}

/// Parameters as text, by their names in lower case.
pub(super) fn texts(one: &FelixConfiguration) -> BTreeMap<String, String> {
    let parameters = one.spec.parameters.iter();
    parameters
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (name.to_ascii_lowercase(), text)
        })
        .collect()
}
