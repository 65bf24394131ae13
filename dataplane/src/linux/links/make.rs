//! Each kind of link: found as it should be, or made.

use std::os::fd::AsFd as _;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;

use super::Links;
use crate::linux::netns::within;
use crate::netlink::link::{KernelLink, Settings, VethEnd, Vxlan};
use crate::netlink::{Batch, Socket, link, namespace};
use crate::report::Fault;
use crate::state::{Link, LinkKind, LinkName, MacAddr, Namespace};
use crate::{KernelError, Refusal, names};

impl Links<'_> {
    /// The index of the link: as it should be, but for what can be changed while it lives.
    pub(super) fn make(&mut self, name: &LinkName, wanted: &Link) -> Result<u32, Fault> {
        let found = self.view.named(name).cloned();
        if let Some(other) = found
            .as_ref()
            .filter(|found| found.kind != wanted.kind.name())
        {
            return Err(Fault::Foreign {
                found: other.kind.clone(),
            });
        }
        match &wanted.kind {
            LinkKind::Vxlan { .. } => self.vxlan(name, wanted, found),
            LinkKind::Ipip => self.ipip(name, found),
            LinkKind::Bridge { mac } => match found {
                Some(found) => Ok(found.index),
                None => {
                    let message = link::bridge(name, *mac, wanted.mtu);
                    self.create(name, message, "bridges (module bridge)")
                }
            },
            LinkKind::Veth { peer, namespace } => {
                self.veth(name, wanted.mtu, (peer, namespace), found)
            }
        }
    }

    fn vxlan(
        &mut self,
        name: &LinkName,
        wanted: &Link,
        found: Option<KernelLink>,
    ) -> Result<u32, Fault> {
        let (settings, mac) = self.vxlan_settings(&wanted.kind)?;
        if let Some(found) = found {
            if found.vxlan.as_ref() == Some(&settings) && found.mac == Some(mac) {
                return Ok(found.index);
            }
            self.delete(found.index)?;
        }
        let message = link::vxlan(name, &settings, mac, wanted.mtu);
        self.create(name, message, "VXLAN (module vxlan)")
    }

    fn vxlan_settings(&self, kind: &LinkKind) -> Result<(Vxlan, MacAddr), Fault> {
        let LinkKind::Vxlan {
            vni,
            port,
            local,
            parent,
            mac,
        } = kind
        else {
            return Err(Fault::Invalid {
                why: "not a VXLAN link",
            });
        };
        let parent = match parent {
            None => 0,
            Some(name) => self
                .view
                .index(name)
                .ok_or_else(|| Fault::LinkMissing(name.clone()))?,
        };
        let settings = Vxlan {
            vni: *vni,
            port: *port,
            local: Some(*local),
            parent,
            learning: false,
            external: false,
        };
        Ok((settings, *mac))
    }

    /// `tunl0` comes with the module, in every namespace; asking for a device of its kind loads the module. It is marked
    /// as ours, so that what somebody else does with it is left alone once nobody asks for it.
    fn ipip(&mut self, name: &LinkName, found: Option<KernelLink>) -> Result<u32, Fault> {
        if name.as_str() != names::IPIP_LINK {
            return Err(Fault::Invalid {
                why: "the kernel's IP in IP device for any remote address is called tunl0",
            });
        }
        let index = match found {
            Some(found) if self.is_marked(&found) => return Ok(found.index),
            Some(found) => found.index,
            None => match self.create(name, link::ipip(name), "IP in IP (module ipip)") {
                Err(Fault::Kernel(error)) if error.refusal == Refusal::Exists => {
                    self.reread(name)?
                }
                made => return made,
            },
        };
        if let Some(mark) = self.options.mark.as_deref() {
            let alias = Settings {
                alias: Some(mark),
                ..Settings::default()
            };
            self.socket.execute(link::set_index(index, &alias), 0)?;
            self.report.changed += 1;
        }
        self.reread(name)
    }

    fn veth(
        &mut self,
        name: &LinkName,
        mtu: u32,
        (peer, namespace): (&LinkName, &Namespace),
        found: Option<KernelLink>,
    ) -> Result<u32, Fault> {
        if self.home.is(namespace.as_fd())? {
            return Err(Fault::Invalid {
                why: "the other end of the pair is in the same network namespace",
            });
        }
        let other = (peer.clone(), namespace.clone());
        if let Some(found) = found {
            if self.view.peers.get(&found.index) == Some(&other)
                || self.leads_to(&found, peer, namespace)?
            {
                self.view.peers.insert(found.index, other);
                return Ok(found.index);
            }
            self.delete(found.index)?;
        }
        let end = |name| VethEnd {
            name,
            mac: None,
            mtu,
            queues: None,
        };
        let pair = link::veth(&end(name), &end(peer), namespace.as_fd());
        let index = self.create(name, pair, "pairs of links (module veth)")?;
        // The kernel brings up no end that has no other yet.
        let up = Settings {
            up: Some(true),
            ..Settings::default()
        };
        within::<_, KernelError>(namespace.as_fd(), || {
            Socket::open()?.execute(link::set_named(peer, &up), 0)
        })?;
        self.view.peers.insert(index, other);
        Ok(index)
    }

    /// Whether the other end of a pair has this name and is in this namespace.
    fn leads_to(
        &mut self,
        found: &KernelLink,
        peer: &LinkName,
        namespace: &Namespace,
    ) -> Result<bool, KernelError> {
        let number = namespace::number(self.socket, namespace.as_fd())?;
        let (Some(number), Some(index)) = (number, found.peer) else {
            return Ok(false);
        };
        if found.peer_namespace != Some(number) {
            return Ok(false);
        }
        match self.socket.get(link::get_in(number, index)) {
            Ok(RouteNetlinkMessage::NewLink(message)) => {
                Ok(link::parse(&message).is_some_and(|end| end.name == *peer))
            }
            Ok(_) => Ok(false),
            Err(error) if error.refusal == Refusal::NoLink => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a link and marks it as ours.
    fn create(
        &mut self,
        name: &LinkName,
        message: RouteNetlinkMessage,
        what: &'static str,
    ) -> Result<u32, Fault> {
        let mut batch = Batch::new();
        batch.push((), message, NLM_F_CREATE | NLM_F_EXCL);
        if let Some((_, error)) = self.socket.run(&mut batch)?.pop() {
            return Err(match error.refusal {
                Refusal::Unsupported => Fault::Unsupported { what },
                _ => error.into(),
            });
        }
        if let Some(mark) = self.options.mark.as_deref() {
            let alias = Settings {
                alias: Some(mark),
                ..Settings::default()
            };
            self.socket.execute(link::set_named(name, &alias), 0)?;
        }
        self.report.changed += 1;
        self.reread(name)
    }

    /// Removes a link that cannot be changed into what it should be.
    fn delete(&mut self, index: u32) -> Result<(), KernelError> {
        match self.socket.execute(link::delete(index), 0) {
            Err(error) if error.refusal != Refusal::NoLink => return Err(error),
            _ => {}
        }
        self.view.remove_link(index);
        self.view.drop_routes_by(index);
        Ok(())
    }

    /// Reads a link that was made a moment ago.
    fn reread(&mut self, name: &LinkName) -> Result<u32, Fault> {
        let RouteNetlinkMessage::NewLink(message) = self.socket.get(link::get(name))? else {
            return Err(Fault::LinkMissing(name.clone()));
        };
        let found: KernelLink =
            link::parse(&message).ok_or_else(|| Fault::LinkMissing(name.clone()))?;
        let index = found.index;
        self.view.put_link(found);
        self.view.read_entries(self.socket, index)?;
        Ok(index)
    }
}
