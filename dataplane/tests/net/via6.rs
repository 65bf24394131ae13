//! IPv4 by way of IPv6 gateways (RFC 8950): routes as the kernel has them, and packets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicat_dataplane::hop::Encapsulation;
use ocicat_dataplane::linux::{LinuxDataplane, Options, routes_of, way_to};
use ocicat_dataplane::state::{Hop, Route, RouteKey};
use ocicat_dataplane::{Dataplane as _, Fault, State, names};
use serde_json::Value;

use crate::pair::two;
use crate::sandbox::{async_node, inside, ip, list, name, node, route, state, uplink, via};

/// Destination and gateways of our routes, as `ip -j` has them; a gateway of the other family with its family.
fn found() -> BTreeMap<String, Vec<String>> {
    let gateway = |hop: &Value| match (&hop["via"]["family"], &hop["via"]["host"]) {
        (Value::String(family), Value::String(host)) => format!("{family} {host}"),
        _ => hop["gateway"].as_str().unwrap_or_default().to_owned(),
    };
    let all = list("-4 route show proto 80");
    let one = |route: &Value| {
        let hops = route["nexthops"].as_array();
        let gateways = match hops {
            Some(hops) => hops.iter().map(gateway).collect(),
            None => vec![gateway(route)],
        };
        (route["dst"].as_str().unwrap().to_owned(), gateways)
    };
    all.iter().map(one).collect()
}

#[test]
fn ipv4_by_way_of_ipv6_is_made_read_back_damaged_and_repaired() {
    async_node(async || {
        uplink();
        let kernel = || LinuxDataplane::new(Options::default().policy(false)).unwrap();
        let mut first = kernel();
        let desired = state([
            route("10.1.0.0/26", [via("fe80::2", Some("up0"))]),
            route("10.2.0.0/26", [via("fd00:10::2", None)]),
            route(
                "10.3.0.0/26",
                [
                    via("192.168.10.2", Some("up0")),
                    via("fe80::3", Some("up0")),
                ],
            ),
        ]);
        let report = first.apply(&desired).await.unwrap();
        assert_eq!((report.changed, report.failed), (3, vec![]));
        let expected = BTreeMap::from([
            ("10.1.0.0/26".to_owned(), vec!["inet6 fe80::2".to_owned()]),
            ("10.2.0.0/26".into(), vec!["inet6 fd00:10::2".into()]),
            (
                "10.3.0.0/26".into(),
                vec!["192.168.10.2".into(), "inet6 fe80::3".into()],
            ),
        ]);
        assert_eq!(found(), expected);
        // What is there is known again, and questions about it are answered.
        assert_eq!(kernel().apply(&desired).await.unwrap().changed, 0);
        let read = routes_of(names::ROUTE_PROTOCOL).unwrap();
        assert_eq!(read.len(), 3);
        let key = RouteKey::main("10.1.0.0/26".parse().unwrap());
        assert_eq!(read[&key], desired.routes[&key]);
        let way = way_to("10.1.0.9".parse().unwrap()).unwrap().unwrap();
        assert_eq!(way.gateway, "fe80::2".parse().ok());

        for damage in [
            "route replace 10.1.0.0/26 via inet6 fe80::9 dev up0 onlink proto 80",
            "route replace 10.2.0.0/26 via 192.168.10.9 dev up0 proto 80",
            "route del 10.3.0.0/26",
        ] {
            ip(damage);
            first.invalidate();
            let report = first.apply(&desired).await.unwrap();
            assert_eq!((report.changed, report.failed), (1, vec![]), "{damage}");
            assert_eq!(found(), expected, "{damage}");
        }
        first.apply(&State::default()).await.unwrap();
        assert!(found().is_empty());
    });
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    async_node(async || {
        uplink();
        let mut kernel = LinuxDataplane::new(Options::default().policy(false)).unwrap();
        let desired = state([
            route("fd01::/122", [via("192.168.10.2", Some("up0"))]),
            route("10.1.0.0/26", [via("fe80::2", None)]),
            route("10.2.0.0/26", [via("192.168.10.2", Some("up0"))]),
        ]);
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!(report.changed, 1);
        let mut faults: Vec<Fault> = report.failed.into_iter().map(|one| one.fault).collect();
        faults.sort_by_key(ToString::to_string);
        assert_eq!(
            faults,
            [
                Fault::Invalid {
                    why: "a link-local gateway without the link that it is on"
                },
                Fault::Unsupported {
                    what: "IPv6 routes by way of an IPv4 gateway"
                },
            ]
        );
    });
}

#[test]
fn ipv4_packets_cross_a_network_that_has_ipv6_alone() {
    node(|| {
        let (one, two) = two();
        let (mut first, mut second) = (one.kernel(), two.kernel());
        let link_local = |of: &crate::pair::Node| -> IpAddr {
            inside(&of.namespace, || {
                ip("-4 addr flush dev up0");
                // The kernel gives it when it has heard that both ends are up, which takes a while on a slow machine.
                let end = Instant::now() + Duration::from_secs(60);
                loop {
                    let all = list("-6 addr show dev up0 scope link");
                    let addresses = all.iter().filter_map(|link| link["addr_info"].as_array());
                    let own = addresses.flatten().find_map(|one| one["local"].as_str());
                    if let Some(own) = own {
                        return own.parse().unwrap();
                    }
                    assert!(Instant::now() < end, "no link-local address in 60 s");
                    std::thread::sleep(Duration::from_millis(10));
                }
            })
        };
        let gateways = [link_local(&one), link_local(&two)];
        for global in [false, true] {
            let ways = [
                (&one, &two, &mut first, gateways[1]),
                (&two, &one, &mut second, gateways[0]),
            ];
            for (node, other, kernel, near) in ways {
                let mut state = node.state(other, Encapsulation::default());
                let gateway = if global { other.own(false).ip() } else { near };
                let key = RouteKey::main("10.0.0.0/8".parse().unwrap());
                let hop = Hop::Via {
                    gateway,
                    link: Some(name("up0")),
                    onlink: true,
                };
                let routes = Arc::make_mut(&mut state.routes);
                // Instead of the other node's block, whose gateway is an IPv4 address.
                routes.retain(|key, route| {
                    !key.prefix.is_ipv4() || !matches!(&*route.hops, [Hop::Via { .. }])
                });
                let (hops, source) = (vec![hop], None);
                routes.insert(key, Route { hops, source });
                node.apply(kernel, &state);
            }
            let to = two.pod_address(true);
            let seen = one.capture(|| assert!(one.pings(to, 56), "global {global}"));
            let mut requests = seen.iter().filter(|packet| packet.destination == to);
            assert!(
                requests.any(|packet| packet.protocol == 1),
                "as they are, by the link: {seen:?}"
            );
        }
    });
}
