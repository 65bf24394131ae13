//! The rules of the node as a whole: what pods may reach on it, which tunnels are heard, what is translated. Pure.

pub mod failsafe;

use std::collections::BTreeMap;

use ocicat_dataplane::Prefix;
use ocicat_dataplane::names;
use ocicat_dataplane::state::{
    EndpointToHost, HostRules, Member, Nat, Protocol, Set, SetId, TunnelGuard,
};

use crate::network::{NodeView, PoolView, Tunnels};

/// The set of all nodes' addresses: tunnel packets from anybody else are dropped.
const NODES: &str = "nodes";

/// What pods' packets to the node itself come to, as Felix's `defaultEndpointToHostAction` says.
///
/// # Errors
/// The text, when it is none of the three.
pub fn endpoint_to_host(text: Option<&str>) -> Result<EndpointToHost, String> {
    match text.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "drop") => Ok(EndpointToHost::Drop),
        Some("return") => Ok(EndpointToHost::Return),
        Some("accept") => Ok(EndpointToHost::Accept),
        Some(_) => Err(format!(
            "defaultEndpointToHostAction: {:?} is not Drop, Return or Accept",
            text.unwrap_or_default()
        )),
    }
}

/// The rules of the node. `lingering` are tunnels that are still heard though no pool asks for them; `closed` are ports of the agent itself that no pod may reach.
#[must_use]
pub fn rules(
    pools: &BTreeMap<String, PoolView>,
    lingering: Tunnels,
    endpoint_to_host: EndpointToHost,
    closed: &[(Protocol, u16)],
) -> HostRules {
    let tunnels = Tunnels::of(pools).or(lingering);
    let mut rules = HostRules {
        endpoint_to_host,
        closed_to_pods: closed.to_vec(),
        ..HostRules::default()
    };
    let sources = SetId::new(NODES);
    if tunnels.vxlan || tunnels.vxlan_v6 {
        let port = Some(names::VXLAN_PORT);
        rules
            .closed_to_pods
            .push((Protocol::UDP, names::VXLAN_PORT));
        rules.tunnels.push(TunnelGuard {
            protocol: Protocol::UDP,
            port,
            sources: sources.clone(),
        });
    }
    if tunnels.ipip {
        rules.tunnels.push(TunnelGuard {
            protocol: Protocol(4),
            port: None,
            sources,
        });
    }
    rules
}

/// The id of the set of the nodes' addresses.
#[must_use]
pub fn nodes_set() -> SetId {
    SetId::new(NODES)
}

/// Brings the set of the nodes' addresses up to date; unchanged members stay untouched.
pub fn update_nodes(set: &mut Set, nodes: &BTreeMap<String, NodeView>) {
    let wanted: std::collections::BTreeSet<Member> = nodes
        .values()
        .flat_map(|node| {
            node.addresses
                .iter()
                .map(|address| Member::Net(Prefix::host(address.ip())))
        })
        .collect();
    let gone: Vec<Member> = set.members().difference(&wanted).copied().collect();
    let come: Vec<Member> = wanted.difference(set.members()).copied().collect();
    for member in gone {
        set.remove(&member);
    }
    for member in come {
        set.insert(member);
    }
}

/// Which packets leave with the node's own address: from pools with `natOutgoing` to anything outside all pools.
#[must_use]
pub fn nat(pools: &BTreeMap<String, PoolView>) -> Nat {
    let sources = pools
        .values()
        .filter(|pool| pool.nat_outgoing)
        .map(|pool| pool.range)
        .collect();
    let excluded = pools.values().map(|pool| pool.range).collect();
    Nat {
        sources,
        excluded,
        ..Nat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_action_for_own_host_is_felixs() {
        assert_eq!(endpoint_to_host(None), Ok(EndpointToHost::Drop));
        assert_eq!(endpoint_to_host(Some("Accept")), Ok(EndpointToHost::Accept));
        assert!(
            endpoint_to_host(Some("Allow"))
                .unwrap_err()
                .contains("Allow")
        );
    }

    #[test]
    fn the_set_of_nodes_follows_in_small_steps() {
        let node = |address: &str| NodeView {
            addresses: vec![address.parse().unwrap()],
            ..NodeView::default()
        };
        let mut set = Set::default();
        let mut nodes = BTreeMap::from([
            ("a".to_owned(), node("10.0.0.1/24")),
            ("b".to_owned(), node("10.0.0.2/24")),
        ]);
        update_nodes(&mut set, &nodes);
        assert_eq!(set.members().len(), 2);
        let before = set.clone();
        update_nodes(&mut set, &nodes);
        assert!(set.same(&before));
        nodes.remove("a");
        update_nodes(&mut set, &nodes);
        assert_eq!(set.members().len(), 1);
    }
}
