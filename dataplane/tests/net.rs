//! Links, addresses, routes and tunnels in a real kernel, in network namespaces without a name that go with their
//! threads. Needs root, or `unshare -Urnm`.

#![cfg(all(feature = "linux", feature = "attach", feature = "testing"))]

#[path = "common/namespaces.rs"]
mod namespaces;

#[path = "net/attach.rs"]
mod attach;
#[path = "net/change.rs"]
mod change;
#[path = "net/faults.rs"]
mod faults;
#[path = "net/kit.rs"]
mod kit;
#[path = "net/links.rs"]
mod links;
#[path = "net/objects.rs"]
mod objects;
#[path = "net/pair.rs"]
mod pair;
#[path = "net/probe.rs"]
mod probe;
#[path = "net/race.rs"]
mod race;
#[path = "net/routes.rs"]
mod routes;
#[path = "net/sandbox.rs"]
mod sandbox;
#[path = "net/service.rs"]
mod service;
#[path = "net/traffic.rs"]
mod traffic;
#[path = "net/via6.rs"]
mod via6;
