//! Configuration, events and status as serde values; counters as text.

mod common;

use std::time::Duration;

use common::{Net, address, block};
use ocicat_bgp::{
    AddPath, Attributes, Cease, Community, DynamicPeers, Event, Families, PeerConfig, Role,
    SpeakerConfig, Stop, Ttl,
};
use serde_json::{Value, json};

fn pair() -> Net {
    let mut net = Net::new(1);
    for node in 0..2 {
        net.start(node, Net::config(node, 64512))
            .originations_complete();
    }
    let attributes = Attributes::builder().community(Community(64512 << 16 | 7));
    net.speaker(0).originate(block(0, 0), &attributes.build());
    net.peer(0, PeerConfig::new(address(1), 64512));
    net.peer(1, PeerConfig::new(address(0), 64512));
    net.run(Duration::from_secs(10));
    net
}

#[test]
fn settings_are_read_with_their_defaults_and_written_back() {
    let peer: PeerConfig =
        serde_json::from_value(json!({"address": "192.0.2.2", "peer_as": "1.10"})).unwrap();
    assert_eq!(
        (peer.peer_as.0, peer.port, peer.families),
        (65546, 179, Families::IPV4)
    );
    assert_eq!(peer.hold_time, Duration::from_secs(90));
    let peer: PeerConfig = serde_json::from_value(json!({
        "address": "2001:db8::2", "peer_as": 64513, "hold_time": 9, "keepalive": 2.5, "families": ["ipv4", "ipv6"],
        "ttl": {"security": {"hops": 2}}, "graceful_restart": null, "add_path": {"send": ["ipv6"]},
        "role": "route-server-client", "private_as": "replace", "next_hop": "own", "interface": "eth0",
        "extended_next_hop": true,
    }))
    .unwrap();
    assert_eq!(peer.keepalive, Some(Duration::from_millis(2500)));
    assert_eq!(
        (peer.ttl, peer.graceful_restart),
        (Ttl::Security { hops: 2 }, None)
    );
    assert_eq!(peer.add_path, AddPath::send(Families::IPV6));
    assert_eq!(peer.role, Some(Role::RouteServerClient));
    assert_eq!(peer.interface.as_deref(), Some("eth0"));
    let text = serde_json::to_value(&peer).unwrap();
    let again: PeerConfig = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), text);

    let speaker: SpeakerConfig =
        serde_json::from_value(json!({"as_number": 64512, "router_id": "192.0.2.1"})).unwrap();
    assert_eq!(speaker.cluster_id, speaker.router_id);
    let dynamic: DynamicPeers = serde_json::from_value(
        json!({"prefix": "10.0.0.0/8", "template": {"peer_as": 64512, "rr_client": true}}),
    )
    .unwrap();
    assert!(dynamic.template.rr_client);
    assert_eq!(
        (dynamic.limit, dynamic.template.families),
        (5000, Families::IPV4)
    );
}

#[test]
fn bad_settings_are_refused_by_name() {
    for (bad, expected) in [
        (json!({"peer_as": 1}), "address"),
        (json!({"address": "192.0.2.2"}), "peer_as"),
        (
            json!({"address": "192.0.2.2", "peer_as": 1, "surprise": 1}),
            "surprise",
        ),
        (
            json!({"address": "192.0.2.2", "peer_as": 1, "password": "x"}),
            "password",
        ),
        (
            json!({"address": "192.0.2.2", "peer_as": 1, "hold_time": -1}),
            "negative",
        ),
        (
            json!({"address": "192.0.2.2", "peer_as": 1, "role": "king"}),
            "king",
        ),
    ] {
        let error = serde_json::from_value::<PeerConfig>(bad.clone()).expect_err("refused");
        assert!(error.to_string().contains(expected), "{bad}: {error}");
    }
    let error = serde_json::from_value::<SpeakerConfig>(json!({"as_number": 1}));
    assert!(
        error
            .expect_err("refused")
            .to_string()
            .contains("router_id")
    );
}

#[test]
fn a_password_is_in_no_text() {
    let secret = ocicat_bgp::Password::new("hunter2").unwrap();
    let peer = PeerConfig::new(address(1), 64512).password(secret);
    assert!(!serde_json::to_string(&peer).unwrap().contains("hunter2"));
    assert!(!format!("{peer:?}").contains("hunter2"));
}

#[test]
fn events_and_status_say_why() {
    let mut net = pair();
    let find = |net: &mut Net, wanted: fn(&Event) -> bool| -> Value {
        let event = net
            .node(1)
            .events
            .iter()
            .find(|event| wanted(event))
            .cloned();
        serde_json::to_value(event.expect("an event")).unwrap()
    };
    let best = find(&mut net, |event| matches!(event, Event::Best { .. }));
    assert_eq!(
        (&best["event"], &best["step"]),
        (&json!("best"), &json!("only-path"))
    );
    assert_eq!(best["prefix"], json!(block(0, 0).to_string()));
    let route = &best["routes"][0];
    assert_eq!(route["next_hop"], json!(address(0).to_string()));
    assert_eq!(route["attributes"]["communities"], json!(["64512:7"]));
    assert_eq!(route["attributes"]["origin"], json!("igp"));
    let up = find(&mut net, |event| matches!(event, Event::PeerUp { .. }));
    assert_eq!(up["negotiated"]["families"], json!(["ipv4"]));
    assert_eq!(up["negotiated"]["hold_time"], json!(90.0));
    net.stop(
        0,
        &Stop::Cease(Cease::AdministrativeShutdown("drained".into())),
    );
    net.run(Duration::from_millis(100));
    let down = find(&mut net, |event| matches!(event, Event::PeerDown { .. }));
    assert_eq!(down["kept"], Value::Null);
    assert_eq!(
        (&down["reason"]["by"], &down["reason"]["code"]),
        (&json!("peer"), &json!(6))
    );
    let status = serde_json::to_value(net.speaker(1).peers()).unwrap();
    assert_eq!(status[0]["state"], json!("Active"));
    let text = status[0]["last_error"]["text"].as_str().unwrap();
    assert!(
        text.contains("administrative shutdown") && text.contains("drained"),
        "{text}"
    );
    let routes = net.speaker(1).routes();
    assert!(serde_json::to_string(&routes).is_ok());
}

#[test]
fn counters_as_text() {
    let mut net = pair();
    let now = net.now;
    net.speaker(1)
        .accept([203, 0, 113, 1].into(), address(1), now);
    let metrics = net.speaker(1).metrics();
    assert_eq!((metrics.refused_connections, metrics.prefixes), (1, [1, 0]));
    let text = metrics.to_string();
    for line in [
        "# TYPE ocicat_bgp_refused_connections_total counter",
        "ocicat_bgp_refused_connections_total 1",
        "ocicat_bgp_prefixes{family=\"ipv4\"} 1",
        "ocicat_bgp_peer_established{peer=\"10.0.0.1\"} 1",
        "ocicat_bgp_peer_routes{peer=\"10.0.0.1\"} 1",
        "ocicat_bgp_peer_sessions_total{peer=\"10.0.0.1\"} 1",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} in {text}");
    }
}
