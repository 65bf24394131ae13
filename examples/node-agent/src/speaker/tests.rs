use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::filters::ExportPolicy;
use crate::network::PoolView;
use crate::peers::{BgpSettings, PeerKind};

/// A speaker of a node at an address of the loopback.
struct Node {
    speaker: Speaker,
    events: mpsc::Receiver<SpeakerEvent>,
    address: SocketAddr,
}

fn free(address: [u8; 4]) -> SocketAddr {
    let listener = std::net::TcpListener::bind(SocketAddr::from((address, 0))).unwrap();
    listener.local_addr().unwrap()
}

fn node(last: u8) -> Node {
    let address = free([127, 0, 9, last]);
    let (mut speaker, events) = Speaker::new(false, None);
    let identity = Identity {
        as_number: 64512,
        router_id: [10, 0, 0, last].into(),
        cluster_id: None,
        listen: vec![address],
        addresses: vec![address.ip()],
    };
    speaker.start(identity).unwrap();
    Node {
        speaker,
        events,
        address,
    }
}

fn wanted(peer: SocketAddr) -> Wanted {
    let pool = PoolView {
        range: "10.0.0.0/8".parse().unwrap(),
        encapsulation: ocicat_dataplane::hop::Encapsulation::default(),
        nat_outgoing: false,
        disabled: false,
        export: true,
    };
    let pools = BTreeMap::from([("p".to_owned(), pool)]);
    Wanted {
        interface: None,
        peer: WantedPeer {
            address: peer,
            as_number: 64512,
            local_as: 64512,
            kind: PeerKind::Mesh,
            of_cluster: true,
            rr_client: false,
            passive: false,
            next_hop: NextHop::Auto,
            from_node_address: true,
            ttl_security: None,
            allow_own_as: 0,
            keepalive: Duration::from_secs(30),
            restart_time: Duration::from_secs(120),
            password: None,
            filters: Vec::new(),
            reachable_by: None,
            object: "Node other".to_owned(),
        },
        password: None,
        passage: Passage {
            policy: ExportPolicy::new(&pools, &BgpSettings::default()),
            ..Passage::default()
        },
    }
}

fn sessions(peers: &[&Wanted]) -> BTreeMap<IpAddr, Wanted> {
    let one = |wanted: &&Wanted| (wanted.peer.address.ip(), (*wanted).clone());
    peers.iter().map(one).collect()
}

async fn until<T>(node: &mut Node, mut wanted: impl FnMut(SpeakerEvent) -> Option<T>) -> T {
    loop {
        let event = node.events.recv().await.unwrap();
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

async fn up(node: &mut Node) {
    until(node, |event| {
        matches!(event, SpeakerEvent::Up { .. }).then_some(())
    })
    .await;
}

fn learned(event: SpeakerEvent) -> Option<(String, bool)> {
    match event {
        SpeakerEvent::Best { prefix, hops, .. } => Some((prefix.to_string(), !hops.is_empty())),
        _ => None,
    }
}

#[tokio::test]
async fn changing_one_peer_resets_no_other() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let (to_b, mut to_c) = (wanted(b.address), wanted(c.address));
    let to_a = wanted(a.address);
    assert_eq!(
        b.speaker.set_peers(sessions(&[&to_a])).await,
        Vec::<String>::new()
    );
    assert_eq!(
        c.speaker.set_peers(sessions(&[&to_a])).await,
        Vec::<String>::new()
    );
    assert_eq!(
        a.speaker.set_peers(sessions(&[&to_b, &to_c])).await,
        Vec::<String>::new()
    );
    for node in [&mut b, &mut c] {
        up(node).await;
    }
    for one in [&a.speaker, &b.speaker, &c.speaker] {
        one.originations_complete();
    }
    a.speaker.originate("10.1.0.0/26".parse().unwrap());
    a.speaker.originate("10.2.0.0/26".parse().unwrap());
    for node in [&mut b, &mut c] {
        for _ in 0..2 {
            assert!(until(node, learned).await.1);
        }
    }
    // A filter for c alone, and another keepalive: the route goes away there, and no session does.
    let rules = serde_json::json!({"exportV4": [{"action": "Reject", "cidr": "10.2.0.0/16", "matchOperator": "In"}]});
    to_c.passage.sets = vec![serde_json::from_value(rules).unwrap()];
    to_c.peer.keepalive = Duration::from_secs(20);
    a.speaker.set_peers(sessions(&[&to_b, &to_c])).await;
    assert_eq!(
        until(&mut c, learned).await,
        ("10.2.0.0/26".to_owned(), false)
    );
    for peer in a.speaker.peers().await {
        assert!(peer.established && peer.sessions == 1, "{peer:?}");
    }
    // Without c, b goes on.
    a.speaker.set_peers(sessions(&[&to_b])).await;
    let peers = a.speaker.peers().await;
    let [left] = peers.as_slice() else {
        panic!("{peers:?}")
    };
    assert!(left.established && left.sessions == 1 && left.address == b.address.ip().to_string());
}

#[tokio::test]
async fn a_node_that_is_drained_says_so() {
    let (mut a, mut b) = (node(4), node(5));
    a.speaker.set_peers(sessions(&[&wanted(b.address)])).await;
    b.speaker.set_peers(sessions(&[&wanted(a.address)])).await;
    up(&mut b).await;
    a.speaker.originations_complete();
    a.speaker.originate("10.1.0.0/26".parse().unwrap());
    until(&mut b, learned).await;
    assert!(a.speaker.set_draining(true) && !a.speaker.set_draining(true));
    a.speaker.originate("10.1.0.0/26".parse().unwrap());
    until(&mut b, learned).await;
    let routes = b.speaker.routes().await;
    let path = &routes[0]["paths"][0];
    assert_eq!(path["localPref"], 0, "{path}");
    assert_eq!(path["communities"][0], "65535:0", "{path}");
}

#[tokio::test]
async fn a_bad_password_leaves_one_session_out() {
    let mut a = node(6);
    let (mut bad, good) = (wanted(free([127, 0, 9, 7])), wanted(free([127, 0, 9, 8])));
    bad.password = Some("x".repeat(81));
    let problems = a.speaker.set_peers(sessions(&[&bad, &good])).await;
    assert!(
        problems[0].contains("spec.password") && problems[0].contains("81"),
        "{problems:?}"
    );
    assert_eq!(a.speaker.peers().await.len(), 1);
}
