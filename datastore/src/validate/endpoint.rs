//! Endpoints.

use super::Problems;
use super::value;
use crate::model::{HostEndpoint, IntOrString, WorkloadEndpoint};

/// The longest name of an interface in Linux.
const INTERFACE: usize = 15;

fn interface(problems: &mut Problems, name: &str) {
    let good = !name.is_empty()
        && name.len() <= INTERFACE
        && !name
            .chars()
            .any(|c| c.is_whitespace() || c == '/' || c == ':');
    let reason = format!("{name:?} is no name of an interface: at most {INTERFACE} characters");
    problems.check(good, "spec.interfaceName", reason);
}

fn port(
    problems: &mut Problems,
    index: usize,
    name: Option<&str>,
    number: u16,
    protocol: &IntOrString,
) {
    let field = format!("spec.ports[{index}]");
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        let named = IntOrString::from(name).port();
        let named = matches!(named, Ok(crate::model::Port::Name(_)));
        let reason = format!("{name:?} is no name of a port");
        problems.check(named, &format!("{field}.name"), reason);
    }
    problems.check(number > 0, &format!("{field}.port"), "0 is no port");
    let path = format!("{field}.protocol");
    match protocol.protocol() {
        Ok(protocol) => problems.check(protocol.has_ports(), &path, "has no ports"),
        Err(error) => problems.add(path, error),
    }
}

fn present(problems: &mut Problems, field: &str, text: &str) {
    problems.check(!text.is_empty(), field, "is missing");
}

pub(super) fn host(problems: &mut Problems, endpoint: &HostEndpoint) {
    let spec = &endpoint.spec;
    present(problems, "spec.node", &spec.node);
    match spec
        .interface_name
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        Some("*") => {}
        Some(name) => interface(problems, name),
        None => {
            let reason = "is needed where there are no expectedIPs";
            problems.check(!spec.expected_ips.is_empty(), "spec.interfaceName", reason);
        }
    }
    for (index, address) in spec.expected_ips.iter().enumerate() {
        value::address(problems, &format!("spec.expectedIPs[{index}]"), address);
    }
    for (index, one) in spec.ports.iter().enumerate() {
        present(problems, &format!("spec.ports[{index}].name"), &one.name);
        port(problems, index, Some(&one.name), one.port, &one.protocol);
    }
}

pub(super) fn workload(problems: &mut Problems, endpoint: &WorkloadEndpoint) {
    let spec = &endpoint.spec;
    present(problems, "spec.node", &spec.node);
    present(problems, "spec.orchestrator", &spec.orchestrator);
    present(problems, "spec.endpoint", &spec.endpoint);
    if let Some(name) = &spec.interface_name {
        interface(problems, name);
    }
    for (index, network) in spec.ip_networks.iter().enumerate() {
        let field = format!("spec.ipNetworks[{index}]");
        if let Some(cidr) = value::net(problems, &field, network) {
            let one = cidr.length == if cidr.is_v4() { 32 } else { 128 };
            problems.check(one, &field, format!("{cidr} is more than one address"));
        }
    }
    for (field, gateway) in [
        ("spec.ipv4Gateway", &spec.ipv4_gateway),
        ("spec.ipv6Gateway", &spec.ipv6_gateway),
    ] {
        if let Some(gateway) = gateway {
            value::address(problems, field, gateway);
        }
    }
    for (index, nat) in spec.ip_nats.iter().enumerate() {
        value::address(
            problems,
            &format!("spec.ipNATs[{index}].internalIP"),
            &nat.internal_ip,
        );
        value::address(
            problems,
            &format!("spec.ipNATs[{index}].externalIP"),
            &nat.external_ip,
        );
    }
    if let Some(mac) = &spec.mac {
        let parts: Vec<&str> = mac.split(':').collect();
        let byte = |part: &&str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
        let good = parts.len() == 6 && parts.iter().all(byte);
        problems.check(good, "spec.mac", format!("{mac:?} is no MAC address"));
    }
    for (index, prefix) in spec.allow_spoofed_source_prefixes.iter().enumerate() {
        value::net(
            problems,
            &format!("spec.allowSpoofedSourcePrefixes[{index}]"),
            prefix,
        );
    }
    for (index, one) in spec.ports.iter().enumerate() {
        port(
            problems,
            index,
            one.name.as_deref(),
            one.port,
            &one.protocol,
        );
    }
}
