//! Packets under a false name: refused, and counted by reason.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicat_dataplane::State;
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{
    Denied, EndpointId, EndpointToHost, HostEndpoint, HostRules, Protocol, Set, SetId, TunnelGuard,
};
use ocicat_dataplane::verdict::{Connection, Packet, Verdict};

use crate::lab::*;
use crate::wire::*;

pub(crate) fn state() -> State {
    let mut state = small();
    let guard = |protocol, port| TunnelGuard {
        protocol,
        port,
        sources: SetId::new("all-nodes"),
    };
    let nodes = Set::new([host("192.0.2.9"), host("fd00:9::9")]);
    state.sets.insert(SetId::new("all-nodes"), nodes);
    state.host = Arc::new(HostRules {
        endpoint_to_host: EndpointToHost::Accept,
        tunnels: vec![guard(Protocol::UDP, Some(4789)), guard(Protocol(4), None)],
        denied: Denied::Drop,
        ..HostRules::default()
    });
    state
}

fn packet(from: (&str, &str), to: (Option<&str>, &str), protocol: Protocol) -> Packet {
    Packet {
        in_link: Some(link(from.0)),
        out_link: to.0.map(link),
        source: from.1.parse().unwrap(),
        destination: to.1.parse().unwrap(),
        protocol,
        ports: protocol.has_ports().then_some((40_000, 80)),
        icmp: None,
        connection: Connection::New,
    }
}

fn message(from: (&str, &str), to: (Option<&str>, &str), kind: u8) -> Packet {
    Packet {
        icmp: Some((kind, 0)),
        ..packet(from, to, Protocol::ICMPV6)
    }
}

fn outer(mut packet: Packet) -> Packet {
    packet.ports = Some((40_000, 4789));
    packet
}

pub(crate) fn cases() -> Vec<(Packet, &'static str)> {
    let p = ("cali1", "10.65.0.2");
    let p6 = ("cali1", "fd00::2");
    let to = (Some("cali2"), "10.65.0.3");
    let to6 = (Some("cali2"), "fd00::3");
    let spoofed = "the source is not the pod's";
    let of_pod = "tunnel packet of a pod";
    let stranger = "tunnel packet from a stranger";
    let (node, node6) = ((None, "192.0.2.1"), (None, "fd00:9::1"));
    vec![
        (packet(("cali1", "10.65.0.99"), to, Protocol::UDP), spoofed),
        (packet(("cali1", "10.65.0.3"), node, Protocol::TCP), spoofed),
        (packet(("cali1", "fd00::99"), to6, Protocol::UDP), spoofed),
        // Only neighbour discovery has a link-local source.
        (packet(("cali1", "fe80::99"), to6, Protocol::UDP), spoofed),
        // A neighbour solicitation under somebody else's address.
        (message(("cali1", "fd00::3"), node6, 135), spoofed),
        (message(p6, node6, 134), "router advertisement of a pod"),
        (message(p6, to6, 137), "redirect of a pod"),
        (
            packet(p, (None, "127.0.0.1"), Protocol::UDP),
            "to 127.0.0.0/8 from outside",
        ),
        (
            packet(("eth9", "192.0.2.66"), (None, "127.0.0.1"), Protocol::UDP),
            "to 127.0.0.0/8 from outside",
        ),
        (outer(packet(p, to, Protocol::UDP)), of_pod),
        (outer(packet(p6, to6, Protocol::UDP)), of_pod),
        (packet(p, to, Protocol(4)), of_pod),
        (packet(p6, to6, Protocol(4)), of_pod),
        (
            outer(packet(("cali1", "10.65.0.2"), node, Protocol::UDP)),
            stranger,
        ),
        (
            outer(packet(("eth9", "192.0.2.66"), node, Protocol::UDP)),
            stranger,
        ),
        (
            outer(packet(("eth9", "fd00:9::66"), node6, Protocol::UDP)),
            stranger,
        ),
        (packet(("eth9", "192.0.2.66"), node, Protocol(4)), stranger),
    ]
}

#[test]
fn every_reason_is_counted() {
    node(|| {
        forwarding();
        let pod = End::new("cali1", "10.65.0.2", "fd00::2");
        let _other = End::new("cali2", "10.65.0.3", "fd00::3");
        let outside = End::new("eth9", "192.0.2.66", "fd00:9::66");
        run("ip addr add 192.0.2.1/32 dev lo");
        run("ip addr add fd00:9::1/128 dev lo nodad");
        let state = state();
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        careless();
        for end in [&pod, &outside] {
            send_loopbacks_out(end);
        }
        for (number, (packet, reason)) in (1_u16..).zip(cases()) {
            let end = if packet.in_link == Some(link("cali1")) {
                &pod
            } else {
                &outside
            };
            let before = counted(&mut table, reason);
            end.send(&packet, number);
            end.received();
            let after = counted(&mut table, reason);
            assert_eq!(
                after,
                before + 1,
                "{packet:?}: {reason}\n{:?}",
                table.counters()
            );
            let verdict = state.verdict(&packet);
            assert!(
                matches!(verdict, Verdict::Denied(_)),
                "{packet:?}: {verdict:?}"
            );
        }
        arp(&pod, &mut table);
    });
}

/// Makes an end's own kernel send what is meant for 127.0.0.1 out.
fn send_loopbacks_out(end: &End) {
    inside(&end.namespace, || {
        for route in ["127.0.0.1", "127.0.0.0/8", "127.255.255.255"] {
            let kind = if route.ends_with("255") {
                "broadcast"
            } else {
                "local"
            };
            run(&format!("ip route del table local {kind} {route} dev lo"));
        }
        run("ip route add 127.0.0.0/8 via 169.254.1.1");
    });
}

/// Where the kernel itself would let it in, as it must for a host port of localhost (CVE-2020-8558).
#[test]
fn the_nodes_loopback_is_closed_whatever_the_kernel_says() {
    node(|| {
        forwarding();
        let pod = End::new("cali1", "10.65.0.2", "fd00::2");
        let outside = End::new("eth9", "192.0.2.66", "fd00:9::66");
        let server = UdpSocket::bind("127.0.0.1:7000").unwrap();
        server
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        for (name, end) in [("cali1", &pod), ("eth9", &outside)] {
            run(&format!("sysctl -qw net.ipv4.conf.{name}.route_localnet=1"));
            send_loopbacks_out(end);
        }
        let say = |end: &End, word: &[u8]| {
            let own = (end.v4, 0);
            let socket = inside(&end.namespace, || UdpSocket::bind(own).unwrap());
            socket.send_to(word, "127.0.0.1:7000").unwrap();
        };
        let mut heard = [0; 8];
        for end in [&pod, &outside] {
            say(end, b"early");
            let heard = server.recv(&mut heard);
            assert_eq!(heard.ok(), Some(5), "the kernel lets it in");
        }
        let mut table = Table::open().unwrap();
        table.apply(&state()).unwrap();
        for end in [&pod, &outside] {
            say(end, b"late");
        }
        let reason = "to 127.0.0.0/8 from outside";
        let deadline = Instant::now() + Duration::from_secs(10);
        while counted(&mut table, reason) < 2 {
            assert!(Instant::now() < deadline, "not counted");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The node's own comes, and nothing before it.
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        own.send_to(b"own", "127.0.0.1:7000").unwrap();
        let length = server.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"own");
    });
}

/// Neighbour messages: the source, the type, the address that they are about, and whether that is the pod's to say.
const NEIGHBOURS: [(&str, u8, &str, bool); 10] = [
    ("fd00::2", 136, "fd00::2", true),
    ("fd00::2", 136, "fd00::3", false),
    ("fe80::99", 136, "fd00::3", false),
    ("fe80::99", 136, "fe80::99", true),
    ("fd00::2", 136, "fd09::7", true),
    ("fd00::2", 136, "fd0a::7", false),
    // Who has no address yet asks whether it may have this one; who has asks for whom it likes.
    ("::", 135, "fd00::3", false),
    ("::", 135, "fd00::2", true),
    ("fd00::2", 135, "fd00::3", true),
    ("fe80::99", 135, "fe80::1", true),
];

#[test]
fn neighbour_messages_are_about_the_pods_own_addresses() {
    let reason = "the neighbour message is about an address of another";
    node(move || {
        forwarding();
        let pod = End::new("cali1", "10.65.0.2", "fd00::2");
        // Without an IPv6 address it has nothing to say.
        let bare = End::new("cali3", "10.65.0.4", "fd00::4");
        run("ip addr add fd00:9::1/128 dev lo nodad");
        let mut state = state();
        let own = state.workloads.get_mut(&link("cali1")).unwrap();
        Arc::make_mut(own).allowed_sources = vec![net("fd09::/64")];
        let only4 = workload(&["10.65.0.4"], Vec::new(), Vec::new());
        state.workloads.insert(link("cali3"), only4.into());
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        careless();
        let mut expected = 0;
        let bare_claims = (&bare, "cali3", ("fe80::77", 136, "fd00::4", false));
        let claims = NEIGHBOURS.iter().map(|claim| (&pod, "cali1", *claim));
        let claims = claims.chain([bare_claims]);
        for (number, (end, name, (source, kind, target, own))) in (1_u16..).zip(claims) {
            let packet = message((name, source), (None, "fd00:9::1"), kind);
            let target: std::net::Ipv6Addr = target.parse().unwrap();
            let mut payload = vec![kind, 0, 0, 0, 0x20, 0, 0, 0];
            payload.extend(target.octets());
            let before: u64 = all_denied(&mut table);
            end.send_bytes(packet.destination, &with_payload(&packet, number, &payload));
            end.received();
            expected += u64::from(!own);
            let case = format!("{kind} from {source} about {target}");
            assert_eq!(counted(&mut table, reason), expected, "{case}");
            let after = all_denied(&mut table);
            assert_eq!(after - before, u64::from(!own), "{case}");
        }
    });
}

pub(crate) fn all_denied(table: &mut Table) -> u64 {
    let denied = table.counters().unwrap().denied;
    denied.values().map(|count| count.packets).sum()
}

pub(crate) fn counted(table: &mut Table, reason: &str) -> u64 {
    let denied: BTreeMap<_, _> = table.counters().unwrap().denied;
    let count = denied.get(reason);
    count
        .unwrap_or_else(|| panic!("no rule counts `{reason}`: {denied:#?}"))
        .packets
}

/// The pod asks for its gateway, first in its own name, then in another's.
fn arp(pod: &End, table: &mut Table) {
    let reason = "the ARP sender is not the pod";
    let ask = |address: &str| {
        inside(&pod.namespace, || {
            run("ip neigh flush dev eth0 nud permanent");
            let socket = UdpSocket::bind((address, 0)).unwrap();
            socket.send_to(b"?", "169.254.1.1:9").unwrap();
        });
    };
    run("ip addr add 169.254.1.1/32 dev cali1");
    ask("10.65.0.2");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !inside(&pod.namespace, || run("ip neigh show dev eth0")).contains("ee:ee:ee") {
        assert!(
            Instant::now() < deadline,
            "the node does not answer the pod's own ARP"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(counted(table, reason), 0);
    inside(&pod.namespace, || run("ip addr add 10.65.0.3/32 dev eth0"));
    inside(&pod.namespace, || run("ip neigh flush dev eth0"));
    ask("10.65.0.3");
    while counted(table, reason) == 0 {
        assert!(
            Instant::now() < deadline,
            "nothing counted the other's address"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let neighbours = run("ip neigh show dev cali1");
    assert!(!neighbours.contains("10.65.0.3"), "{neighbours}");
}

#[test]
fn known_nodes_reach_the_tunnel_and_nobody_tracks_it() {
    node(|| {
        forwarding();
        let peer = End::new("eth9", "192.0.2.9", "fd00:9::9");
        run("ip addr add 192.0.2.1/32 dev lo");
        let mut state = state();
        // A node whose own interface lets nothing in or out.
        let endpoint = HostEndpoint {
            link: Some(link("eth9")),
            ingress: Vec::new(),
            egress: Vec::new(),
            forward_ingress: Vec::new(),
            forward_egress: Vec::new(),
            profiles: Vec::new(),
        };
        state.hosts.insert(EndpointId::new("eth9"), endpoint.into());
        Table::open().unwrap().apply(&state).unwrap();
        let tunnel = UdpSocket::bind("192.0.2.1:4789").unwrap();
        let remote = inside(&peer.namespace, || {
            UdpSocket::bind("192.0.2.9:4789").unwrap()
        });
        for socket in [&tunnel, &remote] {
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
        }
        remote.send_to(b"?", "192.0.2.1:4789").unwrap();
        tunnel.recv_from(&mut [0; 8]).expect("from a known node");
        // In a flow of its own: it is no answer.
        let own = UdpSocket::bind("192.0.2.1:50000").unwrap();
        own.send_to(b"!", "192.0.2.9:4789").unwrap();
        remote.recv_from(&mut [0; 8]).expect("to a known node");
        let tracked = std::fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack").unwrap();
        let entries = tracked
            .lines()
            .nth(1)
            .and_then(|line| line.split_whitespace().next());
        assert_eq!(entries, Some("00000000"), "{tracked}");
    });
}

/// An IPv4 redirect is about a connection, and an open one's is of it: it may not go where the connection may.
#[test]
fn a_pods_redirects_about_open_connections_are_refused() {
    node(|| {
        forwarding();
        let pod = End::new("cali1", "10.65.0.2", "fd00::2");
        let friend = End::new("cali2", "10.65.0.3", "fd00::3");
        let mut table = Table::open().unwrap();
        table.apply(&state()).unwrap();
        careless();
        let asked = packet(
            ("cali2", "10.65.0.3"),
            (Some("cali1"), "10.65.0.2"),
            Protocol::UDP,
        );
        friend.send(&asked, 1);
        assert_eq!(pod.received(), [1], "the connection is open");
        let about = |kind: u8, code: u8, gateway: [u8; 4]| {
            let mut message = vec![kind, code, 0, 0];
            message.extend(gateway);
            message.extend(bytes(&asked, 1));
            message
        };
        let answer = Packet {
            protocol: Protocol::ICMP,
            ports: None,
            ..packet(
                ("cali1", "10.65.0.2"),
                (Some("cali2"), "10.65.0.3"),
                Protocol::UDP,
            )
        };
        // That the port is closed is heard; by which way the packets should go is not the pod's to say.
        let unreachable = with_payload(&answer, 2, &about(3, 3, [0; 4]));
        pod.send_bytes(answer.destination, &unreachable);
        assert_eq!(friend.received(), [2]);
        let reason = "redirect of a pod";
        let before = counted(&mut table, reason);
        for code in 0..4 {
            let redirect = with_payload(&answer, 3, &about(5, code, [10, 65, 0, 2]));
            pod.send_bytes(answer.destination, &redirect);
        }
        assert_eq!(friend.received(), [] as [u16; 0]);
        assert_eq!(counted(&mut table, reason), before + 4);
    });
}
