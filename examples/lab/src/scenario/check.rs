//! What a scenario's file may not say: keys whose feature is not there yet, and values that contradict each other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ocicat_dataplane::Prefix;
use ocicat_datastore::{Object, validate};
use ocicat_selectors::Selector;
use ocicatctl::{Document, Fault};
use serde_json::json;

use super::{Pool, Port, Protocol, Rack, Scenario, Topology};

/// Refuses keys and values that the format knows and the lab does not support yet.
pub(super) fn unsupported(document: &Document) -> Result<(), Fault> {
    let refuse = |field: &str| Err(document.fault(field, "not supported yet"));
    if document
        .text("datastore")
        .is_some_and(|store| store.starts_with("etcd:"))
    {
        return refuse("datastore");
    }
    for index in 0..count(document, "pools") {
        for name in ["loadBalancer", "awsSubnetID", "numAllowedIPs"] {
            if document.has(&format!("pools[{index}].{name}")) {
                return refuse(&format!("pools[{index}].{name}"));
            }
        }
    }
    for list in ["pods", "hosts"] {
        for index in 0..count(document, list) {
            for port in 0..count(document, &format!("{list}[{index}].ports")) {
                let field = format!("{list}[{index}].ports[{port}].protocol");
                if document.text(&field) == Some("SCTP") {
                    return refuse(&field);
                }
            }
        }
    }
    Ok(())
}

fn count(document: &Document, list: &str) -> usize {
    document.elements(list).map_or(0, |elements| elements.len())
}

/// Checks what needs more than one field.
pub(super) fn all(document: &Document, scenario: &Scenario) -> Result<(), Fault> {
    let check = Check { document, scenario };
    check.name("name", &scenario.name)?;
    check.racks()?;
    check.nodes()?;
    check.reflectors()?;
    check.hosts()?;
    check.pools()?;
    check.namespaces()?;
    check.pods()
}

/// The subnets of racks, with what messages call them.
fn subnets(racks: &[Rack]) -> impl Iterator<Item = (&str, &str, Prefix)> {
    racks.iter().flat_map(|rack| {
        let subnets = [Some(rack.cidr), rack.cidr_v6].into_iter().flatten();
        subnets.map(|subnet| ("rack", rack.name.as_str(), subnet))
    })
}

struct Check<'a> {
    document: &'a Document,
    scenario: &'a Scenario,
}

impl Check<'_> {
    fn refuse<T>(&self, field: &str, message: impl std::fmt::Display) -> Result<T, Fault> {
        Err(super::fault(self.document, field, message))
    }

    fn racks(&self) -> Result<(), Fault> {
        let racks = &self.scenario.racks;
        self.names("racks", racks.iter().map(|rack| rack.name.clone()))?;
        for (index, rack) in racks.iter().enumerate() {
            let field = format!("racks[{index}].cidr");
            if rack.name.len() > 10 {
                self.refuse::<()>(&format!("racks[{index}].name"), "longer than 10 characters")?;
            }
            self.ipv4(&field, rack.cidr.address())?;
            if rack.cidr.length() > 28 {
                self.refuse::<()>(
                    &field,
                    format!(
                        "{} has no room for nodes; /28 is the smallest rack",
                        rack.cidr
                    ),
                )?;
            }
            self.disjoint(&field, rack.cidr, subnets(&racks[..index]))?;
            if let Some(subnet) = rack.cidr_v6 {
                let field = format!("racks[{index}].cidrV6");
                if subnet.is_ipv4() || subnet.length() > 112 {
                    let message = format!("{subnet} is no IPv6 subnet of /112 or larger");
                    return self.refuse(&field, message);
                }
                self.disjoint(&field, subnet, subnets(&racks[..index]))?;
            }
        }
        Ok(())
    }

    fn reflectors(&self) -> Result<(), Fault> {
        let scenario = self.scenario;
        if scenario.topology == Topology::Reflectors && scenario.reflectors.is_empty() {
            return self.refuse("bgp.reflectors", "no node is named as one");
        }
        for (index, name) in scenario.reflectors.iter().enumerate() {
            let field = format!("bgp.reflectors[{index}]");
            if scenario.topology == Topology::Mesh {
                return self.refuse(&field, "a mesh has none; set bgp.topology to reflectors");
            }
            if !scenario.nodes.iter().any(|node| node.name == *name) {
                return self.refuse(&field, format!("there is no node {name:?}"));
            }
        }
        Ok(())
    }

    fn nodes(&self) -> Result<(), Fault> {
        let nodes = &self.scenario.nodes;
        if nodes.is_empty() {
            return self.refuse("nodes", "a cluster needs a node");
        }
        self.names("nodes", nodes.iter().map(|node| node.name.clone()))?;
        for (index, node) in nodes.iter().enumerate() {
            let Some(rack) = self.scenario.rack(&node.rack) else {
                return self.refuse(
                    &format!("nodes[{index}].rack"),
                    format!("there is no rack {:?}", node.rack),
                );
            };
            for (position, ip) in node.ip.iter().enumerate() {
                let field = format!("nodes[{index}].ip[{position}]");
                self.one_per_family(&field, &node.ip[..position], *ip)?;
                if rack.subnet_of(*ip).is_none() {
                    return self.refuse(
                        &field,
                        format!("{ip} is not in rack {} ({})", rack.name, rack.cidr),
                    );
                }
                if rack.routers().any(|(router, _)| router == *ip) {
                    return self.refuse(
                        &field,
                        format!("{ip} is the router's address in rack {}", rack.name),
                    );
                }
                if let Some(other) = nodes[..index].iter().find(|other| other.ip.contains(ip)) {
                    return self.refuse(
                        &field,
                        format!("{ip} is already the address of node {}", other.name),
                    );
                }
            }
        }
        Ok(())
    }

    fn hosts(&self) -> Result<(), Fault> {
        let hosts = &self.scenario.hosts;
        self.names("hosts", hosts.iter().map(|host| host.name.clone()))?;
        for (index, host) in hosts.iter().enumerate() {
            let field = format!("hosts[{index}].ip");
            if host.ip.is_empty() {
                return self.refuse(&field, "a host needs an address");
            }
            for (position, ip) in host.ip.iter().enumerate() {
                self.one_per_family(&field, &host.ip[..position], *ip)?;
                if let Some(other) = hosts[..index].iter().find(|other| other.ip.contains(ip)) {
                    let message = format!("{ip} is already the address of host {}", other.name);
                    return self.refuse(&field, message);
                }
                let racks = self.scenario.racks.iter();
                for rack in racks {
                    if let Some(subnet) = rack.subnet_of(*ip) {
                        let message = format!("{ip} lies in rack {} ({subnet})", rack.name);
                        return self.refuse(&field, message);
                    }
                }
            }
            self.ports(&format!("hosts[{index}]"), &host.ports)?;
        }
        Ok(())
    }

    fn pools(&self) -> Result<(), Fault> {
        let pools = &self.scenario.pools;
        self.names("pools", pools.iter().map(|pool| pool.name.clone()))?;
        let racks: Vec<_> = subnets(&self.scenario.racks).collect();
        for (index, pool) in pools.iter().enumerate() {
            let field = format!("pools[{index}].cidr");
            let earlier = pools[..index].iter();
            let earlier = earlier.map(|other| ("pool", other.name.as_str(), other.cidr));
            self.disjoint(&field, pool.cidr, earlier.chain(racks.iter().copied()))?;
            self.pool(&format!("pools[{index}]"), pool)?;
        }
        Ok(())
    }

    /// A pool's fields beside its range.
    fn pool(&self, at: &str, pool: &Pool) -> Result<(), Fault> {
        let at = |name: &str| format!("{at}.{name}");
        let (usual, least, most) = if pool.cidr.is_ipv4() {
            (26, 20, 32)
        } else {
            (122, 116, 128)
        };
        let block = pool.block_size.unwrap_or(usual);
        if !(least..=most).contains(&block) {
            let message = format!("{block} is not between {least} and {most}");
            return self.refuse(&at("blockSize"), message);
        }
        if block < pool.cidr.length() {
            let field = if pool.block_size.is_some() {
                "blockSize"
            } else {
                "cidr"
            };
            return self.refuse(
                &at(field),
                format!("a block of /{block} does not fit into {}", pool.cidr),
            );
        }
        let modes = ["Never", "CrossSubnet", "Always"];
        self.one_of(
            &at("ipipMode"),
            pool.ipip_mode.as_deref().unwrap_or("Never"),
            &modes,
        )?;
        self.one_of(
            &at("vxlanMode"),
            pool.vxlan_mode.as_deref().unwrap_or("Never"),
            &modes,
        )?;
        let assignment = pool.assignment_mode.as_deref().unwrap_or("Automatic");
        self.one_of(&at("assignmentMode"), assignment, &["Automatic", "Manual"])?;
        let selectors = [
            ("nodeSelector", &pool.node_selector),
            ("namespaceSelector", &pool.namespace_selector),
        ];
        for (name, selector) in selectors {
            if let Some(Err(error)) = selector.as_deref().map(str::parse::<Selector>) {
                return self.refuse(&at(name), error);
            }
        }
        let metadata = json!({"name": pool.name});
        let object = json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": metadata, "spec": pool});
        let problems = Object::from_value(object)
            .map(|object| validate::object(&object))
            .unwrap_or_default();
        match problems.first() {
            Some(problem) => self.refuse(
                &at(problem.field.trim_start_matches("spec.")),
                &problem.reason,
            ),
            None => Ok(()),
        }
    }

    fn namespaces(&self) -> Result<(), Fault> {
        self.names(
            "namespaces",
            self.scenario
                .namespaces
                .iter()
                .map(|namespace| namespace.name.clone()),
        )?;
        let accounts = &self.scenario.service_accounts;
        let mut seen = BTreeSet::new();
        for (index, account) in accounts.iter().enumerate() {
            self.name(&format!("serviceAccounts[{index}].name"), &account.name)?;
            if !self
                .scenario
                .namespaces
                .iter()
                .any(|namespace| namespace.name == account.namespace)
            {
                let message = format!("there is no namespace {:?}", account.namespace);
                return self.refuse(&format!("serviceAccounts[{index}].namespace"), message);
            }
            if !seen.insert((&account.namespace, &account.name)) {
                return self.refuse(
                    &format!("serviceAccounts[{index}].name"),
                    "the same service account twice",
                );
            }
        }
        Ok(())
    }

    fn pods(&self) -> Result<(), Fault> {
        let pods = &self.scenario.pods;
        let mut seen = BTreeSet::new();
        for (index, pod) in pods.iter().enumerate() {
            let at = |name: &str| format!("pods[{index}].{name}");
            self.name(&at("name"), &pod.name)?;
            self.name(&at("namespace"), &pod.namespace)?;
            if !seen.insert(pod.id()) {
                return self.refuse(&at("name"), format!("there are two pods {}", pod.id()));
            }
            if !self.scenario.nodes.iter().any(|node| node.name == pod.node) {
                return self.refuse(&at("node"), format!("there is no node {:?}", pod.node));
            }
            if self.document.has("namespaces")
                && !self
                    .document
                    .elements("namespaces")
                    .unwrap_or_default()
                    .iter()
                    .any(|known| known.text("name") == Some(&pod.namespace))
                && pod.namespace != "default"
            {
                return self.refuse(
                    &at("namespace"),
                    format!("there is no namespace {:?}", pod.namespace),
                );
            }
            for (position, ip) in pod.ip.iter().enumerate() {
                let field = format!("pods[{index}].ip[{position}]");
                self.one_per_family(&field, &pod.ip[..position], *ip)?;
                self.static_address(index, &field, *ip)?;
            }
            self.ports(&format!("pods[{index}]"), &pod.ports)?;
        }
        Ok(())
    }

    fn static_address(&self, index: usize, field: &str, ip: IpAddr) -> Result<(), Fault> {
        if !self
            .scenario
            .pools
            .iter()
            .any(|pool| pool.cidr.contains(ip))
        {
            return self.refuse(field, format!("{ip} is in no pool"));
        }
        match self.scenario.pods[..index]
            .iter()
            .find(|other| other.ip.contains(&ip))
        {
            Some(other) => self.refuse(
                field,
                format!("{ip} is already the address of pod {}", other.id()),
            ),
            None => Ok(()),
        }
    }

    fn ports(&self, owner: &str, ports: &[Port]) -> Result<(), Fault> {
        for (index, port) in ports.iter().enumerate() {
            let field = format!("{owner}.ports[{index}]");
            if port.protocol == Protocol::Icmp {
                return self.refuse(&format!("{field}.protocol"), "ICMP has no ports");
            }
            let same = |other: &&Port| other.port == port.port && other.protocol == port.protocol;
            if ports[..index].iter().any(|other| same(&other)) {
                return self.refuse(
                    &format!("{field}.port"),
                    format!("{} {} twice", port.protocol, port.port),
                );
            }
            if port
                .name
                .as_ref()
                .is_some_and(|name| name.is_empty() || name.len() > 15)
            {
                return self.refuse(
                    &format!("{field}.name"),
                    "a port's name has 1 to 15 characters",
                );
            }
        }
        Ok(())
    }

    fn names(&self, list: &str, names: impl Iterator<Item = String>) -> Result<(), Fault> {
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            let field = format!("{list}[{index}].name");
            self.name(&field, &name)?;
            if !seen.insert(name.clone()) {
                return self.refuse(&field, format!("{name:?} twice"));
            }
        }
        Ok(())
    }

    /// The rule of Kubernetes for labels, which every name here must follow.
    fn name(&self, field: &str, name: &str) -> Result<(), Fault> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good = (1..=63).contains(&name.len())
            && name.bytes().all(|byte| inner(byte) || byte == b'-')
            && name.bytes().next().is_some_and(inner)
            && name.bytes().last().is_some_and(inner);
        if good {
            return Ok(());
        }
        self.refuse(
            field,
            format!(
                "{name:?} is no name: 1 to 63 of a-z, 0-9 and -, none of them a - at either end"
            ),
        )
    }

    fn one_of(&self, field: &str, value: &str, known: &[&str]) -> Result<(), Fault> {
        if known.contains(&value) {
            return Ok(());
        }
        self.refuse(
            field,
            format!("{value:?} is not one of {}", known.join(", ")),
        )
    }

    fn ipv4(&self, field: &str, address: IpAddr) -> Result<(), Fault> {
        if address.is_ipv4() {
            Ok(())
        } else {
            self.refuse(field, "an IPv4 address is expected here")
        }
    }

    fn one_per_family(&self, field: &str, before: &[IpAddr], ip: IpAddr) -> Result<(), Fault> {
        if before.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
            return self.refuse(field, "one address per family");
        }
        Ok(())
    }

    fn disjoint<'p>(
        &self,
        field: &str,
        range: Prefix,
        others: impl Iterator<Item = (&'p str, &'p str, Prefix)>,
    ) -> Result<(), Fault> {
        for (kind, name, other) in others {
            if range.covers(&other) || other.covers(&range) {
                return self.refuse(field, format!("{range} overlaps {kind} {name} ({other})"));
            }
        }
        Ok(())
    }
}
