//! From probes that name ends to attempts that name namespaces and addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::Cluster;
use crate::place::Place;
use crate::probe::{Attempt, End, Probe};
use crate::scenario::{Port, Protocol};

impl Cluster {
    /// Where an end lives.
    ///
    /// # Errors
    /// When there is no such end.
    pub fn place(&self, end: &End) -> Result<&Arc<Place>> {
        let found = match end {
            End::Pod { .. } => self.pods.get(&end.to_string()).map(|pod| &pod.place),
            End::Host(name) => self.underlay.hosts.get(name),
            End::Node(name) => self.underlay.nodes.get(name),
        };
        found.with_context(|| format!("there is no {end}"))
    }

    /// The address of an end.
    ///
    /// # Errors
    /// When there is no such end.
    pub fn address(&self, end: &End) -> Result<IpAddr> {
        let found = match end {
            End::Pod { .. } => self.pods.get(&end.to_string()).map(|pod| pod.address),
            End::Host(name) => self
                .scenario
                .hosts
                .iter()
                .find(|host| host.name == *name)
                .map(|host| host.ip),
            End::Node(name) => {
                let node = self.scenario.nodes.iter().find(|node| node.name == *name);
                node.and_then(|node| node.ip.first().copied())
            }
        };
        found.with_context(|| format!("there is no {end}"))
    }

    /// What an end serves.
    fn ports(&self, end: &End) -> &[Port] {
        match end {
            End::Pod { .. } => self
                .pods
                .get(&end.to_string())
                .map_or(&[], |pod| &pod.wanted.ports),
            End::Host(name) => self
                .scenario
                .hosts
                .iter()
                .find(|host| host.name == *name)
                .map_or(&[], |host| &host.ports),
            End::Node(_) => &[],
        }
    }

    /// The attempt that answers a probe.
    ///
    /// # Errors
    /// When one of its ends does not exist, or a port is missing where the protocol has one.
    pub fn attempt(&self, probe: &Probe) -> Result<Attempt> {
        let port = match (probe.protocol, probe.port) {
            (Protocol::Icmp, _) => 0,
            (_, Some(port)) => port.get(),
            (protocol, None) => anyhow::bail!("{probe}: {protocol} needs a port"),
        };
        let served = self
            .ports(&probe.to)
            .iter()
            .any(|known| known.port.get() == port && known.protocol == probe.protocol);
        Ok(Attempt {
            from: self.place(&probe.from)?.clone(),
            to: SocketAddr::new(self.address(&probe.to)?, port),
            protocol: probe.protocol,
            identity: served.then(|| probe.to.to_string()),
        })
    }

    /// The pods, as ends.
    #[must_use]
    pub fn pod_ends(&self) -> Vec<End> {
        let end = |pod: &crate::pod::Pod| End::Pod {
            namespace: pod.wanted.namespace.clone(),
            name: pod.wanted.name.clone(),
        };
        self.pods.values().map(end).collect()
    }

    /// Every question between pods, and from pods to hosts: ICMP, and each port that is served.
    #[must_use]
    pub fn all_pairs(&self) -> Vec<Probe> {
        self.pairs(None, None)
    }

    /// Every question with these ends; without them from every pod, to every pod and host.
    #[must_use]
    pub fn pairs(&self, from: Option<&End>, to: Option<&End>) -> Vec<Probe> {
        let pods = self.pod_ends();
        let hosts = self.underlay.hosts.keys().cloned().map(End::Host);
        let sources = from.map_or_else(|| pods.clone(), |from| vec![from.clone()]);
        let targets = to.map_or_else(
            || pods.iter().cloned().chain(hosts).collect(),
            |to| vec![to.clone()],
        );
        let mut probes = Vec::new();
        for from in &sources {
            for to in targets.iter().filter(|to| *to != from) {
                let probe = |port, protocol| Probe {
                    from: from.clone(),
                    to: to.clone(),
                    port,
                    protocol,
                };
                probes.push(probe(None, Protocol::Icmp));
                probes.extend(
                    self.ports(to)
                        .iter()
                        .map(|port| probe(Some(port.port), port.protocol)),
                );
            }
        }
        probes
    }

    /// The same pairs of ends, each asked about one port only.
    #[must_use]
    pub fn with_port(
        &self,
        pairs: Vec<Probe>,
        port: Option<NonZeroU16>,
        protocol: Protocol,
    ) -> Vec<Probe> {
        let ends: BTreeSet<(End, End)> = pairs
            .into_iter()
            .map(|probe| (probe.from, probe.to))
            .collect();
        ends.into_iter()
            .map(|(from, to)| Probe {
                from,
                to,
                port,
                protocol,
            })
            .collect()
    }
}
