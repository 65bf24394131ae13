//! The graph and the reference, held against each other on random clusters.

#[allow(dead_code, missing_docs, unreachable_pub)]
mod support {
    pub mod cluster;
    pub mod interpret;
}

use std::collections::BTreeMap;

use ocicat_dataplane::State;
use ocicat_dataplane::state::LinkName;
use ocicat_policy::{Flow, Graph, Model, Update, Verdict};
use proptest::prelude::*;
use support::cluster::{self, PODS};
use support::interpret;

fn states(updates: &[Update]) -> BTreeMap<&'static str, State> {
    ["n0", "n1"]
        .into_iter()
        .map(|node| {
            let mut graph = Graph::new(node);
            for update in updates {
                graph.update(update.clone());
            }
            let mut state = State::default();
            graph.flush(&mut state);
            interpret::check_references(&state);
            (node, state)
        })
        .collect()
}

/// Whether the nodes of the two ends let the flow through.
fn by_states(states: &BTreeMap<&str, State>, flow: &Flow) -> bool {
    let pod = |address| (0..PODS).find(|p| model_has(*p, address));
    let (source, destination) = (pod(flow.source), pod(flow.destination));
    if source.is_some() && source == destination {
        return true;
    }
    let asked = |pod: Option<u8>, ingress: bool| {
        let Some(pod) = pod else { return true };
        // The pod may not have the IPv6 address that it would have.
        let link = LinkName::new(cluster::link(pod)).unwrap();
        let state = &states[cluster::node(pod)];
        let address = if ingress {
            flow.destination
        } else {
            flow.source
        };
        let has = state.workloads[&link].addresses.contains(&address);
        !has || interpret::allowed(state, &link, ingress, flow)
    };
    asked(source, false) && asked(destination, true)
}

fn model_has(pod: u8, address: std::net::IpAddr) -> bool {
    cluster::address(pod) == address || cluster::address_v6(pod) == address
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_graph_does_what_the_reference_says(updates in cluster::cluster()) {
        let mut model = Model::new();
        for update in &updates {
            model.update(update.clone());
        }
        let states = states(&updates);
        for flow in cluster::flows() {
            let pods = (0..PODS).filter(|p| model_has(*p, flow.source) && model_has(*p, flow.destination));
            if pods.count() > 0 {
                continue;
            }
            let trace = model.evaluate(&flow);
            let expected = trace.verdict() == Verdict::Allow;
            prop_assert_eq!(by_states(&states, &flow), expected, "{}\n{:#?}\n{:#?}", trace, updates, states);
        }
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
                    interpret::check_references(&other);
                }
            }
            for (i, update) in shuffled.iter().enumerate() {
                if gone[i % gone.len()] {
                    second.update(update.clone());
                    second.flush(&mut other);
                    interpret::check_references(&other);
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
        for flow in cluster::flows() {
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
