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
    if status.draining {
        out.push_str(
            "It is drained: its routes are announced as ones that go away, until `ocicatctl node drain --off`.\n",
        );
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
            let installed = match (index, route["installed"].as_bool()) {
                (0, Some(true)) => "yes: ",
                (0, Some(false)) => "no: ",
                _ => "",
            };
            table.row([
                first(&route["prefix"]),
                text(&path["nextHop"]),
                text(&path["peer"]),
                first(&route["used"]),
                words(&first(&route["reason"])),
                format!("{installed}{why}")
                    .trim_end_matches([':', ' '])
                    .to_owned(),
            ]);
        }
    }
    table
}

/// `OnlyPath` as `only path`.
fn words(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_say_why_in_words() {
        let routes = serde_json::json!([
            {"prefix": "10.0.0.0/26", "used": 1, "reason": "OnlyPath", "installed": true, "why": "the best path",
             "paths": [{"nextHop": "192.0.2.1", "peer": "192.0.2.1"}]},
            {"prefix": "10.1.0.0/26", "used": 0, "installed": false, "paths": [{"peer": "192.0.2.1"}]},
        ]);
        let shown = table(&routes).to_string();
        assert!(shown.contains("only path  yes: the best path"), "{shown}");
        assert!(shown.ends_with("  no"), "{shown}");
    }

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
        assert!(text(&status).contains("No BGP peers.") && !text(&status).contains("drained"));
        status.draining = true;
        assert!(text(&status).contains("drained"));
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
