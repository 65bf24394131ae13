//! Against BIRD 2 over real sockets, in network namespaces. Needs root and the package bird2.

mod lab;

use std::time::Duration;

use lab::{Lab, Ours, until};
use ocicat_bgp::{
    Attributes, Cease, Community, Event, Families, GracefulRestart, LargeCommunity, NextHop,
    Password, PeerConfig, Prefix, SpeakerConfig, Stop, Ttl,
};
use tokio::runtime::Runtime;

const BIRD_V4: &str = "10.2.0.0/26";
const OUR_V4: &str = "10.1.0.0/26";
const BIRD_V6: &str = "2001:db8:2::/122";
const OUR_V6: &str = "2001:db8:1::/122";

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn speaker(as_number: u32) -> SpeakerConfig {
    let v6 = NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    };
    SpeakerConfig::new(as_number, [192, 0, 2, 1].into()).next_hop_v6(v6)
}

fn peer(as_number: u32) -> PeerConfig {
    let restart = GracefulRestart::new(Duration::from_secs(20)).forwarding_preserved(true);
    PeerConfig::new([192, 0, 2, 2].into(), as_number)
        .families(Families::BOTH)
        .hold_time(Duration::from_secs(9))
        .graceful_restart(restart)
}

fn start(lab: &Lab, config: SpeakerConfig, peer: PeerConfig) -> Ours {
    let ours = lab.start(config);
    let attributes = Attributes::builder()
        .community(Community(64512 << 16 | 9))
        .large_community(LargeCommunity(64512, 3, 4));
    ours.handle.originate(prefix(OUR_V4), attributes.build());
    ours.handle.originate(prefix(OUR_V6), Attributes::local());
    ours.handle.originations_complete();
    runtime().block_on(ours.handle.add_peer(peer)).unwrap();
    ours
}

fn bird_bgp(settings: &str) -> String {
    format!(
        "protocol bgp ocicat {{ {settings} hold time 9; graceful restart on; graceful restart time 20;
            ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
            ipv6 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}"
    )
}

fn is_best(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Best { prefix, routes, .. } if *prefix == self::prefix(wanted) && !routes.is_empty())
}

/// Both sides hold the other's routes of both families.
fn exchanged(lab: &Lab, ours: &mut Ours) {
    let events = ours.wait("an IPv4 route from BIRD", |event| is_best(event, BIRD_V4));
    if !events.iter().any(|event| is_best(event, BIRD_V6)) {
        ours.wait("an IPv6 route from BIRD", |event| is_best(event, BIRD_V6));
    }
    until("our routes at BIRD", || {
        lab.bird_has(OUR_V4) && lab.bird_has(OUR_V6)
    });
}

#[test]
fn routes_both_ways_inside_an_as() {
    let mut lab = Lab::new();
    lab.start_bird(
        &bird_bgp("local 192.0.2.2 as 64512; neighbor 192.0.2.1 as 64512;"),
        false,
    );
    let mut ours = start(&lab, speaker(64512), peer(64512));
    exchanged(&lab, &mut ours);
    let seen = lab.birdc("show route 10.1.0.0/26 all");
    for expected in [
        "BGP.origin: IGP",
        "BGP.next_hop: 192.0.2.1",
        "BGP.local_pref: 100",
        "BGP.community: (64512,9)",
        "BGP.large_community: (64512, 3, 4)",
    ] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
    assert!(
        lab.birdc("show route 2001:db8:1::/122 all")
            .contains("BGP.next_hop: 2001:db8::1")
    );
    let routes = runtime().block_on(ours.handle.routes()).unwrap();
    let route = routes
        .iter()
        .find(|route| route.prefix == prefix(BIRD_V4))
        .unwrap();
    let attributes = &route.paths[0].attributes;
    assert_eq!(
        attributes.communities().collect::<Vec<_>>(),
        [Community(64513 << 16 | 7)]
    );
    assert_eq!(
        attributes.large_communities().collect::<Vec<_>>(),
        [LargeCommunity(64513, 1, 2)]
    );
    ours.handle.withdraw(prefix(OUR_V4));
    until("our route gone at BIRD", || !lab.bird_has(OUR_V4));
    lab.birdc("disable s4");
    ours.wait("BIRD's route gone", |event| {
        matches!(event, Event::Best { prefix, routes, .. } if *prefix == self::prefix(BIRD_V4) && routes.is_empty())
    });
    // Route refresh (RFC 2918), asked for by BIRD.
    lab.birdc("reload in ocicat");
    until("our route still at BIRD", || lab.bird_has(OUR_V6));
}

/// Between ASes, one of them above 65535, with MD5 (RFC 2385) and GTSM (RFC 5082), whoever dials.
#[test]
fn md5_and_gtsm_between_ases_in_both_roles() {
    for passive in [false, true] {
        let mut lab = Lab::new();
        let role = if passive { "" } else { "passive on;" };
        lab.start_bird(
            &bird_bgp(&format!(
                "local 192.0.2.2 as 64513; neighbor 192.0.2.1 as 4200000001; {role}
                 password \"secret\"; ttl security on; connect delay time 1;"
            )),
            false,
        );
        let settings = peer(64513)
            .passive(passive)
            .password(Password::new("secret").unwrap())
            .ttl(Ttl::Security { hops: 1 });
        let mut ours = start(&lab, speaker(4_200_000_001), settings);
        exchanged(&lab, &mut ours);
        let seen = lab.birdc("show route 10.1.0.0/26 all");
        assert!(seen.contains("BGP.as_path: 4200000001"), "{seen}");
        let peers = runtime().block_on(ours.handle.peers()).unwrap();
        assert_eq!(
            peers[0].negotiated.as_ref().map(|n| n.outgoing),
            Some(!passive)
        );
    }
}

#[test]
fn a_wrong_password_gets_nothing() {
    let mut lab = Lab::new();
    lab.start_bird(
        &bird_bgp(
            "local 192.0.2.2 as 64512; neighbor 192.0.2.1 as 64512; password \"right\"; \
             connect delay time 1; connect retry time 1;",
        ),
        false,
    );
    let wrong = peer(64512).password(Password::new("wrong").unwrap());
    let mut ours = start(&lab, speaker(64512), wrong);
    until("BIRD tries", || {
        lab.birdc("show protocols ocicat").contains("Connect")
    });
    let right = peer(64512).password(Password::new("right").unwrap());
    let id = runtime().block_on(ours.handle.peers()).unwrap()[0].id;
    assert!(
        ours.events
            .try_recv()
            .is_ok_and(|event| matches!(event, Event::Best { .. }))
    );
    runtime()
        .block_on(ours.handle.update_peer(id, right))
        .unwrap();
    exchanged(&lab, &mut ours);
}

/// RFC 4724: BIRD keeps our routes when our process is killed, and until the new one has said End-of-RIB.
#[test]
fn bird_keeps_our_routes_through_a_kill_and_a_silent_stop() {
    let mut lab = Lab::new();
    lab.start_bird(
        &bird_bgp("local 192.0.2.2 as 64512; neighbor 192.0.2.1 as 64512;"),
        false,
    );
    let mut ours = start(&lab, speaker(64512), peer(64512));
    exchanged(&lab, &mut ours);
    let was = lab.birdc("show route 10.1.0.0/26");
    ours.kill();
    until("BIRD notices", || {
        !lab.birdc("show protocols ocicat").contains("Established")
    });
    assert!(lab.bird_has(OUR_V4) && lab.bird_has(OUR_V6));

    let mut ours = start(&lab, speaker(64512).restarting(true), peer(64512));
    exchanged(&lab, &mut ours);
    ours.wait("BIRD's routes are complete", |event| {
        *event == Event::RestartComplete
    });
    until("no stale route at BIRD", || {
        !lab.birdc("show route all").contains("stale")
    });
    // The route is the one that it was: it has its old time of arrival.
    let time = |text: &str| {
        text.split('[')
            .nth(1)
            .map(|rest| rest.split(' ').nth(1).unwrap().to_owned())
    };
    assert_eq!(time(&lab.birdc("show route 10.1.0.0/26")), time(&was));

    runtime().block_on(ours.handle.stop(Stop::Silent));
    until("BIRD notices", || {
        !lab.birdc("show protocols ocicat").contains("Established")
    });
    assert!(lab.bird_has(OUR_V4) && lab.bird_has(OUR_V6));
    drop(ours);

    let mut ours = start(&lab, speaker(64512).restarting(true), peer(64512));
    exchanged(&lab, &mut ours);
    runtime().block_on(
        ours.handle
            .stop(Stop::Cease(Cease::AdministrativeShutdown("drained".into()))),
    );
    until("our routes gone at BIRD", || {
        !lab.bird_has(OUR_V4) && !lab.bird_has(OUR_V6)
    });
}

/// RFC 4724 section 4.2: BIRD is killed, we keep its routes, and its return changes none of them.
#[test]
fn we_keep_birds_routes_through_a_kill() {
    let mut lab = Lab::new();
    let config =
        bird_bgp("local 192.0.2.2 as 64512; neighbor 192.0.2.1 as 64512; connect delay time 1;");
    lab.start_bird(&config, false);
    let mut ours = start(&lab, speaker(64512), peer(64512));
    exchanged(&lab, &mut ours);
    while ours.events.try_recv().is_ok() {}
    lab.kill_bird();
    let down = ours.wait("the loss", |event| matches!(event, Event::PeerDown { .. }));
    assert!(
        matches!(down.last(), Some(Event::PeerDown { kept: Some(_), .. })),
        "{down:?}"
    );
    lab.start_bird(&config, true);
    let mut events = ours.wait("BIRD's IPv4 routes", |event| {
        matches!(event, Event::EndOfRib { .. })
    });
    events.extend(ours.wait("BIRD's IPv6 routes", |event| {
        matches!(event, Event::EndOfRib { .. })
    }));
    let touched = |event: &&Event| matches!(event, Event::Best { .. } | Event::StaleDropped { .. });
    assert_eq!(events.iter().find(touched), None);
    let routes = runtime().block_on(ours.handle.routes()).unwrap();
    assert!(
        routes
            .iter()
            .all(|route| route.paths.iter().all(|path| !path.stale))
    );
    assert_eq!(routes.len(), 4);
}
