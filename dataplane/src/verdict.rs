//! What becomes of a packet under a [`State`](crate::State), decided without a kernel: for fake kernels, what-if questions, and to
//! compare with real kernels.

use std::net::IpAddr;

use crate::state::{LinkName, PolicyId, ProfileId, Protocol};

mod matching;
mod path;

/// A packet at a node, as policy sees it: behind destination address translation, before that of sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The link that it came in by; `None` when the node itself sends it.
    pub in_link: Option<LinkName>,
    /// The link that it goes out by; `None` when it is for the node itself.
    pub out_link: Option<LinkName>,
    /// The source address.
    pub source: IpAddr,
    /// The destination address, of the same family.
    pub destination: IpAddr,
    /// The protocol; of IPv6 the one behind all extension headers.
    pub protocol: Protocol,
    /// Source and destination port of protocols that have them.
    pub ports: Option<(u16, u16)>,
    /// Type and code of ICMP and ICMPv6 messages. What a neighbour advertisement claims is not here: it is taken to be
    /// an address of the sender's.
    pub icmp: Option<(u8, u8)>,
    /// What connection tracking says.
    pub connection: Connection,
}

/// What connection tracking says about a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// The first packet of a connection, or one that is not tracked.
    #[default]
    New,
    /// Of a connection that has answered, or about one.
    Open,
    /// Of no connection, where there should be one.
    Invalid,
}

impl Packet {
    /// A new TCP connection, forwarded from one link to another, from port 40000.
    #[must_use]
    pub fn tcp(
        (in_link, source): (LinkName, IpAddr),
        (out_link, destination): (LinkName, IpAddr),
        port: u16,
    ) -> Self {
        Self {
            in_link: Some(in_link),
            out_link: Some(out_link),
            source,
            destination,
            protocol: Protocol::TCP,
            ports: Some((40_000, port)),
            icmp: None,
            connection: Connection::New,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It goes on.
    Allowed,
    /// It does not.
    Denied(Reason),
}

impl Verdict {
    /// Whether the packet goes on.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }
}

/// Why a packet does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It is for 127.0.0.0/8 and came from outside.
    Martian,
    /// Its source is not one of the pod's.
    Spoofed,
    /// It is a router advertisement or a redirect, which pods do not send.
    Router,
    /// It belongs to no connection.
    Invalid,
    /// A pod sent an outer packet of a tunnel.
    TunnelOfPod,
    /// A stranger sent an outer packet of a tunnel.
    TunnelOfStranger,
    /// A pod's link has no endpoint.
    NoEndpoint,
    /// The endpoint is down.
    Down,
    /// A rule of a policy denies it, or the policy is named and not there.
    Policy(PolicyId),
    /// A rule of a profile denies it.
    Profile(ProfileId),
    /// The tier's policies apply to the endpoint, and none of them decided.
    EndOfTier(String),
    /// No tier decided and no profile allows it.
    NoProfile,
    /// The node's port is closed to pods.
    ClosedToPods,
    /// Pods may not reach their node ([`EndpointToHost::Drop`](crate::state::EndpointToHost::Drop)).
    PodToHost,
}

/// How tiers and profiles decide.
enum Decision {
    Allow,
    Deny(Reason),
    /// Nobody decided.
    Open,
}
