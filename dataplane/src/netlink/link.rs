use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, InfoVxlan,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};

use crate::state::{LinkName, MacAddr};

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelLink {
    pub(crate) index: u32,
    pub(crate) name: LinkName,
    /// `veth`, `vxlan` and so on; empty for hardware and the loopback.
    pub(crate) kind: String,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) up: bool,
    pub(crate) loopback: bool,
    pub(crate) alias: Option<String>,
    /// For a veth the index of the other end, in that end's namespace.
    pub(crate) peer: Option<u32>,
    /// The kernel's number, in our namespace, of the namespace that `peer` is of, where it is another one.
    pub(crate) peer_namespace: Option<i32>,
    /// The index of the bridge that it is a port of.
    pub(crate) bridge: Option<u32>,
    pub(crate) vxlan: Option<Vxlan>,
    /// The settings of IPv6; `None` where the link has none of it.
    pub(crate) inet6: Option<Inet6>,
}

/// IPv6's settings of a link, as below `/proc/sys/net/ipv6/conf`, by their names there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inet6 {
    pub(crate) disable_ipv6: i32,
    pub(crate) accept_dad: i32,
    pub(crate) accept_ra: i32,
    pub(crate) accept_redirects: i32,
    pub(crate) proxy_ndp: i32,
    pub(crate) forwarding: i32,
    pub(crate) addr_gen_mode: i32,
}

/// The settings of a VXLAN device that cannot be changed while it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vxlan {
    pub(crate) vni: u32,
    pub(crate) port: u16,
    pub(crate) local: Option<IpAddr>,
    /// The index of the link that outer packets leave by; 0 for none.
    pub(crate) parent: u32,
    pub(crate) learning: bool,
    /// Flow-based: ignores all of the above.
    pub(crate) external: bool,
}

pub(crate) fn parse(message: &LinkMessage) -> Option<KernelLink> {
    let flags = message.header.flags;
    let mut name = None;
    let (mut kind, mut vxlan, mut mtu) = (String::new(), None, 0);
    let (mut mac, mut alias, mut peer) = (None, None, None);
    let (mut peer_namespace, mut bridge, mut inet6) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = LinkName::new(text.as_str()).ok(),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::Address(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(MacAddr);
            }
            LinkAttribute::IfAlias(text) => alias = Some(text.clone()),
            LinkAttribute::Link(index) => peer = Some(*index),
            LinkAttribute::LinkNetNsId(number) => peer_namespace = Some(*number),
            LinkAttribute::Controller(index) => bridge = Some(*index),
            LinkAttribute::AfSpecUnspec(families) => inet6 = families.iter().find_map(inet6_of),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(of) => kind = of.to_string(),
                        LinkInfo::Data(InfoData::Vxlan(settings)) => {
                            vxlan = Some(settings_of(settings))
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(KernelLink {
        index: message.header.index,
        name: name?,
        kind,
        mtu,
        mac,
        up: flags.contains(LinkFlags::Up),
        loopback: flags.contains(LinkFlags::Loopback),
        alias,
        peer,
        peer_namespace,
        bridge,
        vxlan,
        inet6,
    })
}

fn inet6_of(family: &AfSpecUnspec) -> Option<Inet6> {
    let AfSpecUnspec::Inet6(all) = family else {
        return None;
    };
    all.iter().find_map(|one| match one {
        AfSpecInet6::DevConf(conf) => Some(Inet6 {
            disable_ipv6: conf.disable_ipv6,
            accept_dad: conf.accept_dad,
            accept_ra: conf.accept_ra,
            accept_redirects: conf.accept_redirects,
            proxy_ndp: conf.proxy_ndp,
            forwarding: conf.forwarding,
            addr_gen_mode: conf.addr_gen_mode,
        }),
        _ => None,
    })
}

/// Whether the link takes packets. The kernel makes the end of a pair that came up first ready for them a moment after
/// the other came up, and drops what is sent until then.
pub(crate) fn is_active(message: &LinkMessage) -> bool {
    let idle = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Qdisc(name) if name == "noop");
    !message.attributes.iter().any(idle)
}

fn settings_of(settings: &[InfoVxlan]) -> Vxlan {
    let mut vxlan = Vxlan {
        vni: 0,
        port: 0,
        local: None,
        parent: 0,
        learning: false,
        external: false,
    };
    for setting in settings {
        match setting {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Local(address) => vxlan.local = Some(IpAddr::V4(*address)),
            InfoVxlan::Local6(address) => vxlan.local = Some(IpAddr::V6(*address)),
            InfoVxlan::Link(index) => vxlan.parent = *index,
            InfoVxlan::Learning(on) => vxlan.learning = *on,
            InfoVxlan::CollectMetadata(on) => vxlan.external = *on,
            _ => {}
        }
    }
    vxlan
}

/// One end of a veth pair.
pub(crate) struct VethEnd<'a> {
    pub(crate) name: &'a LinkName,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: u32,
    /// How many queues in each direction, at least 1; without, as many as there are processors, each with its folder in
    /// /sys.
    pub(crate) queues: Option<u32>,
}

impl VethEnd<'_> {
    fn message(&self) -> LinkMessage {
        let mut message = named(self.name);
        message.attributes.push(LinkAttribute::Mtu(self.mtu));
        message.attributes.extend(self.mac.map(address));
        let queues = self.queues.map(|queues| {
            [
                LinkAttribute::NumTxQueues(queues),
                LinkAttribute::NumRxQueues(queues),
            ]
        });
        message.attributes.extend(queues.into_iter().flatten());
        message
    }
}

/// The message that makes a veth pair, the other end straight in the namespace.
pub(crate) fn veth(
    here: &VethEnd<'_>,
    there: &VethEnd<'_>,
    namespace: BorrowedFd<'_>,
) -> RouteNetlinkMessage {
    let mut peer = there.message();
    peer.attributes
        .push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    let mut message = here.message();
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    RouteNetlinkMessage::NewLink(message)
}

/// The message that makes a VXLAN device.
pub(crate) fn vxlan(
    name: &LinkName,
    settings: &Vxlan,
    mac: MacAddr,
    mtu: u32,
) -> RouteNetlinkMessage {
    let mut data = vec![
        InfoVxlan::Id(settings.vni),
        InfoVxlan::Port(settings.port),
        InfoVxlan::Learning(settings.learning),
    ];
    data.extend(settings.local.map(|local| match local {
        IpAddr::V4(v4) => InfoVxlan::Local(v4),
        IpAddr::V6(v6) => InfoVxlan::Local6(v6),
    }));
    if settings.parent != 0 {
        data.push(InfoVxlan::Link(settings.parent));
    }
    if matches!(settings.local, Some(IpAddr::V6(_))) {
        // RFC 6935: outer UDP checksums over IPv6 may be left out; senders differ.
        data.push(InfoVxlan::UDPZeroCsumRX(true));
    }
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message.attributes.push(address(mac));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(data)),
    ]));
    RouteNetlinkMessage::NewLink(message)
}

/// The message that makes a bridge.
pub(crate) fn bridge(name: &LinkName, mac: Option<MacAddr>, mtu: u32) -> RouteNetlinkMessage {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message.attributes.extend(mac.map(address));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::Bridge,
        )]));
    RouteNetlinkMessage::NewLink(message)
}

/// The message that makes the kernel load `ipip`, and with it `tunl0`: any IPIP device of another name does.
pub(crate) fn ipip(name: &LinkName) -> RouteNetlinkMessage {
    let mut message = named(name);
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::IpIp,
        )]));
    RouteNetlinkMessage::NewLink(message)
}

/// What can be changed on a live link.
#[derive(Default)]
pub(crate) struct Settings<'a> {
    pub(crate) alias: Option<&'a str>,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: Option<u32>,
    pub(crate) up: Option<bool>,
    /// The index of the bridge to be a port of, 0 for none.
    pub(crate) bridge: Option<u32>,
    /// IPv4 settings by their numbers (`IPV4_DEVCONF_*`), as below `/proc/sys/net/ipv4/conf`.
    pub(crate) inet: &'a [(u16, u32)],
    /// Whether IPv6 gives the link no address of its own accord. Refused where the link has no IPv6.
    pub(crate) without_link_local: bool,
}

/// The message that changes a link, found by its name.
pub(crate) fn set_named(name: &LinkName, settings: &Settings<'_>) -> RouteNetlinkMessage {
    set(named(name), settings)
}

/// The message that changes a link, found by its index.
pub(crate) fn set_index(index: u32, settings: &Settings<'_>) -> RouteNetlinkMessage {
    set(indexed(index), settings)
}

fn set(mut message: LinkMessage, settings: &Settings<'_>) -> RouteNetlinkMessage {
    if let Some(alias) = settings.alias {
        message
            .attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
    }
    message.attributes.extend(settings.mac.map(address));
    message
        .attributes
        .extend(settings.mtu.map(LinkAttribute::Mtu));
    message
        .attributes
        .extend(settings.bridge.map(LinkAttribute::Controller));
    let mut families = Vec::new();
    if !settings.inet.is_empty() {
        families.push(inet(settings.inet));
    }
    if settings.without_link_local {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        families.push(AfSpecUnspec::Inet6(vec![mode]));
    }
    if !families.is_empty() {
        message
            .attributes
            .push(LinkAttribute::AfSpecUnspec(families));
    }
    if let Some(up) = settings.up {
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up {
            LinkFlags::Up
        } else {
            LinkFlags::empty()
        };
    }
    RouteNetlinkMessage::SetLink(message)
}

/// `IFLA_INET_CONF` as it is written: what is read has another form.
fn inet(settings: &[(u16, u32)]) -> AfSpecUnspec {
    const AF_INET: u16 = 2;
    const CONF: u16 = 1;
    let mut conf = Vec::new();
    for (number, value) in settings {
        conf.extend_from_slice(&8_u16.to_ne_bytes());
        conf.extend_from_slice(&number.to_ne_bytes());
        conf.extend_from_slice(&value.to_ne_bytes());
    }
    let length = u16::try_from(conf.len() + 4).unwrap_or(u16::MAX);
    let mut all = length.to_ne_bytes().to_vec();
    all.extend_from_slice(&CONF.to_ne_bytes());
    all.extend_from_slice(&conf);
    AfSpecUnspec::Other(DefaultNla::new(AF_INET, all))
}

/// The message that removes a link.
pub(crate) fn delete(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelLink(indexed(index))
}

/// The request for the link of a name.
pub(crate) fn get(name: &LinkName) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(brief(named(name)))
}

/// The request for the link of an index.
pub(crate) fn get_index(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(brief(indexed(index)))
}

/// The request for the link of an index in the namespace that has this number in ours.
pub(crate) fn get_in(namespace: i32, index: u32) -> RouteNetlinkMessage {
    let mut message = indexed(index);
    message.attributes.push(LinkAttribute::IfNetnsId(namespace));
    RouteNetlinkMessage::GetLink(message)
}

/// The request that lists all links.
pub(crate) fn list() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(brief(LinkMessage::default()))
}

/// Without counters, which nobody here reads.
fn brief(mut message: LinkMessage) -> LinkMessage {
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

fn named(name: &LinkName) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.as_str().to_owned()));
    message
}

fn indexed(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn address(mac: MacAddr) -> LinkAttribute {
    LinkAttribute::Address(mac.0.to_vec())
}
