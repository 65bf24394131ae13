use std::collections::{BTreeMap, BTreeSet};

use ocicat_dataplane::linux::{LinuxDataplane, Options};
use ocicat_dataplane::state::{
    Address, Hop, IpVersion, LinkName, Route, RouteKey, RoutingAction, RoutingRule,
};
use ocicat_dataplane::testing::{attach_kit, dataplane_kit};
use ocicat_dataplane::{Dataplane, LinuxAttach, Prefix, names};

use crate::sandbox::{async_node, container, ip, list, name, node};

struct Kernel;

impl dataplane_kit::Bench for Kernel {
    fn open(&mut self) -> Box<dyn Dataplane> {
        Box::new(LinuxDataplane::new(Options::default().policy(false)).unwrap())
    }
    fn add_link(&mut self, name: &LinkName) {
        ip(&format!("link add {name} type bridge"));
        ip(&format!("link set {name} up"));
    }
    fn set_link(&mut self, name: &LinkName, up: bool) {
        ip(&format!(
            "link set {name} {}",
            if up { "up" } else { "down" }
        ));
    }
    fn remove_link(&mut self, name: &LinkName) {
        ip(&format!("link del {name}"));
    }
    fn add_route(&mut self, key: &RouteKey, route: &Route, protocol: u8) {
        let to = match route.hops.as_slice() {
            [Hop::Blackhole] => format!("blackhole {}", key.prefix),
            [Hop::Link(link)] => format!("{} dev {link}", key.prefix),
            other => panic!("{other:?}"),
        };
        ip(&format!(
            "route add {to} proto {protocol} metric {}",
            key.metric
        ));
    }
    fn remove_route(&mut self, key: &RouteKey) {
        ip(&format!("route del {} metric {}", key.prefix, key.metric));
    }
    fn add_rule(&mut self, rule: &RoutingRule, protocol: u8) {
        ip(&format!("rule add {} protocol {protocol}", words(rule)));
    }
    fn remove_rule(&mut self, rule: &RoutingRule, protocol: u8) {
        ip(&format!("rule del {} protocol {protocol}", words(rule)));
    }
    fn rules(&mut self) -> BTreeSet<(RoutingRule, u8)> {
        // By numbers: ip(8) has names for some protocols.
        let all = ip("-N rule show");
        all.lines().filter_map(rule).collect()
    }
    fn link(&mut self, name: &LinkName) -> Option<(BTreeSet<Address>, u32)> {
        let all = list("addr show");
        let found = all.iter().find(|one| one["ifname"] == name.as_str())?;
        let mtu = found["mtu"].as_u64().unwrap().try_into().unwrap();
        let addresses = found["addr_info"].as_array().unwrap().iter();
        let addresses = addresses.filter(|one| one["scope"] != "link").map(|one| {
            let text = format!("{}/{}", one["local"].as_str().unwrap(), one["prefixlen"]);
            text.parse().unwrap()
        });
        Some((addresses.collect(), mtu))
    }
    fn routes(&mut self) -> BTreeMap<RouteKey, (u8, Route)> {
        let mut all = BTreeMap::new();
        for protocol in [names::ROUTE_PROTOCOL, dataplane_kit::FOREIGN] {
            for family in ["-4", "-6"] {
                for found in &list(&format!("{family} route show table all proto {protocol}")) {
                    let destination = found["dst"].as_str().unwrap();
                    let prefix = match destination.parse::<Prefix>() {
                        Ok(prefix) => prefix,
                        Err(_) => Prefix::host(destination.parse().unwrap()),
                    };
                    let hop = match found["type"].as_str() {
                        Some("blackhole") => Hop::Blackhole,
                        _ => out(found),
                    };
                    let metric = found["metric"].as_u64().unwrap_or(0).try_into().unwrap();
                    let key = RouteKey {
                        prefix,
                        table: 254,
                        metric,
                    };
                    all.insert(
                        key,
                        (
                            protocol,
                            Route {
                                hops: vec![hop],
                                source: None,
                            },
                        ),
                    );
                }
            }
        }
        all
    }
}

/// The way out of a route with one, as `ip -j` has it.
fn out(found: &serde_json::Value) -> Hop {
    let link = name(found["dev"].as_str().unwrap());
    let other = &found["via"]["host"];
    match found["gateway"].as_str().or(other.as_str()) {
        None => Hop::Link(link),
        Some(gateway) => Hop::Via {
            gateway: gateway.parse().unwrap(),
            link: Some(link),
            onlink: found["flags"].to_string().contains("onlink"),
        },
    }
}

fn words(rule: &RoutingRule) -> String {
    let RoutingAction::Table(table) = rule.action else {
        panic!("{rule}");
    };
    format!("priority {} table {table}", rule.priority)
}

/// A rule as `ip -N rule show` writes it: `7: from all lookup 1007 proto 80`.
fn rule(line: &str) -> Option<(RoutingRule, u8)> {
    let (priority, rest) = line.split_once(':')?;
    let rest = rest.trim().strip_prefix("from all lookup ")?;
    let (table, protocol) = rest.split_once(" proto ")?;
    let action = RoutingAction::Table(table.parse().ok()?);
    let rule = RoutingRule::new(IpVersion::V4, priority.parse().ok()?, action);
    Some((rule, protocol.trim().parse().ok()?))
}

#[test]
fn the_kernel_passes_the_dataplane_kit() {
    async_node(async || assert_eq!(dataplane_kit::check(&mut Kernel).await, Ok(())));
}

#[test]
fn the_kernel_passes_the_attach_kit() {
    node(|| assert_eq!(attach_kit::check(&LinuxAttach::new(), container), Ok(())));
}
