//! Counters in the kernel of a node: how many packets of a flow arrive before our table, and how many leave behind it.
//!
//! The counters are a table of their own, made through the `nft` program: a second pair of eyes.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::place::Place;

/// Packets of a flow of UDP between two addresses, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// There, before our table.
    pub there_before: u64,
    /// There, behind our table.
    pub there_behind: u64,
    /// Back, before our table.
    pub back_before: u64,
    /// Back, behind our table.
    pub back_behind: u64,
}

/// Makes the counters of a flow on a node.
///
/// # Errors
/// When `nft` is missing or refuses.
pub fn watch(node: &Place, from: IpAddr, to: IpAddr, port: u16) -> Result<()> {
    let there = format!("ip saddr {from} ip daddr {to} udp dport {port}");
    let back = format!("ip saddr {to} ip daddr {from} udp sport {port}");
    let script = format!(
        "table inet lab {{\n  counter there-before {{ }}\n  counter there-behind {{ }}\n  counter back-before {{ }}\n  counter back-behind {{ }}\n  \
         chain before {{ type filter hook prerouting priority -400; policy accept;\n    {there} counter name there-before\n    {back} counter name back-before\n  }}\n  \
         chain behind {{ type filter hook postrouting priority 400; policy accept;\n    {there} counter name there-behind\n    {back} counter name back-behind\n  }}\n}}\n"
    );
    nft(node, &["-f", "-"], &script).map(drop)
}

/// Reads the counters that [`watch`] made.
///
/// # Errors
/// When `nft` fails, or the counters are gone.
pub fn read(node: &Place) -> Result<Counted> {
    let listed: Value = serde_json::from_str(&nft(
        node,
        &["-j", "list", "counters", "table", "inet", "lab"],
        "",
    )?)?;
    let counters = listed["nftables"]
        .as_array()
        .context("nft lists no counters")?;
    let packets = |name: &str| {
        let named = counters
            .iter()
            .find(|entry| entry["counter"]["name"] == name);
        named
            .and_then(|entry| entry["counter"]["packets"].as_u64())
            .with_context(|| format!("no counter {name}"))
    };
    Ok(Counted {
        there_before: packets("there-before")?,
        there_behind: packets("there-behind")?,
        back_before: packets("back-before")?,
        back_behind: packets("back-behind")?,
    })
}

/// Takes the counters away.
///
/// # Errors
/// When `nft` fails.
pub fn unwatch(node: &Place) -> Result<()> {
    nft(node, &["delete", "table", "inet", "lab"], "").map(drop)
}

/// The packet counters in the rules of our own table, by chain and rule handle.
///
/// # Errors
/// When `nft` fails.
pub fn of_rules(node: &Place) -> Result<BTreeMap<(String, u64), u64>> {
    let listed: Value =
        serde_json::from_str(&nft(node, &["-j", "list", "table", "inet", "ocicat"], "")?)?;
    let entries = listed["nftables"]
        .as_array()
        .context("nft lists no table")?;
    let mut counters = BTreeMap::new();
    for rule in entries.iter().map(|entry| &entry["rule"]) {
        let counts = rule["expr"].as_array().into_iter().flatten();
        let packets = counts
            .filter_map(|expression| expression["counter"]["packets"].as_u64())
            .max();
        if let (Some(packets), Some(chain), Some(handle)) =
            (packets, rule["chain"].as_str(), rule["handle"].as_u64())
        {
            counters.insert((chain.to_owned(), handle), packets);
        }
    }
    Ok(counters)
}

/// How many rules have their counters as they were, or further on.
#[must_use]
pub fn kept(before: &BTreeMap<(String, u64), u64>, after: &BTreeMap<(String, u64), u64>) -> usize {
    let still = |(rule, packets): &(&(String, u64), &u64)| {
        after.get(*rule).is_some_and(|now| now >= *packets)
    };
    before.iter().filter(still).count()
}

/// Our table as text; empty when there is none.
///
/// # Errors
/// When `nft` cannot be run.
pub fn table(node: &Place) -> Result<String> {
    Ok(nft(node, &["list", "table", "inet", "ocicat"], "").unwrap_or_default())
}

fn nft(node: &Place, arguments: &[&str], input: &str) -> Result<String> {
    let run = || {
        let mut command = Command::new("nft");
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if std::env::var_os("PATH").is_none_or(|path| !path.to_string_lossy().contains("sbin")) {
            command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        }
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = node.visit(run)?.context("running nft (package nftables)")?;
    if !output.status.success() {
        bail!(
            "nft {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}
