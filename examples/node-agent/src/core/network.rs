//! The network's part of the desired state: links, routes, and what tunnels need.

use std::net::IpAddr;
use std::time::Duration;

use ocicat_dataplane::Prefix;
use ocicat_dataplane::state::{Hop, Route, RouteKey};
use tokio::time::Instant;

use super::{Core, replace, replace_shared};
use crate::network::{self, Inputs, Tunnels};

/// How long a tunnel outlives the last pool that asked for it.
const LINGER: Duration = Duration::from_secs(10);

impl Core {
    pub(super) fn plan_network(&mut self) -> bool {
        let (nodes, own) = (self.world.other_nodes(), self.world.own_node());
        let (pods, borrowed) = (self.world.pods(), self.world.borrowed());
        let lingering = self.linger();
        let learned = self.believed();
        let uplink = self.measured(self.fixed.uplink.as_ref());
        let uplink_v6 = self.measured(self.fixed.uplink_v6.as_ref());
        let mut network = network::plan(&Inputs {
            own: &own,
            name: &self.fixed.node,
            uplink: uplink.as_ref(),
            uplink_v6: uplink_v6.as_ref(),
            lingering,
            nodes: &nodes,
            pools: &self.world.pools,
            own_blocks: &self.world.own_blocks,
            blocks: &self.world.blocks,
            borrowed: &borrowed,
            pods: &pods,
            learned: &learned,
            gateways: &self.gateways,
            mtus: self.mtus(),
        });
        for (key, route) in &self.adopted {
            if self.world.own_blocks.contains(&key.prefix) {
                continue;
            }
            network
                .routes
                .entry(key.clone())
                .or_insert_with(|| route.clone());
        }
        self.unresolved = std::mem::take(&mut network.unresolved);
        for (peer, gateway) in &self.reachable {
            let route = network.routes.entry(RouteKey::main(Prefix::host(*peer)));
            route.or_insert_with(|| static_route(*gateway));
        }
        let mut changed = replace(&mut self.state.links, network.links);
        changed |= replace_shared(&mut self.state.routes, network.routes);
        changed |= replace_shared(&mut self.state.neighbours, network.neighbours);
        changed |= replace_shared(&mut self.state.fdb, network.fdb);
        changed | self.plan_host(lingering)
    }

    /// Tunnels that no pool asks for any more stay a while: other nodes learn of it a moment later, and send into them
    /// until then.
    fn linger(&mut self) -> Tunnels {
        let now = Instant::now();
        let wanted = Tunnels::of(&self.world.pools);
        if wanted.or(self.tunnels) != wanted {
            self.lingering = Some((self.tunnels, now + LINGER));
        }
        self.tunnels = wanted;
        self.lingering = self.lingering.filter(|(_, until)| *until > now);
        self.lingering
            .map(|(tunnels, _)| tunnels)
            .unwrap_or_default()
    }
}

fn static_route(gateway: IpAddr) -> Route {
    let (link, onlink) = (None, false);
    Route {
        hops: vec![Hop::Via {
            gateway,
            link,
            onlink,
        }],
        source: None,
    }
}
