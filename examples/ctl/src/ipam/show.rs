//! `ipam show`.

use std::io::IsTerminal;
use std::net::IpAddr;

use ocicat_ipam::{Census, CheckReport, Counts, Held};

use super::{ipam, picture};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::table::Table;

/// How full pools are, and with `blocks` each block.
pub(super) async fn pools(
    at: &Connection,
    blocks: bool,
    draw: bool,
    format: Format,
) -> Result<(), Failure> {
    let ipam = ipam(at);
    let mut pools = ipam.utilisation().await?;
    if !blocks {
        pools.iter_mut().for_each(|pool| pool.blocks.clear());
    }
    if let Some(text) = output::value(&pools, format)? {
        println!("{text}");
        return Ok(());
    }
    let mut table = Table::new([
        "GROUPING",
        "CIDR",
        "IPS TOTAL",
        "IPS IN USE",
        "IPS FREE",
        "OWNER",
    ]);
    for pool in &pools {
        let name = pool.name.as_deref().unwrap_or("(in no pool)");
        let cidr = pool.cidr.map(|cidr| cidr.to_string()).unwrap_or_default();
        table.row(row(
            &format!("IP Pool {name}"),
            cidr,
            &pool.counts,
            String::new(),
        ));
        for block in &pool.blocks {
            let owner = block.owner.as_ref().map(ToString::to_string);
            let owner = owner.unwrap_or_else(|| "nobody".to_owned());
            table.row(row("Block", block.cidr.to_string(), &block.counts, owner));
        }
    }
    println!("{table}");
    if blocks && (draw || std::io::stdout().is_terminal()) {
        let all = ipam.store().all_blocks().await?.records;
        if !all.is_empty() {
            println!("\n{}", picture::blocks(&all));
        }
    }
    Ok(())
}

fn row(grouping: &str, cidr: String, counts: &Counts, owner: String) -> [String; 6] {
    let part = |count: u128| match count.saturating_mul(100).checked_div(counts.capacity) {
        Some(percent) => format!("{count} ({percent}%)"),
        None => count.to_string(),
    };
    let total = counts.capacity.to_string();
    [
        grouping.to_owned(),
        cidr,
        total,
        part(counts.in_use),
        part(counts.available),
        owner,
    ]
}

/// Everything that is held.
async fn held(at: &Connection) -> Result<Vec<Held>, Failure> {
    let CheckReport { held, .. } = ipam(at).check(&Census::default()).await?;
    Ok(held)
}

/// Who holds an address.
///
/// # Errors
/// [`Failure::NotFound`] when nobody does.
pub(super) async fn address(
    at: &Connection,
    address: IpAddr,
    format: Format,
) -> Result<(), Failure> {
    let mut all = held(at).await?.into_iter();
    let found = all.find(|held| held.address == address);
    let found = found.ok_or_else(|| Failure::NotFound(format!("{address} is not assigned")))?;
    if let Some(text) = output::value(&found, format)? {
        println!("{text}");
        return Ok(());
    }
    println!("IP {address} is in use");
    let line = |name: &str, value: &str| println!("  {name}: {value}");
    line("block", &found.block.to_string());
    line(
        "owner of the block",
        found.owner.as_deref().unwrap_or("nobody"),
    );
    line(
        "handle",
        found.handle.as_ref().map_or("none", |one| one.as_str()),
    );
    for (name, value) in &found.attributes {
        line(name, value);
    }
    Ok(())
}

/// Addresses that a node took from a block of another.
pub(super) async fn borrowed(at: &Connection, format: Format) -> Result<(), Failure> {
    let mut all = held(at).await?;
    all.retain(is_borrowed);
    if let Some(text) = output::value(&all, format)? {
        println!("{text}");
        return Ok(());
    }
    let mut table = Table::new([
        "IP",
        "BORROWING-NODE",
        "BLOCK",
        "BLOCK OWNER",
        "TYPE",
        "ALLOCATED-TO",
    ]);
    for held in &all {
        let get = |name: &str| held.attributes.get(name).cloned().unwrap_or_default();
        let (kind, to) = match held.attributes.get("pod") {
            Some(pod) => ("pod".to_owned(), format!("{}/{pod}", get("namespace"))),
            None => (
                get("type"),
                held.handle
                    .as_ref()
                    .map(|one| one.as_str().to_owned())
                    .unwrap_or_default(),
            ),
        };
        let owner = held.owner.clone().unwrap_or_default();
        table.row([
            held.address.to_string(),
            get("node"),
            held.block.to_string(),
            owner,
            kind,
            to,
        ]);
    }
    println!("{table}");
    Ok(())
}

fn is_borrowed(held: &Held) -> bool {
    let owner = held
        .owner
        .as_deref()
        .and_then(|owner| owner.strip_prefix("host:"));
    match (owner, held.attributes.get("node")) {
        (Some(owner), Some(node)) => owner != node,
        _ => false,
    }
}
