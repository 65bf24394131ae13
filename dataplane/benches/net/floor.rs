//! An attachment's messages, made beforehand by another encoder and sent on sockets that are open already: what the
//! kernel needs, and nothing else.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecUnspec, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::neighbour_table::{
    NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sched::{CloneFlags, setns};
use ocicat_dataplane::{Attachment, names};

/// Stands for the index of the node's end, which only the kernel knows.
const HOST: u32 = 0x7a7a_7a01;
/// Stands for the index of the container's end.
const INNER: u32 = 0x7a7a_7a02;

pub(crate) struct Floor {
    attachment: Attachment,
    host: Socket,
    inner: Socket,
    create: Vec<u8>,
    look: Vec<u8>,
    node: Vec<u8>,
    pod: Vec<u8>,
    again: Vec<u8>,
    index: u32,
}

impl Floor {
    pub(crate) fn new(attachment: &Attachment) -> Self {
        let pod = attachment.namespace.try_clone().expect("a descriptor");
        let inside = std::thread::spawn(move || {
            setns(pod.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns");
            socket()
        });
        settings(attachment);
        Self {
            host: socket(),
            inner: inside.join().expect("a thread"),
            create: datagram(vec![create(attachment)]),
            look: datagram_of(vec![(look(attachment.host_link.as_str()), 0)], false),
            node: datagram(node(attachment)),
            pod: datagram(inner(attachment)),
            again: datagram_of(vec![(look_at(INNER), 0)], false),
            index: 0,
            attachment: attachment.clone(),
        }
    }

    pub(crate) const fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// The index of the node's end, once attached.
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// Sends everything and reads the answers; how long it took.
    pub(crate) fn attach(&mut self) -> Duration {
        let started = Instant::now();
        done(&send(&self.host, &self.create));
        let found = send(&self.host, &self.look);
        let (host, inner) = (word(&found, 20), peer(&found));
        put(&mut self.node, HOST, host);
        put(&mut self.pod, INNER, inner);
        put(&mut self.again, INNER, inner);
        done(&send(&self.host, &self.node));
        done(&send(&self.inner, &self.pod));
        send(&self.inner, &self.again);
        send(&self.host, &self.look);
        let took = started.elapsed();
        self.index = host;
        took
    }

    pub(crate) fn detach(&mut self) -> Duration {
        let mut message = LinkMessage::default();
        message.header.index = self.index;
        let bytes = datagram(vec![(RouteNetlinkMessage::DelLink(message), 0)]);
        let started = Instant::now();
        done(&send(&self.host, &bytes));
        started.elapsed()
    }
}

/// What the attachment sets without netlink is the namespaces' default here, so that its check finds nothing amiss.
fn settings(attachment: &Attachment) {
    let set = |names: &[(&str, &str)]| {
        for (name, value) in names {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{name}"), value)
                .expect("a setting");
        }
    };
    set(&[
        ("accept_dad", "0"),
        ("accept_ra", "0"),
        ("accept_redirects", "0"),
        ("proxy_ndp", "1"),
        ("forwarding", "1"),
    ]);
    let _ = attachment;
}

type Message = (RouteNetlinkMessage, u16);

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn create(attachment: &Attachment) -> Message {
    let end = |name: &str| {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(attachment.mtu),
        ];
        message
    };
    let mut there = end(attachment.container_link.as_str());
    there
        .attributes
        .push(LinkAttribute::NetNsFd(attachment.namespace.as_raw_fd()));
    let mut here = end(attachment.host_link.as_str());
    here.attributes.extend([
        LinkAttribute::Address(names::HOST_MAC.0.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(there))),
        ]),
    ]);
    (RouteNetlinkMessage::NewLink(here), NEW)
}

pub(crate) fn look(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    RouteNetlinkMessage::GetLink(message)
}

fn look_at(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    RouteNetlinkMessage::GetLink(message)
}

fn up(index: u32, more: Vec<LinkAttribute>) -> Message {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.change_mask = LinkFlags::Up;
    message.header.flags = LinkFlags::Up;
    message.attributes = more;
    (RouteNetlinkMessage::SetLink(message), 0)
}

/// The node's side: alias, settings, up; ARP at once; the route.
fn node(attachment: &Attachment) -> Vec<Message> {
    let mut conf = 36_u16.to_ne_bytes().to_vec();
    conf.extend_from_slice(&1_u16.to_ne_bytes());
    for (number, value) in [(1_u16, 1_u32), (3, 1), (4, 0), (8, 1)] {
        conf.extend_from_slice(&8_u16.to_ne_bytes());
        conf.extend_from_slice(&number.to_ne_bytes());
        conf.extend_from_slice(&value.to_ne_bytes());
    }
    let more = vec![
        LinkAttribute::IfAlias(attachment.alias.clone()),
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Other(DefaultNla::new(2, conf))]),
    ];
    let mut table = NeighbourTableMessage::default();
    table.header.family = AddressFamily::Inet;
    table.attributes = vec![
        NeighbourTableAttribute::Name("arp_cache".to_owned()),
        NeighbourTableAttribute::Parms(vec![
            NeighbourTableParameter::Ifindex(HOST),
            NeighbourTableParameter::ProxyDelay(0),
        ]),
    ];
    let route = route(attachment.addresses[0], 32, None, HOST, 80, NEW);
    vec![
        up(HOST, more),
        (RouteNetlinkMessage::SetNeighbourTable(table), 0),
        route,
    ]
}

/// The container's side: both links up, the address, the gateway's entry and routes.
fn inner(attachment: &Attachment) -> Vec<Message> {
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet;
    address.header.prefix_len = 32;
    address.header.index = INNER;
    let own = attachment.addresses[0];
    address.attributes = vec![AddressAttribute::Local(own), AddressAttribute::Address(own)];
    let mut entry = NeighbourMessage::default();
    entry.header.family = AddressFamily::Inet;
    entry.header.ifindex = INNER;
    entry.header.state = NeighbourState::Permanent;
    entry.header.kind = RouteType::Unicast;
    entry.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(names::GATEWAY_V4)),
        NeighbourAttribute::LinkLayerAddress(names::HOST_MAC.0.to_vec()),
    ];
    let gateway = IpAddr::V4(names::GATEWAY_V4);
    let any = IpAddr::from([0, 0, 0, 0]);
    vec![
        up(INNER, Vec::new()),
        up(1, Vec::new()),
        (RouteNetlinkMessage::NewAddress(address), NEW),
        (RouteNetlinkMessage::NewNeighbour(entry), NEW),
        route(gateway, 32, None, INNER, 3, NEW),
        route(any, 0, Some(gateway), INNER, 3, NEW),
    ]
}

fn route(
    to: IpAddr,
    length: u8,
    via: Option<IpAddr>,
    link: u32,
    protocol: u8,
    flags: u16,
) -> Message {
    let address = |ip| match ip {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = length;
    message.header.table = 254;
    message.header.protocol = RouteProtocol::from(protocol);
    message.header.scope = if via.is_some() {
        RouteScope::Universe
    } else {
        RouteScope::Link
    };
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(address(to)),
        RouteAttribute::Oif(link),
    ];
    message
        .attributes
        .extend(via.map(|ip| RouteAttribute::Gateway(address(ip))));
    (RouteNetlinkMessage::NewRoute(message), flags)
}

pub(crate) fn datagram(messages: Vec<Message>) -> Vec<u8> {
    datagram_of(messages, true)
}

/// Only the last is acknowledged, and only where it is a change.
pub(crate) fn datagram_of(messages: Vec<Message>, change: bool) -> Vec<u8> {
    let (mut bytes, last) = (Vec::new(), messages.len() - 1);
    for (at, (message, flags)) in messages.into_iter().enumerate() {
        let mut header = NetlinkHeader::default();
        let ack = if at == last && change { NLM_F_ACK } else { 0 };
        header.flags = NLM_F_REQUEST | flags | ack;
        header.sequence_number = 1;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }
    bytes
}

pub(crate) fn socket() -> Socket {
    let mut socket = Socket::new(NETLINK_ROUTE).expect("netlink");
    socket.bind_auto().expect("netlink");
    socket.set_cap_ack(true).expect("netlink");
    socket.set_netlink_get_strict_chk(true).expect("netlink");
    socket
}

pub(crate) fn send(socket: &Socket, bytes: &[u8]) -> Vec<u8> {
    socket.send(bytes, 0).expect("netlink");
    let mut answer = Vec::with_capacity(32 * 1024);
    socket.recv(&mut answer, 0).expect("netlink");
    answer
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The answer is an acknowledgement of success.
pub(crate) fn done(answer: &[u8]) {
    assert_eq!((answer[4], word(answer, 16)), (2, 0), "the kernel refused");
}

/// The number of the kernel's refusal, if it refused.
pub(crate) fn error(answer: &[u8]) -> Option<u32> {
    (answer[4] == 2).then(|| word(answer, 16))
}

/// `IFLA_LINK` of a link.
fn peer(answer: &[u8]) -> u32 {
    let mut at = 32;
    loop {
        let length = usize::from(u16::from_ne_bytes([answer[at], answer[at + 1]]));
        if answer[at + 2] == 5 {
            return word(answer, at + 4);
        }
        at += length.next_multiple_of(4);
    }
}

fn put(bytes: &mut [u8], mark: u32, value: u32) {
    for at in (0..bytes.len() - 3).step_by(4) {
        if word(bytes, at) == mark {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
    }
}
