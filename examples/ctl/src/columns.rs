//! What tables show of each kind: which fields, and under which headers.

use ocicat_datastore::{Kind, Object};
use serde_json::Value;

use crate::pools;
use crate::table::Table;

/// A column: its header, where its text is in the object, and whether `-o wide` is needed to see it.
struct Column {
    header: &'static str,
    pointer: &'static str,
    wide: bool,
}

const fn shown(header: &'static str, pointer: &'static str) -> Column {
    Column {
        header,
        pointer,
        wide: false,
    }
}

const fn wide(header: &'static str, pointer: &'static str) -> Column {
    Column {
        header,
        pointer,
        wide: true,
    }
}

/// The columns of kinds, after the name.
const COLUMNS: &[(Kind, &[Column])] = &[
    (
        Kind::IpPool,
        &[
            shown("CIDR", "/spec/cidr"),
            wide("NAT", "/spec/natOutgoing"),
            wide("IPIPMODE", "/spec/ipipMode"),
            wide("VXLANMODE", "/spec/vxlanMode"),
            wide("DISABLED", "/spec/disabled"),
            wide("DISABLEBGPEXPORT", "/spec/disableBGPExport"),
            wide("BLOCKSIZE", "/spec/blockSize"),
            shown("SELECTOR", "/spec/nodeSelector"),
            wide("NAMESPACES", "/spec/namespaceSelector"),
            wide("USES", "/spec/allowedUses"),
        ],
    ),
    (
        Kind::IpReservation,
        &[shown("CIDRS", "/spec/reservedCIDRs")],
    ),
    (
        Kind::IpamConfig,
        &[
            shown("STRICTAFFINITY", "/spec/strictAffinity"),
            shown("MAXBLOCKSPERHOST", "/spec/maxBlocksPerHost"),
        ],
    ),
    (
        Kind::IpamBlock,
        &[
            shown("CIDR", "/spec/cidr"),
            shown("AFFINITY", "/spec/affinity"),
            wide("SEQUENCE", "/spec/sequenceNumber"),
        ],
    ),
    (
        Kind::BlockAffinity,
        &[
            shown("CIDR", "/spec/cidr"),
            shown("NODE", "/spec/node"),
            shown("STATE", "/spec/state"),
        ],
    ),
    (Kind::IpamHandle, &[shown("HANDLE", "/spec/handleID")]),
    (
        Kind::Node,
        &[
            wide("ASN", "/spec/bgp/asNumber"),
            shown("IPV4", "/spec/bgp/ipv4Address"),
            shown("IPV6", "/spec/bgp/ipv6Address"),
            wide("CLUSTERID", "/spec/bgp/routeReflectorClusterID"),
            wide("VXLAN", "/spec/ipv4VXLANTunnelAddr"),
            wide("IPIP", "/spec/bgp/ipv4IPIPTunnelAddr"),
        ],
    ),
    (
        Kind::BgpConfiguration,
        &[
            shown("LOGSEVERITY", "/spec/logSeverityScreen"),
            shown("MESHENABLED", "/spec/nodeToNodeMeshEnabled"),
            shown("ASNUMBER", "/spec/asNumber"),
            wide("PORT", "/spec/listenPort"),
            wide("CLUSTERIPS", "/spec/serviceClusterIPs/*/cidr"),
            wide("EXTERNALIPS", "/spec/serviceExternalIPs/*/cidr"),
        ],
    ),
    (
        Kind::BgpPeer,
        &[
            shown("PEERIP", "/spec/peerIP"),
            wide("PEERSELECTOR", "/spec/peerSelector"),
            shown("NODE", "/spec/node"),
            wide("NODESELECTOR", "/spec/nodeSelector"),
            shown("ASN", "/spec/asNumber"),
            wide("FILTERS", "/spec/filters"),
        ],
    ),
    (
        Kind::BgpFilter,
        &[
            wide("IMPORTV4", "/spec/importV4/*/cidr"),
            wide("EXPORTV4", "/spec/exportV4/*/cidr"),
            wide("IMPORTV6", "/spec/importV6/*/cidr"),
            wide("EXPORTV6", "/spec/exportV6/*/cidr"),
        ],
    ),
    (
        Kind::WorkloadEndpoint,
        &[
            shown("WORKLOAD", "/spec/pod"),
            shown("NODE", "/spec/node"),
            shown("NETWORKS", "/spec/ipNetworks"),
            shown("INTERFACE", "/spec/interfaceName"),
            wide("PROFILES", "/spec/profiles"),
            wide("CONTAINER", "/spec/containerID"),
        ],
    ),
    (
        Kind::HostEndpoint,
        &[
            shown("NODE", "/spec/node"),
            wide("INTERFACE", "/spec/interfaceName"),
            wide("IPS", "/spec/expectedIPs"),
            wide("PROFILES", "/spec/profiles"),
        ],
    ),
    (
        Kind::Tier,
        &[
            shown("ORDER", "/spec/order"),
            wide("DEFAULTACTION", "/spec/defaultAction"),
        ],
    ),
    (Kind::NetworkPolicy, POLICY),
    (Kind::GlobalNetworkPolicy, POLICY),
    (Kind::StagedNetworkPolicy, POLICY),
    (Kind::StagedGlobalNetworkPolicy, POLICY),
    (Kind::NetworkSet, &[wide("NETS", "/spec/nets")]),
    (Kind::GlobalNetworkSet, &[wide("NETS", "/spec/nets")]),
    (Kind::Profile, &[wide("LABELS", "/spec/labelsToApply")]),
    (
        Kind::FelixConfiguration,
        &[
            shown("LOGSEVERITY", "/spec/logSeverityScreen"),
            wide("MTU", "/spec/mtu"),
        ],
    ),
    (
        Kind::ClusterInformation,
        &[
            shown("CLUSTERGUID", "/spec/clusterGUID"),
            shown("CLUSTERTYPE", "/spec/clusterType"),
            shown("VERSION", "/spec/calicoVersion"),
            shown("DATASTOREREADY", "/spec/datastoreReady"),
        ],
    ),
    (
        Kind::Pod,
        &[
            shown("NODE", "/spec/nodeName"),
            shown("IP", "/status/podIP"),
            shown("PHASE", "/status/phase"),
        ],
    ),
    (
        Kind::Service,
        &[
            shown("TYPE", "/spec/type"),
            shown("CLUSTERIP", "/spec/clusterIP"),
        ],
    ),
    (Kind::Namespace, &[shown("STATUS", "/status/phase")]),
];

const POLICY: &[Column] = &[
    shown("TIER", "/spec/tier"),
    shown("ORDER", "/spec/order"),
    shown("SELECTOR", "/spec/selector"),
    wide("TYPES", "/spec/types"),
];

fn columns(kind: Kind) -> &'static [Column] {
    let found = COLUMNS.iter().find(|(one, _)| *one == kind);
    found.map_or(&[], |(_, columns)| columns)
}

/// A table of objects of one kind. With namespaces in front where the kind has them.
#[must_use]
pub fn table(kind: Kind, objects: &[Object], is_wide: bool) -> Table {
    let columns = columns(kind).iter();
    let columns: Vec<_> = columns.filter(|column| is_wide || !column.wide).collect();
    let namespace = kind.is_namespaced().then_some("NAMESPACE");
    let headers = namespace.into_iter().chain(["NAME"]);
    let mut table = Table::new(headers.chain(columns.iter().map(|column| column.header)));
    for object in objects {
        let namespace = object.namespace.clone().filter(|_| kind.is_namespaced());
        let cells = namespace.into_iter().chain([object.name.clone()]);
        let shown = columns.iter().map(|column| cell_of(object, column.pointer));
        table.row(cells.chain(shown));
    }
    table
}

/// The headers of the wide table of a kind.
#[must_use]
pub fn headers(kind: Kind) -> Vec<&'static str> {
    let namespace = kind.is_namespaced().then_some("NAMESPACE");
    let own = columns(kind).iter().map(|column| column.header);
    ["NAME"].into_iter().chain(namespace).chain(own).collect()
}

/// The text below a header of the wide table; `None` when the kind has no such header.
#[must_use]
pub fn cell(object: &Object, header: &str) -> Option<String> {
    match header {
        "NAME" => Some(object.name.clone()),
        "NAMESPACE" if object.kind.is_namespaced() => object.namespace.clone(),
        header => {
            let column = columns(object.kind)
                .iter()
                .find(|one| one.header == header)?;
            Some(cell_of(object, column.pointer))
        }
    }
}

/// What a field means where an object does not state it: Calico's defaults.
const UNSTATED: &[(Kind, &str, &str)] = &[
    (Kind::IpPool, "/spec/natOutgoing", "false"),
    (Kind::IpPool, "/spec/ipipMode", "Never"),
    (Kind::IpPool, "/spec/vxlanMode", "Never"),
    (Kind::IpPool, "/spec/disabled", "false"),
    (Kind::IpPool, "/spec/disableBGPExport", "false"),
    (Kind::IpPool, "/spec/nodeSelector", "all()"),
    (Kind::IpPool, "/spec/allowedUses", "Workload,Tunnel"),
    (Kind::NetworkPolicy, "/spec/tier", "default"),
    (Kind::GlobalNetworkPolicy, "/spec/tier", "default"),
    (Kind::StagedNetworkPolicy, "/spec/tier", "default"),
    (Kind::StagedGlobalNetworkPolicy, "/spec/tier", "default"),
    (Kind::Tier, "/spec/defaultAction", "Deny"),
];

/// The text of a column: what the object states, or what it means that it does not.
fn cell_of(object: &Object, pointer: &str) -> String {
    let stated = text_at(&object.value, pointer);
    if !stated.is_empty() {
        return stated;
    }
    if (object.kind, pointer) == (Kind::IpPool, "/spec/blockSize") {
        return pools::block_size(object).to_string();
    }
    let is = |(kind, at, _): &&(Kind, &str, &str)| *kind == object.kind && *at == pointer;
    let found = UNSTATED.iter().find(is);
    found.map_or_else(String::new, |(_, _, text)| (*text).to_owned())
}

/// The text at a pointer in which `*` is every element of a list.
fn text_at(value: &Value, pointer: &str) -> String {
    match pointer.split_once("/*") {
        None => value.pointer(pointer).map_or_else(String::new, text),
        Some((list, rest)) => {
            let elements = value.pointer(list).and_then(Value::as_array);
            let texts = elements.into_iter().flatten();
            let texts: Vec<String> = texts.map(|element| text_at(element, rest)).collect();
            texts.join(",")
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(elements) => elements.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Object(members) => {
            let pairs = members
                .iter()
                .map(|(key, value)| format!("{key}={}", text(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pools_and_endpoints_are_shown() {
        let pool = Object::from_value(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "p"},
            "spec": {"cidr": "10.0.0.0/16", "natOutgoing": true, "allowedUses": ["Workload", "Tunnel"]},
        }))
        .expect("a pool");
        let pools = [pool];
        let narrow = table(Kind::IpPool, &pools, false).to_string();
        assert_eq!(
            narrow,
            "NAME  CIDR         SELECTOR\np     10.0.0.0/16  all()"
        );
        let wide = table(Kind::IpPool, &pools, true).to_string();
        assert!(
            wide.contains("Workload,Tunnel") && wide.contains("true") && wide.contains("  26  "),
            "{wide}"
        );
        let value = json!({"spec": {"a": [{"cidr": "x"}, {"cidr": "y"}]}});
        assert_eq!(text_at(&value, "/spec/a/*/cidr"), "x,y");
    }
}
