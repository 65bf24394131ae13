//! What a scenario's cluster will hold in its datastore, without the cluster: for checks of policy before anything runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ocicat_dataplane::{Prefix, names};
use ocicat_datastore::Object;
use ocicat_datastore::model::names::{namespace_profile, service_account_profile};
use serde_json::json;

use crate::cluster::endpoint_key;
use crate::launch::Bundle;
use crate::resources;
use crate::scenario::{Pod, Scenario};

/// Every object of the cluster that the scenario in `file` describes: pools, nodes, profiles, the manifests that it
/// applies, and an endpoint for each pod.
///
/// A pod that asks for no address gets the next one of the first pool of each family that gives out addresses by itself:
/// a cluster may choose another, so policies should not be checked by such an address.
///
/// # Errors
/// What is wrong with the scenario or a manifest, with file, line and field.
pub fn objects(file: &str) -> Result<Vec<Object>> {
    let (bundle, scenario) = Bundle::read(file)?;
    let mut objects = resources::all(&scenario)?;
    for file in &bundle.manifests {
        let manifests = ocicatctl::manifest::read(&file.name, &file.text)?;
        objects.extend(manifests.into_iter().map(|manifest| manifest.object));
    }
    objects.extend(endpoints(&scenario)?);
    Ok(objects)
}

fn endpoints(scenario: &Scenario) -> Result<Vec<Object>> {
    let mut given: BTreeMap<Prefix, u32> = BTreeMap::new();
    let mut made = Vec::new();
    for pod in &scenario.pods {
        let addresses = match pod.ip.as_slice() {
            [] => next(scenario, &mut given),
            stated => stated.to_vec(),
        };
        made.push(endpoint(pod, &addresses).with_context(|| format!("pod {}", pod.id()))?);
    }
    Ok(made)
}

/// One address of each family that there is a pool of.
fn next(scenario: &Scenario, given: &mut BTreeMap<Prefix, u32>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for ipv4 in [true, false] {
        let mut pools = scenario.pools.iter();
        let pool = pools.find(|pool| {
            pool.cidr.is_ipv4() == ipv4 && pool.assignment_mode.as_deref() != Some("Manual")
        });
        let Some(pool) = pool else { continue };
        let number = given.entry(pool.cidr).or_default();
        *number += 1;
        addresses.push(match pool.cidr.address() {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + *number).into(),
            IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + u128::from(*number)).into(),
        });
    }
    addresses
}

fn endpoint(pod: &Pod, addresses: &[IpAddr]) -> Result<Object> {
    let key = endpoint_key(pod);
    let mut labels = pod.labels.clone();
    let mut label = |key: &str, value: &str| {
        labels.insert(format!("projectcalico.org/{key}"), value.to_owned());
    };
    label("namespace", &pod.namespace);
    label("orchestrator", "k8s");
    label("serviceaccount", &pod.service_account);
    let networks = addresses.iter().map(|address| {
        let length = if address.is_ipv4() { 32 } else { 128 };
        format!("{address}/{length}")
    });
    let ports = pod.ports.iter().filter_map(|port| {
        Some(json!({"name": port.name.as_ref()?, "port": port.port, "protocol": port.protocol}))
    });
    let value = json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {"name": key.name, "namespace": pod.namespace, "labels": labels},
        "spec": {
            "orchestrator": "k8s",
            "node": pod.node,
            "pod": pod.name,
            "endpoint": crate::pod::INTERFACE,
            "interfaceName": names::pod_link(&pod.namespace, &pod.name).to_string(),
            "serviceAccountName": pod.service_account,
            "ipNetworks": networks.collect::<Vec<_>>(),
            "ports": ports.collect::<Vec<_>>(),
            "profiles": [
                namespace_profile(&pod.namespace),
                service_account_profile(&pod.namespace, &pod.service_account),
            ],
        },
    });
    Ok(Object::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_has_an_endpoint_for_each_pod() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/demo.yaml");
        let objects = objects(file).expect("the demo's scenario is good");
        let endpoints = objects
            .iter()
            .filter(|object| object.kind.name() == "WorkloadEndpoint");
        let named: Vec<&str> = endpoints.map(|object| object.name.as_str()).collect();
        assert_eq!(named.len(), 9);
        assert!(named.contains(&"node1-k8s-db-eth0"));
        assert!(objects.iter().any(|object| object.kind.name() == "IPPool"));
    }
}
