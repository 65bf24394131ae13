//! The underlay's router as a BGP speaker: the stand-alone speaker, with what it learns in the router's kernel.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use crate::place::{Place, etc_folder};
use crate::program::Program;
use crate::resources::ROUTER_AS;
use crate::sandbox::BIN;
use crate::scenario::Scenario;

/// Starts the speaker; it waits for the nodes to connect.
pub(super) fn start(router: &Place, scenario: &Scenario) -> Result<Program> {
    let id = scenario
        .racks
        .iter()
        .find_map(crate::scenario::Rack::router)
        .context("a router needs a rack")?;
    let peers = scenario.nodes.iter().map(|node| {
        json!({"addr": node.ip.first(), "as": scenario.as_number, "passive": true, "gr": 5, "hold": 3})
    });
    let config = json!({
        "as": ROUTER_AS,
        "router_id": id,
        "kernel": {"export": true, "protocol": crate::wire::OCICAT},
        "peers": peers.collect::<Vec<_>>(),
    });
    let path = etc_folder(router.name()).join("bgpd.json");
    fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    let mut command = Command::new(format!("{BIN}/ocicat-bgpd"));
    command.args(["run", "--config", "/etc/ocicat/bgpd.json"]);
    Program::start(router, "ocicat-bgpd", command)
}
