//! The sessions that one BGPPeer asks for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ocicat_datastore::model::{BgpPassword, BgpPeer, BgpPeerSpec};
use ocicat_selectors::Selector;

use super::mesh::session;
use super::{
    BgpNode, DEFAULT_KEEPALIVE, DEFAULT_PORT, DEFAULT_RESTART, Inputs, NextHop, PeerKind,
    SecretRef, WantedPeer, duration,
};

/// What a selector of a BGPPeer says; absent and empty are different things.
enum Chosen {
    Absent,
    Selector(Selector),
}

impl Chosen {
    fn read(field: &str, text: Option<&String>) -> Result<Self, String> {
        match text.filter(|text| !text.trim().is_empty()) {
            None => Ok(Self::Absent),
            Some(text) => text
                .parse()
                .map(Self::Selector)
                .map_err(|error| format!("spec.{field}: {error}")),
        }
    }

    fn selects(&self, node: &BgpNode) -> bool {
        match self {
            Self::Absent => false,
            Self::Selector(selector) => selector.matches(&node.labels),
        }
    }
}

/// The sessions of this node that the object asks for; none when it is for other nodes.
pub(super) fn sessions(
    inputs: &Inputs<'_>,
    me: &BgpNode,
    object: &BgpPeer,
) -> Result<Vec<WantedPeer>, String> {
    let spec = &object.spec;
    let nodes = Chosen::read("nodeSelector", spec.node_selector.as_ref())?;
    let others = Chosen::read("peerSelector", spec.peer_selector.as_ref())?;
    let kind = match (&spec.node, &nodes) {
        (None, Chosen::Absent) => PeerKind::Global,
        _ => PeerKind::Node,
    };
    let peers = |name: &str, node: &BgpNode| match &spec.node {
        Some(one) => one == name,
        None => kind == PeerKind::Global || nodes.selects(node),
    };
    let name = format!("BGPPeer {}", object.metadata.name);
    let mut sessions = Vec::new();
    if peers(inputs.own, me) {
        let addresses = targets(inputs, me, spec, &others)?;
        for (address, as_number, node) in addresses {
            let mut peer = session(inputs, me, address, (as_number, kind, name.clone()));
            peer.of_cluster = node.is_some();
            settle(&mut peer, spec)?;
            reflect(&mut peer, me, node);
            if spec.local_workload_selector.is_some() {
                (peer.kind, peer.passive) = (PeerKind::LocalWorkload, true);
            }
            sessions.push(peer);
        }
    }
    let back = spec.reverse_peering.as_deref() != Some("Manual");
    if back && others.selects(me) {
        sessions.extend(reverse(inputs, me, spec, &name, &peers)?);
    }
    Ok(sessions)
}

type Target<'a> = (SocketAddr, u32, Option<&'a BgpNode>);

/// Whom this node is to peer with: address, AS, and the node if it is one.
fn targets<'a>(
    inputs: &Inputs<'a>,
    me: &BgpNode,
    spec: &BgpPeerSpec,
    others: &Chosen,
) -> Result<Vec<Target<'a>>, String> {
    let stated = [
        spec.peer_ip.is_some(),
        matches!(others, Chosen::Selector(_)),
        spec.local_workload_selector.is_some(),
    ];
    if stated.iter().filter(|one| **one).count() != 1 {
        return Err(
            "spec: one of peerIP, peerSelector and localWorkloadSelector must be set".to_owned(),
        );
    }
    let stated_as = spec.as_number.as_ref().map(|number| number.0);
    let missing = || "spec.asNumber: missing".to_owned();
    if let Some(text) = &spec.peer_ip {
        let address = socket(text).ok_or_else(|| {
            format!("spec.peerIP: {text:?} is no address, such as 192.0.2.1 or [2001:db8::1]:1179")
        })?;
        if me.has(address.ip()) {
            return Ok(Vec::new());
        }
        let node = inputs.nodes.values().find(|node| node.has(address.ip()));
        return Ok(vec![(address, stated_as.ok_or_else(missing)?, node)]);
    }
    if let Some(text) = &spec.local_workload_selector {
        let selector: Selector = text
            .parse()
            .map_err(|error| format!("spec.localWorkloadSelector: {error}"))?;
        let as_number = stated_as.ok_or_else(missing)?;
        let chosen = inputs.workloads.iter();
        let chosen = chosen.filter(|pod| selector.matches(&pod.labels));
        return Ok(chosen
            .flat_map(|pod| &pod.addresses)
            .map(|address| (SocketAddr::new(*address, DEFAULT_PORT), as_number, None))
            .collect());
    }
    let chosen = inputs.nodes.iter();
    let chosen = chosen.filter(|(name, node)| *name != inputs.own && others.selects(node));
    Ok(chosen
        .flat_map(|(_, node)| nodes_sessions(inputs, me, node))
        .collect())
}

fn nodes_sessions<'a>(
    inputs: &Inputs<'a>,
    me: &BgpNode,
    node: &'a BgpNode,
) -> impl Iterator<Item = Target<'a>> {
    let as_number = node.as_number.unwrap_or(inputs.settings.as_number);
    let port = inputs.settings.port;
    me.common(node)
        .into_iter()
        .map(move |address| (SocketAddr::new(address, port), as_number, Some(node)))
}

/// The other end of a peering between nodes: this one is what the selector of peers names. What makes a session
/// (password, times, hops) is the same at both ends; filters and next hops are the end's that the object is for.
fn reverse(
    inputs: &Inputs<'_>,
    me: &BgpNode,
    spec: &BgpPeerSpec,
    name: &str,
    peers: &dyn Fn(&str, &BgpNode) -> bool,
) -> Result<Vec<WantedPeer>, String> {
    let mut sessions = Vec::new();
    for (other, node) in inputs.nodes {
        if other == inputs.own || !peers(other, node) {
            continue;
        }
        for (address, as_number, node) in nodes_sessions(inputs, me, node) {
            let what = (as_number, PeerKind::Node, name.to_owned());
            let mut peer = session(inputs, me, address, what);
            peer.of_cluster = true;
            let same = BgpPeerSpec {
                password: spec.password.clone(),
                source_address: spec.source_address.clone(),
                max_restart_time: spec.max_restart_time.clone(),
                keepalive_time: spec.keepalive_time.clone(),
                ttl_security: spec.ttl_security,
                ..BgpPeerSpec::default()
            };
            settle(&mut peer, &same)?;
            reflect(&mut peer, me, node);
            sessions.push(peer);
        }
    }
    Ok(sessions)
}

/// A reflector's clients are the peers of its AS that are not in its cluster.
fn reflect(peer: &mut WantedPeer, me: &BgpNode, node: Option<&BgpNode>) {
    let cluster = node.and_then(|node| node.reflector.as_ref());
    peer.rr_client = peer.as_number == peer.local_as
        && me.reflector.is_some()
        && cluster != me.reflector.as_ref();
}

/// What the object states about its sessions.
fn settle(peer: &mut WantedPeer, spec: &BgpPeerSpec) -> Result<(), String> {
    if let Some(number) = &spec.local_as_number {
        peer.local_as = number.0;
    }
    let time = |field: &str, text: &Option<String>, default: Duration| {
        let Some(text) = text else { return Ok(default) };
        duration(text).ok_or_else(|| {
            format!("spec.{field}: expected a duration such as 120s, found {text:?}")
        })
    };
    peer.keepalive = time("keepaliveTime", &spec.keepalive_time, DEFAULT_KEEPALIVE)?;
    peer.restart_time = time("maxRestartTime", &spec.max_restart_time, DEFAULT_RESTART)?;
    peer.next_hop = next_hop(spec.next_hop_mode.as_deref(), spec.keep_original_next_hop)?;
    peer.from_node_address = match spec.source_address.as_deref() {
        None | Some("" | "UseNodeIP") => true,
        Some("None") => false,
        Some(other) => {
            return Err(format!(
                "spec.sourceAddress: {other:?} is not UseNodeIP or None"
            ));
        }
    };
    peer.ttl_security = match spec.ttl_security {
        Some(255) => return Err("spec.ttlSecurity: 255 is not in 1..=254".to_owned()),
        Some(0) | None => None,
        Some(hops) => Some(hops),
    };
    peer.allow_own_as = spec.num_allowed_local_as_numbers.unwrap_or(0);
    peer.reachable_by = gateway(peer.address.ip(), spec.reachable_by.as_deref())?;
    peer.filters.clone_from(&spec.filters);
    peer.password = password(spec.password.as_ref());
    Ok(())
}

/// The secret that a password is in.
pub(super) fn password(password: Option<&BgpPassword>) -> Option<SecretRef> {
    let reference = password?.secret_key_ref.as_ref()?;
    Some(SecretRef {
        name: reference.name.clone(),
        key: reference.key.clone(),
        optional: reference.optional.unwrap_or(false),
    })
}

fn gateway(peer: IpAddr, text: Option<&str>) -> Result<Option<IpAddr>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let gateway: Option<IpAddr> = text.parse().ok();
    gateway
        .filter(|gateway| gateway.is_ipv4() == peer.is_ipv4())
        .map(Some)
        .ok_or_else(|| format!("spec.reachableBy: {text:?} is no address of the peer's family"))
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
