//! BGP configuration, peers and filters.

use std::net::{IpAddr, SocketAddr};

use super::Problems;
use super::value;
use crate::model::{
    AsNumber, BgpConfiguration, BgpFilter, BgpFilterOperation, BgpFilterRule, BgpPassword, BgpPeer,
};

/// The most operations of a filter rule.
const OPERATIONS: usize = 10;
const ENABLED: &[&str] = &["Enabled", "Disabled"];

fn as_number(problems: &mut Problems, field: &str, number: Option<AsNumber>) {
    problems.check(number != Some(AsNumber(0)), field, "0 is no AS number");
}

fn password(problems: &mut Problems, field: &str, password: Option<&BgpPassword>) {
    let Some(password) = password else { return };
    let field = format!("{field}.secretKeyRef");
    match &password.secret_key_ref {
        None => problems.add(field, "is missing"),
        Some(secret) => {
            problems.check(
                !secret.name.is_empty(),
                &format!("{field}.name"),
                "is missing",
            );
            problems.check(
                !secret.key.is_empty(),
                &format!("{field}.key"),
                "is missing",
            );
        }
    }
}

pub(super) fn configuration(problems: &mut Problems, configuration: &BgpConfiguration) {
    let name = &configuration.metadata.name;
    let spec = &configuration.spec;
    let node = name.starts_with("node.");
    let reason = format!("{name:?} is neither default nor node.NODE");
    problems.check(name == "default" || node, "metadata.name", reason);
    let mesh = node && spec.node_to_node_mesh_enabled.is_some();
    let reason = "is only for the configuration of the cluster";
    problems.check(!mesh, "spec.nodeToNodeMeshEnabled", reason);
    as_number(problems, "spec.asNumber", spec.as_number);
    problems.check(
        spec.listen_port != Some(0),
        "spec.listenPort",
        "0 is no port",
    );
    value::optional(
        problems,
        "spec.bindMode",
        spec.bind_mode.as_deref(),
        &["None", "NodeIP"],
    );
    let aggregation = spec.service_load_balancer_aggregation.as_deref();
    value::optional(
        problems,
        "spec.serviceLoadBalancerAggregation",
        aggregation,
        ENABLED,
    );
    let routes = &[
        "Enabled",
        "Disabled",
        "EnabledIPIPOnly",
        "EnabledNoEncapOnly",
    ];
    let program = spec.program_cluster_routes.as_deref();
    value::optional(problems, "spec.programClusterRoutes", program, routes);
    for (field, ranges) in [
        ("spec.serviceClusterIPs", &spec.service_cluster_ips),
        ("spec.serviceExternalIPs", &spec.service_external_ips),
        (
            "spec.serviceLoadBalancerIPs",
            &spec.service_load_balancer_ips,
        ),
    ] {
        // Calico takes an entry without a range for none.
        let stated = |range: &&crate::model::ServiceRange| !range.cidr.is_empty();
        for (index, range) in ranges.iter().enumerate().filter(|(_, range)| stated(range)) {
            value::cidr(problems, &format!("{field}[{index}].cidr"), &range.cidr);
        }
    }
    let restart = spec.node_mesh_max_restart_time.as_deref();
    value::duration(problems, "spec.nodeMeshMaxRestartTime", restart);
    let keepalive = spec.node_mesh_keepalive_time.as_deref();
    value::duration(problems, "spec.nodeMeshKeepaliveTime", keepalive);
    password(
        problems,
        "spec.nodeMeshPassword",
        spec.node_mesh_password.as_ref(),
    );
    communities(problems, configuration);
}

fn communities(problems: &mut Problems, configuration: &BgpConfiguration) {
    let spec = &configuration.spec;
    for (index, community) in spec.communities.iter().enumerate() {
        let field = format!("spec.communities[{index}]");
        problems.check(
            !community.name.is_empty(),
            &format!("{field}.name"),
            "is missing",
        );
        let reason = format!(
            "{:?} is no community such as 65000:1 or 65000:1:2",
            community.value
        );
        problems.check(
            value::is_community(&community.value),
            &format!("{field}.value"),
            reason,
        );
    }
    for (index, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        let field = format!("spec.prefixAdvertisements[{index}]");
        value::cidr(problems, &format!("{field}.cidr"), &advertisement.cidr);
        for (index, text) in advertisement.communities.iter().enumerate() {
            let named = spec
                .communities
                .iter()
                .any(|community| community.name == *text);
            let reason = format!("{text:?} is neither a community nor a name in spec.communities");
            let field = format!("{field}.communities[{index}]");
            problems.check(named || value::is_community(text), &field, reason);
        }
    }
}

/// `10.0.0.1`, `10.0.0.1:179`, `fd00::1`, `[fd00::1]:179`.
fn peer_address(text: &str) -> Option<IpAddr> {
    let plain = text.parse().ok();
    plain.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

pub(super) fn peer(problems: &mut Problems, peer: &BgpPeer) {
    let spec = &peer.spec;
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let both = given(&spec.node) && given(&spec.node_selector);
    problems.check(!both, "spec.nodeSelector", "excludes node");
    let kinds = [
        &spec.peer_ip,
        &spec.peer_selector,
        &spec.local_workload_selector,
    ];
    let count = kinds.iter().filter(|text| given(text)).count();
    let reason = "exactly one of peerIP, peerSelector and localWorkloadSelector must be set";
    problems.check(count == 1, "spec.peerIP", reason);
    let ip = spec.peer_ip.as_deref().filter(|text| !text.is_empty());
    let address = ip.and_then(peer_address);
    let reason = format!(
        "{:?} is no address, with or without a port",
        ip.unwrap_or_default()
    );
    problems.check(ip.is_none() || address.is_some(), "spec.peerIP", reason);
    let selects = given(&spec.peer_selector);
    problems.check(
        !(selects && spec.as_number.is_some()),
        "spec.asNumber",
        "excludes peerSelector",
    );
    for (field, selector) in [
        ("spec.nodeSelector", &spec.node_selector),
        ("spec.peerSelector", &spec.peer_selector),
        ("spec.localWorkloadSelector", &spec.local_workload_selector),
    ] {
        value::selector(problems, field, selector.as_deref(), false);
    }
    session(problems, peer);
    if let Some(gateway) = spec.reachable_by.as_deref().filter(|text| !text.is_empty()) {
        let gateway = value::address(problems, "spec.reachableBy", gateway);
        let fits = match (gateway, address) {
            (Some(gateway), Some(address)) => gateway.is_ipv4() == address.is_ipv4(),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let reason = "needs a peerIP of the same IP version";
        problems.check(fits, "spec.reachableBy", reason);
    }
}

/// How the session is to be.
fn session(problems: &mut Problems, peer: &BgpPeer) {
    let spec = &peer.spec;
    as_number(problems, "spec.asNumber", spec.as_number);
    as_number(problems, "spec.localASNumber", spec.local_as_number);
    let source = spec.source_address.as_deref();
    value::optional(
        problems,
        "spec.sourceAddress",
        source,
        &["UseNodeIP", "None"],
    );
    let hop = spec.next_hop_mode.as_deref();
    value::optional(problems, "spec.nextHopMode", hop, &["Auto", "Self", "Keep"]);
    let twice = spec.keep_original_next_hop && hop.is_some_and(|mode| mode != "Keep");
    problems.check(
        !twice,
        "spec.keepOriginalNextHop",
        "contradicts nextHopMode",
    );
    let reverse = spec.reverse_peering.as_deref();
    value::optional(
        problems,
        "spec.reversePeering",
        reverse,
        &["Auto", "Manual"],
    );
    value::duration(
        problems,
        "spec.maxRestartTime",
        spec.max_restart_time.as_deref(),
    );
    value::duration(
        problems,
        "spec.keepaliveTime",
        spec.keepalive_time.as_deref(),
    );
    problems.check(
        spec.ttl_security != Some(0),
        "spec.ttlSecurity",
        "0 is no number of hops",
    );
    password(problems, "spec.password", spec.password.as_ref());
}

pub(super) fn filter(problems: &mut Problems, filter: &BgpFilter) {
    let spec = &filter.spec;
    for (field, rules, v4) in [
        ("spec.exportV4", &spec.export_v4, true),
        ("spec.importV4", &spec.import_v4, true),
        ("spec.exportV6", &spec.export_v6, false),
        ("spec.importV6", &spec.import_v6, false),
    ] {
        for (index, rule) in rules.iter().enumerate() {
            filter_rule(problems, &format!("{field}[{index}]"), rule, v4);
        }
    }
}

fn filter_rule(problems: &mut Problems, field: &str, rule: &BgpFilterRule, v4: bool) {
    value::one_of(
        problems,
        &format!("{field}.action"),
        &rule.action,
        &["Accept", "Reject"],
    );
    let operators = &["Equal", "NotEqual", "In", "NotIn"];
    let operator = rule.match_operator.as_deref();
    value::optional(
        problems,
        &format!("{field}.matchOperator"),
        operator,
        operators,
    );
    let together = rule.cidr.is_some() == operator.is_some();
    problems.check(
        together,
        &format!("{field}.matchOperator"),
        "cidr and matchOperator go together",
    );
    if let Some(text) = &rule.cidr {
        let path = format!("{field}.cidr");
        let version = if v4 { "IPv4" } else { "IPv6" };
        if let Some(cidr) = value::cidr(problems, &path, text) {
            problems.check(
                cidr.is_v4() == v4,
                &path,
                format!("{cidr} is not {version}"),
            );
        }
    }
    if let Some(length) = &rule.prefix_length {
        let path = format!("{field}.prefixLength");
        let most = if v4 { 32 } else { 128 };
        let (least, longest) = (length.min.unwrap_or(0), length.max.unwrap_or(most));
        let reason = format!("{least} to {longest} is no range within 0 to {most}");
        problems.check(least <= longest && longest <= most, &path, reason);
        problems.check(rule.cidr.is_some(), &path, "needs a cidr");
    }
    value::optional(
        problems,
        &format!("{field}.source"),
        rule.source.as_deref(),
        &["RemotePeers"],
    );
    let peer_type = rule.peer_type.as_deref();
    value::optional(
        problems,
        &format!("{field}.peerType"),
        peer_type,
        &["eBGP", "iBGP"],
    );
    if let Some(matched) = &rule.communities {
        value::communities(
            problems,
            &format!("{field}.communities.values"),
            &matched.values,
        );
    }
    filter_operations(problems, field, rule);
}

fn filter_operations(problems: &mut Problems, field: &str, rule: &BgpFilterRule) {
    let path = format!("{field}.operations");
    let operations = rule.operations.len();
    let reason = format!("has {operations} operations; {OPERATIONS} are the most");
    problems.check(operations <= OPERATIONS, &path, reason);
    let fits = operations == 0 || rule.action == "Accept";
    problems.check(fits, &path, "only what is accepted can be changed");
    for (index, operation) in rule.operations.iter().enumerate() {
        filter_operation(problems, &format!("{path}[{index}]"), operation);
    }
}

fn filter_operation(problems: &mut Problems, field: &str, operation: &BgpFilterOperation) {
    let set = [
        operation.add_community.is_some(),
        operation.prepend_as_path.is_some(),
        operation.set_priority.is_some(),
    ];
    let one = set.iter().filter(|set| **set).count() == 1;
    problems.check(
        one,
        field,
        "is one of addCommunity, prependASPath and setPriority",
    );
    if let Some(add) = &operation.add_community {
        let values = std::slice::from_ref(&add.value);
        value::communities(problems, &format!("{field}.addCommunity.value"), values);
    }
    if let Some(prepend) = &operation.prepend_as_path {
        let path = format!("{field}.prependASPath.prefix");
        problems.check(!prepend.prefix.is_empty(), &path, "is empty");
    }
}
