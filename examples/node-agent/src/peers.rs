//! Which BGP sessions a node has, given the cluster's objects. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ocicat_datastore::model::{BgpConfiguration, BgpPeer};
use ocicat_selectors::Selector;

/// The AS of nodes where nothing states one.
pub const DEFAULT_AS: u32 = 64512;
/// The port of BGP (RFC 4271, section 8.2.1.3).
pub const DEFAULT_PORT: u16 = 179;
/// How long peers keep the routes of a node that restarts, where nothing states it.
const DEFAULT_RESTART: Duration = Duration::from_secs(120);
/// A mesh session is given up after three of these without a word. BIRD's 80 s would leave a dead node's routes in
/// place for four minutes.
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(30);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// Between two nodes of the full mesh.
    Mesh,
    /// A BGPPeer of this node, or of some nodes.
    Node,
    /// A BGPPeer of every node.
    Global,
}

impl PeerKind {
    /// The name that calicoctl gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mesh => "node-to-node mesh",
            Self::Node => "node specific",
            Self::Global => "global",
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
    /// Which next hop routes are sent with.
    pub next_hop: NextHop,
    /// Time between keepalives; the hold time is three times as long (RFC 4271, section 10).
    pub keepalive: Duration,
    /// How long the peer is asked to keep this node's routes while the agent restarts (RFC 4724).
    pub restart_time: Duration,
    /// The object that asks for it, for messages.
    pub object: String,
}

/// A node, as far as sessions depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpNode {
    /// Its address for BGP.
    pub address: Option<IpAddr>,
    /// Its AS, when it has one of its own.
    pub as_number: Option<u32>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Set on route reflectors, which take no part in the mesh.
    pub reflector: Option<String>,
}

/// The sessions, by the peer's address, and what was wrong with objects that had to be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// The sessions.
    pub wanted: BTreeMap<IpAddr, WantedPeer>,
    /// One line for each object that cannot be followed, with its name and field.
    pub problems: Vec<String>,
}

/// The sessions that `own` should have.
#[must_use]
pub fn plan(
    own: &str,
    nodes: &BTreeMap<String, BgpNode>,
    configuration: Option<&BgpConfiguration>,
    objects: &BTreeMap<String, BgpPeer>,
) -> Peers {
    let mut peers = Peers::default();
    let Some(me) = nodes.get(own) else {
        return peers;
    };
    let settings = Settings::read(configuration, &mut peers.problems);
    let local_as = me.as_number.unwrap_or(settings.as_number);
    if settings.mesh && me.reflector.is_none() {
        for (name, node) in nodes
            .iter()
            .filter(|(name, node)| *name != own && node.reflector.is_none())
        {
            let Some(address) = node.address else {
                continue;
            };
            if me
                .address
                .is_none_or(|mine| mine.is_ipv4() != address.is_ipv4())
            {
                continue;
            }
            let wanted = WantedPeer {
                address: SocketAddr::new(address, settings.port),
                as_number: node.as_number.unwrap_or(settings.as_number),
                local_as,
                kind: PeerKind::Mesh,
                next_hop: NextHop::Auto,
                keepalive: settings.keepalive,
                restart_time: settings.restart_time,
                object: format!("Node {name}"),
            };
            peers.wanted.insert(address, wanted);
        }
    }
    for (name, object) in objects {
        match from_object(own, me, object, local_as) {
            Ok(Some(wanted)) => drop(peers.wanted.insert(wanted.address.ip(), wanted)),
            Ok(None) => {}
            Err(problem) => peers.problems.push(format!("BGPPeer {name}: {problem}")),
        }
    }
    peers
}

/// What BGPConfiguration says, with defaults.
struct Settings {
    mesh: bool,
    as_number: u32,
    port: u16,
    keepalive: Duration,
    restart_time: Duration,
}

impl Settings {
    fn read(configuration: Option<&BgpConfiguration>, problems: &mut Vec<String>) -> Self {
        let spec = configuration
            .map(|one| one.spec.clone())
            .unwrap_or_default();
        let mut time =
            |field: &str, text: &Option<String>, default| match text.as_deref().map(duration) {
                None => default,
                Some(Some(time)) => time,
                Some(None) => {
                    problems.push(format!(
                        "BGPConfiguration default: spec.{field}: expected a duration such as 120s"
                    ));
                    default
                }
            };
        Self {
            mesh: spec.node_to_node_mesh_enabled.unwrap_or(true),
            as_number: spec
                .as_number
                .as_ref()
                .map_or(DEFAULT_AS, |number| number.0),
            port: spec.listen_port.unwrap_or(DEFAULT_PORT),
            keepalive: time(
                "nodeMeshKeepaliveTime",
                &spec.node_mesh_keepalive_time,
                DEFAULT_KEEPALIVE,
            ),
            restart_time: time(
                "nodeMeshMaxRestartTime",
                &spec.node_mesh_max_restart_time,
                DEFAULT_RESTART,
            ),
        }
    }
}

fn from_object(
    own: &str,
    me: &BgpNode,
    object: &BgpPeer,
    local_as: u32,
) -> Result<Option<WantedPeer>, String> {
    let spec = &object.spec;
    let kind = match (&spec.node, &spec.node_selector) {
        (Some(node), _) if node != own => return Ok(None),
        (Some(_), _) => PeerKind::Node,
        (None, Some(text)) if !text.trim().is_empty() => {
            let selector: Selector = text
                .parse()
                .map_err(|error| format!("spec.nodeSelector: {error}"))?;
            if !selector.matches(&me.labels) {
                return Ok(None);
            }
            PeerKind::Node
        }
        (None, _) => PeerKind::Global,
    };
    let Some(peer_ip) = &spec.peer_ip else {
        return Err(
            "spec.peerSelector and spec.localWorkloadSelector: not supported yet; set spec.peerIP"
                .to_owned(),
        );
    };
    let address =
        socket(peer_ip).ok_or_else(|| format!("spec.peerIP: {peer_ip:?} is no address"))?;
    if Some(address.ip()) == me.address {
        return Ok(None);
    }
    let as_number = spec
        .as_number
        .as_ref()
        .map(|number| number.0)
        .ok_or("spec.asNumber: missing")?;
    let time = |field: &str, text: &Option<String>, default| {
        let Some(text) = text else { return Ok(default) };
        duration(text).ok_or_else(|| {
            format!("spec.{field}: expected a duration such as 120s, found {text:?}")
        })
    };
    Ok(Some(WantedPeer {
        address,
        as_number,
        local_as: spec
            .local_as_number
            .as_ref()
            .map_or(local_as, |number| number.0),
        kind,
        next_hop: next_hop(spec.next_hop_mode.as_deref(), spec.keep_original_next_hop)?,
        keepalive: time("keepaliveTime", &spec.keepalive_time, DEFAULT_KEEPALIVE)?,
        restart_time: time("maxRestartTime", &spec.max_restart_time, DEFAULT_RESTART)?,
        object: format!("BGPPeer {}", object.metadata.name),
    }))
}

fn next_hop(mode: Option<&str>, keep: bool) -> Result<NextHop, String> {
    match mode {
        None | Some("" | "Auto") if keep => Ok(NextHop::Keep),
        None | Some("" | "Auto") => Ok(NextHop::Auto),
        Some("Self") => Ok(NextHop::Own),
        Some("Keep") => Ok(NextHop::Keep),
        Some(other) => Err(format!(
            "spec.nextHopMode: {other:?} is not Auto, Self or Keep"
        )),
    }
}

fn socket(text: &str) -> Option<SocketAddr> {
    text.parse()
        .ok()
        .or_else(|| Some(SocketAddr::new(text.parse().ok()?, DEFAULT_PORT)))
}

/// Reads a duration as Go writes it: `1s`, `1m30s`, `500ms`, `2h`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = &rest[unit..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> BTreeMap<String, BgpNode> {
        let node = |address: &str, rack: &str, reflector: Option<&str>| BgpNode {
            address: Some(address.parse().unwrap()),
            labels: BTreeMap::from([("rack".to_owned(), rack.to_owned())]),
            reflector: reflector.map(str::to_owned),
            as_number: None,
        };
        BTreeMap::from([
            ("a".to_owned(), node("10.0.0.1", "x", None)),
            ("b".to_owned(), node("10.0.0.2", "y", None)),
            ("r".to_owned(), node("10.0.0.9", "y", Some("1.0.0.1"))),
        ])
    }

    fn peer(yaml: serde_json::Value) -> BTreeMap<String, BgpPeer> {
        let mut peer: BgpPeer =
            serde_json::from_value(serde_json::json!({ "spec": yaml })).unwrap();
        peer.metadata.name = "tor".to_owned();
        BTreeMap::from([("tor".to_owned(), peer)])
    }

    #[test]
    fn the_mesh_leaves_reflectors_out() {
        let peers = plan("a", &nodes(), None, &BTreeMap::new());
        assert_eq!(
            peers
                .wanted
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["10.0.0.2"]
        );
        assert_eq!(peers.wanted.values().next().unwrap().as_number, DEFAULT_AS);
        assert!(
            plan("r", &nodes(), None, &BTreeMap::new())
                .wanted
                .is_empty()
        );
    }

    #[test]
    fn peers_are_for_the_nodes_that_they_select() {
        let spec = serde_json::json!({"nodeSelector": "rack == 'x'", "peerIP": "192.168.0.1:1179", "asNumber": 64513});
        let peers = plan("a", &nodes(), None, &peer(spec.clone()));
        let wanted = &peers.wanted[&"192.168.0.1".parse::<IpAddr>().unwrap()];
        assert_eq!((wanted.address.port(), wanted.kind), (1179, PeerKind::Node));
        assert_eq!(plan("b", &nodes(), None, &peer(spec)).wanted.len(), 1);
    }

    #[test]
    fn a_bad_peer_is_named_and_the_others_live_on() {
        let spec = serde_json::json!({"nodeSelector": "rack ==", "peerIP": "192.168.0.1", "asNumber": 64513});
        let peers = plan("a", &nodes(), None, &peer(spec));
        assert_eq!(peers.wanted.len(), 1);
        assert!(
            peers.problems[0].starts_with("BGPPeer tor: spec.nodeSelector"),
            "{:?}",
            peers.problems
        );
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, expected) in [
            ("1s", Some(1000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("2", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(
                duration(text).map(|time| time.as_millis()),
                expected,
                "{text}"
            );
        }
    }
}
