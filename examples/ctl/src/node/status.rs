//! `node status`: peers and routes.

use std::net::IpAddr;

use ocicat_node::control::{Client, Peer, Status};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{self, Format};
use crate::table::Table;

/// Prints what the agent says of itself.
pub(super) fn run(client: &Client, routes: bool, format: Format) -> Result<(), Failure> {
    let status = client.status()?;
    let routes = routes.then(|| client.routes()).transpose()?;
    if let Some(text) = output::value(&json!({"status": status, "routes": routes}), format)? {
        println!("{text}");
        return Ok(());
    }
    print!("{}", text(&status));
    if let Some(routes) = routes {
        println!("\n{}", table(&routes));
    }
    Ok(())
}

/// The status, with a table of peers for each address family.
fn text(status: &Status) -> String {
    let ready = if status.ready { "ready" } else { "not ready" };
    let mut out = format!(
        "Node {} (ocicat-node {}) is {ready}.\n",
        status.node, status.version
    );
    for reason in &status.reasons {
        out.push_str(&format!("  {reason}\n"));
    }
    let (blocks, routes) = (status.blocks.join(", "), status.routes);
    out.push_str(&format!(
        "{} pods, {} policies in force, {routes} routes; blocks: {blocks}\n",
        status.endpoints, status.policies
    ));
    for (family, v4) in [("IPv4", true), ("IPv6", false)] {
        let is = |peer: &&Peer| {
            peer.address
                .parse::<IpAddr>()
                .is_ok_and(|one| one.is_ipv4() == v4)
        };
        let peers: Vec<&Peer> = status.peers.iter().filter(is).collect();
        if !peers.is_empty() {
            out.push_str(&format!("\n{family} BGP status\n{}\n", peers_table(&peers)));
        }
    }
    if status.peers.is_empty() {
        out.push_str("\nNo BGP peers.\n");
    }
    out
}

fn peers_table(peers: &[&Peer]) -> Table {
    let headers = [
        "PEER ADDRESS",
        "AS",
        "PEER TYPE",
        "STATE",
        "SINCE",
        "ROUTES",
        "INFO",
    ];
    let mut table = Table::new(headers);
    for peer in peers {
        table.row([
            peer.address.clone(),
            peer.as_number.to_string(),
            peer.kind.clone(),
            if peer.established {
                "up".into()
            } else {
                "down".into()
            },
            ago(peer.since_s),
            peer.routes.to_string(),
            match &peer.last_error {
                Some(error) => format!("{}; {error}", peer.state),
                None => peer.state.clone(),
            },
        ]);
    }
    table
}

/// A duration in the two largest units that it has.
fn ago(seconds: f64) -> String {
    let whole = seconds.max(0.0).round();
    let units = [("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0)];
    let mut left = whole;
    let mut parts = Vec::new();
    for (name, size) in units {
        let count = (left / size).floor();
        left -= count * size;
        if count > 0.0 || (name == "s" && parts.is_empty()) {
            parts.push(format!("{count}{name}"));
        }
    }
    parts.truncate(2);
    parts.concat()
}

/// The routes of BGP, each path in a line.
fn table(routes: &Value) -> Table {
    let mut table = Table::new(["PREFIX", "NEXT HOP", "PEER", "USED", "REASON", "INSTALLED"]);
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    for route in routes.as_array().into_iter().flatten() {
        let paths = route["paths"].as_array().cloned().unwrap_or_default();
        for (index, path) in paths.iter().enumerate() {
            let first = |value: &Value| {
                if index == 0 {
                    text(value)
                } else {
                    String::new()
                }
            };
            let why = first(&route["why"]);
            let installed = first(&route["installed"]);
            table.row([
                first(&route["prefix"]),
                text(&path["nextHop"]),
                text(&path["peer"]),
                first(&route["used"]),
                first(&route["reason"]),
                format!("{installed} {why}").trim_end().to_owned(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (seconds, expected) in [
            (0.2, "0s"),
            (59.0, "59s"),
            (61.0, "1m1s"),
            (3_600.0, "1h"),
            (90_061.0, "1d1h"),
        ] {
            assert_eq!(ago(seconds), expected);
        }
    }

    #[test]
    fn peers_are_shown_by_family() {
        let mut status = Status {
            node: "n1".into(),
            ready: true,
            ..Status::default()
        };
        assert!(text(&status).contains("No BGP peers."));
        status.peers = vec![Peer {
            address: "10.0.0.2".into(),
            as_number: 64_512,
            kind: "node-to-node mesh".into(),
            state: "Established".into(),
            established: true,
            since_s: 75.0,
            ..Peer::default()
        }];
        let shown = text(&status);
        assert!(
            shown.contains("IPv4 BGP status") && shown.contains("1m15s"),
            "{shown}"
        );
    }
}
