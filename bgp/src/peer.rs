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

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: impl Into<$type>) -> Self {
            self.$name = $name.into();
            self
        })*
    };
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

    setters! {
        /// Sets our AS towards this peer.
        local_as: Option<AsNumber>;
        /// Sets the peer's TCP port.
        port: u16;
        /// Sets the address of our side.
        local_address: Option<IpAddr>;
        /// Sets whether to wait for the peer to connect.
        passive: bool;
        /// Sets the hold time that we propose.
        hold_time: Duration;
        /// Sets the keepalive interval.
        keepalive: Option<Duration>;
        /// Sets the longest pause between attempts to connect.
        connect_retry: Duration;
        /// Sets the pause after an error.
        error_wait: Duration;
        /// Sets graceful restart, or turns it off.
        graceful_restart: Option<GracefulRestart>;
        /// Sets the longest time that a restarting peer's routes are kept.
        max_restart_time: Duration;
        /// Sets for how long stale routes may wait for End-of-RIB.
        stale_time: Duration;
        /// Sets the families to exchange.
        families: Families;
        /// Sets which next hop routes are sent with.
        next_hop: NextHopMode;
        /// Sets whether the peer is a client of this reflector.
        rr_client: bool;
        /// Sets how far away the peer may be.
        ttl: Ttl;
        /// Sets the TCP MD5 password.
        password: Option<Password>;
        /// Sets the limit of prefixes.
        max_prefixes: Option<u32>;
        /// Sets how often our own AS may be in a path.
        allow_own_as: u8;
        /// Sets whether paths must begin with the peer's AS.
        enforce_first_as: bool;
        /// Sets the filter of what is taken.
        import: Option<Arc<dyn Filter>>;
        /// Sets the filter of what is sent.
        export: Option<Arc<dyn Filter>>;
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
