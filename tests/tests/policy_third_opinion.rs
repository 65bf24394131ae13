//! Random Kubernetes and Calico policies, read by ours and by IBM's network-config-analyzer: every connection between
//! every two pods, and between pods and the outside, gets the same verdict.
//!
//! `OCICAT_NCA` is the path of its program, `nca` (PyPI's network-config-analyzer 2.1.0; `cargo xtask test` installs it).
//!
//! # Where the analyzer differs, and what is therefore not among the random policies
//!
//! - A `podSelector` with `Exists` or `DoesNotExist` beside a `namespaceSelector` selects in the policy's own namespace
//!   only: its parser looks the key up there (`get_peers_with_key(self.namespace, ..)`), while `In` and `NotIn` look
//!   everywhere. Kubernetes' documentation, and ours, has all four look in the namespaces that are selected.
//! - Its pods have no addresses: ranges in rules never hold a pod, so the ranges here are all outside. For the same
//!   reason there is no `notNets`, and no `nets` beside a selector.
//! - It keeps two pods of each kind, so that every pod here has a label of its own.
//! - Policies of equal order stay as they were read; here every order is another. Tiers it does not know.
//! - ICMP type and code 0 count as not given; ICMP is asked about as a protocol only.

#[path = "policy_third_opinion/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use ocicat_datastore::Object;
use ocicat_policy::{Flow, Model, Update};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use random::{PODS, PORTS, address, calico_policy, kubernetes_policy, party, pods, topology};

const OUTSIDE: [Ipv4Addr; 3] = [
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(192, 0, 2, 9),
    Ipv4Addr::new(198, 51, 100, 1),
];
/// Name and number of the protocols that are asked about, and whether they have ports.
const PROTOCOLS: [(&str, u8, bool); 5] = [
    ("TCP", 6, true),
    ("UDP", 17, true),
    ("SCTP", 132, true),
    ("ICMP", 1, false),
    ("GRE", 47, false),
];
const SOURCE_PORTS: [u16; 2] = [1000, 40_000];

#[test]
#[ignore = "needs network-config-analyzer"]
fn kubernetes_policies_are_read_alike() {
    compare("kubernetes", 60, vec(kubernetes_policy(), 1..4));
}

#[test]
#[ignore = "needs network-config-analyzer"]
fn calico_policies_are_read_alike() {
    compare("calico", 60, vec(calico_policy(), 1..5));
}

#[test]
#[ignore = "needs network-config-analyzer"]
fn mixed_policies_are_read_alike() {
    let either = prop_oneof![kubernetes_policy(), calico_policy()];
    compare("mixed", 40, vec(either, 2..5));
}

fn compare(name: &str, cases: u32, policies: impl Strategy<Value = Vec<Value>>) {
    let nca = std::env::var("OCICAT_NCA")
        .expect("OCICAT_NCA is the path of network-config-analyzer's program");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(folder.join("policies")).unwrap();
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::with_cases(cases)
    };
    let outcome = TestRunner::new(config).run(&(pods(), policies), |(pods, policies)| {
        let topology = topology(&pods);
        let policies = numbered(policies);
        fs::write(folder.join("topology.yaml"), documents(&topology)).unwrap();
        fs::write(folder.join("policies/all.yaml"), documents(&policies)).unwrap();
        let theirs = Theirs::ask(&nca, &folder);
        let ours = model(topology.iter().chain(&policies));
        agree(&ours, &theirs)
            .map_err(|error| TestCaseError::fail(format!("{error}\n{}", documents(&policies))))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Policies with names and orders of their own: equals in order are not sorted by the analyzer.
fn numbered(policies: Vec<Value>) -> Vec<Value> {
    let numbered = policies.into_iter().enumerate().map(|(i, mut policy)| {
        policy["metadata"]["name"] = json!(format!("p{i}"));
        if policy["apiVersion"] == "projectcalico.org/v3" {
            // On both sides of 1000, the order of Kubernetes' policies.
            policy["spec"]["order"] = json!(if i % 2 == 0 { 900 + i } else { 1100 + i });
        }
        policy
    });
    numbered.collect()
}

fn documents(objects: &[Value]) -> String {
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    texts.join("\n---\n")
}

fn model<'a>(objects: impl Iterator<Item = &'a Value>) -> Model {
    let mut model = Model::new();
    for object in objects {
        let object = Object::from_value(object.clone()).unwrap();
        model.update(Update::of(&object).unwrap().unwrap());
    }
    model
}

fn agree(ours: &Model, theirs: &Theirs) -> Result<(), TestCaseError> {
    let pods = (0..PODS).map(|i| (address(i), party(i)));
    let outside = OUTSIDE.iter().map(|ip| (*ip, ip.to_string()));
    let parties: Vec<(Ipv4Addr, String)> = pods.chain(outside).collect();
    for (i, from) in parties.iter().enumerate() {
        for (j, to) in parties.iter().enumerate() {
            if i == j || i.min(j) >= PODS {
                continue;
            }
            for (name, number, has_ports) in PROTOCOLS {
                for source_port in SOURCE_PORTS {
                    for port in PORTS {
                        let flow = flow(from.0, to.0, (number, has_ports), source_port, port);
                        let our = ours.evaluate(&flow);
                        let their = theirs.allow(from, to, (name, number), source_port, port);
                        prop_assert_eq!(
                            our.is_allowed(),
                            their,
                            "{} {} {}\n{}",
                            from.1,
                            to.1,
                            source_port,
                            our
                        );
                        if !has_ports {
                            break;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn flow(from: Ipv4Addr, to: Ipv4Addr, protocol: (u8, bool), source_port: u16, port: u16) -> Flow {
    let port = if protocol.1 { port } else { 0 };
    let mut flow = Flow::tcp(from.into(), to.into(), port);
    if protocol.0 == 1 {
        flow = Flow::ping(from.into(), to.into());
    }
    flow.protocol.0 = protocol.0;
    flow.source_port = source_port;
    flow
}

/// What the analyzer says may pass: for each pair in its words, the sets of connections.
struct Theirs {
    pairs: BTreeMap<(String, String), Vec<Connections>>,
}

/// Sets of connections, any of which may pass; or, with `all_but`, all others.
struct Connections {
    all_but: bool,
    sets: Vec<Set>,
}

/// What each property may be; a property that is not named may be anything.
type Set = Vec<(String, Vec<String>)>;

impl Theirs {
    fn ask(nca: &str, folder: &std::path::Path) -> Self {
        let topology = folder.join("topology.yaml");
        let out = Command::new(nca)
            .args(["--output_format", "txt_no_fw_rules", "--connectivity"])
            .arg(folder.join("policies"))
            .arg("--ns_list")
            .arg(&topology)
            .arg("--pod_list")
            .arg(&topology)
            .output()
            .unwrap_or_else(|error| panic!("{nca}: {error}"));
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(
            out.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let mut pairs: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in text.lines() {
            let Some((from, rest)) = line.split_once(" => ") else {
                continue;
            };
            let (to, what) = rest.split_once(" : ").unwrap_or_else(|| panic!("{line}"));
            let pair = (from.to_owned(), to.to_owned());
            pairs.entry(pair).or_default().push(connections(what));
        }
        Self { pairs }
    }

    fn allow(
        &self,
        from: &(Ipv4Addr, String),
        to: &(Ipv4Addr, String),
        protocol: (&str, u8),
        source_port: u16,
        port: u16,
    ) -> bool {
        let sets = self
            .pairs
            .iter()
            .filter(|((source, destination), _)| is(source, from) && is(destination, to));
        let contains = |set: &Set| {
            set.iter()
                .all(|(property, values)| match property.as_str() {
                    "protocols" => values
                        .iter()
                        .any(|v| v == protocol.0 || within(v, protocol.1.into())),
                    "src_ports" => values.iter().any(|v| within(v, source_port)),
                    "dst_ports" => values.iter().any(|v| within(v, port)),
                    other => panic!("the analyzer says {other}: {values:?}"),
                })
        };
        sets.flat_map(|(_, connections)| connections)
            .any(|connections| connections.all_but != connections.sets.iter().any(contains))
    }
}

/// Whether a side of a pair is a party: a pod by name, a range by address.
fn is(side: &str, party: &(Ipv4Addr, String)) -> bool {
    if let Some(pod) = side.strip_suffix("[Pod]") {
        return pod == party.1;
    }
    let (first, last) = side.split_once('-').unwrap_or((side, side));
    let range = first.parse::<Ipv4Addr>().unwrap()..=last.parse().unwrap();
    party.1 == party.0.to_string() && range.contains(&party.0)
}

fn within(range: &str, number: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u32>(), last.parse::<u32>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&number.into()),
        _ => false,
    }
}

/// Reads `All connections`, `{protocols:TCP,dst_ports:80,90-100}` or `All but {...}`.
fn connections(text: &str) -> Connections {
    let (all_but, sets) = match text.strip_prefix("All but ") {
        Some(sets) => (true, sets),
        None if text == "All connections" => (true, ""),
        None => (false, text),
    };
    let sets = sets.trim_matches(['{', '}']);
    let sets = sets.split("},{").filter(|set| !set.is_empty());
    Connections {
        all_but,
        sets: sets.map(set).collect(),
    }
}

fn set(text: &str) -> Set {
    let mut out = Set::new();
    for part in text.split(',').map(str::trim) {
        match part.split_once(':') {
            Some((property, value)) => out.push((property.to_owned(), vec![value.to_owned()])),
            None => match out.last_mut() {
                Some((_, values)) => values.push(part.to_owned()),
                None => panic!("{text}"),
            },
        }
    }
    out
}
