use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Cluster;
use crate::scenario::{Router, Topology};
use crate::wire::{Route, Wire};

/// How often the kernel is asked.
const ASK: Duration = Duration::from_millis(10);

impl Cluster {
    /// Waits until every node, and the router where it speaks BGP, has a route to every pod.
    ///
    /// # Errors
    /// When that is not so at the end of `patience`; names a machine and an address.
    pub async fn converged(&self, patience: Duration) -> Result<Duration> {
        let began = Instant::now();
        let mut machines: Vec<_> = self.underlay.nodes.values().cloned().collect();
        if self.scenario.router != Router::None {
            machines.push(self.underlay.router.clone());
        }
        for machine in machines {
            let wire = Wire::open(&machine).await?;
            while let Some(missing) = self.missing(&wire.routes().await?) {
                if began.elapsed() > patience {
                    bail!(
                        "{} has no route to {missing} after {patience:?}",
                        machine.name()
                    );
                }
                tokio::time::sleep(ASK).await;
            }
        }
        Ok(began.elapsed())
    }

    /// Whether every agent that runs has all its sessions, and all are established. With a mesh, how many there should
    /// be is known; otherwise each has at least one.
    ///
    /// # Errors
    /// When an agent has ended or does not answer.
    pub async fn sessions_established(&self) -> Result<bool> {
        let router = usize::from(self.scenario.router != Router::None);
        let least = match self.scenario.topology {
            Topology::Mesh => self.agents.len() - 1 + router,
            Topology::Reflectors => 1 + router,
        };
        for agent in self.agents.values().filter(|agent| agent.id().is_some()) {
            agent.must_run()?;
            let peers = agent.status().await?.peers;
            let up = |state: &str| state.eq_ignore_ascii_case("established");
            if peers.len() < least || !peers.iter().all(|peer| up(&peer.state)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn missing(&self, routes: &[Route]) -> Option<IpAddr> {
        self.pods
            .values()
            .flat_map(|pod| pod.addresses.iter().copied())
            .find(|address| !is_reachable(routes, *address))
    }
}

/// Whether the most specific route of an agent or speaker to an address leads somewhere.
#[must_use]
pub fn is_reachable(routes: &[Route], address: IpAddr) -> bool {
    let leading = routes
        .iter()
        .filter(|route| route.is_learned() && route.to.contains(address));
    leading
        .max_by_key(|route| route.to.length())
        .is_some_and(|route| !route.blackhole)
}
