//! How a neighbour is configured.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::filter::Filter;
use crate::number::{AsNumber, Families};
use crate::wire::PORT;

/// A TCP MD5 password (RFC 2385). It has no `Debug` and cannot be read back outside this crate.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

/// A password that TCP MD5 signatures cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TCP MD5 password has 1 to 80 octets, this one has {length}")]
pub struct PasswordError {
    /// How many octets it has.
    pub length: usize,
}

impl Password {
    /// A password of 1 to 80 octets, which is what Linux takes.
    ///
    /// # Errors
    /// [`PasswordError`] when it is empty or longer.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, PasswordError> {
        let secret: Vec<u8> = secret.into();
        match secret.len() {
            1..=80 => Ok(Self(secret.into())),
            length => Err(PasswordError { length }),
        }
    }

    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// What a speaker asks of its peers while it restarts (RFC 4724, 8538).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GracefulRestart {
    /// For how long the peer shall keep our routes, in whole seconds up to 4095. Default 120 s, as Calico's.
    pub time: Duration,
    /// The host found its routes in this kernel at start, so forwarding went on while the process was gone: the F
    /// bit of the first OPEN. Default false. Later OPENs of the same process have the bit in any case.
    pub forwarding_preserved: bool,
    /// Whether a NOTIFICATION starts graceful restart too (the N bit of RFC 8538). Default true.
    pub notification: bool,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(120),
            forwarding_preserved: false,
            notification: true,
        }
    }
}

impl GracefulRestart {
    /// Peers keep our routes for `time`; nothing was preserved yet.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            ..Self::default()
        }
    }

    /// Sets [`GracefulRestart::forwarding_preserved`].
    #[must_use]
    pub const fn forwarding_preserved(mut self, preserved: bool) -> Self {
        self.forwarding_preserved = preserved;
        self
    }
}

/// Which next hop routes are sent with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum NextHopMode {
    /// As RFC 4271 section 5.1.3 has it: unchanged towards the own AS, the session's address towards others.
    #[default]
    Auto,
    /// Always the session's own address; on a reflected route as well.
    Own,
    /// Always as the route came.
    Keep,
}

/// How far away a peer may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ttl {
    /// Packets go out with the system's default and are taken with any value: multihop without a bound.
    #[default]
    Default,
    /// Packets go out with this TTL, 1 for a peer on the same link.
    Limit(u8),
    /// RFC 5082: packets go out with 255, and those that passed `hops` routers or more are not taken. 1 is a peer on
    /// the same link.
    Security {
        /// How many hops the peer is away, 1..=254.
        hops: u8,
    },
}

/// A neighbour. Made by [`PeerConfig::new`], changed by the setters.
#[derive(Clone)]
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
    pub interface: Option<Arc<str>>,
    /// Wait for the peer to connect, never dial. Default false.
    pub passive: bool,
    /// The hold time that we propose. 0, or at least 3 s; default 90 s (RFC 4271 section 10).
    pub hold_time: Duration,
    /// The keepalive interval; a third of the negotiated hold time when `None` or when longer than that.
    pub keepalive: Option<Duration>,
    /// The longest pause between two attempts to connect. Default 5 s, as Calico's; the first pauses are shorter.
    pub connect_retry: Duration,
    /// The pause after a session that ended in an error; doubles up to six times this. Default 5 s.
    pub error_wait: Duration,
    /// Graceful restart; `None` turns both roles off. Default on.
    pub graceful_restart: Option<GracefulRestart>,
    /// The longest time that we keep a restarting peer's routes, whatever it asks for. Default 4095 s, the protocol's.
    pub max_restart_time: Duration,
    /// For how long after the session is back stale routes may wait for End-of-RIB. Default 360 s.
    pub stale_time: Duration,
    /// The address families to exchange. Default: that of the peer's address.
    pub families: Families,
    /// Which next hop routes are sent with.
    pub next_hop: NextHopMode,
    /// The peer is a client of this route reflector (RFC 4456).
    pub rr_client: bool,
    /// How far away the peer may be.
    pub ttl: Ttl,
    /// The TCP MD5 password.
    pub password: Option<Password>,
    /// More prefixes than this end the session with Cease/1. `None`: no limit. Default one million.
    pub max_prefixes: Option<u32>,
    /// How often our own AS may be in a path from this peer. Default 0.
    pub allow_own_as: u8,
    /// A path from an external peer must begin with the peer's AS. Default true; a route server needs false.
    pub enforce_first_as: bool,
    /// What is taken from the peer. `None`: everything.
    pub import: Option<Arc<dyn Filter>>,
    /// What is sent to the peer. `None`: everything that the RFCs let pass.
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
            import: None,
            export: None,
        }
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
