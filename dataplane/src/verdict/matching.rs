//! Whether a rule matches a packet.

use std::net::IpAddr;

use super::Packet;
use crate::state::{Icmp, IpVersion, Member, PortRange, Protocol, Rule, SetId, Side};
use crate::{Prefix, State};

impl State {
    pub(super) fn matches(&self, rule: &Rule, packet: &Packet) -> bool {
        let version = if packet.source.is_ipv4() {
            IpVersion::V4
        } else {
            IpVersion::V6
        };
        rule.ip_version.is_none_or(|only| only == version)
            && rule.protocol.is_none_or(|only| only == packet.protocol)
            && rule.not_protocol != Some(packet.protocol)
            && icmp_matches(rule, packet, version)
            && self.side(&rule.source, rule.protocol, packet, true)
            && self.side(&rule.destination, rule.protocol, packet, false)
    }

    fn side(&self, side: &Side, named: Option<Protocol>, packet: &Packet, source: bool) -> bool {
        let address = if source {
            packet.source
        } else {
            packet.destination
        };
        let port = packet
            .ports
            .map(|(from, to)| if source { from } else { to });
        let member = |set: &SetId| {
            port.is_some_and(|port| self.has(set, Member::Port(address, packet.protocol, port)))
        };
        // Numbers are about packets with ports, whether negated or not.
        let number = |ranges: &[PortRange]| {
            let port = port.filter(|_| named.unwrap_or(packet.protocol).has_ports())?;
            Some(
                ranges
                    .iter()
                    .any(|range| (range.first..=range.last).contains(&port)),
            )
        };
        let ports = side.ports.is_empty() && side.port_sets.is_empty()
            || !side.ports.is_empty() && number(&side.ports) == Some(true)
            || side.port_sets.iter().any(member);
        ports
            && (side.not_ports.is_empty() || number(&side.not_ports) == Some(false))
            && !side.not_port_sets.iter().any(member)
            && side.service.as_ref().is_none_or(member)
            && (side.nets.is_empty() || side.nets.iter().any(|net| net.contains(address)))
            && !side.not_nets.iter().any(|net| net.contains(address))
            && side.sets.iter().all(|set| self.holds(set, address))
            && !side.not_sets.iter().any(|set| self.holds(set, address))
    }

    fn has(&self, set: &SetId, member: Member) -> bool {
        self.sets
            .get(set)
            .is_some_and(|set| set.members().contains(&member))
    }

    /// Whether some range of the set holds the address.
    pub(super) fn holds(&self, set: &SetId, address: IpAddr) -> bool {
        let longest = Prefix::host(address).length();
        self.sets.get(set).is_some_and(|set| {
            (0..=longest)
                .filter_map(|length| Prefix::containing(address, length).ok())
                .any(|net| set.members().contains(&Member::Net(net)))
        })
    }
}

/// An ICMP condition is about messages of the rule's protocol, or else of the family's own ICMP.
fn icmp_matches(rule: &Rule, packet: &Packet, version: IpVersion) -> bool {
    if rule.icmp.is_none() && rule.not_icmp.is_none() {
        return true;
    }
    let own = match version {
        IpVersion::V4 => Protocol::ICMP,
        IpVersion::V6 => Protocol::ICMPV6,
    };
    let is = |icmp: Icmp| {
        packet.icmp.is_some_and(|(kind, code)| {
            icmp.kind == kind && icmp.code.is_none_or(|only| only == code)
        })
    };
    rule.protocol.unwrap_or(own) == packet.protocol
        && rule.icmp.is_none_or(is)
        && !rule.not_icmp.is_some_and(is)
}
