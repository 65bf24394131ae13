//! The lab's own world, machines and probes, in real namespaces. Needs root or user namespaces, and fails without.
//!
//! Without the usual harness: the test's program is also the lab's init and inside process, for which it must not have
//! threads.

use std::net::IpAddr;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use ocicat_lab::probe::Verdict::{self, Allowed, Denied, Error};
use ocicat_lab::probe::{self, Attempt, Outcome};
use ocicat_lab::sandbox::{self, INIT, INSIDE};
use ocicat_lab::scenario::Protocol::{self, Icmp, Tcp, Udp};
use ocicat_lab::scenario::Scenario;
use ocicat_lab::underlay::Underlay;

const SCENARIO: &str = "\
name: underlay-test
racks: [{name: a, cidr: 192.168.10.0/24}, {name: b, cidr: 192.168.20.0/24}]
nodes: [{name: n1, rack: a}, {name: n2, rack: a}, {name: n3, rack: b}]
hosts:
  - {name: e1, ip: 203.0.113.10, ports: [{port: 80}, {port: 53, protocol: UDP}]}
";

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let ended = match role.as_deref() {
        Some(INIT) => sandbox::init(),
        Some(INSIDE) => inside(),
        // Asked for by test runners that want to know the names of the tests.
        Some("--list") => Ok(ExitCode::SUCCESS),
        _ => sandbox::enter("{}", Stdio::null()).map(sandbox::exit_code),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn inside() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let scenario = Scenario::parse("underlay-test.yaml", SCENARIO)?;
        let mut underlay = Underlay::build(&scenario).await?;
        verdicts(&underlay).await?;
        many_at_once(&underlay).await?;
        underlay.remove_node("n3").await?;
        let gone = ask(&underlay, "n1", "192.168.20.11", 0, Protocol::Icmp, None).await?;
        assert_ne!(
            gone.result,
            Verdict::Allowed,
            "a node that was removed still answers"
        );
        assert!(!std::path::Path::new("/run/netns/n3").exists());
        println!("underlay: ok");
        Ok(ExitCode::SUCCESS)
    })
}

async fn ask(
    underlay: &Underlay,
    from: &str,
    to: &str,
    port: u16,
    protocol: Protocol,
    identity: Option<&str>,
) -> anyhow::Result<Outcome> {
    let to: IpAddr = to.parse()?;
    let from = underlay.nodes[from].clone();
    let attempt = Attempt {
        from,
        to: (to, port).into(),
        protocol,
        identity: identity.map(str::to_owned),
    };
    Ok(probe::run(vec![attempt], Duration::from_millis(500))
        .await
        .remove(0))
}

/// From, to, port, protocol, who should answer; then the verdict and its detail. Across the router, too.
type Case = (
    &'static str,
    &'static str,
    u16,
    Protocol,
    Option<&'static str>,
    Verdict,
    Option<&'static str>,
);

/// Every kind of answer.
const CASES: [Case; 13] = [
    ("n1", "192.168.10.12", 0, Icmp, None, Allowed, None),
    ("n1", "192.168.20.11", 0, Icmp, None, Allowed, None),
    ("n3", "203.0.113.10", 0, Icmp, None, Allowed, None),
    (
        "n1",
        "203.0.113.10",
        80,
        Tcp,
        Some("host:e1"),
        Allowed,
        None,
    ),
    (
        "n1",
        "203.0.113.10",
        53,
        Udp,
        Some("host:e1"),
        Allowed,
        None,
    ),
    ("n1", "203.0.113.10", 81, Tcp, None, Allowed, Some("closed")),
    ("n1", "203.0.113.10", 54, Udp, None, Allowed, Some("closed")),
    (
        "n1",
        "203.0.113.10",
        80,
        Tcp,
        Some("host:e2"),
        Error,
        Some("host:e1 answered"),
    ),
    (
        "n1",
        "203.0.113.10",
        53,
        Udp,
        Some("host:e2"),
        Error,
        Some("host:e1 answered"),
    ),
    ("n1", "192.168.10.99", 80, Tcp, None, Denied, None),
    ("n1", "192.168.10.99", 80, Udp, None, Denied, None),
    ("n1", "192.168.10.99", 0, Icmp, None, Denied, None),
    (
        "n1",
        "198.51.100.1",
        80,
        Tcp,
        None,
        Error,
        Some("Network is unreachable (os error 101)"),
    ),
];

async fn verdicts(underlay: &Underlay) -> anyhow::Result<()> {
    for (from, to, port, protocol, identity, result, detail) in CASES {
        let outcome = ask(underlay, from, to, port, protocol, identity).await?;
        let seen = (outcome.result, outcome.detail.as_deref());
        assert_eq!(seen, (result, detail), "{from} -> {to} {protocol} {port}");
    }
    Ok(())
}

/// Five hundred probes, half of them without an answer, overlap.
async fn many_at_once(underlay: &Underlay) -> anyhow::Result<()> {
    let attempt = |number: u16| {
        let dead = number.is_multiple_of(2);
        let to: IpAddr = if dead {
            "192.168.10.99"
        } else {
            "203.0.113.10"
        }
        .parse()
        .unwrap_or_else(|_| IpAddr::from([0; 4]));
        let protocol = if number % 4 < 2 {
            Protocol::Tcp
        } else {
            Protocol::Udp
        };
        let port = if protocol == Protocol::Tcp { 80 } else { 53 };
        Attempt {
            from: underlay.nodes["n1"].clone(),
            to: (to, port).into(),
            protocol,
            identity: None,
        }
    };
    let began = Instant::now();
    let outcomes = probe::run((0..500).map(attempt).collect(), Duration::from_millis(500)).await;
    let took = began.elapsed();
    let allowed = outcomes
        .iter()
        .filter(|outcome| outcome.result == Verdict::Allowed)
        .count();
    let denied = outcomes
        .iter()
        .filter(|outcome| outcome.result == Verdict::Denied)
        .count();
    assert_eq!((allowed, denied), (250, 250));
    // One after the other they would take two minutes.
    assert!(took < Duration::from_secs(30), "500 probes took {took:?}");
    Ok(())
}
