//! Nodes and settings.

use std::net::Ipv4Addr;

use super::Problems;
use super::value;
use crate::model::{AsNumber, ClusterInformation, FelixConfiguration, Node};

pub(super) fn node(problems: &mut Problems, node: &Node) {
    for (index, one) in node.spec.addresses.iter().enumerate() {
        value::net(
            problems,
            &format!("spec.addresses[{index}].address"),
            &one.address,
        );
    }
    for (field, tunnel) in [
        (
            "spec.ipv4VXLANTunnelAddr",
            &node.spec.ipv4_vxlan_tunnel_addr,
        ),
        (
            "spec.ipv6VXLANTunnelAddr",
            &node.spec.ipv6_vxlan_tunnel_addr,
        ),
    ] {
        if let Some(tunnel) = tunnel {
            value::address(problems, field, tunnel);
        }
    }
    let Some(bgp) = &node.spec.bgp else { return };
    problems.check(
        bgp.as_number != Some(AsNumber(0)),
        "spec.bgp.asNumber",
        "0 is no AS number",
    );
    for (field, address, v4) in [
        ("spec.bgp.ipv4Address", &bgp.ipv4_address, true),
        ("spec.bgp.ipv6Address", &bgp.ipv6_address, false),
    ] {
        let Some(address) = address.as_ref().filter(|text| !text.is_empty()) else {
            continue;
        };
        if let Some(cidr) = value::net(problems, field, address) {
            let version = if v4 { "IPv4" } else { "IPv6" };
            problems.check(
                cidr.is_v4() == v4,
                field,
                format!("{cidr} is not {version}"),
            );
        }
    }
    if let Some(tunnel) = &bgp.ipv4_ipip_tunnel_addr {
        value::address(problems, "spec.bgp.ipv4IPIPTunnelAddr", tunnel);
    }
    if let Some(cluster) = bgp
        .route_reflector_cluster_id
        .as_ref()
        .filter(|id| !id.is_empty())
    {
        let reason = format!("{cluster:?} is no cluster id such as 244.0.0.1");
        let good = cluster.parse::<Ipv4Addr>().is_ok();
        problems.check(good, "spec.bgp.routeReflectorClusterID", reason);
    }
}

/// Parameters of the agent that are bools.
const FLAGS: &[&str] = &[
    "allowIPIPPacketsFromWorkloads",
    "allowVXLANPacketsFromWorkloads",
    "disableConntrackInvalidCheck",
    "healthEnabled",
    "ipipEnabled",
    "ipv6Support",
    "prometheusMetricsEnabled",
    "removeExternalRoutes",
    "vxlanEnabled",
    "wireguardEnabled",
    "wireguardEnabledV6",
];
/// Parameters that are durations.
const DURATIONS: &[&str] = &[
    "interfaceRefreshInterval",
    "ipsetsRefreshInterval",
    "iptablesRefreshInterval",
    "nftablesRefreshInterval",
    "reportingInterval",
    "routeRefreshInterval",
    "flowLogsFlushInterval",
];
/// Parameters that are whole numbers, and what these can be.
const NUMBERS: &[(&str, i64, i64)] = &[
    ("healthPort", 0, 65535),
    ("prometheusMetricsPort", 0, 65535),
    ("vxlanPort", 1, 65535),
    ("vxlanVNI", 1, 16_777_215),
    ("vxlanMTU", 0, 65535),
    ("vxlanMTUV6", 0, 65535),
    ("ipipMTU", 0, 65535),
    ("wireguardMTU", 0, 65535),
    ("wireguardListeningPort", 0, 65535),
    ("deviceRouteProtocol", 0, 255),
];
/// Parameters that are words.
const WORDS: &[(&str, &[&str])] = &[
    ("defaultEndpointToHostAction", &["Drop", "Accept", "Return"]),
    (
        "natOutgoingExclusions",
        &["IPPoolsOnly", "IPPoolsAndHostIPs"],
    ),
    ("workloadSourceSpoofing", &["Disabled", "Any"]),
    ("floatingIPs", &["Enabled", "Disabled"]),
    ("nftablesMode", &["Disabled", "Enabled", "Auto"]),
    ("serviceLoopPrevention", &["Drop", "Reject", "Disabled"]),
    ("routeSource", &["CalicoIPAM", "WorkloadIPs"]),
];

/// What the agent would not understand. Parameters that are not known here are no problem.
pub(super) fn felix(problems: &mut Problems, configuration: &FelixConfiguration) {
    let spec = &configuration.spec;
    value::selector(
        problems,
        "spec.nodeSelector",
        spec.node_selector.as_deref(),
        false,
    );
    let name = &configuration.metadata.name;
    let by_name = name == "default" || name.starts_with("node.");
    let one = by_name != spec.node_selector.is_some();
    let reason = "is for objects of other names than default and node.NODE, which need one";
    problems.check(one, "spec.nodeSelector", reason);
    for (parameter, found) in &spec.parameters {
        let field = format!("spec.{parameter}");
        let parameter = parameter.as_str();
        if FLAGS.contains(&parameter) {
            problems.check(
                found.is_boolean(),
                &field,
                format!("{found} is neither true nor false"),
            );
        } else if DURATIONS.contains(&parameter) {
            match found.as_str() {
                Some(text) => value::duration(problems, &field, Some(text)),
                None => problems.add(field, format!("{found} is no duration such as 90s")),
            }
        } else if let Some((_, least, most)) = NUMBERS.iter().find(|entry| entry.0 == parameter) {
            let fits = found
                .as_i64()
                .is_some_and(|number| (*least..=*most).contains(&number));
            problems.check(
                fits,
                &field,
                format!("{found} is no number of {least} to {most}"),
            );
        } else if let Some((_, words)) = WORDS.iter().find(|entry| entry.0 == parameter) {
            let word = found.as_str().is_some_and(|text| words.contains(&text));
            problems.check(
                word,
                &field,
                format!("{found} is none of {}", words.join(", ")),
            );
        }
    }
}

pub(super) fn information(problems: &mut Problems, information: &ClusterInformation) {
    let name = &information.metadata.name;
    problems.check(
        name == "default",
        "metadata.name",
        format!("{name:?} is not default"),
    );
}
