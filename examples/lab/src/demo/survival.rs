//! Step 7: an agent is killed while traffic flows, and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Demo, life, policies, shown, until};
use crate::cluster::Cluster;
use crate::monitor::Monitor;
use crate::traffic::{PORT, RATE, Tally, Traffic};
use crate::{counters, wire};

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
    let routes = wire::Wire::open(&place).await?.routes().await?;
    let traffic = Traffic::start(&client.place, &server.place, server.address, TCP).await?;
    demo.report.say(format!(
        "{} and {} exchange {RATE} numbered datagrams a second, both ways, and a TCP stream",
        ENDS.0, ENDS.1
    ));
    tokio::time::sleep(Duration::from_millis(300)).await;

    let mut monitors = Vec::new();
    for machine in cluster
        .underlay
        .nodes
        .values()
        .chain([&cluster.underlay.router])
        .filter(|machine| machine.name() != node)
    {
        monitors.push(Monitor::start(machine).await?);
    }
    let rules = counters::of_rules(&place)?;
    let agent = cluster
        .agents
        .get(&node)
        .context("the node has an agent")?
        .clone();
    agent.kill()?;
    demo.report
        .say(format!("the agent of {node} is killed with SIGKILL"));
    tokio::time::sleep(DOWN).await;
    let still = wire::Wire::open(&place).await?.routes().await?;
    demo.report.check(
        still == routes,
        "without its agent the node keeps its routes",
        format!("{} routes", still.len()),
    );
    let judged = policies::sample(cluster).await?;
    demo.check_judged(&judged, "without its agent the node keeps its policies");

    let began = Instant::now();
    agent.restart()?;
    agent.ready(Duration::from_secs(20)).await?;
    let ready = began.elapsed();
    let peers = cluster.agents.len() - 1 + usize::from(cluster.scenario.router);
    let back = until(Duration::from_secs(15), || {
        life::all_established(cluster, peers)
    })
    .await?;
    demo.report.check(
        back.is_some(),
        "the agent comes back",
        format!(
            "ready after {}, sessions after {}",
            shown(ready),
            shown(began.elapsed())
        ),
    );
    demo.report.time("agent_back_ms", ready);
    demo.events.listen(&agent.client())?;
    tokio::time::sleep(SETTLED).await;
    let tally = tokio::task::spawn_blocking(move || traffic.stop()).await??;
    check_traffic(demo, &tally, counters::read(&place)?);
    counters::unwatch(&place)?;

    let lines: Vec<String> = monitors.iter().flat_map(Monitor::lines).collect();
    let seen = if lines.is_empty() {
        "nothing".to_owned()
    } else {
        format!(
            "{} lines: {}",
            lines.len(),
            lines[..lines.len().min(4)].join("; ")
        )
    };
    demo.report.check(
        lines.is_empty(),
        "what ip monitor route prints on every other machine",
        seen,
    );
    let after = counters::of_rules(&place)?;
    let lost = rules
        .iter()
        .filter(|(rule, packets)| after.get(*rule).is_none_or(|now| now < packets))
        .count();
    demo.report.check(
        lost == 0 && !rules.is_empty(),
        "the counters of its rules are kept",
        format!("{} of {}", rules.len() - lost, rules.len()),
    );
    Ok(())
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
