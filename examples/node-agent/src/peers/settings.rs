//! BGPConfiguration: what is stated for the cluster, and over it what is stated for one node.

use std::time::Duration;

use ocicat_bgp::{Community, LargeCommunity, Prefix as Range};
use ocicat_dataplane::Prefix;
use ocicat_datastore::model::{BgpConfiguration, BgpConfigurationSpec, ServiceRange};

use super::object::password;
use super::{DEFAULT_AS, DEFAULT_KEEPALIVE, DEFAULT_PORT, DEFAULT_RESTART, SecretRef, duration};

/// Communities for what is announced inside a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The range.
    pub range: Range,
    /// Communities of RFC 1997.
    pub communities: Vec<Community>,
    /// Large ones (RFC 8092).
    pub large: Vec<LargeCommunity>,
}

/// Ranges of service addresses to announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRanges {
    /// Of cluster addresses.
    pub cluster: Vec<Prefix>,
    /// Of external addresses.
    pub external: Vec<Prefix>,
    /// Of load balancers.
    pub load_balancer: Vec<Prefix>,
    /// Ranges of load balancers are announced whole.
    pub aggregate: bool,
}

impl ServiceRanges {
    /// Whether a prefix lies in a range of services: every node serves those itself, so no other is the way to them.
    #[must_use]
    pub fn covers(&self, prefix: &Prefix) -> bool {
        let all = [&self.cluster, &self.external, &self.load_balancer];
        all.into_iter().flatten().any(|range| range.covers(prefix))
    }

    /// Whether nothing is announced.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.cluster.is_empty() && self.external.is_empty() && self.load_balancer.is_empty()
    }
}

/// What holds for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpSettings {
    /// Every node peers with every other.
    pub mesh: bool,
    /// The AS of nodes that state none.
    pub as_number: u32,
    /// The port that nodes listen at.
    pub port: u16,
    /// The speaker listens at the node's addresses alone (`bindMode: NodeIP`).
    pub bind_to_node: bool,
    /// Time between keepalives of mesh sessions.
    pub keepalive: Duration,
    /// How long mesh peers keep the routes of a node that restarts.
    pub restart_time: Duration,
    /// The password of mesh sessions.
    pub mesh_password: Option<SecretRef>,
    /// Communities for what is announced.
    pub advertisements: Vec<Advertisement>,
    /// Services that are announced.
    pub services: ServiceRanges,
}

impl Default for BgpSettings {
    fn default() -> Self {
        Self::read(None, None).0
    }
}

impl BgpSettings {
    /// What the objects `default` and `node.NODE` say together, and what is wrong with them. The node's own object
    /// wins field by field over the cluster's.
    #[must_use]
    pub fn read(
        cluster: Option<&BgpConfiguration>,
        own: Option<&BgpConfiguration>,
    ) -> (Self, Vec<String>) {
        let mut read = Reading {
            objects: [own, cluster].into_iter().flatten().collect(),
            problems: Vec::new(),
        };
        let settings = Self {
            mesh: read
                .first(|spec| spec.node_to_node_mesh_enabled)
                .unwrap_or(true),
            as_number: read
                .first(|spec| spec.as_number)
                .map_or(DEFAULT_AS, |number| number.0),
            port: read.first(|spec| spec.listen_port).unwrap_or(DEFAULT_PORT),
            bind_to_node: read.choice("bindMode", ["None", "NodeIP"], |spec| {
                spec.bind_mode.clone()
            }),
            keepalive: read.time("nodeMeshKeepaliveTime", DEFAULT_KEEPALIVE, |spec| {
                spec.node_mesh_keepalive_time.clone()
            }),
            restart_time: read.time("nodeMeshMaxRestartTime", DEFAULT_RESTART, |spec| {
                spec.node_mesh_max_restart_time.clone()
            }),
            mesh_password: read.first(|spec| password(spec.node_mesh_password.as_ref())),
            advertisements: read.advertisements(),
            services: ServiceRanges {
                cluster: read.ranges("serviceClusterIPs", |spec| &spec.service_cluster_ips),
                external: read.ranges("serviceExternalIPs", |spec| &spec.service_external_ips),
                load_balancer: read.ranges("serviceLoadBalancerIPs", |spec| {
                    &spec.service_load_balancer_ips
                }),
                aggregate: !read.choice(
                    "serviceLoadBalancerAggregation",
                    ["Enabled", "Disabled"],
                    |spec| spec.service_load_balancer_aggregation.clone(),
                ),
            },
        };
        (settings, read.problems)
    }
}

struct Reading<'a> {
    /// The node's own first.
    objects: Vec<&'a BgpConfiguration>,
    problems: Vec<String>,
}

impl Reading<'_> {
    fn first<T>(&self, field: impl Fn(&BgpConfigurationSpec) -> Option<T>) -> Option<T> {
        self.objects.iter().find_map(|object| field(&object.spec))
    }

    fn problem(&mut self, field: &str, what: &str) {
        let name = self
            .objects
            .first()
            .map_or("default", |object| object.metadata.name.as_str());
        self.problems
            .push(format!("BGPConfiguration {name}: spec.{field}: {what}"));
    }

    /// Whether the second of two choices is stated.
    fn choice(
        &mut self,
        field: &str,
        choices: [&str; 2],
        text: impl Fn(&BgpConfigurationSpec) -> Option<String>,
    ) -> bool {
        match self.first(text) {
            None => false,
            Some(text) if text.is_empty() || text == choices[0] => false,
            Some(text) if text == choices[1] => true,
            Some(text) => {
                let [first, second] = choices;
                self.problem(field, &format!("{text:?} is not {first} or {second}"));
                false
            }
        }
    }

    fn time(
        &mut self,
        field: &str,
        default: Duration,
        text: impl Fn(&BgpConfigurationSpec) -> Option<String>,
    ) -> Duration {
        match self.first(text).map(|text| duration(&text)) {
            None => default,
            Some(Some(time)) => time,
            Some(None) => {
                self.problem(field, "expected a duration such as 120s");
                default
            }
        }
    }

    fn ranges(
        &mut self,
        field: &str,
        list: impl Fn(&BgpConfigurationSpec) -> &Vec<ServiceRange>,
    ) -> Vec<Prefix> {
        let stated = self.first(|spec| Some(list(spec).clone()).filter(|list| !list.is_empty()));
        let mut ranges = Vec::new();
        for range in stated.unwrap_or_default() {
            match range.cidr.parse() {
                Ok(range) => ranges.push(range),
                Err(error) => self.problem(field, &format!("{error}")),
            }
        }
        ranges
    }

    fn advertisements(&mut self) -> Vec<Advertisement> {
        let names = self
            .first(|spec| Some(spec.communities.clone()).filter(|list| !list.is_empty()))
            .unwrap_or_default();
        let stated = self
            .first(|spec| Some(spec.prefix_advertisements.clone()).filter(|list| !list.is_empty()))
            .unwrap_or_default();
        let mut found = Vec::new();
        for one in stated {
            let range = match one.cidr.parse() {
                Ok(range) => range,
                Err(error) => {
                    self.problem("prefixAdvertisements", &format!("{error}"));
                    continue;
                }
            };
            let (mut communities, mut large) = (Vec::new(), Vec::new());
            for text in &one.communities {
                let named = names.iter().find(|name| name.name == *text);
                let value = named.map_or(text, |name| &name.value);
                if let Ok(community) = value.parse() {
                    communities.push(community);
                } else if let Ok(community) = value.parse() {
                    large.push(community);
                } else {
                    let what = format!("{text:?} is no community and no name of one");
                    self.problem("prefixAdvertisements", &what);
                }
            }
            found.push(Advertisement {
                range,
                communities,
                large,
            });
        }
        found
    }
}
