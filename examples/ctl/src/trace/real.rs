//! What kernels really do with a packet: nft(8)'s traces, of this node and of others.

use std::process::Stdio;
use std::time::Duration;

use ocicat_policy::Flow;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

use crate::cli::Trace;
use crate::failure::Failure;
use crate::output::Format;

/// The table that marks the packets; gone when the watch ends.
const TABLE: &str = "inet ocicat-trace";

/// A step of a packet through a kernel's rules.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    node: String,
    what: String,
}

/// Where to watch: a name, and the command in front of nft(8).
struct Place {
    node: String,
    before: Vec<String>,
}

impl Place {
    fn of(stated: &str) -> Result<Self, Failure> {
        let (node, command) = stated
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("--on {stated:?}: expected NODE=COMMAND")))?;
        Ok(Self {
            node: node.to_owned(),
            before: command.split_whitespace().map(str::to_owned).collect(),
        })
    }

    fn nft(&self, arguments: &[&str]) -> Command {
        let mut words = self.before.iter().map(String::as_str).chain(["nft"]);
        let mut command = Command::new(words.next().unwrap_or("nft"));
        command.args(words).args(arguments).kill_on_drop(true);
        command
    }

    /// Feeds a ruleset to nft(8).
    async fn load(&self, rules: &str) -> Result<(), Failure> {
        let wrong = |error: std::io::Error| Failure::Failed(format!("{}: nft: {error}", self.node));
        let mut command = self.nft(&["-f", "-"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(wrong)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(rules.as_bytes()).await.map_err(wrong)?;
        }
        let out = child.wait_with_output().await.map_err(wrong)?;
        if out.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&out.stderr);
        Err(Failure::Failed(format!(
            "{}: nft: {}",
            self.node,
            said.trim()
        )))
    }
}

/// Marks packets of the flow, both ways, before any other rule sees them.
fn rules(flow: &Flow) -> String {
    let family = if flow.source.is_ipv4() { "ip" } else { "ip6" };
    let (from, to) = (flow.source, flow.destination);
    format!(
        "table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\n  chain all {{\n    \
         type filter hook prerouting priority raw - 10;\n    \
         {family} saddr {from} {family} daddr {to} meta nftrace set 1\n    \
         {family} saddr {to} {family} daddr {from} meta nftrace set 1\n  }}\n}}\n"
    )
}

/// Watches until the time is over, and prints what is seen as it is seen.
pub(super) async fn watch(flow: &Flow, args: &Trace, format: Format) -> Result<Vec<Step>, Failure> {
    let mut places = vec![Place {
        node: "this node".to_owned(),
        before: Vec::new(),
    }];
    for stated in &args.on {
        places.push(Place::of(stated)?);
    }
    let until = Instant::now() + Duration::from_secs(args.timeout);
    let watched = watch_all(&places, flow, until, format).await;
    for place in &places {
        let gone = place
            .load(&format!("table {TABLE} {{}}\ndelete table {TABLE}\n"))
            .await;
        if let (Err(error), Ok(_)) = (gone, &watched) {
            eprintln!("{error}");
        }
    }
    watched
}

async fn watch_all(
    places: &[Place],
    flow: &Flow,
    until: Instant,
    format: Format,
) -> Result<Vec<Step>, Failure> {
    let (sender, mut steps) = tokio::sync::mpsc::channel(256);
    // Ended with this function: a child that is dropped is killed.
    let mut watches = tokio::task::JoinSet::new();
    for place in places {
        place.load(&rules(flow)).await?;
        let mut monitor = place.nft(&["monitor", "trace"]);
        let monitor = monitor
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        watches.spawn(lines(monitor, place.node.clone(), sender.clone()));
    }
    drop(sender);
    eprintln!("watching: open the connection now");
    let mut seen = Vec::new();
    while let Ok(Some(step)) = timeout_at(until, steps.recv()).await {
        if !format.is_json() {
            println!("{:>12}  {}", step.node, step.what);
        }
        seen.push(step);
    }
    if seen.is_empty() {
        eprintln!("no such packet was seen");
    }
    Ok(seen)
}

/// Sends on what one monitor prints, without the table that marks the packets.
async fn lines(mut monitor: Child, node: String, to: tokio::sync::mpsc::Sender<Step>) {
    let Some(stdout) = monitor.stdout.take() else {
        return;
    };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("ocicat-trace") {
            continue;
        }
        let what = line.strip_prefix("trace ").unwrap_or(&line).to_owned();
        let step = Step {
            node: node.clone(),
            what,
        };
        if to.send(step).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_rules_are_as_nft_wants_them() {
        let place = Place::of("n2=ssh -q n2").expect("a place");
        assert_eq!((place.node.as_str(), place.before.len()), ("n2", 3));
        assert!(Place::of("n2").is_err());
        let flow = Flow::tcp([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 80);
        let rules = rules(&flow);
        assert!(
            rules.contains("ip saddr 10.0.0.2 ip daddr 10.0.0.1 meta nftrace set 1"),
            "{rules}"
        );
    }
}
