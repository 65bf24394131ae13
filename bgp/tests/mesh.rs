//! Meshes of speakers on a virtual clock: after quiet, every RIB is what the topology says.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Net, address, block, originate};
use ocicat_bgp::{Attributes, Cease, Event, GracefulRestart, PeerConfig, Prefix, Stop};

const HOLD: Duration = Duration::from_secs(3);
const RESTART: Duration = Duration::from_secs(5);
const BLOCKS: usize = 2;

fn settings(peer: usize) -> PeerConfig {
    let restart = GracefulRestart::new(RESTART).forwarding_preserved(true);
    PeerConfig::new(address(peer), 64512)
        .hold_time(HOLD)
        .graceful_restart(restart)
}

/// Starts a node that peers with all others; `passive` as Calico does it: one side dials.
fn join(net: &mut Net, node: usize, size: usize, restarting: bool, passive: bool) {
    let config = Net::config(node, 64512).restarting(restarting);
    let speaker = net.start(node, config);
    originate(speaker, node, BLOCKS);
    speaker.originations_complete();
    for peer in (0..size).filter(|&peer| peer != node) {
        net.peer(node, settings(peer).passive(passive && node < peer));
    }
}

fn mesh(size: usize, seed: u64, passive: bool) -> Net {
    let mut net = Net::new(seed);
    for node in 0..size {
        join(&mut net, node, size, false, passive);
    }
    net
}

fn blocks(nodes: impl IntoIterator<Item = usize>) -> BTreeSet<Prefix> {
    nodes
        .into_iter()
        .flat_map(|node| (0..BLOCKS).map(move |number| block(node, number)))
        .collect()
}

fn whole(net: &mut Net, size: usize) {
    for node in 0..size {
        assert_eq!(net.established(node), size - 1, "sessions of node {node}");
        assert_eq!(net.prefixes(node), blocks(0..size), "routes of node {node}");
        for other in (0..size).filter(|&other| other != node) {
            for number in 0..BLOCKS {
                let hops = &net.node(node).best[&block(other, number)];
                assert_eq!(
                    hops,
                    &[Some(address(other))],
                    "node {node}, block of {other}"
                );
            }
        }
    }
}

fn best_events(net: &mut Net, node: usize) -> usize {
    let events = &net.node(node).events;
    events
        .iter()
        .filter(|event| matches!(event, Event::Best { .. }))
        .count()
}

#[test]
fn a_mesh_converges_whoever_dials() {
    for seed in 0..6 {
        let mut net = mesh(12, seed, seed % 2 == 0);
        net.run(Duration::from_secs(20));
        whole(&mut net, 12);
    }
}

#[test]
fn a_mesh_of_two_hundred_converges() {
    let size = 200;
    let mut net = mesh(size, 1, true);
    net.run(Duration::from_secs(2));
    for node in 0..size {
        assert_eq!(net.established(node), size - 1, "sessions of node {node}");
        assert_eq!(
            net.prefixes(node).len(),
            size * BLOCKS,
            "routes of node {node}"
        );
    }
}

/// RFC 4724: a killed process comes back and nobody's best path has changed.
#[test]
fn nobody_notices_a_killed_process() {
    for passive in [false, true] {
        let size = 6;
        let mut net = mesh(size, 7, passive);
        net.run(Duration::from_secs(10));
        whole(&mut net, size);
        let before: Vec<_> = (1..size).map(|node| best_events(&mut net, node)).collect();
        net.kill(0);
        net.run(Duration::from_secs(2));
        for node in 1..size {
            let route = net.route(node, block(0, 0)).unwrap();
            assert!(route.paths[0].stale, "kept as stale");
        }
        join(&mut net, 0, size, true, passive);
        net.run(Duration::from_secs(20));
        whole(&mut net, size);
        let after: Vec<_> = (1..size).map(|node| best_events(&mut net, node)).collect();
        assert_eq!(before, after, "best paths told about anew");
        for node in 1..size {
            assert!(!net.route(node, block(0, 0)).unwrap().paths[0].stale);
        }
        let events = &net.node(0).events;
        assert_eq!(
            events
                .iter()
                .filter(|event| **event == Event::RestartComplete)
                .count(),
            1
        );
    }
}

/// A silent stop is the same to the peers as a kill.
#[test]
fn a_silent_stop_keeps_routes_and_cease_does_not() {
    let mut net = mesh(3, 3, false);
    net.run(Duration::from_secs(10));
    net.stop(0, &Stop::Silent);
    net.run(Duration::from_secs(1));
    assert_eq!(net.prefixes(1), blocks(0..3));
    net.stop(
        2,
        &Stop::Cease(Cease::AdministrativeShutdown("drained".to_owned())),
    );
    net.run(Duration::from_secs(1));
    assert_eq!(net.prefixes(1), blocks([0, 1]));
    let why = net
        .speaker(1)
        .peers()
        .into_iter()
        .find(|peer| peer.address == address(2))
        .unwrap();
    assert_eq!(
        why.last_error.unwrap().to_string(),
        "received: cease: hard reset (6/9) for cease: administrative shutdown (6/2) \"drained\""
    );
}

/// What is not originated again by the time of End-of-RIB goes; what is stays.
#[test]
fn a_restarted_process_without_a_block_loses_only_that() {
    let size = 3;
    let mut net = mesh(size, 5, false);
    net.run(Duration::from_secs(10));
    net.kill(0);
    net.run(Duration::from_secs(1));
    net.start(0, Net::config(0, 64512).restarting(true));
    net.speaker(0).originate(block(0, 1), &Attributes::local());
    for peer in 1..size {
        net.peer(0, settings(peer));
    }
    net.run(Duration::from_secs(3));
    // Not complete: no End-of-RIB, and nothing is dropped.
    assert!(net.prefixes(1).contains(&block(0, 0)));
    net.speaker(0).originations_complete();
    net.run(Duration::from_secs(3));
    assert!(!net.prefixes(1).contains(&block(0, 0)));
    assert!(net.prefixes(1).contains(&block(0, 1)));
}

/// A machine that dies without a word: hold time, then restart time, then its routes go.
#[test]
fn a_dead_machine_is_forgotten_after_hold_and_restart_time() {
    let size = 4;
    let mut net = mesh(size, 9, true);
    net.run(Duration::from_secs(10));
    net.vanish(0);
    net.run(Duration::from_millis(7_000));
    assert_eq!(
        net.prefixes(1),
        blocks(0..size),
        "kept through the hold timer"
    );
    net.run(Duration::from_millis(1_200));
    for node in 1..size {
        assert_eq!(net.prefixes(node), blocks(1..size));
        assert!(!net.node(node).best.contains_key(&block(0, 0)));
    }
}

#[test]
fn a_partition_heals() {
    for (seed, time) in [(1, 2), (2, 5), (3, 12), (4, 60)] {
        let size = 5;
        let mut net = mesh(size, seed, seed % 2 == 0);
        net.run(Duration::from_secs(10));
        for a in 0..2 {
            for b in 2..size {
                net.part(a, b);
            }
        }
        net.run(Duration::from_secs(time));
        if time == 60 {
            assert_eq!(net.prefixes(0), blocks(0..2));
            assert_eq!(net.prefixes(4), blocks(2..size));
        }
        net.heal();
        net.run(Duration::from_secs(90));
        whole(&mut net, size);
    }
}

/// Nodes that come and go at random; then quiet.
#[test]
fn a_mesh_under_attrition_ends_whole() {
    for seed in 0..8u64 {
        let size = 8;
        let mut net = mesh(size, seed, seed % 2 == 0);
        let mut random = seed;
        for _ in 0..30 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let node = (random >> 40) as usize % size;
            net.run(Duration::from_millis((random >> 20) % 4000));
            if net.nodes[node].is_some() {
                if random & 1 << 50 == 0 {
                    net.kill(node)
                } else {
                    net.vanish(node)
                }
            } else {
                join(&mut net, node, size, true, seed % 2 == 0);
            }
        }
        for node in 0..size {
            if net.nodes[node].is_none() {
                join(&mut net, node, size, true, seed % 2 == 0);
            }
        }
        net.run(Duration::from_secs(120));
        whole(&mut net, size);
    }
}

/// RFC 4456: clients of two reflectors learn from each other, with the marks of reflection.
#[test]
fn reflectors_reflect() {
    let (reflectors, size) = (2, 8);
    let mut net = Net::new(4);
    for node in 0..size {
        let speaker = net.start(node, Net::config(node, 64512));
        originate(speaker, node, BLOCKS);
        speaker.originations_complete();
        for peer in (0..size).filter(|&peer| peer != node) {
            let (mine, theirs) = (node < reflectors, peer < reflectors);
            if mine || theirs {
                net.peer(node, settings(peer).rr_client(mine && !theirs));
            }
        }
    }
    net.run(Duration::from_secs(20));
    for node in 0..size {
        assert_eq!(net.prefixes(node), blocks(0..size), "routes of node {node}");
    }
    let route = net.route(7, block(5, 0)).unwrap();
    assert_eq!(route.paths.len(), reflectors);
    for path in &route.paths {
        assert_eq!(path.next_hop, Some(address(5)));
        assert_eq!(
            path.attributes.originator_id().map(std::net::IpAddr::from),
            Some(address(5))
        );
        assert_eq!(path.attributes.cluster_list().count(), 1);
    }
    // A reflector dies: the other one carries on alone, and the withdrawal reaches everybody.
    net.vanish(0);
    net.run(Duration::from_secs(20));
    net.speaker(5).withdraw(&block(5, 0));
    net.run(Duration::from_secs(1));
    assert!(net.route(7, block(5, 0)).is_none());
    assert_eq!(net.prefixes(7).len(), (size - 1) * BLOCKS - 1);
}

/// The best path moves between sources that are in one group: everybody ends with a path that is not its own.
#[test]
fn a_prefix_that_moves_between_nodes_is_seen_by_all() {
    let mut net = Net::new(11);
    let moving = common::prefix("10.9.9.9/32");
    for node in 0..4 {
        net.start(node, Net::config(node, 64512))
            .originations_complete();
    }
    for client in 1..4 {
        net.peer(0, settings(client).rr_client(true));
        net.peer(client, settings(0));
    }
    net.run(Duration::from_secs(5));
    let mut owners = BTreeSet::new();
    for step in 0..40usize {
        let node = 1 + (step * 7 + step / 3) % 3;
        if owners.remove(&node) {
            net.speaker(node).withdraw(&moving);
        } else {
            owners.insert(node);
            net.speaker(node).originate(moving, &Attributes::local());
        }
        if step % 3 != 1 || step % 5 == 0 {
            net.run(Duration::from_millis(50));
        }
        if step % 5 == 0 {
            for node in 0..4 {
                let paths = net.route(node, moving).map_or(0, |route| route.paths.len());
                let others = owners.iter().filter(|&&owner| owner != node).count();
                match node {
                    0 => assert_eq!(paths, others, "reflector after step {step}"),
                    _ if owners.is_empty() => assert_eq!(paths, 0, "node {node} after step {step}"),
                    // The reflector's best path may be the node's own.
                    _ => assert!(
                        paths >= usize::from(owners.contains(&node)),
                        "{node}, {step}"
                    ),
                }
            }
        }
    }
    for owner in owners {
        net.speaker(owner).withdraw(&moving);
    }
    net.run(Duration::from_secs(1));
    for node in 0..4 {
        assert!(
            net.route(node, moving).is_none(),
            "node {node} holds a route that is gone"
        );
    }
}
