//! What kernels really do with a packet: nft(8)'s traces, of this node and of others.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use ocicat_policy::Flow;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout_at};

use super::seen::{self, Step};
use crate::cli::Trace;
use crate::failure::Failure;
use crate::output::Format;

/// The table that marks the packets; gone when the watch ends.
const TABLE: &str = "inet ocicat-trace";
/// A packet that has not been seen for this long is through.
const QUIET: Duration = Duration::from_secs(1);

/// What was seen of the first packet on each node.
#[derive(Debug, Default, Serialize)]
pub(super) struct Seen {
    /// The steps, node by node, in their order.
    pub(super) steps: Vec<(String, Step)>,
    /// The MTU of links that it went through, by node and link.
    pub(super) mtu: BTreeMap<String, u32>,
    /// Whether it got through, as far as can be told.
    pub(super) allowed: Option<bool>,
}

/// Where the watch ends well: the last node and the link to the pod there.
pub(super) type Destination = Option<(String, String)>;

/// A node, and the command in front of those that are run there.
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

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut words = self.before.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words).args(arguments).kill_on_drop(true);
        command
    }

    /// Feeds a ruleset to nft(8).
    async fn load(&self, rules: &str) -> Result<(), Failure> {
        let wrong = |error: std::io::Error| Failure::Failed(format!("{}: nft: {error}", self.node));
        let mut command = self.command("nft", &["-f", "-"]);
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
        let text = format!("{}: nft: {}", self.node, said.trim());
        Err(Failure::Failed(text))
    }

    /// The MTU of a link there, when ip(8) is.
    async fn mtu(&self, link: &str) -> Option<u32> {
        let mut command = self.command("ip", &["-o", "link", "show", "dev", link]);
        let out = command.stderr(Stdio::null()).output().await.ok()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let mut words = text.split_whitespace();
        words.find(|word| *word == "mtu")?;
        words.next()?.parse().ok()
    }
}

/// Marks packets that open the flow, before any other rule sees them.
fn rules(flow: &Flow) -> String {
    let family = if flow.source.is_ipv4() { "ip" } else { "ip6" };
    let (from, to) = (flow.source, flow.destination);
    let opening = match (flow.protocol.0, flow.destination_port) {
        (6, port) => format!("tcp dport {port} tcp flags & (syn | ack) == syn"),
        (17, port) => format!("udp dport {port}"),
        (132, port) => format!("sctp dport {port}"),
        (number, _) => format!("meta l4proto {number}"),
    };
    format!(
        "table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\n  chain packets {{\n    \
         type filter hook prerouting priority raw - 10;\n    \
         {family} saddr {from} {family} daddr {to} {opening} meta nftrace set 1\n  }}\n}}\n"
    )
}

/// Watches until the packet is through or the time is over.
///
/// # Errors
/// When nft(8) cannot be run somewhere.
pub(super) async fn watch(
    flow: &Flow,
    args: &Trace,
    here: &str,
    destination: &Destination,
    format: Format,
) -> Result<Seen, Failure> {
    let mut places = vec![Place {
        node: here.to_owned(),
        before: Vec::new(),
    }];
    for stated in &args.on {
        places.push(Place::of(stated)?);
    }
    let watched = watch_all(&places, flow, args).await;
    for place in &places {
        let gone = place
            .load(&format!("table {TABLE} {{}}\ndelete table {TABLE}\n"))
            .await;
        if let (Err(error), Ok(_)) = (gone, &watched) {
            eprintln!("{error}");
        }
    }
    let mut seen = Seen {
        steps: watched?,
        ..Seen::default()
    };
    seen.judge(destination);
    for (node, link) in seen.links() {
        let place = places.iter().find(|place| place.node == node);
        let Some(place) = place else { continue };
        let mtu = place.mtu(&link).await;
        seen.mtu
            .extend(mtu.map(|mtu| (format!("{node} {link}"), mtu)));
    }
    if !format.is_json() {
        seen.print();
    }
    Ok(seen)
}

async fn watch_all(
    places: &[Place],
    flow: &Flow,
    args: &Trace,
) -> Result<Vec<(String, Step)>, Failure> {
    let (sender, steps) = channel(256);
    // Ended with this function: a child that is dropped is killed.
    let mut watches = tokio::task::JoinSet::new();
    for place in places {
        place.load(&rules(flow)).await?;
        let mut monitor = place.command("nft", &["monitor", "trace"]);
        let monitor = monitor.stdout(Stdio::piped()).stderr(Stdio::null());
        let monitor = monitor.spawn()?;
        watches.spawn(lines(monitor, place.node.clone(), sender.clone()));
    }
    drop(sender);
    let _sent = match &args.send {
        Some(command) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", command]).kill_on_drop(true);
            Some(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
        }
        None => {
            eprintln!("watching: open the connection now");
            None
        }
    };
    Ok(collect(steps, Duration::from_secs(args.timeout)).await)
}

/// The steps of the first packet of each node, nodes in the order in which they saw it.
async fn collect(
    mut steps: Receiver<(String, String, Step)>,
    limit: Duration,
) -> Vec<(String, Step)> {
    let end = Instant::now() + limit;
    let mut until = end;
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    while let Ok(Some((node, id, step))) = timeout_at(until, steps.recv()).await {
        let packet = first.entry(node.clone()).or_insert_with(|| {
            order.push(node.clone());
            id.clone()
        });
        // Others are repetitions.
        if *packet == id {
            seen.push((node, step));
            until = end.min(Instant::now() + QUIET);
        }
    }
    let place = |node: &String| order.iter().position(|one| one == node);
    seen.sort_by_key(|(node, _)| place(node));
    seen
}

/// Sends on what one monitor prints.
async fn lines(mut monitor: Child, node: String, to: Sender<(String, String, Step)>) {
    let Some(stdout) = monitor.stdout.take() else {
        return;
    };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((id, step)) = seen::read(&line)
            && to.send((node.clone(), id, step)).await.is_err()
        {
            return;
        }
    }
}

impl Seen {
    /// Denied by who dropped it; allowed when the last node sent it to the pod.
    fn judge(&mut self, destination: &Destination) {
        let denied = self.steps.iter().any(|(_, step)| step.is_denial());
        let arrived = destination.as_ref().is_some_and(|(last, link)| {
            self.steps.iter().any(|(node, step)| {
                let out = match step {
                    Step::At { out, .. } => out.as_ref(),
                    Step::Rule { .. } => None,
                };
                node == last && out == Some(link)
            })
        });
        self.allowed = match (denied, arrived) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        };
    }

    fn links(&self) -> BTreeSet<(String, String)> {
        let links = self.steps.iter().flat_map(|(node, step)| {
            let links = match step {
                Step::At { link, out, .. } => vec![Some(link.clone()), out.clone()],
                Step::Rule { .. } => Vec::new(),
            };
            let named = links.into_iter().flatten().filter(|link| !link.is_empty());
            named.map(|link| (node.clone(), link)).collect::<Vec<_>>()
        });
        links.collect()
    }

    fn print(&self) {
        if self.steps.is_empty() {
            println!("kernel: no such packet was seen");
            return;
        }
        for (node, step) in &self.steps {
            if step.is_worth_telling() {
                println!("kernel of {node}: {step}");
            }
        }
        for (link, mtu) in &self.mtu {
            println!("MTU of {link}: {mtu}");
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
            rules.contains("ip saddr 10.0.0.1 ip daddr 10.0.0.2 tcp dport 80 tcp flags"),
            "{rules}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_packet_of_each_node_is_told() {
        let (sender, steps) = channel(8);
        let step = |link: &str| Step::At {
            chain: "forward".into(),
            link: link.into(),
            out: None,
            length: None,
        };
        for (node, id, link) in [
            ("b", "1", "x"),
            ("a", "2", "y"),
            ("b", "1", "z"),
            ("a", "3", "w"),
        ] {
            sender
                .send((node.into(), id.into(), step(link)))
                .await
                .expect("room");
        }
        let seen = collect(steps, Duration::from_secs(60)).await;
        let expected = [("b", "x"), ("b", "z"), ("a", "y")];
        let expected = expected.map(|(node, link)| (node.to_owned(), step(link)));
        assert_eq!(seen, expected);
    }
}
