//! The underlay's router as a BGP speaker: our own, BIRD or FRR, with what it learns in the router's kernel.
//!
//! BIRD and FRR announce the hosts behind the router to the nodes, with the community [`HOSTS`].

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use crate::place::{Place, etc_folder, run_folder};
use crate::program::Program;
use crate::resources::ROUTER_AS;
use crate::sandbox::BIN;
use crate::scenario::{Rack, Router, Scenario};

/// What the router's announcements carry.
const HOSTS: (u32, u32) = (ROUTER_AS, 10);

/// Starts the router's speaker, if the scenario has one.
pub(super) fn start(router: &Place, scenario: &Scenario) -> Result<Vec<Program>> {
    if scenario.router == Router::None {
        return Ok(Vec::new());
    }
    let id = scenario.racks.iter().find_map(Rack::router);
    let id = id.context("a router needs a rack")?.to_string();
    let write = |file: &str, text: String| fs::write(etc_folder(router.name()).join(file), text);
    let program = |name: &str, line: &str| {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        Program::start(router, name, command)
    };
    match scenario.router {
        Router::Bird => {
            write("bird.conf", bird(scenario, &id)?)?;
            let line = "bird -f -c /etc/ocicat/bird.conf -s /run/bird.ctl -P /run/bird.pid";
            let started = program("bird", line).context("running BIRD (package bird2)")?;
            Ok(vec![started])
        }
        Router::Frr => {
            write("frr.conf", frr(scenario, &id)?)?;
            write("zebra.conf", "frr defaults traditional\n".to_owned())?;
            fs::create_dir_all(run_folder(router.name()).join("frr"))?;
            join_group(router, "frrvty")?;
            let common = "-u root -g root -P 0 --vty_socket /run/frr -z /run/frr/zserv.api";
            let zebra = format!(
                "/usr/lib/frr/zebra {common} -f /etc/ocicat/zebra.conf -i /run/frr/zebra.pid"
            );
            let bgpd =
                format!("/usr/lib/frr/bgpd {common} -f /etc/ocicat/frr.conf -i /run/frr/bgpd.pid");
            let zebra = program("zebra", &zebra).context("running FRR (package frr)")?;
            Ok(vec![zebra, program("bgpd", &bgpd)?])
        }
        Router::Ocicat | Router::None => {
            write("bgpd.json", ocicat(scenario, &id)?)?;
            let line = format!("{BIN}/ocicat-bgpd run --config /etc/ocicat/bgpd.json");
            Ok(vec![program("ocicat-bgpd", &line)?])
        }
    }
}

/// Makes root a member of a group, in the eyes of a machine: FRR runs as nobody who is not of its own.
fn join_group(machine: &Place, group: &str) -> Result<()> {
    let file = etc_folder(machine.name()).with_file_name("group");
    let known = fs::read_to_string("/etc/group")?;
    let start = format!("{group}:");
    let lines = known.lines().map(|line| {
        if line.starts_with(&start) {
            let comma = if line.ends_with(':') { "" } else { "," };
            format!("{line}{comma}root\n")
        } else {
            format!("{line}\n")
        }
    });
    let text: String = lines.collect();
    fs::remove_file(&file)?;
    Ok(fs::write(&file, text)?)
}

fn ocicat(scenario: &Scenario, id: &str) -> Result<String> {
    let dual = scenario.racks.iter().any(|rack| rack.cidr_v6.is_some());
    let peers = scenario.nodes.iter().map(|node| {
        let mut peer = json!({"addr": node.ip.first(), "as": scenario.as_number, "passive": true, "gr": scenario.keepalive * 5, "hold": scenario.keepalive * 3});
        if dual {
            peer["families"] = json!(["ipv4", "ipv6"]);
        }
        peer
    });
    let config = json!({
        "as": ROUTER_AS,
        "router_id": id,
        "kernel": {"export": true, "protocol": crate::wire::OCICAT},
        "peers": peers.collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&config)?)
}

fn bird(scenario: &Scenario, id: &str) -> Result<String> {
    let (own, nodes) = (ROUTER_AS, scenario.as_number);
    let (keepalive, hold) = (scenario.keepalive, scenario.keepalive * 3);
    let mut text = format!(
        "log stderr all;\nrouter id {id};\nprotocol device {{ scan time 1; }}\n\
         protocol direct {{ ipv4; ipv6; }}\n\
         protocol kernel k4 {{ merge paths; ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol kernel k6 {{ merge paths; ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n"
    );
    for (family, ipv4) in [("ipv4", true), ("ipv6", false)] {
        writeln!(text, "protocol static hosts_{family} {{ {family};")?;
        let (community, value) = HOSTS;
        for ip in scenario.hosts.iter().flat_map(|host| &host.ip) {
            let length = if ip.is_ipv4() { 32 } else { 128 };
            if ip.is_ipv4() == ipv4 {
                writeln!(
                    text,
                    "  route {ip}/{length} blackhole {{ bgp_community.add(({community},{value})); }};"
                )?;
            }
        }
        text.push_str("}\n");
    }
    writeln!(
        text,
        "template bgp node {{ local as {own}; hold time {hold}; keepalive time {keepalive}; graceful restart on; connect delay time 1;\n  \
         ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};\n  \
         ipv6 {{ import all; export where source = RTS_STATIC; }}; }}"
    )?;
    for (number, node) in scenario.nodes.iter().enumerate() {
        let address = node.ip.first().context("a node has an address")?;
        writeln!(
            text,
            "protocol bgp node{number} from node {{ description \"{}\"; neighbor {address} as {nodes}; }}",
            node.name
        )?;
    }
    Ok(text)
}

fn frr(scenario: &Scenario, id: &str) -> Result<String> {
    let (own, nodes) = (ROUTER_AS, scenario.as_number);
    let (keepalive, hold) = (scenario.keepalive, scenario.keepalive * 3);
    let (community, value) = HOSTS;
    let mut text = format!(
        "frr defaults traditional\nrouter bgp {own}\n bgp router-id {id}\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n timers bgp {keepalive} {hold}\n bgp graceful-restart\n neighbor nodes peer-group\n \
         neighbor nodes remote-as {nodes}\n neighbor nodes timers connect 1\n"
    );
    for node in &scenario.nodes {
        let address = node.ip.first().context("a node has an address")?;
        writeln!(text, " neighbor {address} peer-group nodes")?;
    }
    for (family, ipv4) in [("ipv4", true), ("ipv6", false)] {
        writeln!(
            text,
            " address-family {family} unicast\n  neighbor nodes activate"
        )?;
        for ip in scenario.hosts.iter().flat_map(|host| &host.ip) {
            let length = if ip.is_ipv4() { 32 } else { 128 };
            if ip.is_ipv4() == ipv4 {
                writeln!(text, "  network {ip}/{length}")?;
            }
        }
        text.push_str("  neighbor nodes route-map hosts out\n exit-address-family\n");
    }
    // Nothing of the nodes goes back to them.
    writeln!(
        text,
        "bgp as-path access-list own permit ^$\n\
         route-map hosts permit 10\n match as-path own\n set community {community}:{value} additive"
    )?;
    Ok(text)
}
