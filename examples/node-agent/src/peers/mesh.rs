//! The full mesh between nodes.

use std::net::SocketAddr;

use super::{BgpNode, Inputs, NextHop, PeerKind, WantedPeer};

/// A session with every node that is in the mesh. Reflectors are not in it.
pub(super) fn sessions(inputs: &Inputs<'_>, me: &BgpNode) -> Vec<WantedPeer> {
    if !inputs.settings.mesh || me.reflector.is_some() {
        return Vec::new();
    }
    let others = inputs.nodes.iter();
    let others = others.filter(|(name, node)| *name != inputs.own && node.reflector.is_none());
    others
        .filter_map(|(name, node)| {
            me.common(node).map(|address| WantedPeer {
                of_cluster: true,
                password: inputs.settings.mesh_password.clone(),
                ..session(
                    inputs,
                    me,
                    SocketAddr::new(address, inputs.settings.port),
                    {
                        let number = node.as_number.unwrap_or(inputs.settings.as_number);
                        (number, PeerKind::Mesh, format!("Node {name}"))
                    },
                )
            })
        })
        .collect()
}

/// A session with everything that nobody states at its default.
pub(super) fn session(
    inputs: &Inputs<'_>,
    me: &BgpNode,
    address: SocketAddr,
    (as_number, kind, object): (u32, PeerKind, String),
) -> WantedPeer {
    WantedPeer {
        address,
        as_number,
        local_as: me.as_number.unwrap_or(inputs.settings.as_number),
        kind,
        of_cluster: false,
        rr_client: false,
        passive: false,
        next_hop: NextHop::Auto,
        from_node_address: true,
        ttl_security: None,
        allow_own_as: 0,
        keepalive: inputs.settings.keepalive,
        restart_time: inputs.settings.restart_time,
        password: None,
        filters: Vec::new(),
        reachable_by: None,
        object,
    }
}
