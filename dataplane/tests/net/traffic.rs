//! Packets between two nodes: straight, in VXLAN and in IP in IP, while the mode changes, and what becomes of
//! connections when an address moves.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ocicat_dataplane::hop::{Encapsulation, When};
use ocicat_dataplane::linux::{LinuxDataplane, Options, forget_connections};
use ocicat_dataplane::state::{Hop, Route, RouteKey};
use ocicat_dataplane::{
    Attach as _, Attachment, Dataplane as _, Fault, LinuxAttach, Prefix, State, names,
};

use crate::pair::{Packet, two};
use crate::sandbox::{async_node, container, inside, ip, name, node};

fn encapsulation(vxlan: When, ipip: When) -> Encapsulation {
    Encapsulation { vxlan, ipip }
}

/// How packets look between the nodes.
#[derive(Clone, Copy, Debug)]
enum Look {
    Plain,
    Vxlan,
    Ipip,
}

/// One mode after the other on a pool in use: pings of every size that fits, and how they look between the nodes.
fn modes(modes: &[(Encapsulation, Look)]) {
    let (one, two) = two();
    let (mut first, mut second) = (one.kernel(), two.kernel());
    for (mode, look) in modes {
        one.apply(&mut first, &one.state(&two, *mode));
        two.apply(&mut second, &two.state(&one, *mode));
        for v4 in [true, false] {
            let (from, to) = (one.pod_address(v4), two.pod_address(v4));
            assert!(one.pings(to, 56), "{mode:?} to {to}");
            let largest = 1430 - if v4 { 28 } else { 48 };
            assert!(
                two.pings(from, largest),
                "{mode:?} to {from}, the largest packet"
            );
            assert!(
                two.pings_in_vain(from, largest + 1),
                "larger than the pod's MTU"
            );
        }
        let seen = one.capture(|| assert!(one.pings(two.pod_address(true), 56)));
        let request = packet(1, "10.1.0.5", "10.2.0.5");
        let (ours, theirs) = ("192.168.10.1", "192.168.10.2");
        let expected = match look {
            Look::Plain => request,
            Look::Vxlan => Packet {
                vni: Some(4096),
                inner: Some(Box::new(request)),
                ..packet(17, ours, theirs)
            },
            Look::Ipip => Packet {
                inner: Some(Box::new(request)),
                ..packet(4, ours, theirs)
            },
        };
        assert!(seen.contains(&expected), "{mode:?}: {seen:#?}");
    }
}

fn packet(protocol: u8, source: &str, destination: &str) -> Packet {
    Packet {
        protocol,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        vni: None,
        inner: None,
    }
}

#[test]
fn a_live_pools_mode_changes_and_traffic_goes_on() {
    use When::{Always, CrossSubnet, Never};
    node(|| {
        modes(&[
            (encapsulation(Never, Never), Look::Plain),
            (encapsulation(Always, Never), Look::Vxlan),
            (encapsulation(CrossSubnet, Never), Look::Plain),
            (encapsulation(Always, Never), Look::Vxlan),
            (encapsulation(Never, Never), Look::Plain),
        ]);
    });
}

/// `cargo xtask vm` runs it in a kernel that has IP in IP.
#[test]
#[ignore = "needs a kernel with ipip"]
fn ip_in_ip_and_every_change_of_mode() {
    use When::{Always, CrossSubnet, Never};
    node(|| {
        modes(&[
            (encapsulation(Never, Always), Look::Ipip),
            (encapsulation(Never, CrossSubnet), Look::Plain),
            (encapsulation(Never, Always), Look::Ipip),
            (encapsulation(Always, Never), Look::Vxlan),
            (encapsulation(Never, Always), Look::Ipip),
            (encapsulation(Never, Never), Look::Plain),
        ]);
    });
}

#[test]
fn a_kernel_without_ip_in_ip_is_named_as_such() {
    node(|| {
        let (one, two) = two();
        let mut kernel = one.kernel();
        let state = one.state(&two, encapsulation(When::Never, When::Always));
        let report = one.try_apply(&mut kernel, &state);
        let there = inside(&one.namespace, || ip("link show").contains("tunl0"));
        if there {
            assert_eq!(report.failed, []);
        } else {
            assert_eq!(report.failed.len(), 2, "{:?}", report.failed);
            assert_eq!(
                report.failed[0].fault,
                Fault::Unsupported {
                    what: "IP in IP (module ipip)"
                }
            );
            assert_eq!(report.failed[1].fault, Fault::LinkMissing(name("tunl0")));
        }
    });
}

#[test]
fn packets_to_a_free_address_of_a_local_block_do_not_leave() {
    node(|| {
        let (one, two) = two();
        let mut first = one.kernel();
        one.apply(&mut first, &one.state(&two, Encapsulation::default()));
        let free: IpAddr = "10.1.0.77".parse().unwrap();
        assert!(one.pings_in_vain(free, 56));
        inside(&one.namespace, || {
            assert!(
                !Command::new("ip")
                    .args(["route", "get", "10.1.0.77"])
                    .status()
                    .unwrap()
                    .success()
            )
        });
    });
}

/// A pod, which lives as long as its namespace is held.
fn attach(id: &str, address: &str) -> Arc<OwnedFd> {
    let link = names::pod_link("default", id);
    let pod = container();
    let wanted = Attachment::new(Arc::clone(&pod), name("eth0"), link, format!("{id}/eth0"));
    let wanted = wanted.addresses([address.parse().unwrap()]);
    LinuxAttach::new().attach(&wanted).unwrap();
    pod
}

#[test]
fn connections_of_an_address_that_leaves_are_forgotten() {
    async_node(async || {
        // Connections are tracked where a rule asks about them.
        let rules = "table inet t { chain c { type filter hook output priority 0; ct state new counter; }; }";
        assert!(Command::new("nft").arg(rules).status().unwrap().success());
        let addresses = ["10.1.0.5", "10.1.0.6"];
        let _pods = [attach("web", addresses[0]), attach("db", addresses[1])];
        ip("addr add 192.168.0.1/24 dev lo");
        let socket = UdpSocket::bind("192.168.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let talk = || {
            for address in addresses {
                socket.send_to(b"x", (address, 9)).unwrap();
                let _ = socket.recv(&mut [0]);
            }
        };
        talk();
        let all: BTreeSet<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(forget_connections(&all).unwrap(), 2);
        assert_eq!(forget_connections(&all).unwrap(), 0);
        talk();

        let route = |address: &str, hop| {
            (
                RouteKey::main(Prefix::host(address.parse().unwrap())),
                Route {
                    hops: vec![hop],
                    source: None,
                },
            )
        };
        let state = |routes: Vec<(RouteKey, Route)>| State {
            routes: Arc::new(routes.into_iter().collect()),
            ..State::default()
        };
        let web = Hop::Link(names::pod_link("default", "web"));
        let db = Hop::Link(names::pod_link("default", "db"));
        let mut kernel = LinuxDataplane::new(Options::default().policy(false)).unwrap();
        kernel
            .apply(&state(vec![
                route(addresses[0], web.clone()),
                route(addresses[1], db),
            ]))
            .await
            .unwrap();
        // One goes, the other moves to another node.
        kernel
            .apply(&state(vec![route(addresses[0], Hop::Blackhole)]))
            .await
            .unwrap();
        assert_eq!(forget_connections(&all).unwrap(), 0);
    });
}

/// The dataplane forgets in its own namespace, whoever works for it, and by one socket.
#[test]
fn connections_are_forgotten_where_the_dataplane_is() {
    node(|| {
        ip("link add cali1 type veth peer name inner");
        ip("link set cali1 up");
        let rules = "table inet t { chain c { type filter hook output priority 0; ct state new counter; }; }";
        assert!(Command::new("nft").arg(rules).status().unwrap().success());
        ip("addr add 192.168.0.1/24 dev lo");
        let socket = UdpSocket::bind("192.168.0.1:0").unwrap();
        let routes = |addresses: std::ops::Range<u8>| {
            let route = |last| {
                let hops = vec![Hop::Link(name("cali1"))];
                let key = RouteKey::main(Prefix::host([10, 1, 0, last].into()));
                (key, Route { hops, source: None })
            };
            State {
                routes: Arc::new(addresses.map(route).collect()),
                ..State::default()
            }
        };
        let mut kernel = LinuxDataplane::new(Options::default().policy(false)).unwrap();
        let elsewhere = container();
        let mut apply = |state: &State| {
            let report = inside(&elsewhere, || {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                runtime.unwrap().block_on(kernel.apply(state)).unwrap()
            });
            assert_eq!(report.failed, []);
        };
        apply(&routes(0..9));
        let mut sockets = BTreeSet::new();
        for first in 1..9 {
            let gone = IpAddr::from([10, 1, 0, first - 1]);
            socket.send_to(b"x", (gone, 9)).unwrap();
            apply(&routes(first..9));
            assert_eq!(forget_connections(&[gone].into()).unwrap(), 0);
            sockets.extend(netfilter_sockets());
        }
        assert_eq!(sockets.len(), 1, "{sockets:?}");
    });
}

/// The ports of this namespace's netfilter sockets (protocol 12).
fn netfilter_sockets() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let rows = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row.get(1) == Some(&"12") && row.get(2) != Some(&"0"));
    ours.map(|row| row[2].to_owned()).collect()
}
