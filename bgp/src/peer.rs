//! How a neighbour is configured.

mod options;
mod password;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use options::{AddPath, GracefulRestart, NextHopMode, PrivateAs, Role, Ttl};
pub use password::{Password, PasswordError};

use crate::filter::Filter;
use crate::number::{AsNumber, Families};
use crate::wire::PORT;

/// A neighbour. Made by [`PeerConfig::new`], changed by the setters.
#[derive(Clone)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", default = "PeerConfig::blank", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct PeerConfig {
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's AS.
    pub peer_as: AsNumber,
    /// Our AS towards this peer, if it is not the speaker's.
    pub local_as: Option<AsNumber>,
    /// The peer's TCP port. Default 179.
    pub port: u16,
    /// The address that our side of the connection has; the system chooses when `None`.
    pub local_address: Option<IpAddr>,
    /// The interface that the peer is reached over, for filters that ask. Default none.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::name"))]
    pub interface: Option<Arc<str>>,
    /// Wait for the peer to connect, never dial. Default false.
    pub passive: bool,
    /// The hold time that we propose. 0, or at least 3 s; default 90 s (RFC 4271 section 10).
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
    pub hold_time: Duration,
    /// The keepalive interval; a third of the negotiated hold time when `None` or when longer than that.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::optional_seconds"))]
    pub keepalive: Option<Duration>,
    /// The longest pause between two attempts to connect. Default 5 s, as Calico's; the first pauses are shorter.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
    pub connect_retry: Duration,
    /// The pause after a session that ended in an error; doubles up to six times this. Default 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
    pub error_wait: Duration,
    /// Graceful restart; `None` turns both roles off. Default on.
    pub graceful_restart: Option<GracefulRestart>,
    /// The longest time that we keep a restarting peer's routes, whatever it asks for. Default 4095 s, the protocol's.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
    pub max_restart_time: Duration,
    /// For how long after the session is back stale routes may wait for End-of-RIB. Default 360 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
    pub stale_time: Duration,
    /// The address families to exchange. Default: that of the peer's address.
    pub families: Families,
    /// Which next hop routes are sent with.
    pub next_hop: NextHopMode,
    /// The peer is a client of this route reflector (RFC 4456).
    pub rr_client: bool,
    /// How far away the peer may be.
    pub ttl: Ttl,
    /// The TCP MD5 password. Never serialised.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub password: Option<Password>,
    /// More prefixes than this end the session with Cease/1. `None`: no limit. Default one million.
    pub max_prefixes: Option<u32>,
    /// How often our own AS may be in a path from this peer. Default 0.
    pub allow_own_as: u8,
    /// A path from an external peer must begin with the peer's AS. Default true; a route server needs false.
    pub enforce_first_as: bool,
    /// Several paths per prefix (RFC 7911).
    pub add_path: AddPath,
    /// Messages of up to 65535 octets (RFC 8654). Default false: a message is kept until it is whole, and this is
    /// sixteen times the memory that a peer can claim.
    pub extended_messages: bool,
    /// IPv4 routes with IPv6 next hops (RFC 8950), on a session over IPv6 with our address there. Default false.
    pub extended_next_hop: bool,
    /// What we are to this peer (RFC 9234); only towards other ASes. Default none.
    pub role: Option<Role>,
    /// A peer that says nothing of its role gets no session (RFC 9234 section 4.2). Default false.
    pub strict_role: bool,
    /// What becomes of private AS numbers in what is sent to other ASes. Default: they stay.
    pub private_as: PrivateAs,
    /// What is taken from the peer. `None`: everything.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub import: Option<Arc<dyn Filter>>,
    /// What is sent to the peer. `None`: everything that the RFCs let pass.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub export: Option<Arc<dyn Filter>>,
}

impl PeerConfig {
    /// A peer with every other setting at its default.
    #[must_use]
    pub fn new(address: IpAddr, peer_as: impl Into<AsNumber>) -> Self {
        Self {
            address,
            peer_as: peer_as.into(),
            local_as: None,
            port: PORT,
            local_address: None,
            interface: None,
            passive: false,
            hold_time: Duration::from_secs(90),
            keepalive: None,
            connect_retry: Duration::from_secs(5),
            error_wait: Duration::from_secs(5),
            graceful_restart: Some(GracefulRestart::default()),
            max_restart_time: Duration::from_secs(4095),
            stale_time: Duration::from_secs(360),
            families: if address.is_ipv4() {
                Families::IPV4
            } else {
                Families::IPV6
            },
            next_hop: NextHopMode::Auto,
            rr_client: false,
            ttl: Ttl::Default,
            password: None,
            max_prefixes: Some(1_000_000),
            allow_own_as: 0,
            enforce_first_as: true,
            add_path: AddPath::default(),
            extended_messages: false,
            extended_next_hop: false,
            role: None,
            strict_role: false,
            private_as: PrivateAs::Keep,
            import: None,
            export: None,
        }
    }

    /// What we are to the peer, which counts between ASes only (RFC 9234 section 4).
    pub(crate) fn role_in(&self, local_as: AsNumber) -> Option<Role> {
        self.role.filter(|_| self.peer_as != local_as)
    }

    /// Sets our AS towards this peer.
    #[must_use]
    pub fn local_as(mut self, local_as: impl Into<Option<AsNumber>>) -> Self {
        self.local_as = local_as.into();
        self
    }

    /// Sets the peer's TCP port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the address of our side.
    #[must_use]
    pub fn local_address(mut self, local_address: impl Into<Option<IpAddr>>) -> Self {
        self.local_address = local_address.into();
        self
    }

    /// Sets the interface that filters see.
    #[must_use]
    pub fn interface<'a>(mut self, interface: impl Into<Option<&'a str>>) -> Self {
        self.interface = interface.into().map(Arc::from);
        self
    }

    /// Sets whether to wait for the peer to connect.
    #[must_use]
    pub fn passive(mut self, passive: bool) -> Self {
        self.passive = passive;
        self
    }

    /// Sets the hold time that we propose.
    #[must_use]
    pub fn hold_time(mut self, hold_time: Duration) -> Self {
        self.hold_time = hold_time;
        self
    }

    /// Sets the keepalive interval.
    #[must_use]
    pub fn keepalive(mut self, keepalive: impl Into<Option<Duration>>) -> Self {
        self.keepalive = keepalive.into();
        self
    }

    /// Sets the longest pause between attempts to connect.
    #[must_use]
    pub fn connect_retry(mut self, connect_retry: Duration) -> Self {
        self.connect_retry = connect_retry;
        self
    }

    /// Sets the pause after an error.
    #[must_use]
    pub fn error_wait(mut self, error_wait: Duration) -> Self {
        self.error_wait = error_wait;
        self
    }

    /// Sets graceful restart, or turns it off.
    #[must_use]
    pub fn graceful_restart(
        mut self,
        graceful_restart: impl Into<Option<GracefulRestart>>,
    ) -> Self {
        self.graceful_restart = graceful_restart.into();
        self
    }

    /// Sets the longest time that a restarting peer's routes are kept.
    #[must_use]
    pub fn max_restart_time(mut self, max_restart_time: Duration) -> Self {
        self.max_restart_time = max_restart_time;
        self
    }

    /// Sets for how long stale routes may wait for End-of-RIB.
    #[must_use]
    pub fn stale_time(mut self, stale_time: Duration) -> Self {
        self.stale_time = stale_time;
        self
    }

    /// Sets the families to exchange.
    #[must_use]
    pub fn families(mut self, families: Families) -> Self {
        self.families = families;
        self
    }

    /// Sets which next hop routes are sent with.
    #[must_use]
    pub fn next_hop(mut self, next_hop: NextHopMode) -> Self {
        self.next_hop = next_hop;
        self
    }

    /// Sets whether the peer is a client of this reflector.
    #[must_use]
    pub fn rr_client(mut self, rr_client: bool) -> Self {
        self.rr_client = rr_client;
        self
    }

    /// Sets how far away the peer may be.
    #[must_use]
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the TCP MD5 password.
    #[must_use]
    pub fn password(mut self, password: impl Into<Option<Password>>) -> Self {
        self.password = password.into();
        self
    }

    /// Sets the limit of prefixes.
    #[must_use]
    pub fn max_prefixes(mut self, max_prefixes: impl Into<Option<u32>>) -> Self {
        self.max_prefixes = max_prefixes.into();
        self
    }

    /// Sets how often our own AS may be in a path.
    #[must_use]
    pub fn allow_own_as(mut self, allow_own_as: u8) -> Self {
        self.allow_own_as = allow_own_as;
        self
    }

    /// Sets whether paths must begin with the peer's AS.
    #[must_use]
    pub fn enforce_first_as(mut self, enforce_first_as: bool) -> Self {
        self.enforce_first_as = enforce_first_as;
        self
    }

    /// Sets in which families several paths per prefix are exchanged.
    #[must_use]
    pub fn add_path(mut self, add_path: AddPath) -> Self {
        self.add_path = add_path;
        self
    }

    /// Sets whether messages may be longer than 4096 octets.
    #[must_use]
    pub fn extended_messages(mut self, extended_messages: bool) -> Self {
        self.extended_messages = extended_messages;
        self
    }

    /// Sets whether IPv4 routes may have IPv6 next hops.
    #[must_use]
    pub fn extended_next_hop(mut self, extended_next_hop: bool) -> Self {
        self.extended_next_hop = extended_next_hop;
        self
    }

    /// Sets what we are to the peer.
    #[must_use]
    pub fn role(mut self, role: impl Into<Option<Role>>) -> Self {
        self.role = role.into();
        self
    }

    /// Sets whether the peer has to say its role.
    #[must_use]
    pub fn strict_role(mut self, strict_role: bool) -> Self {
        self.strict_role = strict_role;
        self
    }

    /// Sets what becomes of private AS numbers.
    #[must_use]
    pub fn private_as(mut self, private_as: PrivateAs) -> Self {
        self.private_as = private_as;
        self
    }

    /// Sets the filter of what is taken.
    #[must_use]
    pub fn import(mut self, import: impl Into<Option<Arc<dyn Filter>>>) -> Self {
        self.import = import.into();
        self
    }

    /// Sets the filter of what is sent.
    #[must_use]
    pub fn export(mut self, export: impl Into<Option<Arc<dyn Filter>>>) -> Self {
        self.export = export.into();
        self
    }
}

impl fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConfig")
            .field("address", &self.address)
            .field("peer_as", &self.peer_as)
            .field("port", &self.port)
            .field("passive", &self.passive)
            .field("hold_time", &self.hold_time)
            .field("families", &self.families)
            .field("password", &self.password.as_ref().map(|_| "(set)"))
            .finish_non_exhaustive()
    }
}
