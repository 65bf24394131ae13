use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::{Session, SessionConfig};
use crate::number::{AsNumber, Families, Family};
use crate::wire::{AddPathMode, Capability, GracefulRestartCapability, Notification, Open};

/// What both sides of a session have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Negotiated {
    /// The peer's AS.
    pub peer_as: AsNumber,
    /// The peer's BGP identifier.
    pub peer_id: Ipv4Addr,
    /// The shorter of both hold times; zero means that the session never times out.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
    pub hold_time: Duration,
    /// How often we send KEEPALIVE; zero means never.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
    pub keepalive: Duration,
    /// The families that both sides want.
    pub families: Families,
    /// Four-octet AS numbers (RFC 6793).
    pub four_octets: bool,
    /// The peer takes ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// Refreshes are marked (RFC 7313).
    pub enhanced_refresh: bool,
    /// The peer's graceful restart capability, if both sides have it.
    pub restart: Option<GracefulRestartCapability>,
    /// A NOTIFICATION starts graceful restart (both N bits, RFC 8538).
    pub notification_restart: bool,
    /// The families in which the peer sends path identifiers (RFC 7911).
    pub add_path_receive: Families,
    /// The families in which path identifiers are sent to the peer (RFC 7911).
    pub add_path_send: Families,
    /// Messages may have up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// We dialled.
    pub outgoing: bool,
}

impl Session {
    /// Our OPEN for the connection that is made now.
    pub(super) fn open(&self) -> Open {
        let config = &self.config;
        let mut capabilities: Vec<_> = config
            .families
            .iter()
            .map(Capability::Multiprotocol)
            .collect();
        capabilities.push(Capability::RouteRefresh);
        if config.extended_next_hop {
            let pair = (Family::Ipv4Unicast, Family::Ipv6Unicast);
            capabilities.push(Capability::ExtendedNextHop(vec![pair]));
        }
        if config.extended_messages {
            capabilities.push(Capability::ExtendedMessage);
        }
        if let Some(role) = config.role {
            capabilities.push(Capability::Role(role.code()));
        }
        if let Some(restart) = &config.graceful_restart {
            let forwarding = restart.forwarding_preserved || self.was_up;
            capabilities.push(Capability::GracefulRestart(GracefulRestartCapability {
                restarting: self.restarting,
                notification: restart.notification,
                time: restart.time.as_secs().min(4095) as u16,
                families: config
                    .families
                    .iter()
                    .map(|family| (family, forwarding))
                    .collect(),
            }));
        }
        capabilities.push(Capability::FourOctetAs(config.local_as.0));
        let paths = config.families.iter().filter_map(|family| {
            let (receive, send) = (config.add_path.receive, config.add_path.send);
            match (receive.contains(family), send.contains(family)) {
                (true, true) => Some((family, AddPathMode::Both)),
                (true, false) => Some((family, AddPathMode::Receive)),
                (false, true) => Some((family, AddPathMode::Send)),
                (false, false) => None,
            }
        });
        let paths: Vec<_> = paths.collect();
        if !paths.is_empty() {
            capabilities.push(Capability::AddPath(paths));
        }
        capabilities.push(Capability::EnhancedRouteRefresh);
        Open {
            as_number: config.local_as,
            hold_time: config.hold_time.as_secs().min(65535) as u16,
            router_id: config.router_id,
            capabilities,
        }
    }

    /// Judges the peer's OPEN on link `at` (RFC 4271 section 6.2) and resolves collisions (section 6.8); false when
    /// the link is gone.
    pub(super) fn take_open(&mut self, at: usize, open: &Open, now: Instant) -> bool {
        let link = self.links[at].id;
        let negotiated = match negotiate(&self.config, open, self.links[at].outgoing) {
            Ok(negotiated) => negotiated,
            Err(notification) => {
                self.fail(at, notification, now);
                return false;
            }
        };
        if !self.survives_collision(at, open, now) {
            return false;
        }
        // The peer is there: an attempt of ours that is still under way would only collide.
        self.cancel_connect();
        let Some(at) = self.position(link) else {
            return false;
        };
        let keepalive = Some(negotiated.keepalive).filter(|time| !time.is_zero());
        let hold = Some(negotiated.hold_time).filter(|time| !time.is_zero());
        let link = &mut self.links[at];
        link.keepalive_at = keepalive.map(|time| now + self.jitter.of(time));
        link.hold_at = hold.map(|time| now + time);
        link.negotiated = Some(Box::new(negotiated));
        crate::wire::keepalive(&mut link.control);
        true
    }

    /// Leaves one of the peer's connections; false when it is not link `at`.
    fn survives_collision(&mut self, at: usize, open: &Open, now: Instant) -> bool {
        let mine = (u32::from(self.config.router_id), self.config.local_as);
        let theirs = (u32::from(open.router_id), open.as_number);
        // RFC 6286 section 2.3: identifiers first, then AS numbers.
        let keep_outgoing = mine > theirs;
        let link = self.links[at].id;
        let others: Vec<_> = self
            .links
            .iter()
            .map(|other| other.id)
            .filter(|&id| id != link)
            .collect();
        for other in others {
            let (Some(at), Some(other)) = (self.position(link), self.position(other)) else {
                continue;
            };
            let [mine, old] = [&self.links[at], &self.links[other]];
            if old.confirmed {
                let restarts = old.negotiated.as_ref().is_some_and(|n| n.restart.is_some());
                // A connection that was made while the other was being set up is a collision; one that
                // comes later is a peer that has restarted (RFC 4724 section 4.2).
                let later = mine
                    .connected_at
                    .saturating_duration_since(old.confirmed_at);
                if restarts && later >= Duration::from_secs(1) {
                    self.drop_link(other, super::DownReason::Restarted, None, now);
                } else {
                    self.collide(at, now);
                    return false;
                }
            } else if mine.outgoing == old.outgoing || mine.outgoing == keep_outgoing {
                self.collide(other, now);
            } else {
                self.collide(at, now);
                return false;
            }
        }
        true
    }

    fn collide(&mut self, at: usize, now: Instant) {
        let (code, subcode) = Notification::COLLISION;
        let notification = Notification::new(code, subcode);
        let reason = super::DownReason::Sent(notification.clone());
        self.drop_link(at, reason, Some(&notification), now);
    }
}

impl Negotiated {
    /// Takes in a capability that the peer has, as far as we have it too.
    fn take(&mut self, capability: &Capability, config: &SessionConfig) {
        match capability {
            Capability::RouteRefresh => self.route_refresh = true,
            Capability::EnhancedRouteRefresh => self.enhanced_refresh = true,
            Capability::FourOctetAs(_) => self.four_octets = true,
            Capability::ExtendedMessage => self.extended_messages = config.extended_messages,
            Capability::ExtendedNextHop(pairs) => {
                let pair = (Family::Ipv4Unicast, Family::Ipv6Unicast);
                self.extended_next_hop = config.extended_next_hop && pairs.contains(&pair);
            }
            Capability::AddPath(paths) => self.add_paths(config, paths),
            Capability::GracefulRestart(restart) => {
                if let Some(ours) = &config.graceful_restart {
                    self.notification_restart = ours.notification && restart.notification;
                    self.restart = Some(restart.clone());
                }
            }
            _ => {}
        }
    }

    /// RFC 7911 section 4: what one side sends the other must be able to take. Of several entries the last counts.
    fn add_paths(&mut self, config: &SessionConfig, paths: &[(Family, AddPathMode)]) {
        for &(family, mode) in paths {
            let takes = matches!(mode, AddPathMode::Receive | AddPathMode::Both);
            let sends = matches!(mode, AddPathMode::Send | AddPathMode::Both);
            let set = |families: Families, on: bool| {
                if on {
                    families.with(family)
                } else {
                    families.without(family)
                }
            };
            let (receive, send) = (config.add_path.receive, config.add_path.send);
            self.add_path_receive = set(self.add_path_receive, sends && receive.contains(family));
            self.add_path_send = set(self.add_path_send, takes && send.contains(family));
        }
    }
}

/// RFC 9234 section 4.2: the roles must fit together, and a peer has one at most.
fn check_roles(config: &SessionConfig, open: &Open) -> Result<(), Notification> {
    let Some(ours) = config.role else {
        return Ok(());
    };
    let mut theirs = open
        .capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::Role(role) => Some(*role),
            _ => None,
        });
    let Some(first) = theirs.next() else {
        let strict = config.strict_role;
        return if strict { Err(ROLE_MISMATCH) } else { Ok(()) };
    };
    if theirs.all(|role| role == first) && ours.fits(first) {
        Ok(())
    } else {
        Err(ROLE_MISMATCH)
    }
}

const ROLE_MISMATCH: Notification = Notification::new(2, 11);

fn negotiate(
    config: &SessionConfig,
    open: &Open,
    outgoing: bool,
) -> Result<Negotiated, Notification> {
    if open.as_number != config.peer_as {
        return Err(Notification::new(2, 2));
    }
    // RFC 6286 section 2.2: within one AS identifiers differ.
    if open.router_id == config.router_id && open.as_number == config.local_as {
        return Err(Notification::new(2, 3));
    }
    let mut families = Families::NONE;
    let mut multiprotocol = false;
    let mut agreed = Negotiated {
        peer_as: open.as_number,
        peer_id: open.router_id,
        hold_time: Duration::ZERO,
        keepalive: Duration::ZERO,
        families,
        four_octets: false,
        route_refresh: false,
        enhanced_refresh: false,
        restart: None,
        notification_restart: false,
        add_path_receive: Families::NONE,
        add_path_send: Families::NONE,
        extended_messages: false,
        extended_next_hop: false,
        outgoing,
    };
    for capability in &open.capabilities {
        match capability {
            Capability::Multiprotocol(family) => {
                multiprotocol = true;
                families = families.with(*family);
            }
            Capability::Unknown { code: 1, .. } => multiprotocol = true,
            other => agreed.take(other, config),
        }
    }
    // RFC 4760 section 8: who says nothing speaks IPv4 unicast.
    if !multiprotocol {
        families = Families::IPV4;
    }
    agreed.families = families.both(config.families);
    if agreed.families.is_empty() {
        return Err(Notification::new(2, 7));
    }
    agreed.add_path_receive = agreed.add_path_receive.both(agreed.families);
    agreed.add_path_send = agreed.add_path_send.both(agreed.families);
    check_roles(config, open)?;
    let hold = config.hold_time.as_secs().min(u64::from(open.hold_time));
    if hold > 0 {
        agreed.hold_time = Duration::from_secs(hold);
        let third = agreed.hold_time / 3;
        agreed.keepalive = config
            .keepalive
            .filter(|time| !time.is_zero())
            .unwrap_or(third)
            .min(third);
    }
    Ok(agreed)
}
