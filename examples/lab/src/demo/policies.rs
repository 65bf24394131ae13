//! Steps 5 and 6: matrices before and after policies, a label that changes, the time until a policy is in force.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Demo, judge_as_policy, shown};
use crate::cluster::Cluster;
use crate::probe::{End, Probe};
use crate::scenario::Protocol;
use crate::table::{self, Judged};

/// The policies, as they also lie in the project's sources.
const FILES: [(&str, &str, &str); 3] = [
    (
        "isolation.yaml",
        "a namespace on its own",
        include_str!("../../scenarios/policies/isolation.yaml"),
    ),
    (
        "three-tier.yaml",
        "an application in three tiers",
        include_str!("../../scenarios/policies/three-tier.yaml"),
    ),
    (
        "egress.yaml",
        "an egress rule",
        include_str!("../../scenarios/policies/egress.yaml"),
    ),
];
/// The pod whose labels change, and what it then is.
const RELABELLED: (&str, &str, &str) = ("ops/mon", "role", "monitor");

/// Step 5: everybody reaches everybody.
pub(super) async fn open(demo: &mut Demo, cluster: &Cluster) -> Result<()> {
    demo.matrix(cluster, "seen is what is expected").await?;
    demo.report
        .figure("addresses", cluster.held_addresses().await?.len());
    let mut routes = 0;
    for agent in cluster.agents.values() {
        routes += agent.status().await?.routes;
    }
    demo.report.figure("routes", routes);
    Ok(())
}

/// Step 6.
pub(super) async fn applied(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    let before = judge_as_policy(cluster, cluster.all_pairs()).await?;
    let mut slowest = Duration::ZERO;
    for (name, what, text) in FILES {
        let manifests = ocicatctl::manifest::read(name, text)?;
        let began = Instant::now();
        let written = cluster.apply(&manifests).await?;
        let enforced = cluster.enforce(&written).await?;
        slowest = slowest.max(began.elapsed());
        let last = enforced.last.unwrap_or_default();
        demo.report.say(format!(
            "{name}, {what}: in force everywhere {} after apply, last on {last}",
            shown(began.elapsed())
        ));
    }
    demo.report.time("enforced_slowest_file_ms", slowest);
    let after = demo
        .matrix(cluster, "after the policies, seen is what is expected")
        .await?;
    let changed = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before.expected && !after.expected)
        .count();
    demo.report.check(
        changed > 0,
        "the policies deny what was allowed before",
        format!("{changed} probes"),
    );
    relabel(demo, cluster).await
}

/// A pod becomes a monitor, and what it may do changes, nothing else.
async fn relabel(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    let (id, label, value) = RELABELLED;
    let asked = from(cluster, id)?;
    let before = judge_as_policy(cluster, asked.clone()).await?;
    let mut labels: BTreeMap<String, String> = cluster.pods[id].wanted.labels.clone();
    labels.insert(label.to_owned(), value.to_owned());
    let began = Instant::now();
    let written = cluster.relabel(id, labels).await?;
    cluster.enforce(&[written]).await?;
    let took = began.elapsed();
    demo.report.time("relabel_enforced_ms", took);
    let after = judge_as_policy(cluster, asked).await?;
    demo.report.say(format!(
        "{id} gets the label {label}={value}; before and after:"
    ));
    demo.report.table(&table::matrix(&before));
    demo.report.table(&table::matrix(&after));
    demo.check_judged(&after, "after the label, seen is what is expected");
    let gained = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| !before.expected && after.expected)
        .count();
    demo.report.check(
        gained > 0,
        "the label opens what it should",
        format!("{gained} probes, {} after it was written", shown(took)),
    );
    Ok(())
}

/// All questions of one pod.
fn from(cluster: &Cluster, id: &str) -> Result<Vec<Probe>> {
    let end: End = id.parse()?;
    Ok(cluster.pairs(Some(&end), None))
}

/// A few probes that policy allows and a few that it denies: whether policy holds, asked quickly.
pub(super) async fn sample(cluster: &Cluster) -> Result<Vec<Judged>> {
    let probes = cluster.all_pairs();
    let expected = cluster.expected(&probes).await?;
    let pick = |wanted: bool| {
        let fitting = probes
            .iter()
            .zip(&expected)
            .filter(move |(_, expected)| **expected == wanted);
        fitting
            .map(|(probe, _)| probe.clone())
            .filter(|probe| probe.protocol != Protocol::Icmp)
            .step_by(3)
            .take(20)
    };
    judge_as_policy(cluster, pick(true).chain(pick(false)).collect()).await
}
