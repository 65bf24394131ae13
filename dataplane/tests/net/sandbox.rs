use std::collections::BTreeMap;
use std::future::Future;
use std::process::Command;
use std::sync::Arc;

use ocicat_dataplane::linux::{LinuxDataplane, Options};
use ocicat_dataplane::state::{Hop, LinkName, Route, RouteKey};
use ocicat_dataplane::{Dataplane as _, State};
use serde_json::Value;

use crate::namespaces::alone;
pub(crate) use crate::namespaces::{inside, namespace as container};

/// Runs a test on a thread in a network namespace of its own, in which the loopback is up.
pub(crate) fn node(test: impl FnOnce() + Send + 'static) {
    alone("ocnet-node", || {
        ip("link set lo up");
        test();
    });
}

/// As [`node`], for a test that waits.
pub(crate) fn async_node<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    node(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(test());
    });
}

/// Waits until the dataplane hears that somebody changed something.
pub(crate) async fn heard(kernel: &mut LinuxDataplane) {
    let patience = std::time::Duration::from_secs(20);
    let changed = tokio::time::timeout(patience, kernel.changed()).await;
    assert!(changed.is_ok(), "nothing was heard");
}

/// Runs `ip ARGUMENTS`, which must succeed.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("ip(8) is needed");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "ip {arguments}: {err}");
    out.into_owned()
}

/// What `ip -j ARGUMENTS` lists.
pub(crate) fn list(arguments: &str) -> Vec<Value> {
    let text = ip(&format!("-j -d {arguments}"));
    match serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap() {
        Value::Array(all) => all
            .into_iter()
            .filter(|one| one.as_object().is_some_and(|o| !o.is_empty()))
            .collect(),
        other => panic!("ip {arguments}: {other}"),
    }
}

pub(crate) fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

/// A dataplane of the calling thread's namespace that leaves nftables alone.
pub(crate) fn kernel() -> LinuxDataplane {
    LinuxDataplane::new(Options::default().policy(false)).unwrap()
}

/// Makes the link `up0`, with an address of each family.
pub(crate) fn uplink() {
    ip("link add up0 type bridge");
    ip("link set up0 up");
    ip("addr add 192.168.10.1/24 dev up0");
    ip("addr add fd00:10::1/64 dev up0 nodad");
}

pub(crate) fn via(gateway: &str, link: Option<&str>) -> Hop {
    Hop::Via {
        gateway: gateway.parse().unwrap(),
        link: link.map(name),
        onlink: link.is_some(),
    }
}

/// A route of the main table.
pub(crate) fn route(prefix: &str, hops: impl Into<Vec<Hop>>) -> (RouteKey, Route) {
    let route = Route {
        hops: hops.into(),
        source: None,
    };
    (RouteKey::main(prefix.parse().unwrap()), route)
}

/// A state of routes alone.
pub(crate) fn state(routes: impl IntoIterator<Item = (RouteKey, Route)>) -> State {
    State {
        routes: Arc::new(BTreeMap::from_iter(routes)),
        ..State::default()
    }
}

/// The routes of protocol 80, as text, in order.
pub(crate) fn our_routes() -> Vec<String> {
    let mut all = Vec::new();
    for family in ["-4", "-6"] {
        let text = ip(&format!("{family} route show table all proto 80"));
        all.extend(
            text.lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")),
        );
    }
    all
}
