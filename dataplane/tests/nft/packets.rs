//! Real packets where something other than a rule's plain conditions decides.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use ocicat_dataplane::State;
use ocicat_dataplane::nft::{ACCEPTED, Table};
use ocicat_dataplane::state::{
    Action, Denied, EndpointId, EndpointToHost, FailsafePort, HostEndpoint, HostRules, Link,
    LinkKind, Nat, Policy, PolicyId, PortRange, Protocol, Rule,
};
use ocicat_dataplane::verdict::{Connection, Packet};

use crate::lab::*;
use crate::wire::*;

/// Long enough for what must come, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Lab {
    pub(crate) web: End,
    pub(crate) friend: End,
    pub(crate) table: Table,
    pub(crate) state: State,
}

/// Two pods as in [`small`], with their table.
pub(crate) fn lab() -> Lab {
    forwarding();
    let web = End::new("cali1", "10.65.0.2", "fd00::2");
    let friend = End::new("cali2", "10.65.0.3", "fd00::3");
    let state = small();
    let mut table = Table::open().unwrap();
    table.apply(&state).unwrap();
    Lab {
        web,
        friend,
        table,
        state,
    }
}

pub(crate) fn denying(port: u16) -> Policy {
    let mut rule = Rule::new(Action::Deny);
    rule.protocol = Some(Protocol::UDP);
    rule.destination.ports = vec![PortRange {
        first: port,
        last: port,
    }];
    Policy {
        ingress: vec![rule, Rule::new(Action::Allow)],
        egress: Vec::new(),
    }
}

pub(crate) fn udp(v4: bool, lab: &Lab, port: u16) -> Packet {
    Packet {
        in_link: Some(link("cali2")),
        out_link: Some(link("cali1")),
        source: lab.friend.address(v4),
        destination: lab.web.address(v4),
        protocol: Protocol::UDP,
        ports: Some((40_000, port)),
        icmp: None,
        connection: Connection::New,
    }
}

#[test]
fn an_open_connection_outlives_its_policy() {
    node(|| {
        let mut lab = lab();
        let listener = inside(&lab.web.namespace, || {
            TcpListener::bind("10.65.0.2:80").unwrap()
        });
        let mut client = inside(&lab.friend.namespace, || {
            TcpStream::connect("10.65.0.2:80").unwrap()
        });
        let (mut server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        lab.state.policies.insert(
            PolicyId::new("np/default/default/web"),
            Policy::default().into(),
        );
        lab.table.apply(&lab.state).unwrap();
        client.write_all(b"still there?").unwrap();
        let mut heard = [0; 12];
        server.read_exact(&mut heard).unwrap();
        server.write_all(&heard).unwrap();
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still there?");
        let late = inside(&lab.friend.namespace, || {
            TcpStream::connect_timeout(&"10.65.0.2:80".parse().unwrap(), Duration::from_millis(300))
        });
        assert!(late.is_err(), "a new connection is under the new policy");
    });
}

#[test]
fn a_refusal_is_heard_at_once() {
    node(|| {
        let mut lab = lab();
        let host = HostRules {
            denied: Denied::Reject,
            ..HostRules::default()
        };
        lab.state.host = Arc::new(host);
        lab.table.apply(&lab.state).unwrap();
        // An address to say so from.
        run("ip addr add 192.0.2.1/32 dev lo");
        run("ip addr add fd00:9::1/128 dev lo nodad");
        for v4 in [true, false] {
            let to = SocketAddr::new(lab.web.address(v4), 81);
            let own = SocketAddr::new(lab.friend.address(v4), 0);
            let refused = inside(&lab.friend.namespace, || {
                TcpStream::connect_timeout(&to, PATIENCE)
            });
            let refused = refused.unwrap_err().kind();
            assert_eq!(refused, std::io::ErrorKind::ConnectionRefused, "{to}");
            let socket = inside(&lab.friend.namespace, || UdpSocket::bind(own).unwrap());
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send(b"?").unwrap();
            let refused = socket.recv(&mut [0; 8]).unwrap_err().raw_os_error();
            // Administratively prohibited, in the words of each family.
            let expected = if v4 {
                Errno::EHOSTUNREACH
            } else {
                Errno::EACCES
            };
            assert_eq!(refused.map(Errno::from_raw), Some(expected), "{to}");
        }
    });
}

#[test]
fn accepted_packets_carry_the_mark() {
    node(|| {
        let lab = lab();
        nft(&format!(
            "table inet ocnft-other {{ chain forward {{
                type filter hook forward priority 0; policy drop;
                meta mark & {ACCEPTED:#x} != 0 counter accept
            }}
            }}"
        ));
        let server = inside(&lab.web.namespace, || {
            UdpSocket::bind("10.65.0.2:80").unwrap()
        });
        let client = inside(&lab.friend.namespace, || {
            UdpSocket::bind("10.65.0.3:0").unwrap()
        });
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.send_to(b"?", "10.65.0.2:80").unwrap();
        let (_, from) = server
            .recv_from(&mut [0; 8])
            .expect("a new packet is marked");
        server.send_to(b"!", from).unwrap();
        client.recv_from(&mut [0; 8]).expect("an answer is marked");
    });
}

#[test]
fn a_pod_and_its_node() {
    node(|| {
        let mut lab = lab();
        run("ip addr add 10.0.0.1/32 dev lo");
        let ask = |lab: &mut Lab, rules: HostRules, port: u16| {
            lab.state.host = Arc::new(rules);
            lab.table.apply(&lab.state).unwrap();
            let node = UdpSocket::bind(("10.0.0.1", port)).unwrap();
            let pod = inside(&lab.friend.namespace, || {
                UdpSocket::bind("10.65.0.3:0").unwrap()
            });
            pod.send_to(b"?", ("10.0.0.1", port)).unwrap();
            // The node sends to itself behind it: what comes first says whether the pod's packet came.
            let own = UdpSocket::bind("10.0.0.1:0").unwrap();
            own.send_to(b"!", ("10.0.0.1", port)).unwrap();
            let mut heard = [0; 1];
            node.set_read_timeout(Some(PATIENCE)).unwrap();
            node.recv_from(&mut heard).unwrap();
            &heard == b"?"
        };
        let closed_to_pods = vec![(Protocol::UDP, 179)];
        let with = |endpoint_to_host| HostRules {
            endpoint_to_host,
            closed_to_pods: closed_to_pods.clone(),
            ..HostRules::default()
        };
        assert!(!ask(&mut lab, with(EndpointToHost::Drop), 7000));
        assert!(ask(&mut lab, with(EndpointToHost::Accept), 7001));
        assert!(ask(&mut lab, with(EndpointToHost::Return), 7002));
        assert!(!ask(&mut lab, with(EndpointToHost::Accept), 179));
        // The node reaches the pod, whose policy would not let it in.
        let pod = inside(&lab.web.namespace, || {
            UdpSocket::bind("10.65.0.2:9999").unwrap()
        });
        pod.set_read_timeout(Some(PATIENCE)).unwrap();
        let node = UdpSocket::bind("10.0.0.1:0").unwrap();
        node.send_to(b"?", "10.65.0.2:9999").unwrap();
        let (_, from) = pod
            .recv_from(&mut [0; 8])
            .expect("the node reaches its pods");
        pod.send_to(b"!", from).unwrap();
        node.set_read_timeout(Some(PATIENCE)).unwrap();
        node.recv_from(&mut [0; 8]).expect("and hears them");
    });
}

#[test]
fn pods_leave_with_an_address_of_the_node() {
    node(|| {
        let mut lab = lab();
        let outside = End::new("eth9", "192.0.2.9", "fd00:9::9");
        run("ip addr add 192.0.2.1/32 dev eth9");
        run("ip addr add fd00:9::1/128 dev eth9 nodad");
        lab.state.nat = Arc::new(Nat {
            sources: vec![net("10.65.0.0/16"), net("fd00::/64")],
            excluded: vec![net("10.65.0.0/16"), net("fd00::/64")],
            address: None,
            ports: Some(PortRange {
                first: 20_000,
                last: 20_999,
            }),
        });
        // A tunnel among the links: the rule for the node's own packets to it must load, too.
        let local: IpAddr = "192.0.2.1".parse().unwrap();
        let kind = LinkKind::Vxlan {
            vni: 4096,
            port: 4789,
            local,
            parent: None,
            mac: "02:00:00:00:00:01".parse().unwrap(),
        };
        let tunnel = Link::new(kind, 1450);
        lab.state.links.insert(link("vxlan.calico"), tunnel.into());
        lab.table.apply(&lab.state).unwrap();
        for v4 in [true, false] {
            let bind = |end: &End, port: u16| {
                let address = SocketAddr::new(end.address(v4), port);
                let socket = inside(&end.namespace, || UdpSocket::bind(address).unwrap());
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket
            };
            let (server, inner) = (bind(&outside, 53), bind(&lab.web, 80));
            let client = bind(&lab.friend, 40_000);
            for socket in [&server, &inner] {
                client.send_to(b"?", socket.local_addr().unwrap()).unwrap();
            }
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            let own = if v4 { "192.0.2.1" } else { "fd00:9::1" };
            assert_eq!(from.ip().to_string(), own);
            assert!((20_000..21_000).contains(&from.port()), "{from}");
            let (_, from) = inner.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(from, client.local_addr().unwrap(), "excluded");
        }
    });
}

/// A link to the outside that lets TCP alone through, and a failsafe port.
fn uplink(lab: &mut Lab) -> End {
    let outside = End::new("eth9", "192.0.2.9", "fd00:9::9");
    run("ip addr add 192.0.2.1/32 dev eth9");
    let tcp = || Rule {
        protocol: Some(Protocol::TCP),
        ..Rule::new(Action::Allow)
    };
    let policy = Policy {
        ingress: vec![tcp()],
        egress: vec![tcp()],
    };
    lab.state
        .policies
        .insert(PolicyId::new("gnp/default/host"), policy.into());
    let tiers = || vec![tier(&["gnp/default/host"])];
    let endpoint = HostEndpoint {
        link: Some(link("eth9")),
        ingress: tiers(),
        egress: tiers(),
        forward_ingress: tiers(),
        forward_egress: Vec::new(),
        profiles: Vec::new(),
    };
    lab.state
        .hosts
        .insert(EndpointId::new("uplink"), endpoint.into());
    let net = Some(net("192.0.2.0/24"));
    let safe = FailsafePort {
        protocol: Protocol::UDP,
        port: 68,
        net,
    };
    lab.state.host = Arc::new(HostRules {
        failsafe_in: vec![safe],
        ..HostRules::default()
    });
    lab.table.apply(&lab.state).unwrap();
    outside
}

#[test]
fn host_endpoints() {
    node(|| {
        let mut lab = lab();
        let outside = uplink(&mut lab);
        let listener = TcpListener::bind("192.0.2.1:80").unwrap();
        let failsafe = UdpSocket::bind("192.0.2.1:68").unwrap();
        let client = inside(&outside.namespace, || {
            let udp = UdpSocket::bind("192.0.2.9:0").unwrap();
            udp.send_to(b"?", "192.0.2.1:68").unwrap();
            TcpStream::connect_timeout(&"192.0.2.1:80".parse().unwrap(), PATIENCE)
        });
        client.expect("policy lets TCP in, and its answers out");
        drop(listener);
        failsafe.set_read_timeout(Some(PATIENCE)).unwrap();
        failsafe
            .recv_from(&mut [0; 8])
            .expect("a failsafe port is open");
        // Forwarded in: TCP only; then the pod's own policy.
        let mut udp = udp(true, &lab, 80);
        (udp.in_link, udp.source) = (Some(link("eth9")), outside.address(true));
        careless();
        outside.send(&udp, 1);
        assert!(!lab.state.verdict(&udp).is_allowed());
        assert!(!lab.web.received().contains(&1));
        // The other way: an answer of the outside is of an open connection.
        let server = inside(&outside.namespace, || {
            TcpListener::bind("192.0.2.9:443").unwrap()
        });
        let out = inside(&lab.friend.namespace, || {
            TcpStream::connect_timeout(&"192.0.2.9:443".parse().unwrap(), PATIENCE)
        });
        out.expect("pods reach the outside");
        drop(server);
    });
}

#[test]
fn counters_outlive_a_restart_and_a_neighbour() {
    node(|| {
        let mut lab = lab();
        careless();
        let chain = "policy-in/np/default/default/web";
        for number in 1..=3 {
            lab.friend.send(
                &Packet {
                    ports: Some((number, 80)),
                    ..udp(true, &lab, 80)
                },
                number,
            );
        }
        assert_eq!(lab.web.received().len(), 3);
        // TCP and UDP of each family.
        let before = counters(chain);
        assert_eq!(before, [Some(0), Some(0), Some(3), Some(0)]);
        lab.table = Table::open().unwrap();
        lab.table.apply(&lab.state).unwrap();
        let id = PolicyId::new("np/default/default/web");
        let mut policy = (*lab.state.policies[&id]).clone();
        policy.ingress.insert(0, Rule::new(Action::Log));
        lab.state.policies.insert(id, policy.into());
        lab.table.apply(&lab.state).unwrap();
        assert_eq!(counters(chain)[1..], before);
    });
}
