//! Links that we own: made, compared, made again where a setting cannot be changed on a live link.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};

use super::netns::Home;
use super::options::Options;
use super::view::View;
use crate::netlink::link::Settings;
use crate::netlink::{Batch, Ethtool, Socket, address, link};
use crate::report::{Fault, Object, Report};
use crate::state::{Address, Link, LinkKind, LinkName};
use crate::{KernelError, Refusal, State};

mod make;
mod remove;

/// Works on links with one socket, for one apply.
pub(super) struct Links<'a> {
    pub(super) socket: &'a mut Socket,
    pub(super) view: &'a mut View,
    pub(super) home: &'a Home,
    pub(super) options: &'a Options,
    pub(super) report: &'a mut Report,
}

impl Links<'_> {
    /// Brings all links and their addresses to what the state says: what others are ports of or stand on first.
    pub(super) fn ensure(&mut self, desired: &State) -> Result<(), KernelError> {
        let rank = |link: &Link| match link.kind {
            LinkKind::Bridge { .. } => 0,
            LinkKind::Veth { .. } => 1,
            LinkKind::Vxlan { .. } | LinkKind::Ipip => 2,
        };
        for now in 0..=2 {
            for (name, wanted) in desired.links.iter().filter(|(_, link)| rank(link) == now) {
                self.ensure_one(name, wanted, desired.incomplete)?;
            }
        }
        Ok(())
    }

    fn ensure_one(
        &mut self,
        name: &LinkName,
        wanted: &Link,
        keep_more: bool,
    ) -> Result<(), KernelError> {
        let index = match self.make(name, wanted) {
            Ok(index) => index,
            Err(Fault::Kernel(error)) if error.refusal == Refusal::Overrun => return Err(error),
            Err(fault) => {
                self.report.fail(Object::Link(name.clone()), fault);
                return Ok(());
            }
        };
        if !self.view.addresses.contains_key(&index) {
            self.view.read_entries(self.socket, index)?;
        }
        self.settle(name, index, wanted)?;
        self.checksums(name, index, wanted);
        self.ensure_addresses(index, name, wanted, keep_more)
    }

    /// What can be changed on a live link. Whether it is up comes with its MTU; its bridge, which others may refuse, does
    /// not stop the rest.
    fn settle(&mut self, name: &LinkName, index: u32, wanted: &Link) -> Result<(), KernelError> {
        let Some(found) = self.view.link(index).cloned() else {
            return Ok(());
        };
        let mac = match wanted.kind {
            LinkKind::Bridge { mac } => mac.filter(|mac| found.mac != Some(*mac)),
            _ => None,
        };
        let first = Settings {
            mac,
            mtu: (found.mtu != wanted.mtu).then_some(wanted.mtu),
            up: (!found.up).then_some(true),
            ..Settings::default()
        };
        let bridge = match wanted
            .bridge
            .as_ref()
            .map(|name| (name, self.view.index(name)))
        {
            None => Some(0),
            Some((_, Some(index))) => Some(index),
            Some((missing, None)) => {
                let fault = Fault::LinkMissing(missing.clone());
                self.report.fail(Object::Link(name.clone()), fault);
                None
            }
        };
        let second = Settings {
            bridge: bridge.filter(|bridge| found.bridge.unwrap_or(0) != *bridge),
            ..Settings::default()
        };
        let mut batch = Batch::new();
        if first.mac.is_some() || first.mtu.is_some() || first.up.is_some() {
            batch.push((), link::set_index(index, &first), 0);
        }
        if second.bridge.is_some() {
            batch.push((), link::set_index(index, &second), 0);
        }
        let all = batch.len();
        if all == 0 {
            return Ok(());
        }
        let refused = self.socket.run(&mut batch)?;
        self.report.changed += all - refused.len();
        for ((), error) in refused {
            self.report.fail(Object::Link(name.clone()), error.into());
        }
        self.view.reread(self.socket, index)
    }

    /// Checksums on demand: what the kernel does is asked for once, and after each notice of the link.
    fn checksums(&mut self, name: &LinkName, index: u32, wanted: &Link) {
        let Some(offload) = wanted.checksum_offload else {
            return;
        };
        if self.view.checksums.get(&index) == Some(&offload) {
            return;
        }
        let changed = self.home.run::<_, KernelError>(|| {
            let mut ethtool = Ethtool::open()?;
            let differs = ethtool.fills_checksums(index)? != offload;
            if differs {
                ethtool.fill_checksums(index, offload)?;
            }
            Ok(differs)
        });
        match changed {
            Ok(changed) => {
                self.report.changed += usize::from(changed);
                self.view.checksums.insert(index, offload);
            }
            Err(error) => {
                let fault = match error.refusal {
                    Refusal::Missing | Refusal::Unsupported => Fault::Unsupported {
                        what: "switch for the checksums of this link (ethtool)",
                    },
                    _ => error.into(),
                };
                self.report.fail(Object::Link(name.clone()), fault);
            }
        }
    }

    fn ensure_addresses(
        &mut self,
        index: u32,
        name: &LinkName,
        wanted: &Link,
        keep_more: bool,
    ) -> Result<(), KernelError> {
        let known = self.view.addresses.entry(index).or_default();
        let carried = |address: &&Address| wanted.kind != LinkKind::Ipip || address.is_ipv4();
        let mut batch: Batch<(Address, bool)> = Batch::new();
        for address in wanted.addresses.difference(known).filter(carried) {
            batch.push(
                (*address, true),
                address::new(index, *address),
                NLM_F_CREATE | NLM_F_REPLACE,
            );
        }
        // New ones first: a link is never without the address that others reach it by.
        for address in known.difference(&wanted.addresses).filter(|_| !keep_more) {
            batch.push((*address, false), address::delete(index, *address), 0);
        }
        let changes = batch.len();
        let before = known.clone();
        if !keep_more {
            known.clear();
        }
        known.extend(wanted.addresses.iter().filter(carried).copied());
        let refused = self.socket.run(&mut batch)?;
        self.report.changed += changes - refused.len();
        for ((address, added), error) in refused {
            if !added && error.refusal == Refusal::Missing {
                continue;
            }
            if before.contains(&address) {
                known.insert(address);
            } else {
                known.remove(&address);
            }
            let object = Object::Address(name.clone(), address);
            self.report.fail(object, error.into());
        }
        for address in wanted.addresses.iter().filter(|address| !carried(address)) {
            let object = Object::Address(name.clone(), *address);
            self.report.fail(object, NO_IPV6_IN_IPIP);
        }
        Ok(())
    }
}

/// What the kernel's IPIP cannot do.
pub(super) const NO_IPV6_IN_IPIP: Fault = Fault::Unsupported {
    what: "IP in IP for IPv6 (VXLAN carries both)",
};
