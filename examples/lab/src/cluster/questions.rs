//! From probes that name ends to attempts that name namespaces and addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::Cluster;
use crate::place::Place;
use crate::probe::{Attempt, End, Family, Probe};
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
            End::Router => Some(&self.underlay.router),
        };
        found.with_context(|| format!("there is no {end}"))
    }

    /// The addresses of an end, at most one of each family.
    ///
    /// # Errors
    /// When there is no such end.
    pub fn addresses(&self, end: &End) -> Result<&[IpAddr]> {
        let found = match end {
            End::Pod { .. } => self.pods.get(&end.to_string()).map(|pod| &pod.addresses),
            End::Host(name) => {
                let mut hosts = self.scenario.hosts.iter();
                hosts.find(|host| host.name == *name).map(|host| &host.ip)
            }
            End::Node(name) => {
                let mut nodes = self.scenario.nodes.iter();
                nodes.find(|node| node.name == *name).map(|node| &node.ip)
            }
            End::Router => None,
        };
        let found = found.with_context(|| format!("there is no {end}"))?;
        Ok(found)
    }

    /// The families that two ends have in common.
    ///
    /// # Errors
    /// When there is no such end.
    pub fn families(&self, from: &End, to: &End) -> Result<Vec<Family>> {
        let own: Vec<Family> = self
            .addresses(from)?
            .iter()
            .map(|one| Family::of(*one))
            .collect();
        let to = self.addresses(to)?.iter().map(|one| Family::of(*one));
        Ok(to.filter(|family| own.contains(family)).collect())
    }

    /// The addresses of a probe's ends.
    ///
    /// # Errors
    /// When there is no such end, or the ends have no family in common.
    pub fn addresses_of(&self, probe: &Probe) -> Result<(IpAddr, IpAddr)> {
        let families = self.families(&probe.from, &probe.to)?;
        let family = probe.family.or_else(|| families.first().copied());
        let of = |end: &End| -> Result<Option<IpAddr>> {
            let mut addresses = self.addresses(end)?.iter();
            Ok(addresses
                .find(|one| Some(Family::of(**one)) == family)
                .copied())
        };
        match (of(&probe.from)?, of(&probe.to)?) {
            (Some(from), Some(to)) => Ok((from, to)),
            _ => anyhow::bail!("{probe}: the ends have no such addresses"),
        }
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
            End::Node(_) | End::Router => &[],
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
            to: SocketAddr::new(self.addresses_of(probe)?.1, port),
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
                let families = self.families(from, to).unwrap_or_default();
                let both = families.len() > 1;
                for family in families {
                    let probe = |port, protocol| Probe {
                        from: from.clone(),
                        to: to.clone(),
                        port,
                        protocol,
                        family: both.then_some(family),
                    };
                    probes.push(probe(None, Protocol::Icmp));
                    let ports = self.ports(to).iter();
                    probes.extend(ports.map(|port| probe(Some(port.port), port.protocol)));
                }
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
        let ends: BTreeSet<(End, End, Option<Family>)> = pairs
            .into_iter()
            .map(|probe| (probe.from, probe.to, probe.family))
            .collect();
        ends.into_iter()
            .map(|(from, to, family)| Probe {
                from,
                to,
                port,
                protocol,
                family,
            })
            .collect()
    }
}
