use std::time::Duration;

use crate::number::{AsNumber, Families};

/// What a speaker asks of its peers while it restarts (RFC 4724, 8538).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct GracefulRestart {
    /// For how long the peer shall keep our routes, in whole seconds up to 4095. Default 120 s, as Calico's.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::seconds"))]
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
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
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
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
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

/// In which families several paths per prefix are exchanged (RFC 7911). Default: in none.
///
/// What is sent are all paths whose next hop can be reached and that the export filter lets pass, the best one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct AddPath {
    /// Several paths per prefix are taken from the peer.
    pub receive: Families,
    /// Several paths per prefix are sent to the peer.
    pub send: Families,
}

impl AddPath {
    /// Both ways in `families`.
    #[must_use]
    pub const fn both(families: Families) -> Self {
        Self {
            receive: families,
            send: families,
        }
    }

    /// Only taken, in `families`.
    #[must_use]
    pub const fn receive(families: Families) -> Self {
        Self {
            receive: families,
            send: Families::NONE,
        }
    }

    /// Only sent, in `families`.
    #[must_use]
    pub const fn send(families: Families) -> Self {
        Self {
            receive: Families::NONE,
            send: families,
        }
    }
}

/// What this speaker is to a peer in another AS (RFC 9234 section 3): routes then go only where they are meant to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Role {
    /// The peer pays us: it gets everything, and sends its own and its customers' routes.
    Provider,
    /// A route server; the peer is its client.
    RouteServer,
    /// A client of the route server that the peer is.
    RouteServerClient,
    /// We pay the peer: it gets our own and our customers' routes.
    Customer,
    /// Neither pays: each gets the other's own and its customers' routes.
    Peer,
}

impl Role {
    /// The value in the capability.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// Whether a peer that says `other` is what it should be (RFC 9234 section 4.2).
    pub(crate) const fn fits(self, other: u8) -> bool {
        let expected = match self {
            Self::Provider => Self::Customer,
            Self::Customer => Self::Provider,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Peer => Self::Peer,
        };
        other == expected as u8
    }

    /// Routes that a customer, a peer or a route server's client has no business to pass on go no higher: the roles
    /// in which they are not sent.
    pub(crate) const fn keeps_marked(self) -> bool {
        matches!(self, Self::Customer | Self::Peer | Self::RouteServerClient)
    }

    /// The roles in which what is sent is marked.
    pub(crate) const fn marks(self) -> bool {
        matches!(self, Self::Provider | Self::Peer | Self::RouteServer)
    }
}

/// What becomes of private AS numbers (RFC 6996: 64512 to 65534, 4200000000 to 4294967294) in paths to other ASes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum PrivateAs {
    /// They stay.
    #[default]
    Keep,
    /// They are taken out, but for the peer's own, by which it finds loops.
    Remove,
    /// Our own number takes their place, so that the path stays as long as it was; the peer's own stays.
    Replace,
}

impl AsNumber {
    /// Whether the number is for private use (RFC 6996 section 5).
    #[must_use]
    pub const fn is_private(self) -> bool {
        matches!(self.0, 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
    }
}
