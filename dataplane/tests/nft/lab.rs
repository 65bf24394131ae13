use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use ocicat_dataplane::state::{
    Action, EndTier, LinkName, Member, Policy, PolicyId, PortRange, ProfileId, Protocol, Rule, Set,
    SetId, Tier, Workload,
};
use ocicat_dataplane::{Prefix, State};

use crate::namespaces::alone;
pub(crate) use crate::namespaces::{inside, namespace};

/// Runs a test on a thread in a network namespace of its own, in which the loopback is up.
pub(crate) fn node(test: impl FnOnce() + Send + 'static) {
    alone("ocnft-node", || {
        run("ip link set lo up");
        test();
    });
}

/// Runs a command line without quotes, which must succeed.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {err}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs nft with a script on its standard input.
pub(crate) fn nft(script: &str) {
    use std::io::Write as _;
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nft(8) is needed");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}\n{script}");
}

/// The blocks (sets, maps, chains) of our tables as nft lists them, by their first line, without handles.
pub(crate) fn blocks() -> BTreeMap<String, String> {
    let mut blocks = BTreeMap::new();
    let mut current: Option<(String, String)> = None;
    let both = run("nft -nn list table inet ocicat") + &run("nft -nn list table arp ocicat");
    for line in both.lines().filter(|line| !line.starts_with("table")) {
        if line.starts_with("\t\t") {
            if let Some((_, text)) = &mut current {
                text.push_str(line);
                text.push('\n');
            }
        } else if line.trim() == "}" {
            blocks.extend(current.take());
        } else if !line.is_empty() {
            current = Some((line.trim().to_owned(), String::new()));
        }
    }
    blocks
}

/// The packets that the rules of a chain have counted, in order; `None` for rules without a counter.
pub(crate) fn counters(chain: &str) -> Vec<Option<u64>> {
    let text = run(&format!("nft -j list chain inet ocicat {chain}"));
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rules = all["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one.get("rule"));
    let counter = |rule: &serde_json::Value| {
        rule["expr"]
            .as_array()?
            .iter()
            .find_map(|e| e["counter"]["packets"].as_u64())
    };
    rules.map(counter).collect()
}

pub(crate) fn link(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

pub(crate) fn net(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(crate) fn host(text: &str) -> Member {
    Member::Net(Prefix::host(text.parse().unwrap()))
}

pub(crate) fn range(text: &str) -> Member {
    Member::Net(net(text))
}

pub(crate) fn port(port: u16) -> PortRange {
    PortRange {
        first: port,
        last: port,
    }
}

/// Allows TCP or UDP from a set to a port.
pub(crate) fn allow_from(set: &str, protocol: Protocol, number: u16) -> Rule {
    let mut rule = Rule::new(Action::Allow);
    rule.protocol = Some(protocol);
    rule.source.sets.push(SetId::new(set));
    rule.destination.ports.push(port(number));
    rule
}

pub(crate) fn allow_all() -> Policy {
    Policy {
        ingress: vec![Rule::new(Action::Allow)],
        egress: vec![Rule::new(Action::Allow)],
    }
}

pub(crate) fn tier(policies: &[&str]) -> Tier {
    Tier {
        name: "default".into(),
        policies: policies.iter().map(|id| PolicyId::new(id)).collect(),
        end: EndTier::Deny,
    }
}

pub(crate) fn workload(addresses: &[&str], ingress: Vec<Tier>, egress: Vec<Tier>) -> Workload {
    Workload {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        allowed_sources: Vec::new(),
        ingress,
        egress,
        profiles: vec![ProfileId::new("kns.default")],
        up: true,
    }
}

/// Two pods, of which the first lets the members of a set in to TCP and UDP port 80.
pub(crate) fn small() -> State {
    let mut state = State::default();
    let policy = Policy {
        ingress: vec![
            allow_from("s:friends", Protocol::TCP, 80),
            allow_from("s:friends", Protocol::UDP, 80),
        ],
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("np/default/default/web"), policy.into());
    state
        .profiles
        .insert(ProfileId::new("kns.default"), allow_all().into());
    state.sets.insert(
        SetId::new("s:friends"),
        Set::new([host("10.65.0.3"), host("fd00::3")]),
    );
    let web = vec![tier(&["np/default/default/web"])];
    let one = workload(&["10.65.0.2", "fd00::2"], web, Vec::new());
    let two = workload(&["10.65.0.3", "fd00::3"], Vec::new(), Vec::new());
    state.workloads.insert(link("cali1"), one.into());
    state.workloads.insert(link("cali2"), two.into());
    state
}
