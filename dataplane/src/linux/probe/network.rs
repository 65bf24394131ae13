//! Features that links, addresses, routes and settings need.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;

use super::{Bench, Trial, words};
use crate::netlink::link::{Settings, VethEnd, Vxlan};
use crate::netlink::route::{Hops, KernelHop, KernelRoute};
use crate::netlink::{Batch, Ethtool, address, link, namespace, neighbour, rule};
use crate::state::{IpVersion, LinkName, MacAddr, RouteKey, RoutingAction, RoutingRule};
use crate::{KernelError, Prefix, names};

type Outcome = Result<(), String>;

/// The oldest kernel that is supported.
const OLDEST: (u32, u32) = (5, 15);

pub(super) static TRIALS: &[Trial] = &[
    Trial {
        name: "kernel 5.15 or newer",
        costs: "nobody has tried it: what else is missing here is not known",
        run: |_| version(),
    },
    Trial {
        name: "veth",
        costs: "pods cannot be connected. modprobe veth (CONFIG_VETH)",
        run: |bench| veth(bench).map_err(words),
    },
    Trial {
        name: "namespace numbers",
        costs: "pairs of links of a state are not recognised after a restart. CONFIG_NET_NS",
        run: |bench| {
            let other = bench.other.as_fd();
            let number = namespace::number(&mut bench.socket, other);
            number.map(drop).map_err(words)
        },
    },
    Trial {
        name: "vxlan",
        costs: "pools with vxlanMode are not reached. modprobe vxlan (CONFIG_VXLAN)",
        run: |bench| vxlan(bench, "probe4", Ipv4Addr::LOCALHOST.into()),
    },
    Trial {
        name: "vxlan over IPv6",
        costs: "IPv6 pools with vxlanMode are not reached. CONFIG_VXLAN and CONFIG_IPV6",
        run: |bench| vxlan(bench, "probe6", Ipv6Addr::LOCALHOST.into()),
    },
    Trial {
        name: "ipip",
        costs: "pools with ipipMode are not reached: use vxlanMode, or modprobe ipip (CONFIG_NET_IPIP)",
        run: |bench| bench.make(link::ipip(&name("probe-ipip"))),
    },
    Trial {
        name: "bridge",
        costs: "links of kind bridge are refused; pods need none. modprobe bridge (CONFIG_BRIDGE)",
        run: |bench| bench.make(link::bridge(&name("probe-br"), None, 1500)),
    },
    Trial {
        name: "ethtool over netlink",
        costs: "checksums of tunnels cannot be taken from broken network cards. CONFIG_ETHTOOL_NETLINK",
        run: |_| Ethtool::open().map(drop).map_err(words),
    },
    Trial {
        name: "IPv4 forwarding",
        costs: "nothing reaches pods from elsewhere. /proc/sys/net must be writable, or mounted elsewhere (option sysctl)",
        run: |bench| setting(bench, "ipv4/ip_forward", "1"),
    },
    Trial {
        name: "settings of links",
        costs: "pods' links cannot be set up. /proc/sys/net must be writable, or mounted elsewhere (option sysctl)",
        run: |bench| setting(bench, "ipv4/conf/lo/proxy_arp", "1"),
    },
    Trial {
        name: "rp_filter",
        costs: "whether the kernel itself refuses forged sources is not seen: only policy does",
        run: |bench| setting(bench, "ipv4/conf/lo/rp_filter", "1"),
    },
    Trial {
        name: "routes",
        costs: "no pod is reached",
        run: |bench| bench.route("198.51.100.0/26", Hops::Blackhole),
    },
    Trial {
        name: "several next hops",
        costs: "of routes with several next hops none is made. CONFIG_IP_ROUTE_MULTIPATH",
        run: |bench| {
            let near = [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 3)];
            let hops = [bench.hop(near[0].into())?, bench.hop(near[1].into())?];
            bench.route("198.51.100.64/26", Hops::Many(hops.into()))
        },
    },
    Trial {
        name: "IPv4 by way of IPv6",
        costs: "IPv4 routes over IPv6 next hops (RFC 8950) are not made. Linux 5.2, CONFIG_IPV6",
        run: |bench| {
            let hop = bench.hop(LINK_LOCAL.into())?;
            bench.route("198.51.100.128/26", Hops::One(hop))
        },
    },
    Trial {
        name: "routing rules",
        costs: "rules that choose the routing table are refused. CONFIG_IP_MULTIPLE_TABLES",
        run: |bench| bench.rule(IpVersion::V4),
    },
    Trial {
        name: "IPv6",
        costs: "no IPv6 and no dual stack: IPv4 pools only. ipv6.disable=0 on the kernel's command line",
        run: |bench| inet6(bench),
    },
    Trial {
        name: "IPv6 forwarding",
        costs: "nothing reaches IPv6 pods from elsewhere. /proc/sys/net must be writable, or mounted elsewhere (option sysctl)",
        run: |bench| setting(bench, "ipv6/conf/all/forwarding", "1"),
    },
    Trial {
        name: "IPv6 routing rules",
        costs: "rules that choose the routing table of IPv6 are refused. CONFIG_IPV6_MULTIPLE_TABLES",
        run: |bench| bench.rule(IpVersion::V6),
    },
];

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// The pair that `veth` makes and routes are tried on.
const PAIR: &str = "probe0";

impl Bench<'_> {
    fn make(&mut self, message: RouteNetlinkMessage) -> Outcome {
        let made = self.socket.execute(message, NLM_F_CREATE | NLM_F_EXCL);
        made.map_err(words)
    }

    fn index(&mut self, of: &str) -> Result<u32, String> {
        match self.socket.get(link::get(&name(of))) {
            Ok(RouteNetlinkMessage::NewLink(message)) => Ok(message.header.index),
            Ok(_) | Err(_) => Err(format!("there is no link {of} to try it on")),
        }
    }

    fn hop(&mut self, gateway: IpAddr) -> Result<KernelHop, String> {
        Ok(KernelHop {
            gateway: Some(gateway),
            link: self.index(PAIR)?,
            onlink: true,
        })
    }

    fn route(&mut self, to: &str, hops: Hops) -> Outcome {
        let prefix = to.parse::<Prefix>().map_err(|error| error.to_string())?;
        let route = KernelRoute {
            hops,
            source: None,
            protocol: names::ROUTE_PROTOCOL,
        };
        let mut batch = Batch::new();
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        batch.push_route((), &RouteKey::main(prefix), &route, flags);
        match self.socket.run(&mut batch).map_err(words)?.pop() {
            Some(((), error)) => Err(words(error)),
            None => Ok(()),
        }
    }

    fn rule(&mut self, version: IpVersion) -> Outcome {
        let wanted = RoutingRule::new(version, 1000, RoutingAction::Table(1000));
        self.make(rule::new(&wanted, names::ROUTE_PROTOCOL))
    }
}

fn name(text: &str) -> LinkName {
    LinkName::known(text.to_owned())
}

fn version() -> Outcome {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").map_err(words)?;
    let mut numbers = text.split(['.', '-']).map_while(|part| part.parse().ok());
    let found: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST {
        Ok(())
    } else {
        Err(format!("it is {}", text.trim_end()))
    }
}

/// A pair into the other namespace, with what an attachment sets.
fn veth(bench: &mut Bench<'_>) -> Result<(), KernelError> {
    let (here, there) = (name(PAIR), name("eth0"));
    let end = |name, mac| VethEnd {
        name,
        mac,
        mtu: 1450,
        queues: Some(1),
    };
    let pair = link::veth(
        &end(&here, Some(names::HOST_MAC)),
        &end(&there, None),
        bench.other.as_fd(),
    );
    let make = NLM_F_CREATE | NLM_F_EXCL;
    bench.socket.execute(pair, make)?;
    let settings = Settings {
        alias: Some("probe/eth0"),
        up: Some(true),
        ..Settings::default()
    };
    bench.socket.execute(link::set_named(&here, &settings), 0)?;
    let RouteNetlinkMessage::NewLink(made) = bench.socket.get(link::get(&here))? else {
        return Ok(());
    };
    // Routes are tried on it.
    let own = ipnetwork::IpNetwork::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)));
    let message = address::new(made.header.index, own);
    bench.socket.execute(message, make)
}

/// A device with an entry for another node.
fn vxlan(bench: &mut Bench<'_>, of: &str, local: IpAddr) -> Outcome {
    let settings = Vxlan {
        vni: names::VXLAN_VNI,
        // Each in its own, so that one does not keep the other from its port.
        port: if local.is_ipv4() { 4789 } else { 4790 },
        local: Some(local),
        parent: 0,
        learning: false,
        external: false,
    };
    let mac = MacAddr([0x66, 0, 0, 0, 0, 1]);
    bench.make(link::vxlan(&name(of), &settings, mac, 1450))?;
    let index = bench.index(of)?;
    bench.make(neighbour::new_fdb(index, mac, local))
}

fn inet6(bench: &mut Bench<'_>) -> Outcome {
    let one = ipnetwork::IpNetwork::from(IpAddr::from(Ipv6Addr::LOCALHOST));
    match bench.make(address::new(LOOPBACK, one)) {
        // The loopback may have it already.
        Err(why) if why.contains("exists") => Ok(()),
        other => other,
    }?;
    bench.route("2001:db8::/122", Hops::Blackhole)
}

/// The loopback's index, in every namespace.
const LOOPBACK: u32 = 1;

fn setting(bench: &Bench<'_>, name: &str, value: &str) -> Outcome {
    let error = |error| words(KernelError::from(error));
    if bench.sysctl.get(name).map_err(error)?.is_none() {
        return Err("the kernel has no such setting".to_owned());
    }
    bench.sysctl.set(name, value).map_err(error)?;
    match bench.sysctl.get(name).map_err(error)? {
        Some(is) if is == value => Ok(()),
        other => Err(format!("it stays {}", other.unwrap_or_default())),
    }
}
