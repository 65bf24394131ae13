//! The node itself: its rules, its ports, its interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_dataplane::interfaces::Interface;
use ocicat_dataplane::state::{FailsafePort, LinkName, Protocol};

use super::{Core, replace_shared};
use crate::host::failsafe;
use crate::network::Tunnels;

impl Core {
    pub(super) fn plan_host(&mut self, lingering: Tunnels) -> bool {
        self.notes.clear();
        let action = self.felix("defaultEndpointToHostAction");
        let action = crate::host::endpoint_to_host(action.as_deref()).unwrap_or_else(|problem| {
            self.notes
                .push(format!("FelixConfiguration: {problem}; Drop is in force"));
            ocicat_dataplane::state::EndpointToHost::Drop
        });
        let mut rules =
            crate::host::rules(&self.world.pools, lingering, action, &self.closed_ports());
        rules.failsafe_in = self.failsafe("failsafeInboundHostPorts", failsafe::INBOUND);
        rules.failsafe_out = self.failsafe("failsafeOutboundHostPorts", failsafe::OUTBOUND);
        let mut changed = replace_shared(&mut self.state.host, rules);
        changed |= replace_shared(&mut self.state.nat, crate::host::nat(&self.world.pools));
        let set = self.state.sets.entry(crate::host::nodes_set()).or_default();
        let before = set.clone();
        crate::host::update_nodes(set, &self.world.nodes);
        changed | !set.same(&before)
    }

    /// Ports that host endpoints' policies leave open; the usual ones where what is stated cannot be read.
    fn failsafe(&mut self, name: &str, usual: &str) -> Vec<FailsafePort> {
        let stated = self.felix(name).unwrap_or_else(|| usual.to_owned());
        failsafe::ports(&stated).unwrap_or_else(|problem| {
            let note = format!("FelixConfiguration: {name}: {problem}; the usual ports stay open");
            self.notes.push(note);
            failsafe::ports(usual).unwrap_or_default()
        })
    }

    /// What the node's own interfaces have as addresses: host endpoints are found by them.
    pub(crate) fn interfaces(&mut self, found: &[Interface]) {
        self.note_uplinks(found);
        let has_addresses = |one: &&Interface| !one.is_virtual() && !one.addresses.is_empty();
        let now: BTreeMap<LinkName, BTreeSet<IpAddr>> = found
            .iter()
            .filter(has_addresses)
            .map(|one| {
                (
                    one.name.clone(),
                    one.addresses.iter().map(|a| a.ip()).collect(),
                )
            })
            .collect();
        if now == self.links {
            return;
        }
        let gone = self.links.keys().filter(|name| !now.contains_key(*name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.graph.set_interface(name, BTreeSet::new());
        }
        for (name, addresses) in &now {
            self.graph.set_interface(name.clone(), addresses.clone());
        }
        self.links = now;
        self.policy_touched = true;
    }

    /// Ports of the agent that pods do not reach; BGP's is open where pods are to be its peers.
    fn closed_ports(&self) -> Vec<(Protocol, u16)> {
        let bgp = self.listening.filter(|_| !self.local_peers);
        let bgp = bgp.map(|port| (Protocol::TCP, port));
        self.fixed.closed.iter().copied().chain(bgp).collect()
    }
}
