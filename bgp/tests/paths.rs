//! Which paths are used: several at once, and by what the host knows of next hops; and that no packet goes in circles
//! while reflectors pass on what has changed.

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use common::{Net, address, prefix};
use ocicat_bgp::{Attributes, Event, PeerConfig, Prefix, Step};

const AS: u32 = 64512;

/// Node 0 with three peers in one other AS that announce the same prefix.
fn three_ways(max_paths: u8) -> (Net, Prefix) {
    let mut net = Net::new(1);
    let service = prefix("10.9.9.9/32");
    let config = Net::config(0, AS).max_paths(max_paths);
    net.start(0, config).originations_complete();
    for node in 1..4 {
        let speaker = net.start(node, Net::config(node, 64513));
        speaker.originate(service, &Attributes::local());
        speaker.originations_complete();
        net.peer(0, PeerConfig::new(address(node), 64513));
        net.peer(node, PeerConfig::new(address(0), AS));
    }
    net.run(Duration::from_secs(20));
    (net, service)
}

fn hops(net: &mut Net, prefix: Prefix) -> Vec<IpAddr> {
    let hops = net.node(0).best.get(&prefix).cloned().unwrap_or_default();
    hops.into_iter().flatten().collect()
}

#[test]
fn equal_paths_are_told_together_and_next_hops_decide() {
    let (mut net, service) = three_ways(8);
    let all = [address(1), address(2), address(3)];
    assert_eq!(hops(&mut net, service), all);
    let say = |net: &mut Net, node: usize, cost: Option<u32>| {
        net.speaker(0).set_next_hop(address(node), cost);
        net.drain(0);
    };
    // RFC 4271 section 9.1.2.1: what cannot be reached is not used; and 9.1.2.2 e: the nearest.
    say(&mut net, 2, None);
    assert_eq!(hops(&mut net, service), [address(1), address(3)]);
    say(&mut net, 1, Some(20));
    assert_eq!(hops(&mut net, service), [address(3)]);
    let steps = net
        .node(0)
        .events
        .iter()
        .rev()
        .find_map(|event| match event {
            Event::Best { step, .. } => Some(*step),
            _ => None,
        });
    assert_eq!(steps, Some(Step::Cost), "and the host is told why");
    say(&mut net, 3, None);
    assert_eq!(hops(&mut net, service), [address(1)]);
    say(&mut net, 1, None);
    assert!(hops(&mut net, service).is_empty(), "none is left");
    for node in 1..4 {
        say(&mut net, node, Some(5));
    }
    assert_eq!(hops(&mut net, service), all);
    // A router that goes takes only its own path with it.
    net.kill(2);
    net.run(Duration::from_millis(200));
    let route = net.route(0, service).expect("a route");
    assert_eq!(route.used, 3, "kept for its restart");
    net.run(Duration::from_secs(150));
    assert_eq!(hops(&mut net, service), [address(1), address(3)]);
}

#[test]
fn one_path_unless_more_are_asked_for() {
    let (mut net, service) = three_ways(1);
    assert_eq!(
        hops(&mut net, service),
        [address(1)],
        "the lowest identifier"
    );
    let route = net.route(0, service).expect("a route");
    assert_eq!((route.paths.len(), route.used), (3, 1));
    assert_eq!(route.step, Some(Step::RouterId));
}

/// How many nodes there are, and their sessions: one end, the other end, whether the second is a client of the first.
type Topology = (usize, Vec<(usize, usize, bool)>);

/// Two layers with two reflectors each, and a ring of three clusters.
fn topologies() -> Vec<Topology> {
    let mut layers = vec![(0, 1, false)];
    for low in [2, 3] {
        layers.extend([(0, low, true), (1, low, true)]);
        layers.extend((4..9).map(|client| (low, client, true)));
    }
    let mut ring = vec![(0, 1, true), (1, 2, true), (2, 0, true)];
    for client in 3..9 {
        ring.push((client % 3, client, true));
        ring.push(((client + 1) % 3, client, true));
    }
    vec![(9, layers), (9, ring)]
}

fn reflecting(topology: &Topology, seed: u64) -> Net {
    let mut net = Net::new(seed);
    net.delay = (100, 30_000);
    for node in 0..topology.0 {
        net.start(node, Net::config(node, AS))
            .originations_complete();
    }
    for &(up, down, client) in &topology.1 {
        net.peer(up, PeerConfig::new(address(down), AS).rr_client(client));
        net.peer(down, PeerConfig::new(address(up), AS));
    }
    net.run(Duration::from_secs(60));
    for node in 0..topology.0 {
        let peers = net.speaker(node).peers().len();
        assert_eq!(net.established(node), peers);
    }
    net
}

/// Follows a packet from node to node; fails when it comes to one twice.
fn follow(net: &mut Net, nodes: usize, prefix: Prefix, what: &str) {
    for start in 0..nodes {
        let (mut seen, mut at) = (BTreeSet::new(), start);
        while seen.insert(at) {
            // No next hop: the node has it itself, or knows no way.
            let hop = net.node(at).best.get(&prefix).and_then(|hops| hops[0]);
            let Some(next) = (0..nodes).find(|&node| Some(address(node)) == hop) else {
                break;
            };
            assert!(
                !seen.contains(&next),
                "{what}: from {start} in circles by {seen:?}"
            );
            at = next;
        }
    }
}

/// Clients announce and withdraw a prefix, and hand it on to one another; whatever has arrived where, no packet goes in
/// circles. Updates end, though reflectors stand in a ring (RFC 4456 section 8).
#[test]
fn no_transient_loop_among_reflectors() {
    for (which, topology) in topologies().iter().enumerate() {
        for seed in 0..6u64 {
            let mut net = reflecting(topology, seed);
            let moving = prefix("10.9.9.9/32");
            let nodes = topology.0;
            let mut owner = None;
            for step in 0..14u64 {
                let next = 4 + ((seed * 5 + step * 3 + step / 2) % 5) as usize;
                match owner {
                    // Make before break, and the other way round.
                    Some(old) if step % 3 == 0 => {
                        net.speaker(next).originate(moving, &Attributes::local());
                        if next != old {
                            net.speaker(old).withdraw(&moving);
                        }
                        owner = Some(next);
                    }
                    Some(old) => {
                        net.speaker(old).withdraw(&moving);
                        owner = None;
                    }
                    None => {
                        net.speaker(next).originate(moving, &Attributes::local());
                        owner = Some(next);
                    }
                }
                for _ in 0..60 {
                    net.run(Duration::from_millis(4));
                    let what = format!("topology {which}, seed {seed}, step {step}");
                    follow(&mut net, nodes, moving, &what);
                }
            }
            net.run(Duration::from_secs(5));
            let updates = |net: &mut Net| -> u64 {
                let count = |node| -> u64 {
                    net.speaker(node)
                        .peers()
                        .iter()
                        .map(|peer| peer.updates)
                        .sum()
                };
                (0..nodes).map(count).sum()
            };
            let before = updates(&mut net);
            net.run(Duration::from_secs(20));
            assert_eq!(updates(&mut net), before, "quiet");
            for node in 0..nodes {
                let has = net.route(node, moving).is_some();
                assert_eq!(
                    has,
                    owner.is_some(),
                    "topology {which}, seed {seed}, node {node}"
                );
            }
        }
    }
}
