use std::collections::BTreeMap;

use ocicat_dataplane::state::{Hop, LinkName, Protocol, Route};
use ocicat_datastore::Object;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;

mod lock;
mod origin;
mod refused;
mod without_store;
use crate::control::{Waited, Written};

struct Bench {
    core: Core,
    desired: watch::Receiver<Desired>,
    facts: watch::Receiver<Arc<Facts>>,
    kept: watch::Receiver<Option<Arc<Snapshot>>>,
    revision: u64,
}

fn bench(adopted: BTreeMap<RouteKey, Route>) -> Bench {
    restarted(adopted, None)
}

/// An agent whose predecessor left routes in the kernel and a snapshot on disk.
fn restarted(adopted: BTreeMap<RouteKey, Route>, snapshot: Option<Snapshot>) -> Bench {
    let (desired, seen) = watch::channel(Desired::default());
    let (facts, told) = watch::channel(Arc::new(Facts::default()));
    let (snapshots, kept) = watch::channel(None);
    let fixed = Fixed {
        node: "node1".to_owned(),
        uplink: Some(Uplink {
            name: LinkName::new("eth0").unwrap(),
            mtu: 1500,
        }),
        uplink_v6: None,
        felix: crate::parameters::Fixed::default(),
        settings: Vec::new(),
        addresses: vec!["192.168.10.11".parse().unwrap()],
        bgp: BgpConfig::default(),
        closed: vec![(Protocol::TCP, 179)],
    };
    let ports = Ports {
        desired,
        facts,
        snapshots,
        meters: crate::metrics::Meters::default(),
        changed: Box::new(|_| ()),
        census: watch::Sender::default(),
        listening: watch::Sender::default(),
        resync: watch::Sender::default(),
        secrets: watch::Sender::default(),
        events: Events::new("node1"),
        statuses: watch::Sender::default(),
    };
    let core = Core::new(
        fixed,
        adopted,
        Restore::new(snapshot),
        Drain::default(),
        ports,
    );
    Bench {
        core,
        desired: seen,
        facts: told,
        kept,
        revision: 0,
    }
}

impl Bench {
    fn put(&mut self, kind: &str, name: &str, spec: Value) -> u64 {
        self.revision += 1;
        let value = json!({
            "apiVersion": "projectcalico.org/v3", "kind": kind,
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
        });
        let mut object = Object::from_value(value).unwrap();
        object.revision = Revision(self.revision);
        self.core.put(&object);
        self.revision
    }

    fn sync(&mut self) {
        self.core.registration.done = true;
        for kind in KINDS {
            self.core.listed(kind, Revision(self.revision));
        }
        self.core.advance();
    }

    fn cluster(&mut self) {
        self.put(
            "Node",
            "node1",
            json!({"bgp": {"ipv4Address": "192.168.10.11/24"}}),
        );
        self.put(
            "Node",
            "node2",
            json!({"bgp": {"ipv4Address": "192.168.10.12/24"}}),
        );
        self.put(
            "IPPool",
            "plain",
            json!({"cidr": "10.0.0.0/16", "natOutgoing": true}),
        );
    }

    fn affinity(&mut self, state: &str) {
        let spec = json!({"cidr": "10.0.0.0/26", "node": "node1", "state": state, "type": "host"});
        self.put("BlockAffinity", "host:node1:10-0-0-0-26", spec);
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.desired.borrow().state)
    }

    fn hops(&self, prefix: &str) -> Vec<Hop> {
        let prefix = prefix.parse().unwrap();
        let state = self.state();
        let block = state.routes.get(&crate::network::own_block(prefix));
        state
            .routes
            .get(&RouteKey::main(prefix))
            .or(block)
            .map(|route| route.hops.clone())
            .unwrap_or_default()
    }

    fn wait(&mut self, kind: &str, revision: u64) -> oneshot::Receiver<Waited> {
        let (answer, question) = oneshot::channel();
        let object = Written {
            kind: kind.to_owned(),
            namespace: None,
            name: "x".to_owned(),
            revision,
        };
        self.core.waits.add(
            vec![object],
            Instant::now() + Duration::from_secs(60),
            answer,
        );
        self.core.answer_waits();
        question
    }

    fn applied(&mut self) {
        let generation = self.desired.borrow().generation;
        self.core.applied(Applied {
            generation,
            outcome: Ok(Report::default()),
        });
    }
}

#[test]
fn nothing_is_desired_before_every_kind_has_been_listed() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.core.advance();
    assert_eq!(bench.desired.borrow().generation, 0);
    assert!(!bench.facts.borrow().ready);
    bench.sync();
    assert_eq!(bench.desired.borrow().generation, 1);
    bench.applied();
    assert!(bench.facts.borrow().ready);
}

#[test]
fn a_pending_affinity_makes_no_route() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.affinity("pending");
    bench.sync();
    assert_eq!(bench.hops("10.0.0.0/26"), []);
    bench.affinity("confirmed");
    bench.core.advance();
    assert_eq!(bench.hops("10.0.0.0/26"), [Hop::Blackhole]);
    bench.affinity("pendingDeletion");
    bench.core.advance();
    assert_eq!(bench.hops("10.0.0.0/26"), []);
}

#[test]
fn a_predecessors_routes_stay_until_peers_have_told_theirs() {
    let hop = Hop::Via {
        gateway: "192.168.10.12".parse().unwrap(),
        link: Some(LinkName::new("eth0").unwrap()),
        onlink: false,
    };
    let key = RouteKey::main("10.0.1.0/26".parse().unwrap());
    let route = Route {
        hops: vec![hop.clone()],
        source: None,
    };
    let mut bench = bench(BTreeMap::from([(key.clone(), route)]));
    bench.cluster();
    bench.sync();
    assert_eq!(bench.hops("10.0.1.0/26"), std::slice::from_ref(&hop));
    let generation = bench.desired.borrow().generation;
    bench
        .core
        .learn(key.prefix, vec!["192.168.10.12".parse().unwrap()], false);
    bench.core.release_adopted();
    bench.core.advance();
    assert_eq!(bench.hops("10.0.1.0/26"), [hop], "learned as it was");
    assert_eq!(
        bench.desired.borrow().generation,
        generation,
        "the same state is not desired anew"
    );
    bench.core.learn(key.prefix, Vec::new(), false);
    bench.core.advance();
    assert_eq!(bench.hops("10.0.1.0/26"), []);
}

#[test]
fn a_wait_needs_the_object_and_the_kernel() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.sync();
    bench.applied();
    let mut early = bench.wait("BlockAffinity", bench.revision + 1);
    bench.affinity("confirmed");
    bench.core.advance();
    assert!(early.try_recv().is_err(), "seen, not applied");
    bench.applied();
    assert!(early.try_recv().unwrap().ok);
}

#[test]
fn an_object_that_stops_parsing_keeps_its_last_good_version_in_force() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.affinity("confirmed");
    bench.sync();
    bench.applied();
    bench.put("IPPool", "plain", json!({"cidr": "10.0.0.0/99"}));
    bench.core.advance();
    assert_eq!(bench.core.world.pools.len(), 1);
    let reasons = bench.core.status().reasons;
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("plain") && reason.contains("spec.cidr")),
        "{reasons:?}"
    );
    bench.put("IPPool", "plain", json!({"cidr": "10.0.0.0/16"}));
    assert!(bench.core.status().reasons.is_empty());
}

#[test]
fn felix_says_what_pods_may_do_to_their_host() {
    use ocicat_dataplane::state::EndpointToHost;

    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.sync();
    bench.applied();
    assert_eq!(bench.state().host.endpoint_to_host, EndpointToHost::Drop);
    bench.put(
        "FelixConfiguration",
        "default",
        json!({"defaultEndpointToHostAction": "Accept"}),
    );
    bench.core.advance();
    assert_eq!(bench.state().host.endpoint_to_host, EndpointToHost::Accept);
    bench.put(
        "FelixConfiguration",
        "default",
        json!({"defaultEndpointToHostAction": "Maybe"}),
    );
    bench.core.advance();
    assert_eq!(
        bench.state().host.endpoint_to_host,
        EndpointToHost::Drop,
        "fails closed"
    );
    assert!(bench.core.status().reasons[0].contains("Maybe"));
}

#[test]
fn a_pod_sends_from_others_addresses_only_where_the_cluster_allows_it() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.put(
        "WorkloadEndpoint",
        "node1-k8s-web-eth0",
        json!({"orchestrator": "k8s", "node": "node1", "pod": "web", "endpoint": "eth0",
            "containerID": "a", "interfaceName": "cali1", "ipNetworks": ["10.0.0.7/32"],
            "allowSpoofedSourcePrefixes": ["192.0.2.0/24"]}),
    );
    bench.sync();
    let allowed = |bench: &Bench| {
        let state = bench.state();
        let endpoint = state.workloads.values().next().unwrap();
        endpoint.allowed_sources.len()
    };
    assert_eq!(allowed(&bench), 0);
    for (setting, ranges) in [("Any", 1), ("Disabled", 0)] {
        let spec = json!({"workloadSourceSpoofing": setting});
        bench.put("FelixConfiguration", "default", spec);
        bench.core.advance();
        assert_eq!(allowed(&bench), ranges, "{setting}");
    }
}

#[test]
fn felix_says_how_large_packets_in_tunnels_are() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    let pool = json!({"cidr": "10.1.0.0/16", "vxlanMode": "Always"});
    bench.put("IPPool", "vxlan", pool);
    bench.sync();
    let mtu = |bench: &Bench| {
        let device = LinkName::new("vxlan.calico").unwrap();
        let link = bench.state().links.get(&device).map(|link| link.mtu);
        (link, bench.facts.borrow().mtu)
    };
    assert_eq!(mtu(&bench), (Some(1450), 1450));
    for (stated, expected) in [(1400, 1400), (0, 1450)] {
        let spec = json!({"vxlanMTU": stated});
        bench.put("FelixConfiguration", "default", spec);
        bench.core.advance();
        assert_eq!(mtu(&bench), (Some(expected), expected));
    }
    bench.put("FelixConfiguration", "default", json!({"vxlanMTU": 1500}));
    bench.core.advance();
    assert!(
        bench.core.warned.iter().any(|one| one.contains("vxlanMTU")),
        "{:?}",
        bench.core.warned
    );
}

#[test]
fn a_pattern_says_which_links_carry_packets_between_nodes() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    let pool = json!({"cidr": "10.1.0.0/16", "vxlanMode": "Always"});
    bench.put("IPPool", "vxlan", pool);
    bench.sync();
    let link = |name: &str, mtu: u32| {
        let mut link = Interface::new(2, LinkName::new(name).unwrap());
        link.mtu = mtu;
        link
    };
    let links = |bond| [link("eth0", 1500), link("bond0", bond), link("cali1", 900)];
    bench.core.interfaces(&links(9000));
    bench.core.advance();
    let mtu = |bench: &Bench| {
        let device = LinkName::new("vxlan.calico").unwrap();
        let link = bench.state().links.get(&device).map(|link| link.mtu);
        (link, bench.facts.borrow().mtu)
    };
    assert_eq!(mtu(&bench), (Some(1450), 1450), "the uplink's");
    for (pattern, expected, warned) in [
        ("^bond", 8950, ""),
        ("^(eth|bond).*", 1450, ""),
        ("^ib", 1450, "matches no link"),
        ("(", 1450, "is no regular expression"),
        ("", 1450, ""),
        ("cali", 1450, "matches no link"),
        ("bond", 8950, ""),
    ] {
        bench.core.warned.clear();
        let spec = json!({"mtuIfacePattern": pattern});
        bench.put("FelixConfiguration", "default", spec);
        bench.core.advance();
        assert_eq!(mtu(&bench), (Some(expected), expected), "{pattern}");
        let said = |one: &String| one.contains("FelixConfiguration default: mtuIfacePattern");
        let found = bench.core.warned.iter().find(|one| said(one));
        assert_eq!(found.is_some(), !warned.is_empty(), "{pattern}: {found:?}");
        assert!(found.is_none_or(|one| one.contains(warned)), "{found:?}");
    }
    bench.core.interfaces(&links(4000));
    bench.core.advance();
    assert_eq!(mtu(&bench), (Some(3950), 3950), "a link that changes");
    let shown = bench.core.configuration().values;
    let shown = shown
        .iter()
        .find(|one| one.name == "mtuIfacePattern")
        .unwrap();
    assert_eq!(
        (shown.value.as_str(), shown.source.as_str()),
        ("bond", "FelixConfiguration default")
    );
}
