//! Which addresses of services a node announces. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_dataplane::Prefix;
use ocicat_datastore::model::{EndpointSlice, Service};

use crate::peers::ServiceRanges;

/// A node with this label announces no service.
pub const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The label of slices that names their service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub type Name = (String, String);

/// A service, as far as announcements depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    cluster: Vec<IpAddr>,
    external: Vec<IpAddr>,
    load_balancer: Vec<IpAddr>,
    /// Traffic from outside stays on the node that it comes to (`externalTrafficPolicy: Local`).
    local: bool,
}

/// Services, and which of them have a ready endpoint on this node.
#[derive(Clone, Debug, Default)]
pub struct Services {
    services: BTreeMap<Name, ServiceView>,
    /// By the name of the slice: its service, when the slice has a ready endpoint here.
    here: BTreeMap<Name, Name>,
}

fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    let read = texts.into_iter().filter_map(|text| text.parse().ok());
    read.collect()
}

impl Services {
    /// Takes a service in; true when something changed.
    pub fn put_service(&mut self, service: &Service) -> bool {
        let spec = &service.spec;
        let ingress = service
            .status
            .iter()
            .flat_map(|status| &status.load_balancer.ingress);
        let cluster = spec.cluster_ips.iter().chain(&spec.cluster_ip);
        let mut view = ServiceView {
            cluster: addresses(cluster),
            external: addresses(&spec.external_ips),
            load_balancer: addresses(ingress.filter_map(|one| one.ip.as_ref())),
            local: spec.external_traffic_policy.as_deref() == Some("Local"),
        };
        view.cluster.sort_unstable();
        view.cluster.dedup();
        let name = name(service.metadata.namespace.as_ref(), &service.metadata.name);
        self.services.insert(name, view.clone()) != Some(view)
    }

    /// Takes a service out; true when it was there.
    pub fn remove_service(&mut self, name: &Name) -> bool {
        self.services.remove(name).is_some()
    }

    /// Takes a slice in, as `node` sees it; true when something changed.
    pub fn put_slice(&mut self, node: &str, slice: &EndpointSlice) -> bool {
        let key = name(slice.metadata.namespace.as_ref(), &slice.metadata.name);
        let here = slice.endpoints.iter().any(|endpoint| {
            endpoint.node_name.as_deref() == Some(node) && endpoint.conditions.ready != Some(false)
        });
        let service = slice.metadata.labels.get(SERVICE_NAME).filter(|_| here);
        match service {
            None => self.here.remove(&key).is_some(),
            Some(service) => {
                let service = (key.0.clone(), service.clone());
                self.here.insert(key, service.clone()) != Some(service)
            }
        }
    }

    /// Takes a slice out; true when it had a ready endpoint here.
    pub fn remove_slice(&mut self, name: &Name) -> bool {
        self.here.remove(name).is_some()
    }

    /// What the node announces: whole ranges, and single addresses where traffic must come to nodes with an endpoint,
    /// or where ranges are not announced whole.
    #[must_use]
    pub fn announced(&self, ranges: &ServiceRanges) -> BTreeSet<Prefix> {
        let whole = ranges.cluster.iter().chain(&ranges.external);
        let balanced = ranges.load_balancer.iter();
        let balanced = balanced.filter(|range| ranges.aggregate && !range.is_host());
        let mut found: BTreeSet<Prefix> = whole.chain(balanced).copied().collect();
        let here: BTreeSet<&Name> = self.here.values().collect();
        for (name, service) in &self.services {
            let single = |list: &[IpAddr], ranges: &[Prefix]| {
                let inside =
                    |address: &&IpAddr| ranges.iter().any(|range| range.contains(**address));
                let single: Vec<Prefix> = list
                    .iter()
                    .filter(inside)
                    .copied()
                    .map(Prefix::host)
                    .collect();
                single
            };
            if service.local {
                // Elsewhere the range leads to a node that has to drop what comes.
                if here.contains(name) {
                    found.extend(single(&service.cluster, &ranges.cluster));
                    found.extend(single(&service.external, &ranges.external));
                    found.extend(single(&service.load_balancer, &ranges.load_balancer));
                }
                continue;
            }
            for address in single(&service.load_balancer, &ranges.load_balancer) {
                if !ranges.aggregate || ranges.load_balancer.contains(&address) {
                    found.insert(address);
                }
            }
        }
        found
    }
}

fn name(namespace: Option<&String>, name: &str) -> Name {
    (namespace.cloned().unwrap_or_default(), name.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(name: &str, spec: Value, ingress: &str) -> Service {
        let mut service: Service = serde_json::from_value(json!({
            "spec": spec, "status": {"loadBalancer": {"ingress": [{"ip": ingress}]}},
        }))
        .unwrap();
        service.metadata.name = name.to_owned();
        service.metadata.namespace = Some("shop".to_owned());
        service
    }

    fn slice(service: &str, node: &str, ready: Option<bool>) -> EndpointSlice {
        let mut slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": format!("{service}-x"), "namespace": "shop", "labels": {SERVICE_NAME: service}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": node, "conditions": {"ready": ready}}],
        }))
        .unwrap();
        slice.metadata.name = format!("{service}-x");
        slice
    }

    fn ranges(load_balancer: &[&str], aggregate: bool) -> ServiceRanges {
        let read = |list: &[&str]| list.iter().map(|one| one.parse().unwrap()).collect();
        ServiceRanges {
            cluster: read(&["10.96.0.0/12"]),
            external: read(&["198.51.100.0/24"]),
            load_balancer: read(load_balancer),
            aggregate,
        }
    }

    fn announced(services: &Services, ranges: &ServiceRanges) -> Vec<String> {
        services
            .announced(ranges)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    const RANGES: [&str; 2] = ["10.96.0.0/12", "198.51.100.0/24"];

    fn with_ranges(more: &[&str]) -> Vec<String> {
        let mut all: Vec<Prefix> = RANGES
            .iter()
            .chain(more)
            .map(|one| one.parse().unwrap())
            .collect();
        all.sort_unstable();
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_calico_announces() {
        let local = json!({"clusterIPs": ["10.96.0.1"], "externalIPs": ["198.51.100.7", "9.9.9.9"],
            "externalTrafficPolicy": "Local", "type": "LoadBalancer"});
        let cluster = json!({"clusterIP": "10.96.0.2", "type": "LoadBalancer"});
        let mut services = Services::default();
        services.put_service(&service("local", local, "203.0.113.1"));
        services.put_service(&service("cluster", cluster, "203.0.113.2"));
        let whole = ranges(&["203.0.113.0/24"], true);
        assert_eq!(
            announced(&services, &whole),
            with_ranges(&["203.0.113.0/24"])
        );
        // A ready endpoint here.
        let singles = ["10.96.0.1/32", "198.51.100.7/32", "203.0.113.1/32"];
        for (node, ready, is_here) in [
            ("node1", None, true),
            ("node1", Some(true), true),
            ("node1", Some(false), false),
            ("node2", Some(true), false),
        ] {
            services.put_slice("node1", &slice("local", node, ready));
            let more = if is_here { &singles[..] } else { &[] };
            let expected = with_ranges(&[&["203.0.113.0/24"], more].concat());
            assert_eq!(announced(&services, &whole), expected, "{node} {ready:?}");
        }
        // Single addresses of load balancers, and ranges that are not announced whole, come from every node.
        for (list, aggregate) in [(&["203.0.113.2/32"], true), (&["203.0.113.0/24"], false)] {
            let found = announced(&services, &ranges(list, aggregate));
            assert_eq!(found, with_ranges(&["203.0.113.2/32"]), "{list:?}");
        }
        services.remove_service(&("shop".to_owned(), "cluster".to_owned()));
        assert_eq!(
            announced(&services, &ranges(&["203.0.113.0/24"], false)),
            with_ranges(&[])
        );
    }

    #[test]
    fn news_that_change_nothing_are_none() {
        let mut services = Services::default();
        let one = service("a", json!({"clusterIP": "10.96.0.1"}), "203.0.113.1");
        assert!(services.put_service(&one) && !services.put_service(&one));
        assert!(services.put_slice("n", &slice("a", "n", None)));
        assert!(!services.put_slice("n", &slice("a", "n", None)));
        assert!(services.remove_slice(&("shop".to_owned(), "a-x".to_owned())));
    }
}
