use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Cluster;
use crate::wire::{OCICAT, Route, Wire};

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
        if self.router.is_some() {
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

    fn missing(&self, routes: &[Route]) -> Option<IpAddr> {
        self.pods
            .values()
            .map(|pod| pod.address)
            .find(|address| !is_reachable(routes, *address))
    }
}

/// Whether the most specific route of ocicat to an address leads somewhere.
#[must_use]
pub fn is_reachable(routes: &[Route], address: IpAddr) -> bool {
    let leading = routes
        .iter()
        .filter(|route| route.protocol == OCICAT && route.to.contains(address));
    leading
        .max_by_key(|route| route.to.length())
        .is_some_and(|route| !route.blackhole)
}
