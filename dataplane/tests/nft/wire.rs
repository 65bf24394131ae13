//! Packets on the wire: pods with real links, raw packets between them, and who got which.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use ocicat_dataplane::state::Protocol;
use ocicat_dataplane::verdict::Packet;

use crate::lab::{inside, namespace, nft, run};

/// A namespace behind a link of the node, with one address of each family.
pub(crate) struct End {
    pub(crate) namespace: Arc<OwnedFd>,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    link: String,
    raw: [OwnedFd; 2],
    seen: OwnedFd,
    heard: Cell<u64>,
}

thread_local! {
    /// The packets that ends of this thread's node have sent.
    static SENT: Cell<u64> = const { Cell::new(0) };
}

/// The traffic class and the hops of the tests' own packets, by which answers of the kernel are told from them.
const CLASS: u8 = 0x28;
const HOPS: u8 = 44;

/// The header of a piece of an IPv6 packet (RFC 8200, section 4.5).
const FRAGMENT: u8 = 44;

/// How long packets may be on their way: a machine with other work hands them on late.
const PATIENCE: Duration = Duration::from_secs(60);

impl End {
    /// Connects a new namespace to the node by the link `name`.
    pub(crate) fn new(name: &str, v4: &str, v6: &str) -> Self {
        let namespace = namespace();
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        run(&format!(
            "ip link add {name} address ee:ee:ee:ee:ee:ee type veth peer name eth0"
        ));
        run(&format!("ip link set eth0 netns {path}"));
        run(&format!("ip link set {name} up"));
        let (raw, seen) = inside(&namespace, || settle(v4, v6));
        let patience = TimeVal::seconds(60);
        setsockopt(&seen, sockopt::ReceiveTimeout, &patience).unwrap();
        setsockopt(&seen, sockopt::RcvBufForce, &(8 << 20)).ok();
        // Neighbours are known: nothing in these tests waits for ARP.
        let text = inside(&namespace, || run("ip -j link show eth0"));
        let links: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mac = links[0]["address"].as_str().unwrap();
        run(&format!("ip route add {v4}/32 dev {name}"));
        run(&format!("ip -6 route add {v6}/128 dev {name}"));
        for address in [v4, v6] {
            run(&format!("ip neigh add {address} lladdr {} dev {name}", mac));
        }
        let (v4, v6) = (v4.parse().unwrap(), v6.parse().unwrap());
        watch(name);
        Self {
            namespace,
            v4,
            v6,
            link: name.to_owned(),
            raw,
            seen,
            heard: Cell::new(0),
        }
    }

    pub(crate) fn address(&self, v4: bool) -> IpAddr {
        if v4 { self.v4.into() } else { self.v6.into() }
    }

    /// Sends a packet with a number, from whatever source it says.
    pub(crate) fn send(&self, packet: &Packet, number: u16) {
        self.send_bytes(packet.destination, &bytes(packet, number));
    }

    /// Sends a whole packet.
    pub(crate) fn send_bytes(&self, destination: IpAddr, bytes: &[u8]) {
        let [v4, v6] = &self.raw;
        SENT.set(SENT.get() + 1);
        let sent = match destination {
            IpAddr::V4(to) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendto(v4.as_raw_fd(), bytes, &to, MsgFlags::empty())
            }
            IpAddr::V6(to) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                sendto(v6.as_raw_fd(), bytes, &to, MsgFlags::empty())
            }
        };
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// The numbers of the packets that arrived since the last call. Nothing is guessed from time: the node has counted
    /// as many as were sent, and as many are read as it has handed on to this end.
    pub(crate) fn received(&self) -> Vec<u16> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (sent, seen) = (SENT.get(), watched("before", None));
            if seen == sent {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{sent} packets were sent, the node has seen {seen}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let all = watched("after", Some(&self.link));
        let mut numbers = Vec::new();
        let mut buffer = [0; 2048];
        while self.heard.get() < all {
            let length = recv(self.seen.as_raw_fd(), &mut buffer, MsgFlags::empty())
                .unwrap_or_else(|errno| {
                    panic!(
                        "{} packets left, {} arrived: {errno}",
                        all,
                        self.heard.get()
                    )
                });
            if let Some(number) = number_of(&buffer[..length], self) {
                numbers.push(number);
                self.heard.set(self.heard.get() + 1);
            }
        }
        numbers
    }
}

/// Gives the calling thread's namespace its addresses and routes; the sockets to send whole packets by and to see all.
fn settle(v4: &str, v6: &str) -> ([OwnedFd; 2], OwnedFd) {
    for line in [
        "ip link set lo up".to_owned(),
        "sysctl -qw net.ipv6.conf.eth0.accept_dad=0".to_owned(),
        "ip link set eth0 up".to_owned(),
        format!("ip addr add {v4}/32 dev eth0"),
        format!("ip addr add {v6}/128 dev eth0 nodad"),
        "ip route add 169.254.1.1 dev eth0".to_owned(),
        "ip route add default via 169.254.1.1".to_owned(),
        "ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0".to_owned(),
        "ip neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0".to_owned(),
        "ip route add default via fe80::1 dev eth0".to_owned(),
    ] {
        run(&line);
    }
    let raw = [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
        socket(
            family,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        )
        .unwrap()
    });
    let seen = socket(
        AddressFamily::Packet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .unwrap();
    (raw, seen)
}

/// Counts the tests' own packets where they come into the node, and where they leave it by a link.
fn watch(link: &str) {
    let hops = HOPS - 1;
    nft("table inet ocnft-watch {
            chain before { type filter hook prerouting priority -500; }
            chain after { type filter hook postrouting priority 500; }
        }");
    if watched_rules("before").is_empty() {
        nft(&format!(
            "add rule inet ocnft-watch before ip ttl {HOPS} counter
             add rule inet ocnft-watch before ip6 hoplimit {HOPS} counter"
        ));
    }
    nft(&format!(
        "add rule inet ocnft-watch after oifname \"{link}\" ip ttl {hops} counter comment \"{link}\"
         add rule inet ocnft-watch after oifname \"{link}\" ip6 hoplimit {hops} counter comment \"{link}\""
    ));
}

fn watched_rules(chain: &str) -> Vec<serde_json::Value> {
    let text = run(&format!("nft -j list chain inet ocnft-watch {chain}"));
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let all = all["nftables"].as_array().unwrap().iter();
    all.filter_map(|one| one.get("rule").cloned()).collect()
}

/// The packets that a chain of [`watch`] has counted, for one link or all.
fn watched(chain: &str, link: Option<&str>) -> u64 {
    let rules = watched_rules(chain).into_iter();
    let rules = rules.filter(|rule| link.is_none() || rule["comment"].as_str() == link);
    let count = |rule: serde_json::Value| {
        let mut parts = rule["expr"].as_array().unwrap().iter();
        parts
            .find_map(|part| part["counter"]["packets"].as_u64())
            .unwrap()
    };
    rules.map(count).sum()
}

/// The number in a packet for this end; `None` for what the end itself sends, and for ARP.
fn number_of(bytes: &[u8], end: &End) -> Option<u16> {
    let own = |hops: u8| hops == HOPS || hops == HOPS - 1;
    match bytes.first()? >> 4 {
        4 if !own(*bytes.get(8)?) => None,
        6 if !own(*bytes.get(7)?) => None,
        // Of a packet in pieces the first is meant.
        6 if *bytes.get(6)? == FRAGMENT
            && u16::from_be_bytes([*bytes.get(42)?, *bytes.get(43)?]) & 0xfff8 != 0 =>
        {
            None
        }
        4 if u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x1fff != 0 => None,
        4 if bytes.get(16..20)? == end.v4.octets() && *bytes.get(1)? == CLASS => {
            Some(u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]))
        }
        6 if bytes.get(24..40)? == end.v6.octets() && *bytes.get(1)? == CLASS << 4 => {
            Some(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))
        }
        _ => None,
    }
}

/// The packet's bytes, its number in the identification field or the flow label.
pub(crate) fn bytes(packet: &Packet, number: u16) -> Vec<u8> {
    with_payload(packet, number, &transport(packet))
}

/// A packet with what follows the IP header given.
pub(crate) fn with_payload(packet: &Packet, number: u16, payload: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    match (packet.source, packet.destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(payload.len() + 20).unwrap();
            all.extend([0x45, CLASS]);
            all.extend(length.to_be_bytes());
            all.extend(number.to_be_bytes());
            // The kernel fills the checksum in.
            all.extend([0, 0, HOPS, packet.protocol.0, 0, 0]);
            all.extend(from.octets());
            all.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            all.extend([0x60 | CLASS >> 4, CLASS << 4]);
            all.extend(number.to_be_bytes());
            all.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            all.extend([packet.protocol.0, HOPS]);
            all.extend(from.octets());
            all.extend(to.octets());
        }
        _ => panic!("two families in one packet"),
    }
    all.extend(payload);
    all
}

/// A packet in pieces of which the first has so many bytes behind the IP header, a multiple of eight. `next` is the first
/// header of the payload.
pub(crate) fn in_pieces(
    packet: &Packet,
    number: u16,
    next: u8,
    payload: &[u8],
    first: usize,
) -> Vec<Vec<u8>> {
    let parts = [(0, &payload[..first]), (first, &payload[first..])];
    let parts = parts.into_iter().filter(|(_, part)| !part.is_empty());
    let whole = payload.len();
    let piece = |(at, part): (usize, &[u8])| {
        let more = at + part.len() < whole;
        // In units of eight bytes.
        let offset = u16::try_from(at / 8).unwrap();
        if packet.source.is_ipv4() {
            let mut bytes = with_payload(packet, number, part);
            let flags = if more { 0x2000 } else { 0 };
            bytes[6..8].copy_from_slice(&(flags | offset).to_be_bytes());
            return bytes;
        }
        let mut inner = vec![next, 0];
        inner.extend((offset << 3 | u16::from(more)).to_be_bytes());
        inner.extend([0x0c, 0xa7]);
        inner.extend(number.to_be_bytes());
        inner.extend(part);
        let mut bytes = with_payload(packet, number, &inner);
        bytes[6] = FRAGMENT;
        bytes
    };
    parts.map(piece).collect()
}

/// The header behind IP. Checksums are left out: the node does not look at them.
pub(crate) fn transport(packet: &Packet) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some((from, to)) = packet.ports {
        all.extend(from.to_be_bytes());
        all.extend(to.to_be_bytes());
    }
    match packet.protocol {
        // A SYN without options.
        Protocol::TCP => all.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]),
        // The checksum of UDP-Lite is not optional, and here it is wrong.
        Protocol::UDP | Protocol::UDPLITE => all.extend([0, 8, 0xff, 0xff]),
        // INIT, with one stream each way.
        Protocol::SCTP => {
            all.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20]);
            all.extend([0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
        }
        _ => {
            let (kind, code) = packet.icmp.unwrap_or((0, 0));
            // Each is a connection of its own.
            static IDENTIFIER: AtomicU16 = AtomicU16::new(1);
            let [a, b] = IDENTIFIER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            all.extend([kind, code, 0, 0, a, b, 0, 1]);
        }
    }
    all
}

/// The node's own settings: it forwards, and does not look at checksums.
pub(crate) fn forwarding() {
    for setting in [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.default.rp_filter=0",
        "net.ipv6.conf.default.accept_dad=0",
    ] {
        run(&format!("sysctl -qw {setting}"));
    }
}

/// After the table is there: connection tracking takes packets without checksums.
pub(crate) fn careless() {
    run("sysctl -qw net.netfilter.nf_conntrack_checksum=0");
}
