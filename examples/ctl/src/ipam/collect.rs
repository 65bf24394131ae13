//! `ipam gc`: what nodes that are gone have left behind.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use ocicat_datastore::model::{BlockAffinity, Node};
use ocicat_ipam::{Collector, Finding, Held, Judge, Liveness, Owner, Verdict};
use serde_json::json;

use super::{census, ipam};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Only nodes that have no Node object are gone; of all others their agents collect themselves.
struct Nodes(BTreeSet<String>);

#[async_trait]
impl Liveness for Nodes {
    async fn verdicts(&self, held: &[Held]) -> Vec<Verdict> {
        let verdict = |held: &Held| match held.attributes.get("node") {
            Some(node) if !self.0.contains(node) => Verdict::NodeGone,
            _ => Verdict::Unknown,
        };
        held.iter().map(verdict).collect()
    }
}

/// Releases, or with `dry_run` shows, the addresses and claims of nodes that no longer exist.
pub(super) async fn run(at: &Connection, dry_run: bool, format: Format) -> Result<(), Failure> {
    let ipam = ipam(at);
    if dry_run {
        return show(at, format).await;
    }
    let nodes = nodes(at).await?;
    let gone = owners(at)
        .await?
        .into_iter()
        .filter(|node| !nodes.contains(node));
    let gone: BTreeSet<String> = gone.collect();
    let mut collector = Collector::new(Judge::GoneNodes, Duration::ZERO);
    let sweep = collector
        .sweep(&ipam, &Nodes(nodes), SystemTime::now())
        .await;
    let sweep = sweep.map_err(|error| Failure::Failed(error.to_string()))?;
    for node in &gone {
        let removed = ipam
            .remove_host(&Owner::host(node), SystemTime::now())
            .await;
        removed.map_err(|error| Failure::failed(node, error))?;
    }
    let answer = json!({"released": sweep.released, "nodes": gone});
    match output::value(&answer, format)? {
        Some(text) => println!("{text}"),
        None => {
            sweep
                .released
                .iter()
                .for_each(|address| println!("{address} released"));
            gone.iter()
                .for_each(|node| println!("claims of {node} released"));
            println!("{} addresses released", sweep.released.len());
        }
    }
    Ok(())
}

async fn show(at: &Connection, format: Format) -> Result<(), Failure> {
    let report = ipam(at).check(&census::take(at).await?).await?;
    let gone = |finding: &&Finding| {
        matches!(
            finding,
            Finding::NotUsed {
                node_gone: true,
                ..
            } | Finding::NodeGone { .. }
        )
    };
    let findings: Vec<&Finding> = report.findings.iter().filter(gone).collect();
    match output::value(&findings, format)? {
        Some(text) => println!("{text}"),
        None => findings.iter().for_each(|finding| println!("{finding}")),
    }
    Ok(())
}

async fn nodes(at: &Connection) -> Result<BTreeSet<String>, Failure> {
    let listed = at.store.list::<Node>().await?;
    if let Some(error) = listed.malformed.first() {
        return Err(Failure::Failed(error.to_string()));
    }
    Ok(listed
        .iter()
        .map(|node| node.metadata.name.clone())
        .collect())
}

/// The nodes that claim blocks.
async fn owners(at: &Connection) -> Result<BTreeSet<String>, Failure> {
    let claims = at.store.list::<BlockAffinity>().await?;
    let host = |claim: &&ocicat_datastore::Versioned<BlockAffinity>| {
        claim.spec.r#type.as_deref().unwrap_or("host") == "host"
    };
    let names = claims
        .iter()
        .filter(host)
        .map(|claim| claim.spec.node.clone());
    Ok(names.collect())
}
