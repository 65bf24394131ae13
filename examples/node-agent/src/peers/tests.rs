use serde_json::{Value, json};

use super::*;

fn node(addresses: &[&str], labels: &[(&str, &str)], reflector: Option<&str>) -> BgpNode {
    let labels = labels.iter();
    BgpNode {
        addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        labels: labels
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        reflector: reflector.map(str::to_owned),
        as_number: None,
    }
}

/// Two nodes of rack x and y, a reflector.
fn nodes() -> BTreeMap<String, BgpNode> {
    BTreeMap::from([
        (
            "a".to_owned(),
            node(&["10.0.0.1", "fd00::1"], &[("rack", "x")], None),
        ),
        (
            "b".to_owned(),
            node(&["10.0.0.2", "fd00::2"], &[("rack", "y")], None),
        ),
        ("c".to_owned(), node(&["10.0.0.3"], &[("rack", "y")], None)),
        (
            "r".to_owned(),
            node(&["10.0.0.9"], &[("rr", "yes")], Some("1.0.0.1")),
        ),
    ])
}

fn objects(specs: &[(&str, Value)]) -> BTreeMap<String, BgpPeer> {
    let object = |(name, spec): &(&str, Value)| {
        let mut peer: BgpPeer = serde_json::from_value(json!({ "spec": spec })).unwrap();
        peer.metadata.name = (*name).to_owned();
        ((*name).to_owned(), peer)
    };
    specs.iter().map(object).collect()
}

fn plan_of(own: &str, settings: &BgpSettings, specs: &[(&str, Value)]) -> Peers {
    let pods = [LocalWorkload {
        name: "shop/router".to_owned(),
        addresses: vec!["10.65.0.7".parse().unwrap()],
        labels: BTreeMap::from([("app".to_owned(), "router".to_owned())]),
    }];
    plan(&Inputs {
        own,
        nodes: &nodes(),
        settings,
        objects: &objects(specs),
        workloads: &pods,
    })
}

fn addresses(peers: &Peers) -> Vec<String> {
    peers.wanted.keys().map(ToString::to_string).collect()
}

fn no_mesh() -> BgpSettings {
    BgpSettings {
        mesh: false,
        ..BgpSettings::default()
    }
}

#[test]
fn the_mesh_has_one_session_a_node_and_no_reflectors() {
    let peers = plan_of("a", &BgpSettings::default(), &[]);
    assert_eq!(addresses(&peers), ["10.0.0.2", "10.0.0.3"]);
    let one = peers.wanted.values().next().unwrap();
    assert_eq!((one.as_number, one.of_cluster), (DEFAULT_AS, true));
    assert!(plan_of("r", &BgpSettings::default(), &[]).wanted.is_empty());
    assert!(plan_of("a", &no_mesh(), &[]).wanted.is_empty());
    assert!(plan_of("gone", &no_mesh(), &[]).wanted.is_empty());
    let six = |address: &str| node(&[address], &[], None);
    assert_eq!(six("fd00::1").common(&nodes()["a"]), "fd00::1".parse().ok());
    assert_eq!(
        six("fd00::1").common(&nodes()["c"]),
        None,
        "no family in common"
    );
}

#[test]
fn peers_are_for_the_nodes_that_they_select() {
    for (own, spec, expected) in [
        (
            "a",
            json!({"peerIP": "192.168.0.1", "asNumber": 64513}),
            true,
        ),
        (
            "b",
            json!({"nodeSelector": "rack == 'x'", "peerIP": "192.168.0.1:1179", "asNumber": 64513}),
            false,
        ),
        (
            "a",
            json!({"nodeSelector": "rack == 'x'", "peerIP": "192.168.0.1:1179", "asNumber": 64513}),
            true,
        ),
        (
            "a",
            json!({"node": "b", "peerIP": "192.168.0.1", "asNumber": 64513}),
            false,
        ),
        (
            "b",
            json!({"node": "b", "peerIP": "192.168.0.1", "asNumber": 64513}),
            true,
        ),
        ("a", json!({"peerIP": "10.0.0.1", "asNumber": 64513}), false),
    ] {
        let peers = plan_of(own, &no_mesh(), &[("tor", spec.clone())]);
        assert_eq!(!peers.wanted.is_empty(), expected, "{own} {spec}");
        assert_eq!(peers.problems, Vec::<String>::new());
    }
}

#[test]
fn every_field_reaches_the_session() {
    let spec = json!({
        "node": "a", "peerIP": "[2001:db8::1]:1179", "asNumber": "1.5", "localASNumber": 65000,
        "numAllowedLocalASNumbers": 2, "sourceAddress": "None", "nextHopMode": "Self", "maxRestartTime": "10s",
        "keepaliveTime": "1s", "ttlSecurity": 2, "reachableBy": "fd00::fe", "filters": ["f1", "f2"],
        "password": {"secretKeyRef": {"name": "bgp", "key": "tor"}},
    });
    let peers = plan_of("a", &no_mesh(), &[("tor", spec)]);
    assert_eq!(peers.problems, Vec::<String>::new());
    let wanted = peers.wanted.values().next().unwrap();
    let expected = WantedPeer {
        address: "[2001:db8::1]:1179".parse().unwrap(),
        as_number: 65_541,
        local_as: 65000,
        kind: PeerKind::Node,
        of_cluster: false,
        rr_client: false,
        passive: false,
        next_hop: NextHop::Own,
        from_node_address: false,
        ttl_security: Some(2),
        allow_own_as: 2,
        keepalive: Duration::from_secs(1),
        restart_time: Duration::from_secs(10),
        password: Some(SecretRef {
            name: "bgp".to_owned(),
            key: "tor".to_owned(),
            optional: false,
        }),
        filters: vec!["f1".to_owned(), "f2".to_owned()],
        reachable_by: Some("fd00::fe".parse().unwrap()),
        object: "BGPPeer tor".to_owned(),
    };
    assert_eq!(wanted, &expected);
}

#[test]
fn reflectors_by_label_peer_back_and_have_clients() {
    let spec = [(
        "rr",
        json!({"nodeSelector": "!has(rr)", "peerSelector": "has(rr)"}),
    )];
    let client = plan_of("a", &no_mesh(), &spec);
    assert_eq!(addresses(&client), ["10.0.0.9"]);
    let session = &client.wanted[&"10.0.0.9".parse::<IpAddr>().unwrap()];
    assert!(session.of_cluster && !session.rr_client);
    let reflector = plan_of("r", &no_mesh(), &spec);
    assert_eq!(addresses(&reflector), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert!(
        reflector
            .wanted
            .values()
            .all(|peer| peer.rr_client && peer.of_cluster)
    );
    let manual = [(
        "rr",
        json!({"nodeSelector": "!has(rr)", "peerSelector": "has(rr)", "reversePeering": "Manual"}),
    )];
    assert!(plan_of("r", &no_mesh(), &manual).wanted.is_empty());
}

#[test]
fn a_local_workload_is_waited_for() {
    let spec = [(
        "pods",
        json!({"localWorkloadSelector": "app == 'router'", "asNumber": 65001}),
    )];
    let peers = plan_of("a", &no_mesh(), &spec);
    assert_eq!(addresses(&peers), ["10.65.0.7"]);
    let session = peers.wanted.values().next().unwrap();
    assert_eq!(
        (session.kind, session.passive),
        (PeerKind::LocalWorkload, true)
    );
}

#[test]
fn a_bad_peer_is_named_and_the_others_live_on() {
    for (spec, words) in [
        (
            json!({"nodeSelector": "rack ==", "peerIP": "192.168.0.1", "asNumber": 1}),
            "spec.nodeSelector",
        ),
        (json!({"peerIP": "tor", "asNumber": 1}), "spec.peerIP"),
        (json!({"peerIP": "192.168.0.1"}), "spec.asNumber"),
        (json!({}), "one of peerIP"),
        (
            json!({"peerIP": "192.168.0.1", "peerSelector": "all()"}),
            "one of peerIP",
        ),
        (
            json!({"peerIP": "192.168.0.1", "asNumber": 1, "maxRestartTime": "2"}),
            "spec.maxRestartTime",
        ),
        (
            json!({"peerIP": "192.168.0.1", "asNumber": 1, "nextHopMode": "Maybe"}),
            "spec.nextHopMode",
        ),
        (
            json!({"peerIP": "192.168.0.1", "asNumber": 1, "reachableBy": "fd00::1"}),
            "spec.reachableBy",
        ),
        (
            json!({"peerIP": "192.168.0.1", "asNumber": 1, "sourceAddress": "x"}),
            "spec.sourceAddress",
        ),
    ] {
        let peers = plan_of("a", &BgpSettings::default(), &[("tor", spec.clone())]);
        assert_eq!(peers.wanted.len(), 2, "{spec}");
        let problem = &peers.problems[0];
        assert!(
            problem.starts_with("BGPPeer tor: ") && problem.contains(words),
            "{problem}"
        );
    }
}

#[test]
fn of_two_peers_with_one_address_the_first_is_followed() {
    let spec = |number: u32| json!({"peerIP": "192.168.0.1", "asNumber": number});
    let peers = plan_of("a", &no_mesh(), &[("one", spec(1)), ("two", spec(2))]);
    assert_eq!(peers.wanted.values().next().unwrap().as_number, 1);
    assert!(
        peers.problems[0].contains("BGPPeer two: BGPPeer one has a session"),
        "{:?}",
        peers.problems
    );
    // A BGPPeer for a node beats the mesh.
    let peers = plan_of(
        "a",
        &BgpSettings::default(),
        &[("b", json!({"peerIP": "10.0.0.2", "asNumber": 7}))],
    );
    let session = &peers.wanted[&"10.0.0.2".parse::<IpAddr>().unwrap()];
    assert_eq!((session.as_number, session.of_cluster), (7, true));
}

#[test]
fn a_nodes_configuration_wins_field_by_field() {
    let read = |spec: Value, name: &str| {
        let mut one: ocicat_datastore::model::BgpConfiguration =
            serde_json::from_value(json!({ "spec": spec })).unwrap();
        one.metadata.name = name.to_owned();
        one
    };
    let cluster = read(
        json!({
            "asNumber": 65001, "nodeToNodeMeshEnabled": false, "listenPort": 1179, "bindMode": "NodeIP",
            "communities": [{"name": "gold", "value": "65001:7"}],
            "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["gold", "1:2:3", "tin"]}],
            "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}], "serviceLoadBalancerAggregation": "Disabled",
        }),
        "default",
    );
    let own = read(
        json!({"asNumber": 65002, "nodeMeshKeepaliveTime": "x"}),
        "node.a",
    );
    let (settings, problems) = BgpSettings::read(Some(&cluster), Some(&own));
    assert_eq!(
        (settings.as_number, settings.port, settings.mesh),
        (65002, 1179, false)
    );
    assert!(settings.bind_to_node && !settings.services.aggregate);
    assert_eq!(settings.services.cluster.len(), 1);
    let [one] = settings.advertisements.as_slice() else {
        panic!("{:?}", settings.advertisements)
    };
    assert_eq!((one.communities.len(), one.large.len()), (1, 1));
    assert!(
        problems
            .iter()
            .any(|one| one.contains("nodeMeshKeepaliveTime")),
        "{problems:?}"
    );
    assert!(
        problems.iter().any(|one| one.contains("\"tin\"")),
        "{problems:?}"
    );
}
