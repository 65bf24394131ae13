//! From one scenario to another with the least change: what `sync` does.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use ocicat_datastore::{Key, Object, Op};
use ocicatctl::Written;

use crate::cluster::Cluster;
use crate::launch::{Bundle, File};
use crate::resources;
use crate::scenario::{Pod, Scenario};

/// Makes namespaces, service accounts, pods and manifests of a running cluster equal to those of another scenario.
///
/// The answer is what was done, in words, and what agents have to see.
///
/// # Errors
/// When the other scenario has other racks, nodes, hosts or pools: those need a new lab; and when a step fails.
pub async fn to(cluster: &mut Cluster, bundle: &Bundle) -> Result<(Vec<String>, Vec<Written>)> {
    let wanted = Scenario::parse(&bundle.scenario.name, &bundle.scenario.text)?;
    same_machines(&cluster.scenario, &wanted)?;
    let objects = objects(&wanted, &bundle.manifests)?;
    let (mut changes, mut written) = (Vec::new(), Vec::new());

    let gone: Vec<String> = cluster
        .pods
        .values()
        .filter(|pod| !stays(&pod.wanted, &wanted))
        .map(|pod| pod.wanted.id())
        .collect();
    changes.extend(gone.iter().map(|id| format!("pod {id} removed")));
    written.extend(cluster.remove_pods(&gone).await?);

    written.extend(write(cluster, objects, &mut changes).await?);

    let missing: Vec<Pod> = wanted
        .pods
        .iter()
        .filter(|pod| !cluster.pods.contains_key(&pod.id()))
        .cloned()
        .collect();
    changes.extend(missing.iter().map(|pod| format!("pod {} made", pod.id())));
    written.extend(cluster.add_pods(missing).await?);

    for pod in &wanted.pods {
        let labels = cluster
            .pods
            .get(&pod.id())
            .map(|known| known.wanted.labels.clone());
        if labels.is_some_and(|labels| labels != pod.labels) {
            changes.push(format!("pod {} relabelled", pod.id()));
            written.push(cluster.relabel(&pod.id(), pod.labels.clone()).await?);
        }
    }
    cluster.scenario = wanted;
    Ok((changes, written))
}

/// Whether a pod can stay, perhaps with other labels.
fn stays(pod: &Pod, wanted: &Scenario) -> bool {
    wanted.pods.iter().any(|other| {
        let relabelled = Pod {
            labels: pod.labels.clone(),
            ..other.clone()
        };
        relabelled == *pod
    })
}

fn same_machines(now: &Scenario, wanted: &Scenario) -> Result<()> {
    let shape = |scenario: &Scenario| {
        format!(
            "{:?}{:?}{:?}{:?}",
            scenario.racks, scenario.nodes, scenario.hosts, scenario.pools
        )
    };
    if shape(now) == shape(wanted) {
        return Ok(());
    }
    bail!(
        "sync changes namespaces, service accounts, pods and manifests; other racks, nodes, hosts or pools need a new lab"
    )
}

/// What the scenario wants in the datastore beside machines and pools.
fn objects(scenario: &Scenario, manifests: &[File]) -> Result<BTreeMap<Key, Object>> {
    let mut objects = resources::identities(scenario)?;
    for file in manifests {
        objects.extend(
            ocicatctl::manifest::read(&file.name, &file.text)?
                .into_iter()
                .map(|manifest| manifest.object),
        );
    }
    Ok(objects
        .into_iter()
        .map(|object| (object.key(), object))
        .collect())
}

/// Writes what differs, and deletes what an earlier scenario or manifest wrote and this one does not name.
async fn write(
    cluster: &mut Cluster,
    wanted: BTreeMap<Key, Object>,
    changes: &mut Vec<String>,
) -> Result<Vec<Written>> {
    let mut ops = Vec::new();
    let known: BTreeSet<Key> = cluster.applied.keys().cloned().collect();
    for key in known.iter().filter(|key| !wanted.contains_key(key)) {
        changes.push(format!("{key} deleted"));
        ops.push(Op::Delete {
            key: key.clone(),
            revision: None,
        });
    }
    for (key, object) in &wanted {
        if cluster.applied.get(key) != Some(&object.value) {
            changes.push(format!("{key} applied"));
            ops.push(Op::Put(object.clone()));
        }
    }
    let mut written = Vec::new();
    for outcome in cluster.store.backend().write(ops).await {
        let object = outcome.context("writing to the datastore")?;
        written.push(Written {
            key: object.key(),
            revision: object.revision,
        });
    }
    cluster.applied = wanted
        .into_iter()
        .map(|(key, object)| (key, object.value))
        .collect();
    Ok(written)
}
