//! Step 7: an agent is killed while traffic flows, and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Demo, life, policies, shown, until};
use crate::cluster::Cluster;
use crate::counters;
use crate::monitor::Monitor;
use crate::place::Place;
use crate::scenario::Router;
use crate::traffic::{PORT, RATE, Tally, Traffic};
use crate::wire::Wire;

/// Traffic flows between these pods; the namespace's pool has no encapsulation, so their routes are BGP's.
const ENDS: (&str, &str) = ("blue/b1", "blue/b3");
/// The TCP port of the one that answers.
const TCP: u16 = 8080;
/// How long traffic flows without an agent.
const DOWN: Duration = Duration::from_millis(1500);
/// How long the other nodes are watched after every session is back: longer than the sweep of what is stale takes.
const SETTLED: Duration = Duration::from_millis(1500);

pub(super) async fn killed_agent(demo: &mut Demo, cluster: &mut Cluster) -> Result<()> {
    let (client, server) = (&cluster.pods[ENDS.0], &cluster.pods[ENDS.1]);
    let node = server.wanted.node.clone();
    let place = cluster
        .underlay
        .nodes
        .get(&node)
        .context("the pod's node is there")?
        .clone();
    counters::watch(&place, client.address, server.address, PORT)?;
    let traffic = Traffic::start(&client.place, &server.place, server.address, TCP, RATE).await?;
    let (from, to) = ENDS;
    demo.report.say(format!(
        "{from} and {to} exchange {RATE} numbered datagrams a second, both ways, and a TCP stream"
    ));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let monitors = Monitor::everywhere_but(cluster, &node).await?;
    let rules = counters::of_rules(&place)?;

    without_agent(demo, cluster, &place).await?;
    back(demo, cluster, &node).await?;
    tokio::time::sleep(SETTLED).await;

    let tally = tokio::task::spawn_blocking(move || traffic.stop()).await??;
    check_traffic(demo, &tally, counters::read(&place)?);
    counters::unwatch(&place)?;
    let lines: Vec<String> = monitors.iter().flat_map(Monitor::lines).collect();
    let first = lines[..lines.len().min(4)].join("; ");
    let seen = if lines.is_empty() {
        "nothing".to_owned()
    } else {
        format!("{} lines: {first}", lines.len())
    };
    demo.report.check(
        lines.is_empty(),
        "what ip monitor route prints on every other machine",
        seen,
    );
    let kept = counters::kept(&rules, &counters::of_rules(&place)?);
    let whole = kept == rules.len() && kept > 0;
    demo.report.check(
        whole,
        "the counters of its rules are kept",
        format!("{kept} of {}", rules.len()),
    );
    Ok(())
}

/// The agent is killed; routes and policies stay.
async fn without_agent(demo: &mut Demo, cluster: &Cluster, place: &Place) -> Result<()> {
    let wire = Wire::open(place).await?;
    let (node, routes) = (place.name(), wire.routes().await?);
    cluster
        .agents
        .get(node)
        .context("the node has an agent")?
        .kill()?;
    demo.report
        .say(format!("the agent of {node} is killed with SIGKILL"));
    tokio::time::sleep(DOWN).await;
    let still = wire.routes().await?;
    let seen = format!("{} routes", still.len());
    demo.report.check(
        still == routes,
        "without its agent the node keeps its routes",
        seen,
    );
    let judged = policies::sample(cluster).await?;
    demo.check_judged(&judged, "without its agent the node keeps its policies");
    Ok(())
}

/// The agent is started again, and every session comes back.
async fn back(demo: &mut Demo, cluster: &Cluster, node: &str) -> Result<()> {
    let agent = cluster.agents.get(node).context("the node has an agent")?;
    let began = Instant::now();
    agent.restart()?;
    agent.ready(Duration::from_secs(20)).await?;
    let ready = began.elapsed();
    let router = usize::from(cluster.scenario.router != Router::None);
    let peers = cluster.agents.len() - 1 + router;
    let back = until(Duration::from_secs(15), || {
        life::all_established(cluster, peers)
    })
    .await?;
    let seen = format!(
        "ready after {}, sessions after {}",
        shown(ready),
        shown(began.elapsed())
    );
    demo.report
        .check(back.is_some(), "the agent comes back", seen);
    demo.report.time("agent_back_ms", ready);
    demo.events.listen(&agent.client())
}

fn check_traffic(demo: &mut Demo, tally: &Tally, counted: counters::Counted) {
    let there = (counted.there_before, counted.there_behind);
    let back = (counted.back_before, counted.back_behind);
    let whole = there == (tally.sent, tally.sent)
        && back == (tally.echoed, tally.echoed)
        && tally.echoed == tally.sent;
    let seen = format!(
        "{} sent, {}/{} there, {}/{} back, before/behind our table",
        tally.sent, there.0, there.1, back.0, back.1
    );
    demo.report
        .check(whole, "no datagram is lost between the nodes", seen);
    let missing = if tally.missing.is_empty() {
        String::new()
    } else {
        format!(", first missing {:?}", tally.missing)
    };
    demo.report.check(
        tally.returned == tally.sent,
        "every datagram comes back",
        format!("{} of {}{missing}", tally.returned, tally.sent),
    );
    let pause = tally.stream.longest_pause;
    let seen = format!(
        "{} bytes echoed, longest pause {}",
        tally.stream.bytes,
        shown(pause)
    );
    demo.report.check(
        tally.stream.bytes > 0 && pause < Duration::from_secs(1),
        "the TCP stream flows on",
        seen,
    );
    demo.report.figure("datagrams_sent", tally.sent);
    demo.report
        .figure("datagrams_lost", tally.sent - tally.returned);
}
