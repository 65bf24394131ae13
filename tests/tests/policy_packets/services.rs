//! Services as kube-proxy makes them, in the shape of its nftables mode and of its iptables mode: policy sees the
//! address behind the translation, a pod reaches itself by its Service, node ports and host ports work.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use ocicat_dataplane::state::HostRules;
use serde_json::{Value, json};

use crate::lab::{inside, nft, node, run};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing comes: a connection that is dropped gives no sign.
const SILENCE: Duration = Duration::from_millis(500);

/// Service 10.96.0.1:443 with pod a as its endpoint, node port 30443, and a host port 8443 of pod a.
const NFTABLES: &str = r"
table ip kube-proxy {
  map service-ips {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.1 . tcp . 443 : goto service-web }
  }
  map service-nodeports {
    type inet_proto . inet_service : verdict
    elements = { tcp . 30443 : goto external-web, tcp . 8443 : goto hostport-web }
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-output { type nat hook output priority -100; policy accept; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; jump masquerading; }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr 192.0.2.1 meta l4proto . th dport vmap @service-nodeports
  }
  chain service-web { numgen random mod 1 vmap { 0 : goto endpoint-a }; }
  chain external-web { jump mark-for-masquerade; goto service-web; }
  chain hostport-web { meta l4proto tcp dnat to 10.65.0.2:80; }
  chain endpoint-a { ip saddr 10.65.0.2 jump mark-for-masquerade; meta l4proto tcp dnat to 10.65.0.2:80; }
  chain mark-for-masquerade { meta mark set meta mark | 0x4000; }
  chain masquerading {
    meta mark & 0x4000 == 0 return
    meta mark set meta mark & 0xffffbfff
    masquerade fully-random
  }
}";

/// The same as iptables would write it.
const IPTABLES: &str = r"
table ip nat {
  chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; jump KUBE-SERVICES; jump CNI-HOSTPORT-DNAT; }
  chain OUTPUT { type nat hook output priority -100; policy accept; jump KUBE-SERVICES; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept; jump KUBE-POSTROUTING; }
  chain KUBE-SERVICES {
    meta l4proto tcp ip daddr 10.96.0.1 tcp dport 443 counter jump KUBE-SVC-WEB
    fib daddr type local counter jump KUBE-NODEPORTS
  }
  chain KUBE-NODEPORTS { tcp dport 30443 counter jump KUBE-EXT-WEB; }
  chain KUBE-EXT-WEB { counter jump KUBE-MARK-MASQ; counter jump KUBE-SVC-WEB; }
  chain KUBE-SVC-WEB { counter jump KUBE-SEP-A; }
  chain KUBE-SEP-A { ip saddr 10.65.0.2 counter jump KUBE-MARK-MASQ; meta l4proto tcp counter dnat to 10.65.0.2:80; }
  chain CNI-HOSTPORT-DNAT { tcp dport 8443 fib daddr type local counter dnat to 10.65.0.2:80; }
  chain KUBE-MARK-MASQ { counter meta mark set meta mark | 0x4000; }
  chain KUBE-POSTROUTING {
    meta mark & 0x4000 == 0 counter return
    counter meta mark set meta mark ^ 0x4000
    counter masquerade fully-random
  }
}";

/// Lets TCP port 80 of pod a in from `from`.
fn policy(from: &Value) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "default.web"},
        "spec": {"tier": "default", "order": 1, "selector": "pod == 'a'", "types": ["Ingress"],
                 "ingress": [{"action": "Allow", "protocol": "TCP", "source": from,
                              "destination": {"ports": [80]}}]},
    })
}

/// Whether a connection from there comes to the server, and answers back; the client's address as the server sees it.
fn reaches(
    from: &OwnedFd,
    to: SocketAddr,
    server: &TcpListener,
    patience: Duration,
) -> Option<String> {
    let mut client = inside(from, || TcpStream::connect_timeout(&to, patience).ok())?;
    let (mut stream, peer) = server.accept().unwrap();
    for one in [&client, &stream] {
        one.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut heard = [0; 1];
    client.write_all(b"?").unwrap();
    stream.read_exact(&mut heard).unwrap();
    stream.write_all(b"!").unwrap();
    client.read_exact(&mut heard).unwrap();
    Some(peer.ip().to_string())
}

/// The same rules, or the same address, of IPv6.
fn of_ipv6(text: &str) -> String {
    let pairs = [
        ("table ip ", "table ip6 "),
        ("ip daddr", "ip6 daddr"),
        ("ip saddr", "ip6 saddr"),
        ("ipv4_addr", "ipv6_addr"),
        ("dnat to 10.65.0.2:80", "dnat to [fd00::2]:80"),
        ("192.0.2.0/24", "fd00:9::/64"),
        ("10.96.0.1", "fd96::1"),
        ("192.0.2.1", "fd00:9::1"),
        ("192.0.2.9", "fd00:9::9"),
        ("10.65.0.", "fd00::"),
    ];
    let replaced = |text: String, (from, to): (&str, &str)| text.replace(from, to);
    pairs.into_iter().fold(text.to_owned(), replaced)
}

fn through(rules: &'static str) {
    for v4 in [true, false] {
        node(move || reached(rules, v4));
    }
}

fn reached(rules: &str, v4: bool) {
    let of = |text: &str| if v4 { text.to_owned() } else { of_ipv6(text) };
    let at = |address: &str, port: u16| SocketAddr::new(of(address).parse().unwrap(), port);
    let mut world = World::new();
    nft(&of(rules));
    // As on every node; kube-proxy's rules come after the choice of a route.
    run("ip route add default dev eth9");
    run("ip -6 route add default dev eth9");
    let service = at("10.96.0.1", 443);
    let [a, b, c, outside] = [0, 1, 2, 3].map(|at: usize| world.ends[at].namespace.clone());
    let listen = at("10.65.0.2", 80);
    let server = inside(&a, || TcpListener::bind(listen).unwrap());
    let mut let_in = |from: Value| world.apply(&[policy(&from)], &HostRules::default());
    let see = |from: &OwnedFd, to: SocketAddr, patience| reaches(from, to, &server, patience);
    let_in(json!({"selector": "pod == 'b'"}));
    // The rule names port 80, the Service's is another: policy sees the pod's.
    assert_eq!(see(&b, service, PATIENCE), Some(of("10.65.0.3")));
    assert_eq!(
        see(&c, service, SILENCE),
        None,
        "policy lets pod b in alone"
    );
    // By its Service a pod reaches itself, whatever its policy says, under an address of the node.
    let itself = see(&a, service, PATIENCE).expect("a pod reaches itself");
    assert_ne!(itself, of("10.65.0.2"));
    // The node itself is let in to its own pods.
    let own = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    assert!(see(&OwnedFd::from(own), service, PATIENCE).is_some());

    let (host_port, node_port) = (at("192.0.2.1", 8443), at("192.0.2.1", 30443));
    assert_eq!(see(&outside, host_port, SILENCE), None);
    let_in(json!({"nets": [of("192.0.2.0/24")]}));
    // A host port keeps the client's address; a node port has the node's, after policy has seen the client's.
    assert_eq!(see(&outside, host_port, PATIENCE), Some(of("192.0.2.9")));
    let by_node_port = see(&outside, node_port, PATIENCE).expect("policy sees the client");
    assert_ne!(by_node_port, of("192.0.2.9"));
    assert_eq!(see(&b, service, SILENCE), None);
}

#[test]
fn of_kube_proxys_nftables_mode() {
    through(NFTABLES);
}

#[test]
fn of_kube_proxys_iptables_mode() {
    through(IPTABLES);
}
