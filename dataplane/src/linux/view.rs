//! What is known about the kernel: read once, then kept true by notices and by our own changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;

use super::rules;
use crate::netlink::link::KernelLink;
use crate::netlink::route::KernelRoute;
use crate::netlink::{Socket, address, link, neighbour};
use crate::state::{Address, LinkName, MacAddr, Namespace, RouteKey, RoutingRule};
use crate::{KernelError, Refusal};

/// Links and our own objects, as the kernel has them.
#[derive(Default)]
pub(super) struct View {
    links: BTreeMap<u32, KernelLink>,
    by_name: HashMap<LinkName, u32>,
    /// Routes of our protocol.
    pub(super) routes: BTreeMap<RouteKey, KernelRoute>,
    /// Addresses of the links that we own; link-local ones are left out.
    pub(super) addresses: BTreeMap<u32, BTreeSet<Address>>,
    /// Permanent neighbours on the links that we own.
    pub(super) neighbours: BTreeMap<(u32, IpAddr), MacAddr>,
    /// Forwarding entries of the VXLAN links that we own.
    pub(super) fdb: BTreeMap<(u32, MacAddr), IpAddr>,
    /// Rules of our protocol.
    pub(super) rules: BTreeSet<RoutingRule>,
    /// Pairs whose other end was looked at: its name and namespace.
    pub(super) peers: BTreeMap<u32, (LinkName, Namespace)>,
    /// Links whose checksums were looked at: whether they are left to the device.
    pub(super) checksums: BTreeMap<u32, bool>,
    /// Links to pods that went down, with the routes by them, and may come up again.
    pub(super) down: BTreeSet<LinkName>,
}

impl View {
    /// Reads the kernel: all links, the routes of `protocol`, and what the links named by `owned` hold.
    pub(super) fn read(
        socket: &mut Socket,
        protocol: u8,
        owned: &BTreeSet<LinkName>,
    ) -> Result<Self, KernelError> {
        let mut view = Self::default();
        for link in Self::read_links(socket)? {
            view.put_link(link);
        }
        let mut routes: Vec<(RouteKey, KernelRoute)> = Vec::new();
        for v4 in [true, false] {
            let found = socket.dump_routes(v4, protocol, |all: &mut Vec<_>, key, route| {
                all.push((key, route))
            })?;
            if routes.is_empty() {
                routes = found
            } else {
                routes.extend(found)
            }
        }
        // From a list that is in order already a tree is built without searching.
        routes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        routes.shrink_to_fit();
        view.routes = routes.into_iter().collect();
        for name in owned {
            if let Some(index) = view.index(name) {
                view.read_entries(socket, index)?;
            }
        }
        let ours = rules::read(socket)?.into_iter();
        view.rules = ours
            .filter_map(|(rule, of)| (of == protocol).then_some(rule))
            .collect();
        Ok(view)
    }

    /// Reads all links.
    pub(super) fn read_links(socket: &mut Socket) -> Result<Vec<KernelLink>, KernelError> {
        socket.dump(&link::list(), |links: &mut Vec<_>, object| {
            if let RouteNetlinkMessage::NewLink(message) = object {
                links.extend(link::parse(&message));
            }
        })
    }

    /// Takes the links as they were read just now; what was on links that are gone is forgotten.
    pub(super) fn replace_links(&mut self, links: Vec<KernelLink>) {
        let there: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
        let gone: Vec<u32> = self
            .links
            .keys()
            .filter(|index| !there.contains(index))
            .copied()
            .collect();
        for index in gone {
            self.remove_link(index);
            self.drop_routes_by(index);
        }
        for link in links {
            self.put_link(link);
        }
    }

    /// Reads again what one link of ours holds: addresses, neighbours, forwarding entries.
    pub(super) fn read_entries(
        &mut self,
        socket: &mut Socket,
        index: u32,
    ) -> Result<(), KernelError> {
        self.forget_entries(index);
        let addresses = socket.dump(&address::list(0), |addresses: &mut BTreeSet<_>, object| {
            if let RouteNetlinkMessage::NewAddress(message) = object {
                let found = address::parse(&message).filter(|a| a.link == index && !a.link_local);
                addresses.extend(found.map(|found| found.address));
            }
        })?;
        self.addresses.insert(index, addresses);
        let neighbours = socket.dump(&neighbour::list(index), |all: &mut Vec<_>, object| {
            if let RouteNetlinkMessage::NewNeighbour(message) = object {
                all.extend(neighbour::parse(&message).filter(|n| n.link == index && n.permanent));
            }
        })?;
        self.neighbours
            .extend(neighbours.iter().map(|n| ((index, n.address), n.mac)));
        if self.link(index).is_some_and(|link| link.kind == "vxlan") {
            let fdb = socket.dump(&neighbour::list_fdb(index), |all: &mut Vec<_>, object| {
                if let RouteNetlinkMessage::NewNeighbour(message) = object {
                    all.extend(neighbour::parse_fdb(&message).filter(|f| f.link == index));
                }
            })?;
            self.fdb
                .extend(fdb.iter().map(|f| ((index, f.mac), f.remote)));
        }
        Ok(())
    }

    /// Reads one link again.
    pub(super) fn reread(&mut self, socket: &mut Socket, index: u32) -> Result<(), KernelError> {
        match socket.get(link::get_index(index)) {
            Ok(RouteNetlinkMessage::NewLink(message)) => {
                if let Some(found) = link::parse(&message) {
                    self.put_link(found);
                }
                Ok(())
            }
            // It is gone, which a notice tells.
            Ok(_) => Ok(()),
            Err(error) if error.refusal == Refusal::NoLink => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn forget_entries(&mut self, index: u32) {
        self.addresses.remove(&index);
        self.neighbours.retain(|(link, _), _| *link != index);
        self.fdb.retain(|(link, _), _| *link != index);
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &KernelLink> {
        self.links.values()
    }

    pub(super) fn link(&self, index: u32) -> Option<&KernelLink> {
        self.links.get(&index)
    }

    pub(super) fn named(&self, name: &LinkName) -> Option<&KernelLink> {
        self.links.get(self.by_name.get(name)?)
    }

    pub(super) fn index(&self, name: &LinkName) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Notes a link as it is now; what it was before.
    pub(super) fn put_link(&mut self, link: KernelLink) -> Option<KernelLink> {
        let link = remembered(link);
        let (index, name) = (link.index, link.name.clone());
        let before = self.links.insert(index, link);
        if let Some(before) = &before
            && before.name != name
            && self.by_name.get(&before.name) == Some(&index)
        {
            self.by_name.remove(&before.name);
        }
        self.by_name.insert(name, index);
        before
    }

    /// Notes that a link is gone, with all that was on it. The kernel says nothing of the IPv4 routes that go with it.
    pub(super) fn remove_link(&mut self, index: u32) -> Option<KernelLink> {
        let link = self.links.remove(&index)?;
        if self.by_name.get(&link.name) == Some(&index) {
            self.by_name.remove(&link.name);
        }
        self.forget_entries(index);
        self.peers.remove(&index);
        self.checksums.remove(&index);
        Some(link)
    }

    /// Notes that routes by a link are gone; how many those were.
    pub(super) fn drop_routes_by(&mut self, index: u32) -> usize {
        let before = self.routes.len();
        self.routes.retain(|_, route| !route.uses(index));
        before - self.routes.len()
    }
}

/// A link without what changes without a word.
pub(super) fn remembered(mut link: KernelLink) -> KernelLink {
    link.inet6 = None;
    link
}
