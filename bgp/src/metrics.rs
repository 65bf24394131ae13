//! Counters of a speaker, as numbers and in the text form that Prometheus reads (feature `metrics`).

use std::fmt;
use std::net::IpAddr;

use crate::number::Family;
use crate::session::State;
use crate::speaker::Speaker;

/// A speaker's counters at one moment. Displayed, they are the text form that Prometheus reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Connections that were closed at accept because nobody knew where they came from.
    pub refused_connections: u64,
    /// Prefixes in the RIB, IPv4 first.
    pub prefixes: [u64; 2],
    /// Different attribute sets in use.
    pub attribute_sets: u64,
    /// By peer.
    pub peers: Vec<PeerMetrics>,
}

/// A peer's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerMetrics {
    /// Which peer.
    pub address: IpAddr,
    /// Whether its session is established.
    pub established: bool,
    /// How many of its routes are in the RIB, stale ones too.
    pub routes: u32,
    /// UPDATE messages received since the peer was added.
    pub updates: u64,
    /// UPDATE messages whose routes were withdrawn for a malformed attribute (RFC 7606).
    pub malformed: u64,
    /// How often a session was established.
    pub sessions: u64,
}

impl Speaker {
    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let peers = self.peers().into_iter().map(|peer| PeerMetrics {
            address: peer.address,
            established: peer.state == State::Established,
            routes: peer.routes,
            updates: peer.updates,
            malformed: peer.malformed,
            sessions: peer.sessions,
        });
        Metrics {
            refused_connections: self.refused_connections(),
            prefixes: Family::ALL.map(|family| self.prefix_count(family) as u64),
            attribute_sets: self.attribute_sets() as u64,
            peers: peers.collect(),
        }
    }
}

fn head(f: &mut fmt::Formatter<'_>, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(
        f,
        "# HELP ocicat_bgp_{name} {help}\n# TYPE ocicat_bgp_{name} {kind}"
    )
}

/// What is said of a peer: name, kind, help, value.
type Column = (
    &'static str,
    &'static str,
    &'static str,
    fn(&PeerMetrics) -> u64,
);

const COLUMNS: [Column; 5] = [
    (
        "peer_established",
        "gauge",
        "1 while the session is established.",
        |peer| u64::from(peer.established),
    ),
    (
        "peer_routes",
        "gauge",
        "Routes from the peer, stale ones too.",
        |peer| u64::from(peer.routes),
    ),
    (
        "peer_updates_total",
        "counter",
        "UPDATE messages received.",
        |peer| peer.updates,
    ),
    (
        "peer_malformed_updates_total",
        "counter",
        "UPDATE messages whose routes were withdrawn for a malformed attribute.",
        |peer| peer.malformed,
    ),
    (
        "peer_sessions_total",
        "counter",
        "Sessions that were established.",
        |peer| peer.sessions,
    ),
];

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = "refused_connections_total";
        head(
            f,
            refused,
            "counter",
            "Connections from nobody that is known.",
        )?;
        writeln!(f, "ocicat_bgp_{refused} {}", self.refused_connections)?;
        head(f, "prefixes", "gauge", "Prefixes with a path.")?;
        for (family, count) in Family::ALL.into_iter().zip(self.prefixes) {
            writeln!(f, "ocicat_bgp_prefixes{{family=\"{family}\"}} {count}")?;
        }
        head(
            f,
            "attribute_sets",
            "gauge",
            "Different attribute sets in use.",
        )?;
        writeln!(f, "ocicat_bgp_attribute_sets {}", self.attribute_sets)?;
        for (name, kind, help, value) in COLUMNS {
            head(f, name, kind, help)?;
            for peer in &self.peers {
                writeln!(
                    f,
                    "ocicat_bgp_{name}{{peer=\"{}\"}} {}",
                    peer.address,
                    value(peer)
                )?;
            }
        }
        Ok(())
    }
}
