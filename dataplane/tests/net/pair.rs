use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
};
use ocicat_dataplane::hop::{Encapsulation, Toward, toward};
use ocicat_dataplane::ipnetwork::IpNetwork;
use ocicat_dataplane::linux::{LinuxDataplane, Options};
use ocicat_dataplane::state::{
    Fdb, Hop, Link, LinkKind, LinkName, MacAddr, Neighbour, Route, RouteKey,
};
use ocicat_dataplane::{
    Attach as _, Attachment, Dataplane as _, LinuxAttach, Prefix, Report, State, names,
};

use crate::sandbox::{container, inside, ip, name};

/// A node of two, in a namespace of its own, with one pod.
pub(crate) struct Node {
    pub(crate) namespace: Arc<OwnedFd>,
    pub(crate) pod: Arc<OwnedFd>,
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

    pub(crate) fn pod_address(&self, v4: bool) -> IpAddr {
        let text = if v4 {
            format!("10.{}.0.5", self.number)
        } else {
            format!("fd00:{}::5", self.number)
        };
        text.parse().unwrap()
    }

    pub(crate) fn own(&self, v4: bool) -> IpNetwork {
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

    fn mac(&self, v4: bool) -> MacAddr {
        let node = format!("node{}", self.number);
        if v4 {
            names::vtep_mac(&node)
        } else {
            names::vtep_mac_v6(&node)
        }
    }

    /// What this node's kernel should hold, with this encapsulation, for a cluster of it and another.
    pub(crate) fn state(&self, other: &Self, pools: Encapsulation) -> State {
        let mut state = State::default();
        for v4 in [true, false] {
            let pod = Hop::Link(names::pod_link("default", "web"));
            route(&mut state, Prefix::host(self.pod_address(v4)), pod);
            route(&mut state, self.block(v4), Hop::Blackhole);
            let remote = other.own(v4).ip();
            let (gateway, link) = match toward(pools, &[self.own(v4)], remote) {
                Toward::Vxlan => (other.vtep(v4), self.vxlan(other, v4, &mut state)),
                Toward::Ipip => (remote, self.ipip(&mut state)),
                _ => (remote, name("up0")),
            };
            let hop = Hop::Via {
                gateway,
                link: Some(link),
                onlink: true,
            };
            route(&mut state, other.block(v4), hop);
        }
        state
    }

    fn vxlan(&self, other: &Self, v4: bool, state: &mut State) -> LinkName {
        let tunnel = name(if v4 {
            names::VXLAN_LINK
        } else {
            names::VXLAN_LINK_V6
        });
        let kind = LinkKind::Vxlan {
            vni: names::VXLAN_VNI,
            port: names::VXLAN_PORT,
            local: self.own(v4).ip(),
            parent: Some(name("up0")),
            mac: self.mac(v4),
        };
        let device = Link::new(kind, 1430).addresses([IpNetwork::from(self.vtep(v4))]);
        state.links.insert(tunnel.clone(), Arc::new(device));
        let (link, mac) = (tunnel.clone(), other.mac(v4));
        let neighbour = Neighbour {
            link: link.clone(),
            address: other.vtep(v4),
        };
        Arc::make_mut(&mut state.neighbours).insert(neighbour, mac);
        Arc::make_mut(&mut state.fdb).insert(
            Fdb {
                link: link.clone(),
                mac,
            },
            other.own(v4).ip(),
        );
        route(state, Prefix::host(other.vtep(v4)), Hop::Link(link));
        tunnel
    }

    fn ipip(&self, state: &mut State) -> LinkName {
        let tunnel = name(names::IPIP_LINK);
        let link = Link::new(LinkKind::Ipip, 1480).addresses([IpNetwork::from(self.vtep(true))]);
        state.links.insert(tunnel.clone(), Arc::new(link));
        tunnel
    }

    pub(crate) fn kernel(&self) -> LinuxDataplane {
        inside(&self.namespace, || {
            LinuxDataplane::new(Options::default().policy(false)).unwrap()
        })
    }

    pub(crate) fn apply(&self, kernel: &mut LinuxDataplane, state: &State) {
        assert_eq!(self.try_apply(kernel, state).failed, []);
    }

    pub(crate) fn try_apply(&self, kernel: &mut LinuxDataplane, state: &State) -> Report {
        inside(&self.namespace, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime.block_on(kernel.apply(state)).unwrap()
        })
    }

    /// Whether an answer comes to a ping with this many bytes.
    pub(crate) fn pings(&self, to: IpAddr, size: u16) -> bool {
        self.ping(to, size, "-W10")
    }

    /// Whether no answer comes, within a time that is long where one would.
    pub(crate) fn pings_in_vain(&self, to: IpAddr, size: u16) -> bool {
        !self.ping(to, size, "-W0.4")
    }

    fn ping(&self, to: IpAddr, size: u16, patience: &str) -> bool {
        let (to, size) = (to.to_string(), size.to_string());
        let arguments = ["-c1", patience, "-n", "-M", "do", "-s", &size, &to];
        inside(&self.pod, || {
            Command::new("ping")
                .args(arguments)
                .output()
                .unwrap()
                .status
                .success()
        })
    }

    /// The IPv4 packets that cross the link to the other node while `action` runs.
    pub(crate) fn capture(&self, action: impl FnOnce()) -> Vec<Packet> {
        let (socket, up0) = inside(&self.namespace, || {
            let (family, flags) = (AddressFamily::Packet, SockFlag::SOCK_NONBLOCK);
            let socket = socket(family, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
            (
                socket,
                nix::net::if_::if_nametoindex("up0").unwrap() as usize,
            )
        });
        action();
        let mut packets = Vec::new();
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut bytes) {
            if from.is_some_and(|from| from.ifindex() == up0) {
                packets.extend(Packet::parse(&bytes[14..length]));
            }
        }
        packets
    }
}

/// An IPv4 packet, as far as tunnels go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) protocol: u8,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    /// Of a UDP datagram to the port of VXLAN, the network identifier.
    pub(crate) vni: Option<u32>,
    pub(crate) inner: Option<Box<Self>>,
}

impl Packet {
    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 20 || bytes[0] >> 4 != 4 {
            return None;
        }
        let address =
            |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        let payload = &bytes[usize::from(bytes[0] & 15) * 4..];
        let vxlan = bytes[9] == 17 && payload[2..4] == names::VXLAN_PORT.to_be_bytes();
        let vni = vxlan.then(|| u32::from_be_bytes([0, payload[12], payload[13], payload[14]]));
        let inner = match bytes[9] {
            4 => Self::parse(payload),
            17 if vxlan => Self::parse(&payload[30..]),
            _ => None,
        };
        Some(Self {
            protocol: bytes[9],
            source: address(12),
            destination: address(16),
            vni,
            inner: inner.map(Box::new),
        })
    }
}

fn route(state: &mut State, prefix: Prefix, hop: Hop) {
    let route = Route {
        hops: vec![hop],
        source: None,
    };
    Arc::make_mut(&mut state.routes).insert(RouteKey::main(prefix), route);
}

/// Two nodes, joined by a link `up0`.
pub(crate) fn two() -> (Node, Node) {
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
