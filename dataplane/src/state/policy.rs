use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{LinkName, SetId};
use crate::Prefix;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// An id of the given text.
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(text.into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A policy's identity: `gnp/TIER/NAME`, `np/NAMESPACE/TIER/NAME`; shown to people in comments and traces.
    PolicyId
}
id! {
    /// A profile's name, such as `kns.default`.
    ProfileId
}
id! {
    /// A host endpoint's name.
    EndpointId
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP, 1.
    pub const ICMP: Self = Self(1);
    /// TCP, 6.
    pub const TCP: Self = Self(6);
    /// UDP, 17.
    pub const UDP: Self = Self(17);
    /// ICMPv6, 58.
    pub const ICMPV6: Self = Self(58);
    /// SCTP, 132.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite, 136.
    pub const UDPLITE: Self = Self(136);

    /// Whether packets of the protocol have ports at the start of their header.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP | Self::UDPLITE)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMP => f.write_str("ICMP"),
            Self::TCP => f.write_str("TCP"),
            Self::UDP => f.write_str("UDP"),
            Self::ICMPV6 => f.write_str("ICMPv6"),
            Self::SCTP => f.write_str("SCTP"),
            Self::UDPLITE => f.write_str("UDPLite"),
            Self(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first port of the range.
    pub first: u16,
    /// The last port of the range; not below `first`.
    pub last: u16,
}

/// An ICMP or ICMPv6 type, or one code of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Icmp {
    /// The type.
    pub kind: u8,
    /// The code; `None` is any code of the type.
    pub code: Option<u8>,
}

/// What a rule does with a packet that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Let it through; no further rule is asked.
    Allow,
    /// Drop it.
    Deny,
    /// Write it to the log and ask the next rule.
    Log,
    /// Leave the tier; the next one decides.
    Pass,
}

/// One rule: matches when every field matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What to do with a match.
    pub action: Action,
    /// Only this address family.
    pub ip_version: Option<IpVersion>,
    /// Only this protocol.
    pub protocol: Option<Protocol>,
    /// Any protocol but this.
    pub not_protocol: Option<Protocol>,
    /// Only this ICMP type (and code); the protocol is ICMP or ICMPv6.
    pub icmp: Option<Icmp>,
    /// Any ICMP message but this type (and code): not (type and code).
    pub not_icmp: Option<Icmp>,
    /// Where the packet comes from.
    pub source: Side,
    /// Where it goes.
    pub destination: Side,
}

impl Rule {
    /// A rule that matches every packet.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            ip_version: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: Side::default(),
            destination: Side::default(),
        }
    }
}

/// One side of a rule, source or destination: matches when every field that is not empty matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// In one of these ranges.
    pub nets: Vec<Prefix>,
    /// In none of these ranges.
    pub not_nets: Vec<Prefix>,
    /// In every one of these sets of addresses (a rule has more than one when it combines selectors).
    pub sets: Vec<SetId>,
    /// In none of these sets of addresses.
    pub not_sets: Vec<SetId>,
    /// The port is in one of these ranges, or in one of `port_sets`.
    pub ports: Vec<PortRange>,
    /// Address, protocol and port are a member of one of these sets, or the port is in `ports`.
    pub port_sets: Vec<SetId>,
    /// The port is in none of these ranges.
    pub not_ports: Vec<PortRange>,
    /// Address, protocol and port are in none of these sets.
    pub not_port_sets: Vec<SetId>,
    /// Address, protocol and port are a member of this set: the endpoints of a service.
    pub service: Option<SetId>,
}

/// The rules of one policy or profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// For packets to the endpoint.
    pub ingress: Vec<Rule>,
    /// For packets from the endpoint.
    pub egress: Vec<Rule>,
}

/// What happens to a packet that a tier's policies apply to and none decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndTier {
    /// It is dropped.
    Deny,
    /// The next tier, or the profiles, decide.
    Pass,
}

/// The policies of one tier that apply to an endpoint in one direction, in order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The tier's name.
    pub name: Arc<str>,
    /// The policies, first to last.
    pub policies: Vec<PolicyId>,
    /// What happens when none of them decides.
    pub end: EndTier,
}

/// A pod's interface under policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The pod's addresses: a packet from the pod with any other source is dropped.
    pub addresses: Vec<IpAddr>,
    /// Further sources that the pod may send from.
    pub allowed_sources: Vec<Prefix>,
    /// The tiers for packets to the pod, first to last.
    pub ingress: Vec<Tier>,
    /// The tiers for packets from the pod, first to last.
    pub egress: Vec<Tier>,
    /// The profiles, asked in order when no tier decided; when none allows, the packet is dropped.
    pub profiles: Vec<ProfileId>,
    /// False drops everything.
    pub up: bool,
}

/// An interface of the node itself under policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEndpoint {
    /// The interface; `None` is every interface that is no pod's.
    pub link: Option<LinkName>,
    /// The tiers for packets to the host.
    pub ingress: Vec<Tier>,
    /// The tiers for packets from the host.
    pub egress: Vec<Tier>,
    /// The tiers for packets that are forwarded in by this interface.
    pub forward_ingress: Vec<Tier>,
    /// The tiers for packets that are forwarded out by this interface.
    pub forward_egress: Vec<Tier>,
    /// The profiles, for packets to and from the host that no tier decided.
    pub profiles: Vec<ProfileId>,
}

/// What becomes of a pod's packets to its own node, after the pod's egress policy has let them through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointToHost {
    /// They are dropped: Felix's default.
    #[default]
    Drop,
    /// The host's own rules decide.
    Return,
    /// They are accepted.
    Accept,
}

/// A port that host endpoints' policy never closes, so that a node cannot be locked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailsafePort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Only from, or to, this range.
    pub net: Option<Prefix>,
}

/// A tunnel's outer packets: accepted from known nodes only, and never from pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelGuard {
    /// The outer protocol: UDP for VXLAN, 4 for IPIP.
    pub protocol: Protocol,
    /// The UDP port for VXLAN.
    pub port: Option<u16>,
    /// The set of the nodes' addresses.
    pub sources: SetId,
}

/// What becomes of a connection that is open when policy changes to deny it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenConnections {
    /// It stays open until it ends: what Calico does, and what NetworkPolicy leaves undefined.
    #[default]
    Keep,
    /// Connections of pods are judged again after each change of policy: those that are denied now are marked in
    /// connection tracking ([`nft::CUT`](crate::nft::CUT)) and their packets dropped, in both directions; others notice nothing. Costs a
    /// look at every tracked connection after each change, and one more comparison for each packet.
    Cut,
}

/// What a denied packet meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Denied {
    /// Silence: the sender waits for its own timeout. Felix's default.
    #[default]
    Drop,
    /// A TCP reset, else ICMP "administratively prohibited": the sender knows at once.
    Reject,
}

/// Where [`Action::Log`] writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The start of every line; `calico-packet` by default. At most 127 bytes.
    pub prefix: Box<str>,
    /// At most so many lines a minute for each rule; `None` logs every packet.
    pub per_minute: Option<u32>,
    /// The nflog group to send packets to; `None` writes to the kernel's log.
    pub group: Option<u16>,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            prefix: "calico-packet".into(),
            per_minute: None,
            group: None,
        }
    }
}

/// Rules of the node as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRules {
    /// The start of the names of all pods' host-side interfaces: `cali`. A packet from or to such an interface that
    /// has no [`Workload`] is dropped.
    pub workload_prefix: Box<str>,
    /// What becomes of pods' packets to this node.
    pub endpoint_to_host: EndpointToHost,
    /// Ports of this node that stay closed to pods in every case: BGP, the agent, metrics.
    pub closed_to_pods: Vec<(Protocol, u16)>,
    /// Outer packets of tunnels.
    pub tunnels: Vec<TunnelGuard>,
    /// Ports that host endpoints' policy leaves open, inbound.
    pub failsafe_in: Vec<FailsafePort>,
    /// Ports that host endpoints' policy leaves open, outbound.
    pub failsafe_out: Vec<FailsafePort>,
    /// What a packet meets that a policy, a tier's end or a missing profile denies.
    pub denied: Denied,
    /// What becomes of open connections that policy comes to deny.
    pub open_connections: OpenConnections,
    /// Where rules log to.
    pub logging: Logging,
}

impl Default for HostRules {
    fn default() -> Self {
        Self {
            workload_prefix: "cali".into(),
            endpoint_to_host: EndpointToHost::default(),
            closed_to_pods: Vec::new(),
            tunnels: Vec::new(),
            failsafe_in: Vec::new(),
            failsafe_out: Vec::new(),
            denied: Denied::default(),
            open_connections: OpenConnections::default(),
            logging: Logging::default(),
        }
    }
}

/// Source address translation: packets from `sources` to anything but `excluded` leave with an address of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// Pools with `natOutgoing`.
    pub sources: Vec<Prefix>,
    /// All pools: their addresses are known inside the cluster.
    pub excluded: Vec<Prefix>,
    /// The address to leave with; `None` is the outgoing interface's (masquerade).
    pub address: Option<IpAddr>,
    /// The ports to leave from, TCP and UDP; `None` leaves it to the kernel.
    pub ports: Option<PortRange>,
}
