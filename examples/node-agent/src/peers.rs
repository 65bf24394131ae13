//! Which BGP sessions a node has, given the cluster's objects. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ocicat_datastore::model::BgpPeer;

mod duration;
mod mesh;
mod object;
mod settings;

pub use duration::duration;
pub use settings::{Advertisement, BgpSettings, ServiceRanges};

/// The AS of nodes where nothing states one.
pub const DEFAULT_AS: u32 = 64512;
/// The port of BGP (RFC 4271, section 8.2.1.3).
pub const DEFAULT_PORT: u16 = 179;
/// How long peers keep the routes of a node that restarts, where nothing states it.
pub const DEFAULT_RESTART: Duration = Duration::from_secs(120);
/// A mesh session is given up after three of these without a word. BIRD's 80 s would leave a dead node's routes in
/// place for four minutes.
pub const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(30);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerKind {
    /// Between two nodes of the full mesh.
    Mesh,
    /// A BGPPeer of this node, or of some nodes.
    Node,
    /// A BGPPeer of every node.
    Global,
    /// With a pod of this node.
    LocalWorkload,
}

impl PeerKind {
    /// The name that calicoctl gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mesh => "node-to-node mesh",
            Self::Node => "node specific",
            Self::Global => "global",
            Self::LocalWorkload => "local workload",
        }
    }
}

/// Which next hop routes are sent with (`nextHopMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextHop {
    /// As RFC 4271 has it: unchanged inside the AS, this node's address towards others.
    #[default]
    Auto,
    /// Always this node's address.
    Own,
    /// Always as the route came.
    Keep,
}

/// A password, by the secret and the key in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretRef {
    /// The secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
    /// Without the secret there is a session without a password.
    pub optional: bool,
}

/// A session that the node should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPeer {
    /// The peer.
    pub address: SocketAddr,
    /// Its AS.
    pub as_number: u32,
    /// The AS that this node shows.
    pub local_as: u32,
    /// What the session is for.
    pub kind: PeerKind,
    /// The peer is a node of this cluster: its routes are believed inside pools only.
    pub of_cluster: bool,
    /// The peer is a client of this node, which reflects routes (RFC 4456).
    pub rr_client: bool,
    /// The peer connects; this node waits.
    pub passive: bool,
    /// Which next hop routes are sent with.
    pub next_hop: NextHop,
    /// The connection comes from the node's own address (`sourceAddress`), not from one that the system chooses.
    pub from_node_address: bool,
    /// The peer is so many hops away at most (RFC 5082).
    pub ttl_security: Option<u8>,
    /// How often the own AS may be in a path.
    pub allow_own_as: u8,
    /// Time between keepalives; the hold time is three times as long (RFC 4271, section 10).
    pub keepalive: Duration,
    /// How long the peer is asked to keep this node's routes while the agent restarts (RFC 4724).
    pub restart_time: Duration,
    /// The MD5 password.
    pub password: Option<SecretRef>,
    /// BGPFilters, in the order in which they are asked.
    pub filters: Vec<String>,
    /// The gateway to a peer that is no neighbour.
    pub reachable_by: Option<IpAddr>,
    /// The object that asks for it, for messages.
    pub object: String,
}

/// A node, as far as sessions depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpNode {
    /// Its addresses for BGP, at most one of each family; none when it does not speak BGP.
    pub addresses: Vec<IpAddr>,
    /// Its AS, when it has one of its own.
    pub as_number: Option<u32>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Set on route reflectors, which take no part in the mesh.
    pub reflector: Option<String>,
}

/// A pod of this node, as far as sessions depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalWorkload {
    /// Namespace and name of its endpoint.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What sessions depend on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// This node's name.
    pub own: &'a str,
    /// All nodes.
    pub nodes: &'a BTreeMap<String, BgpNode>,
    /// BGPConfiguration, as it holds for this node.
    pub settings: &'a BgpSettings,
    /// BGPPeers by name.
    pub objects: &'a BTreeMap<String, BgpPeer>,
    /// The pods of this node.
    pub workloads: &'a [LocalWorkload],
}

/// The sessions, by the peer's address, and what was wrong with objects that had to be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// The sessions.
    pub wanted: BTreeMap<IpAddr, WantedPeer>,
    /// One line for each object that cannot be followed, with its name and field.
    pub problems: Vec<String>,
}

/// The sessions that the node should have. A BGPPeer beats the mesh, the first of two BGPPeers the second.
#[must_use]
pub fn plan(inputs: &Inputs<'_>) -> Peers {
    let mut peers = Peers::default();
    let Some(me) = inputs.nodes.get(inputs.own) else {
        return peers;
    };
    for (name, object) in inputs.objects {
        match object::sessions(inputs, me, object) {
            Ok(sessions) => sessions
                .into_iter()
                .for_each(|session| add(&mut peers, session)),
            Err(problem) => peers.problems.push(format!("BGPPeer {name}: {problem}")),
        }
    }
    for session in mesh::sessions(inputs, me) {
        peers.wanted.entry(session.address.ip()).or_insert(session);
    }
    peers
}

fn add(peers: &mut Peers, session: WantedPeer) {
    let address = session.address.ip();
    match peers.wanted.get(&address) {
        // Both ends of one peering between nodes: the same session.
        Some(first) if first.of_cluster && session.of_cluster => {}
        Some(first) => peers.problems.push(format!(
            "{}: {} has a session with {address} already; this one is left out",
            session.object, first.object
        )),
        None => drop(peers.wanted.insert(address, session)),
    }
}

impl BgpNode {
    fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// The other's address that a session is with: of a family that both have, IPv4 first. Routes of both families go
    /// over it (RFC 4760).
    fn common(&self, other: &Self) -> Option<IpAddr> {
        let speaks = |node: &Self, ipv4| {
            node.addresses
                .iter()
                .copied()
                .find(|one| one.is_ipv4() == ipv4)
        };
        [true, false]
            .into_iter()
            .filter(|ipv4| speaks(self, *ipv4).is_some())
            .find_map(|ipv4| speaks(other, ipv4))
    }
}

#[cfg(test)]
mod tests;
