//! Packets between two nodes: straight and in VXLAN, over both families, while the mode changes, and what becomes of
//! connections when an address moves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use ocicat_dataplane::hop::{Encapsulation, Toward, When, toward};
use ocicat_dataplane::ipnetwork::IpNetwork;
use ocicat_dataplane::linux::{LinuxDataplane, Options, forget_connections};
use ocicat_dataplane::state::{Fdb, Hop, Link, LinkKind, Neighbour, Route, RouteKey};
use ocicat_dataplane::{
    Attach as _, Attachment, Dataplane as _, LinuxAttach, Prefix, State, names,
};

use crate::sandbox::{async_node, container, inside, ip, list, name, node};

/// A node of two, in a namespace of its own, with one pod.
struct Node {
    namespace: Arc<OwnedFd>,
    pod: Arc<OwnedFd>,
    number: u8,
}

impl Node {
    fn new(number: u8) -> Self {
        let node = Self {
            namespace: container(),
            pod: container(),
            number,
        };
        inside(&node.namespace, || {
            ip("link set lo up");
            let wanted = Attachment::new(
                Arc::clone(&node.pod),
                name("eth0"),
                names::pod_link("default", "web"),
                "one/eth0",
            )
            .addresses([node.pod_address(true), node.pod_address(false)])
            .mtu(1430);
            LinuxAttach::new().attach(&wanted).unwrap();
        });
        node
    }

    fn pod_address(&self, v4: bool) -> IpAddr {
        let text = if v4 {
            format!("10.{}.0.5", self.number)
        } else {
            format!("fd00:{}::5", self.number)
        };
        text.parse().unwrap()
    }

    fn own(&self, v4: bool) -> IpNetwork {
        let text = if v4 {
            format!("192.168.10.{}/24", self.number)
        } else {
            format!("fd10::{}/64", self.number)
        };
        text.parse().unwrap()
    }

    fn vtep(&self, v4: bool) -> IpAddr {
        let text = if v4 {
            format!("10.{}.0.1", self.number)
        } else {
            format!("fd00:{}::1", self.number)
        };
        text.parse().unwrap()
    }

    fn block(&self, v4: bool) -> Prefix {
        Prefix::containing(self.vtep(v4), if v4 { 24 } else { 112 }).unwrap()
    }

    fn mac(&self, v4: bool) -> ocicat_dataplane::state::MacAddr {
        let node = format!("node{}", self.number);
        if v4 {
            names::vtep_mac(&node)
        } else {
            names::vtep_mac_v6(&node)
        }
    }

    /// What this node's kernel should hold, with this encapsulation, for a cluster of it and another.
    fn state(&self, other: &Self, pools: Encapsulation) -> State {
        let mut state = State::default();
        let (mut routes, mut neighbours, mut fdb) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let straight = |hop| Route {
            hops: vec![hop],
            source: None,
        };
        for v4 in [true, false] {
            let remote = other.own(v4).ip();
            let tunnel = name(if v4 {
                names::VXLAN_LINK
            } else {
                names::VXLAN_LINK_V6
            });
            let pod = names::pod_link("default", "web");
            routes.insert(
                RouteKey::main(Prefix::host(self.pod_address(v4))),
                straight(Hop::Link(pod)),
            );
            routes.insert(RouteKey::main(self.block(v4)), straight(Hop::Blackhole));
            let hop = match toward(pools, &[self.own(v4)], remote) {
                Toward::Vxlan => {
                    let link = Link {
                        kind: LinkKind::Vxlan {
                            vni: names::VXLAN_VNI,
                            port: names::VXLAN_PORT,
                            local: self.own(v4).ip(),
                            parent: Some(name("up0")),
                            mac: self.mac(v4),
                        },
                        mtu: 1430,
                        addresses: [IpNetwork::from(self.vtep(v4))].into(),
                    };
                    state.links.insert(tunnel.clone(), Arc::new(link));
                    let neighbour = Neighbour {
                        link: tunnel.clone(),
                        address: other.vtep(v4),
                    };
                    neighbours.insert(neighbour, other.mac(v4));
                    let vtep = RouteKey::main(Prefix::host(other.vtep(v4)));
                    routes.insert(vtep, straight(Hop::Link(tunnel.clone())));
                    fdb.insert(
                        Fdb {
                            link: tunnel.clone(),
                            mac: other.mac(v4),
                        },
                        remote,
                    );
                    Hop::Via {
                        gateway: other.vtep(v4),
                        link: Some(tunnel),
                        onlink: true,
                    }
                }
                _ => Hop::Via {
                    gateway: remote,
                    link: Some(name("up0")),
                    onlink: true,
                },
            };
            routes.insert(RouteKey::main(other.block(v4)), straight(hop));
        }
        state.routes = Arc::new(routes);
        state.neighbours = Arc::new(neighbours);
        state.fdb = Arc::new(fdb);
        state
    }

    fn kernel(&self) -> LinuxDataplane {
        inside(&self.namespace, || {
            LinuxDataplane::new(Options::default().policy(false)).unwrap()
        })
    }

    fn apply(&self, kernel: &mut LinuxDataplane, state: &State) {
        let report = inside(&self.namespace, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime.block_on(kernel.apply(state)).unwrap()
        });
        assert_eq!(report.failed, []);
    }

    fn pings(&self, to: IpAddr, size: u16) -> bool {
        let size = size.to_string();
        inside(&self.pod, || {
            let to = to.to_string();
            let arguments = ["-c1", "-W0.5", "-n", "-M", "do", "-s", &size, &to];
            Command::new("ping")
                .args(arguments)
                .output()
                .unwrap()
                .status
                .success()
        })
    }

    fn tunnelled(&self) -> u64 {
        inside(&self.namespace, || {
            let links = list("-s link show");
            let tunnels = links
                .iter()
                .filter(|link| link["linkinfo"]["info_kind"] == "vxlan");
            tunnels
                .map(|link| link["stats64"]["tx"]["packets"].as_u64().unwrap())
                .sum()
        })
    }
}

fn two() -> (Node, Node) {
    let (one, two) = (Node::new(1), Node::new(2));
    let (tell, told) = std::sync::mpsc::channel();
    let (leave, left) = std::sync::mpsc::channel::<()>();
    let other = Arc::clone(&two.namespace);
    let holder = std::thread::spawn(move || {
        setns(&*other, CloneFlags::CLONE_NEWNET).unwrap();
        tell.send(nix::unistd::gettid()).unwrap();
        left.recv().unwrap_err();
    });
    let id = told.recv().unwrap();
    inside(&one.namespace, || {
        ip(&format!("link add up0 type veth peer name up0 netns {id}"))
    });
    drop(leave);
    holder.join().unwrap();
    for node in [&one, &two] {
        inside(&node.namespace, || {
            for v4 in [true, false] {
                let nodad = if v4 { "" } else { "nodad" };
                ip(&format!("addr add {} dev up0 {nodad}", node.own(v4)));
            }
            ip("link set up0 up");
        });
    }
    (one, two)
}

#[test]
fn a_live_pools_mode_changes_and_traffic_goes_on() {
    node(|| {
        let (one, two) = two();
        let (mut first, mut second) = (one.kernel(), two.kernel());
        let vxlan = |vxlan| Encapsulation {
            vxlan,
            ipip: When::Never,
        };
        for (mode, tunnel) in [
            (When::Never, false),
            (When::Always, true),
            (When::CrossSubnet, false),
            (When::Always, true),
            (When::Never, false),
        ] {
            one.apply(&mut first, &one.state(&two, vxlan(mode)));
            two.apply(&mut second, &two.state(&one, vxlan(mode)));
            let before = one.tunnelled();
            for v4 in [true, false] {
                assert!(one.pings(two.pod_address(v4), 56), "{mode:?} IPv4 {v4}");
                let largest = if v4 { 1430 - 28 } else { 1430 - 48 };
                assert!(
                    two.pings(one.pod_address(v4), largest),
                    "{mode:?} IPv4 {v4}, the largest packet"
                );
                assert!(
                    !two.pings(one.pod_address(v4), largest + 1),
                    "larger than the pod's MTU"
                );
            }
            assert_eq!(one.tunnelled() > before, tunnel, "{mode:?}");
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
        assert!(!one.pings(free, 56));
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

#[test]
fn connections_of_an_address_that_leaves_are_forgotten() {
    async_node(async || {
        // Connections are tracked where a rule asks about them.
        let rules = "table inet t { chain c { type filter hook output priority 0; ct state new counter; }; }";
        assert!(Command::new("nft").arg(rules).status().unwrap().success());
        let (pod, other) = (container(), container());
        let addresses = ["10.1.0.5", "10.1.0.6"];
        for (pod, (id, address)) in [&pod, &other]
            .into_iter()
            .zip([("web", addresses[0]), ("db", addresses[1])])
        {
            let wanted = Attachment::new(
                Arc::clone(pod),
                name("eth0"),
                names::pod_link("default", id),
                "one/eth0",
            );
            LinuxAttach::new()
                .attach(&wanted.addresses([address.parse().unwrap()]))
                .unwrap();
        }
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
