//! The graph and the reference, held against each other on random clusters.

#[allow(dead_code, missing_docs, unreachable_pub)]
mod support {
    pub mod cluster;
    pub mod flows;
    pub mod references;
}

use std::collections::BTreeMap;
use std::net::IpAddr;

use ocicat_dataplane::State;
use ocicat_dataplane::state::LinkName;
use ocicat_dataplane::verdict::{self, Connection, Packet, Reason};
use ocicat_policy::{Decision, Flow, Graph, Model, Update, Verdict, diff, reach};
use proptest::prelude::*;
use support::cluster;
use support::flows;
use support::references;

fn states(updates: &[Update]) -> BTreeMap<&'static str, State> {
    ["n0", "n1"]
        .into_iter()
        .map(|node| {
            let mut graph = Graph::new(node);
            let eth0 = LinkName::new("eth0").unwrap();
            graph.set_interface(eth0, [cluster::node_address(node)].into());
            for update in updates {
                graph.update(update.clone());
            }
            let mut state = State::default();
            graph.flush(&mut state);
            references::check(&state);
            (node, state)
        })
        .collect()
}

/// The node and link of the pod that has the address.
fn pod_of<'s>(
    states: &'s BTreeMap<&'static str, State>,
    address: IpAddr,
) -> Option<(&'static str, &'s LinkName)> {
    states.iter().find_map(|(node, state)| {
        let mut workloads = state.workloads.iter();
        let (link, _) = workloads.find(|(_, w)| w.addresses.contains(&address))?;
        Some((*node, link))
    })
}

/// What the nodes on the way do with the flow: the first of them that denies it, and why.
fn by_states(states: &BTreeMap<&'static str, State>, flow: &Flow) -> verdict::Verdict {
    let outside = LinkName::new("eth0").unwrap();
    let (source, destination) = (
        pod_of(states, flow.source),
        pod_of(states, flow.destination),
    );
    let packet = |in_link: Option<LinkName>, out_link: Option<LinkName>| Packet {
        in_link,
        out_link,
        source: flow.source,
        destination: flow.destination,
        protocol: flow.protocol,
        ports: flow
            .protocol
            .has_ports()
            .then_some((flow.source_port, flow.destination_port)),
        icmp: flow.icmp,
        connection: Connection::New,
    };
    let end = |pod: Option<(&'static str, &LinkName)>, node: &Option<String>| match (pod, node) {
        (Some((node, link)), None) => Some((node, Some(link.clone()))),
        (_, Some(node)) if node == "n0" => Some(("n0", None)),
        (_, Some(_)) => Some(("n1", None)),
        (None, None) => None,
    };
    let outside = Some(outside);
    let hops = match (
        end(source, &flow.from_node),
        end(destination, &flow.to_node),
    ) {
        (Some((node, from)), Some((other, to))) if node == other => vec![(node, packet(from, to))],
        (Some((node, from)), Some((other, to))) => {
            vec![
                (node, packet(from, outside.clone())),
                (other, packet(outside, to)),
            ]
        }
        (Some((node, from)), None) => vec![(node, packet(from, outside))],
        (None, Some((node, to))) => vec![(node, packet(outside, to))],
        (None, None) => vec![],
    };
    hops.iter()
        .map(|(node, packet)| states[node].verdict(packet))
        .find(|verdict| !verdict.is_allowed())
        .unwrap_or(verdict::Verdict::Allowed)
}

/// Who denied, as both sides can say it.
fn blame(decision: &Decision) -> String {
    let tier = decision.tier.as_deref().unwrap_or_default();
    let Some(policy) = &decision.policy else {
        return if tier.is_empty() {
            "nobody".into()
        } else {
            format!("end of {tier}")
        };
    };
    match policy.split('/').collect::<Vec<_>>()[..] {
        ["GlobalNetworkPolicy", name] => format!("gnp/{tier}/{name}"),
        ["NetworkPolicy", namespace, name] => format!("np/{namespace}/{tier}/{name}"),
        ["Profile", name] => format!("profile {name}"),
        _ => panic!("{policy}"),
    }
}

fn blame_in_state(reason: &Reason) -> String {
    match reason {
        Reason::Policy(id) => id.to_string(),
        Reason::Profile(id) => format!("profile {id}"),
        Reason::EndOfTier(tier) => format!("end of {tier}"),
        Reason::NoProfile => "nobody".into(),
        Reason::PodToHost => "nobody".into(),
        other => format!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_graph_does_what_the_reference_says(updates in cluster::cluster()) {
        let mut model = Model::new();
        for node in ["n0", "n1"] {
            model.set_interface(node, "eth0", [cluster::node_address(node)].into());
        }
        for update in &updates {
            model.update(update.clone());
        }
        let states = states(&updates);
        for flow in flows::all() {
            let trace = model.evaluate(&flow);
            let expected = match trace.deciding() {
                Some(decision) if decision.verdict == Verdict::Deny => Some(blame(decision)),
                _ => None,
            };
            let found = match by_states(&states, &flow) {
                verdict::Verdict::Denied(reason) => Some(blame_in_state(&reason)),
                _ => None,
            };
            prop_assert_eq!(found, expected, "{}\n{:#?}\n{:#?}", trace, updates, states);
        }
    }

    #[test]
    fn what_is_reachable_is_what_the_reference_allows(updates in cluster::cluster()) {
        let mut model = Model::new();
        for update in &updates {
            model.update(update.clone());
        }
        let outside = [IpAddr::from([192, 0, 2, 7]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 1, 1])];
        let matrix = reach(&model, &outside);
        let mut asked = 0;
        for mut flow in flows::all() {
            flow.interface = None;
            if flow.from_node.is_some() || flow.to_node.is_some() {
                continue;
            }
            let Some(cell) = matrix.between(flow.source, flow.destination) else {
                continue;
            };
            asked += 1;
            let (a, b) = match flow.icmp {
                Some((kind, code)) => (kind.into(), code.into()),
                None => (flow.source_port, flow.destination_port),
            };
            let trace = model.evaluate(&flow);
            prop_assert_eq!(cell.contains(flow.protocol, a, b), trace.is_allowed(), "{}\n{}", cell, trace);
        }
        prop_assert!(asked > 300);
        // And a diff is what a walk through both would find.
        let empty = reach(&Model::new(), &[]);
        prop_assert_eq!(diff(&matrix, &matrix), diff(&empty, &empty));
        prop_assert_eq!(diff(&empty, &matrix).opened.len(), matrix.open());
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(
        updates in cluster::cluster(),
        seed in any::<u64>(),
        flushes in any::<u32>(),
        gone in proptest::collection::vec(any::<bool>(), 30),
    ) {
        // Some objects come and go on the way, and some flushes come early.
        let mut shuffled = updates.clone();
        let mut random = seed;
        for i in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(i, (random >> 33) as usize % (i + 1));
        }
        for node in ["n0", "n1"] {
            let (mut first, mut second) = (Graph::new(node), Graph::new(node));
            let (mut one, mut other) = (State::default(), State::default());
            for update in &updates {
                first.update(update.clone());
            }
            first.flush(&mut one);
            for (i, update) in shuffled.iter().enumerate() {
                second.update(update.clone());
                if gone[i % gone.len()] {
                    second.update(Update::gone(update.key()).unwrap());
                }
                if flushes >> (i % 32) & 1 == 1 {
                    second.flush(&mut other);
                    references::check(&other);
                }
            }
            for (i, update) in shuffled.iter().enumerate() {
                if gone[i % gone.len()] {
                    second.update(update.clone());
                    second.flush(&mut other);
                    references::check(&other);
                }
            }
            second.flush(&mut other);
            prop_assert_eq!(&one, &other);
            prop_assert!(!second.flush(&mut other).changed);
            // A state made anew is filled with the same.
            let mut anew = State::default();
            second.distrust();
            second.flush(&mut anew);
            prop_assert_eq!(&one, &anew);
            // And all that came can go.
            for update in &updates {
                second.update(Update::gone(update.key()).unwrap());
            }
            second.flush(&mut anew);
            prop_assert_eq!(&anew, &State::default());
            prop_assert_eq!(second.problems().count(), 0);
        }
    }
}

/// The random clusters would prove little if they were all open or all closed.
#[test]
fn the_clusters_have_something_of_everything() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..60 {
        let updates = cluster::cluster().new_tree(&mut runner).unwrap().current();
        let mut model = Model::new();
        for update in updates {
            model.update(update);
        }
        for flow in flows::all() {
            for decision in model.evaluate(&flow).decisions() {
                let by = match (&decision.policy, decision.why.as_str()) {
                    (Some(policy), _) => policy.split('/').next().unwrap(),
                    (None, why) => why,
                };
                *seen
                    .entry(format!("{} {by}", decision.verdict))
                    .or_default() += 1;
                for skipped in &decision.skipped {
                    *seen.entry(skipped.field.clone()).or_default() += 1;
                }
            }
        }
    }
    for what in [
        "allow GlobalNetworkPolicy",
        "deny GlobalNetworkPolicy",
        "allow NetworkPolicy",
        "deny NetworkPolicy",
        "allow Profile",
        "deny no policy and no profile allows it",
        "deny no rule of the tier's policies matches, and the tier ends with Deny",
        "action",
        "icmp",
        "protocol",
        "notProtocol",
        "source.nets",
        "source.notNets",
        "source.selector",
        "source.notSelector",
        "destination.ports",
        "destination.notPorts",
        "source.services",
        "destination.services",
    ] {
        assert!(seen.get(what).is_some_and(|n| *n > 20), "{what}: {seen:#?}");
    }
}
