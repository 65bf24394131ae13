//! What it costs that a pod's address leaves the node: its route goes, and connections that it takes part in are
//! forgotten.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicat_dataplane::linux::{LinuxDataplane, Options};
use ocicat_dataplane::state::{Hop, LinkName, Route, RouteKey};
use ocicat_dataplane::{Dataplane as _, Prefix, State};

use crate::attach::percentiles;
use crate::ip;

pub(crate) fn bench(count: usize) {
    ip("link add cali0 type veth peer name inner0");
    ip("link set inner0 up");
    ip("link set cali0 up");
    let mut options = Options::default().policy(false);
    for (what, connections) in [("with its connections", true), ("its route alone", false)] {
        options.connections = connections;
        let mut kernel = LinuxDataplane::new(options.clone()).expect("a dataplane");
        let mut routes: BTreeMap<RouteKey, Route> = (0..count).map(route).collect();
        apply(&mut kernel, &routes);
        let mut times = Vec::new();
        let used = on_cpu();
        for at in 0..count {
            routes.remove(&route(at).0);
            let began = Instant::now();
            apply(&mut kernel, &routes);
            times.push(began.elapsed());
        }
        let each = (on_cpu() - used) / u32::try_from(count).expect("few");
        percentiles(&format!("an address leaves, {what}"), &mut times);
        percentiles(&format!("its CPU time, {what}, mean"), &mut [each]);
    }
    ip("link del cali0");
}

fn route(at: usize) -> (RouteKey, Route) {
    let address = Ipv4Addr::from(0x0a00_0000 + u32::try_from(at).expect("small"));
    let route = Route {
        hops: vec![Hop::Link(LinkName::new("cali0").expect("a name"))],
        source: None,
    };
    (RouteKey::main(Prefix::host(address.into())), route)
}

fn apply(kernel: &mut LinuxDataplane, routes: &BTreeMap<RouteKey, Route>) {
    let state = State {
        routes: Arc::new(routes.clone()),
        ..State::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let report = runtime.expect("a runtime").block_on(kernel.apply(&state));
    assert_eq!(report.expect("an apply").failed, []);
}

/// How long this thread has been on a processor.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("proc");
    let first = text.split_whitespace().next().expect("a number");
    Duration::from_nanos(first.parse().expect("a number"))
}
