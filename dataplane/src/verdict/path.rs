//! The way of a packet through a node.

use std::sync::Arc;

use super::{Connection, Decision, Packet, Reason, Verdict};
use crate::State;
use crate::state::{
    Action, EndTier, EndpointToHost, HostEndpoint, LinkName, Policy, ProfileId, Protocol, Rule,
    Tier, Workload,
};

/// Group membership and neighbour discovery, without which there is no IPv6.
const DISCOVERY: [u8; 7] = [130, 131, 132, 133, 135, 136, 143];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

impl State {
    /// What becomes of a packet: the same as in the nftables table that this state makes.
    #[must_use]
    pub fn verdict(&self, packet: &Packet) -> Verdict {
        let reason = match (&packet.in_link, &packet.out_link) {
            (None, None) => None,
            (Some(link), _) if self.prerouting(link, packet).is_some() => {
                self.prerouting(link, packet)
            }
            (Some(from), Some(to)) => self.forward(from, to, packet),
            (Some(from), None) => self.input(from, packet),
            (None, Some(to)) => self.output(to, packet),
        };
        reason.map_or(Verdict::Allowed, Verdict::Denied)
    }

    fn is_pods(&self, link: &LinkName) -> bool {
        link.as_str().starts_with(&*self.host.workload_prefix)
    }

    fn prerouting(&self, link: &LinkName, packet: &Packet) -> Option<Reason> {
        if packet.destination.is_ipv4() && packet.destination.is_loopback() && link.as_str() != "lo"
        {
            return Some(Reason::Martian);
        }
        if !self.is_pods(link) {
            return None;
        }
        let discovery = packet.source.is_ipv6() && packet.protocol == Protocol::ICMPV6;
        let routers = |kind| match packet.protocol {
            Protocol::ICMP => kind == 5,
            _ => discovery && (kind == 134 || kind == 137),
        };
        if packet.icmp.is_some_and(|(kind, _)| routers(kind)) {
            return Some(Reason::Router);
        }
        let workload = self.workloads.get(link);
        let own = workload.is_some_and(|workload| {
            workload.addresses.contains(&packet.source)
                || workload
                    .allowed_sources
                    .iter()
                    .any(|net| net.contains(packet.source))
        });
        let local = match packet.source {
            std::net::IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unicast_link_local(),
            std::net::IpAddr::V4(_) => false,
        };
        (!(own || discovery && local)).then_some(Reason::Spoofed)
    }

    fn forward(&self, from: &LinkName, to: &LinkName, packet: &Packet) -> Option<Reason> {
        if packet.connection == Connection::Open && !self.hosts.is_empty() {
            return None;
        }
        let host = |link, direction| {
            let endpoint = self.host_endpoint(link)?;
            let tiers = match direction {
                Direction::In => &endpoint.forward_ingress,
                Direction::Out => &endpoint.forward_egress,
            };
            denied(self.decide(tiers, &[], direction, packet), None)
        };
        if let Some(reason) = host(from, Direction::In) {
            return Some(reason);
        }
        for (link, direction) in [(from, Direction::Out), (to, Direction::In)] {
            if self.is_pods(link) {
                if packet.connection == Connection::Open {
                    return None;
                }
                let other = if direction == Direction::Out {
                    to
                } else {
                    from
                };
                if let Some(reason) = self.pod(link, direction, Some(other), packet) {
                    return Some(reason);
                }
            }
        }
        host(to, Direction::Out)
    }

    fn input(&self, from: &LinkName, packet: &Packet) -> Option<Reason> {
        if let Some(stranger) = self.is_of_stranger(packet, packet.source) {
            return stranger.then_some(Reason::TunnelOfStranger);
        }
        if packet.connection == Connection::Open {
            return None;
        }
        let icmp = packet.icmp.filter(|_| packet.protocol == Protocol::ICMPV6);
        let discovery = icmp.is_some_and(|(kind, _)| DISCOVERY.contains(&kind));
        if !self.is_pods(from) {
            let advertisement = icmp.is_some_and(|(kind, _)| kind == 134);
            if from.as_str() == "lo" || discovery || advertisement {
                return None;
            }
            return self
                .host_endpoint(from)
                .and_then(|endpoint| self.host_policy(endpoint, Direction::In, packet));
        }
        if discovery {
            return None;
        }
        let closed =
            |(_, to): (u16, u16)| self.host.closed_to_pods.contains(&(packet.protocol, to));
        if packet.ports.is_some_and(closed) {
            return Some(Reason::ClosedToPods);
        }
        let reason = self.pod(from, Direction::Out, None, packet);
        let drop = self.host.endpoint_to_host == EndpointToHost::Drop;
        reason.or_else(|| drop.then_some(Reason::PodToHost))
    }

    fn output(&self, to: &LinkName, packet: &Packet) -> Option<Reason> {
        let icmp = packet.icmp.filter(|_| packet.protocol == Protocol::ICMPV6);
        let discovery = icmp.is_some_and(|(kind, _)| DISCOVERY.contains(&kind) || kind == 134);
        let open = packet.connection == Connection::Open;
        if self.is_of_stranger(packet, packet.destination) == Some(false) {
            return None;
        }
        if self.is_pods(to) || to.as_str() == "lo" || open || discovery {
            return None;
        }
        let endpoint = self.host_endpoint(to)?;
        self.host_policy(endpoint, Direction::Out, packet)
    }

    /// Whether an outer packet of a tunnel has a stranger at its other end; `None` for other packets.
    fn is_of_stranger(&self, packet: &Packet, other: std::net::IpAddr) -> Option<bool> {
        let mut tunnels = self.host.tunnels.iter();
        let tunnel = tunnels.find(|tunnel| self.is_tunnel(tunnel, packet))?;
        Some(!self.holds(&tunnel.sources, other))
    }

    fn is_tunnel(&self, tunnel: &crate::state::TunnelGuard, packet: &Packet) -> bool {
        let port = packet.ports.map(|(_, to)| to);
        packet.protocol == tunnel.protocol && (tunnel.port.is_none() || tunnel.port == port)
    }

    /// A new packet at a pod's link; `other` is the link at its other end.
    fn pod(
        &self,
        link: &LinkName,
        direction: Direction,
        other: Option<&LinkName>,
        packet: &Packet,
    ) -> Option<Reason> {
        if packet.connection == Connection::Invalid {
            return Some(Reason::Invalid);
        }
        let mut tunnels = self.host.tunnels.iter();
        if direction == Direction::Out && tunnels.any(|tunnel| self.is_tunnel(tunnel, packet)) {
            return Some(Reason::TunnelOfPod);
        }
        let Some(workload) = self.workloads.get(link) else {
            return Some(Reason::NoEndpoint);
        };
        if !workload.up {
            return Some(Reason::Down);
        }
        if other == Some(link) {
            return None;
        }
        let Workload {
            ingress,
            egress,
            profiles,
            ..
        } = &**workload;
        let tiers = if direction == Direction::In {
            ingress
        } else {
            egress
        };
        let decision = self.decide(tiers, profiles, direction, packet);
        denied(decision, Some(Reason::NoProfile))
    }

    fn host_endpoint(&self, link: &LinkName) -> Option<&Arc<HostEndpoint>> {
        if self.is_pods(link) {
            return None;
        }
        let named = |endpoint: &&Arc<HostEndpoint>| endpoint.link.as_ref() == Some(link);
        let rest = |endpoint: &&Arc<HostEndpoint>| endpoint.link.is_none();
        self.hosts
            .values()
            .find(named)
            .or_else(|| self.hosts.values().find(rest))
    }

    fn host_policy(
        &self,
        endpoint: &HostEndpoint,
        direction: Direction,
        packet: &Packet,
    ) -> Option<Reason> {
        let (failsafe, address, tiers) = match direction {
            Direction::In => (&self.host.failsafe_in, packet.source, &endpoint.ingress),
            Direction::Out => (
                &self.host.failsafe_out,
                packet.destination,
                &endpoint.egress,
            ),
        };
        let safe = failsafe.iter().any(|safe| {
            safe.protocol == packet.protocol
                && packet.ports.is_some_and(|(_, to)| to == safe.port)
                && safe.net.is_none_or(|net| net.contains(address))
        });
        if safe {
            return None;
        }
        let decision = self.decide(tiers, &endpoint.profiles, direction, packet);
        denied(decision, Some(Reason::NoProfile))
    }

    fn decide(
        &self,
        tiers: &[Tier],
        profiles: &[ProfileId],
        direction: Direction,
        packet: &Packet,
    ) -> Decision {
        for tier in tiers {
            match self.tier(tier, direction, packet) {
                Decision::Open => {}
                decided => return decided,
            }
        }
        for id in profiles {
            let Some(profile) = self.profiles.get(id) else {
                continue;
            };
            match self.first(rules(profile, direction), packet) {
                Some(Action::Allow) => return Decision::Allow,
                Some(Action::Deny) => return Decision::Deny(Reason::Profile(id.clone())),
                _ => {}
            }
        }
        Decision::Open
    }

    fn tier(&self, tier: &Tier, direction: Direction, packet: &Packet) -> Decision {
        for id in &tier.policies {
            let Some(policy) = self.policies.get(id) else {
                // What is not there yet may be about to deny.
                return Decision::Deny(Reason::Policy(id.clone()));
            };
            match self.first(rules(policy, direction), packet) {
                Some(Action::Allow) => return Decision::Allow,
                Some(Action::Deny) => return Decision::Deny(Reason::Policy(id.clone())),
                Some(Action::Pass) => return Decision::Open,
                _ => {}
            }
        }
        match tier.end {
            EndTier::Deny => Decision::Deny(Reason::EndOfTier(tier.name.to_string())),
            EndTier::Pass => Decision::Open,
        }
    }

    /// The action of the first rule that matches and decides.
    fn first(&self, rules: &[Rule], packet: &Packet) -> Option<Action> {
        let mut rules = rules.iter().filter(|rule| rule.action != Action::Log);
        rules
            .find(|rule| self.matches(rule, packet))
            .map(|rule| rule.action)
    }
}

fn rules(policy: &Policy, direction: Direction) -> &[Rule] {
    match direction {
        Direction::In => &policy.ingress,
        Direction::Out => &policy.egress,
    }
}

fn denied(decision: Decision, open: Option<Reason>) -> Option<Reason> {
    match decision {
        Decision::Allow => None,
        Decision::Deny(reason) => Some(reason),
        Decision::Open => open,
    }
}
