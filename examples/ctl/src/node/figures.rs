//! `node config`, `node counters` and `node drain`.

use ocicat_node::control::{Client, RuleCount};
use serde_json::Value;

use crate::failure::Failure;
use crate::output::{self, Format};
use crate::table::Table;

/// Prints every parameter with its source.
pub(super) fn config(client: &Client, format: Format) -> Result<(), Failure> {
    let config = client.config()?;
    if let Some(text) = output::value(&config, format)? {
        println!("{text}");
        return Ok(());
    }
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let mut table = Table::new(["NAME", "VALUE", "SOURCE"]);
    for one in config["values"].as_array().into_iter().flatten() {
        table.row([
            text(&one["name"]),
            text(&one["value"]),
            text(&one["source"]),
        ]);
    }
    println!("{table}");
    for warning in config["warnings"].as_array().into_iter().flatten() {
        println!("warning: {}", text(warning));
    }
    Ok(())
}

/// Prints the packets of policies and the drops.
pub(super) fn counters(client: &Client, all: bool, format: Format) -> Result<(), Failure> {
    let counters = client.counters()?;
    if let Some(text) = output::value(&counters, format)? {
        println!("{text}");
        return Ok(());
    }
    let wanted = |count: &&RuleCount| all || count.packets > 0;
    let mut table = Table::new(["POLICY", "DIRECTION", "RULE", "PACKETS", "BYTES"]);
    for policy in &counters.policies {
        for count in policy.rules.iter().filter(wanted) {
            let (packets, bytes) = (count.packets.to_string(), count.bytes.to_string());
            table.row([
                &policy.policy,
                &policy.direction,
                &count.rule,
                &packets,
                &bytes,
            ]);
        }
    }
    println!("{table}\n");
    let mut drops = Table::new(["DROPPED BECAUSE", "PACKETS", "BYTES"]);
    for count in counters.drops.iter().filter(wanted) {
        drops.row([
            &count.rule,
            &count.packets.to_string(),
            &count.bytes.to_string(),
        ]);
    }
    println!("{drops}");
    Ok(())
}

/// Drains the node, or not any more.
pub(super) fn drain(client: &Client, on: bool, format: Format) -> Result<(), Failure> {
    let drained = client.drain(on)?;
    match output::value(&drained, format)? {
        Some(text) => println!("{text}"),
        None if drained.draining => {
            println!("this node's routes are announced with GRACEFUL_SHUTDOWN");
        }
        None => println!("this node's routes are announced as usual"),
    }
    Ok(())
}
