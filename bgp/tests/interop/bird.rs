//! BIRD 2.

use ocicat_bgp::{
    Cease, Community, Event, LargeCommunity, Password, PeerConfig, SpeakerConfig, Stop, Ttl,
};

use super::lab::{Lab, until};
use super::ours::{OUR_V4, OUR_V6, Ours, THEIR_V4, is_gone, peer, prefix, speaker};

const INSIDE: &str = "local 192.0.2.2 as 64512; neighbor 192.0.2.1 as 64512;";

fn bgp(settings: &str) -> String {
    channels(settings, "")
}

/// A session with more settings for each channel.
pub(crate) fn channels(settings: &str, channel: &str) -> String {
    let channel =
        format!("{{ import all; export where source = RTS_STATIC; next hop self; {channel} }}");
    format!(
        "protocol bgp ocicat {{ {settings} hold time 9; graceful restart on; graceful restart time 20;
            ipv4 {channel}; ipv6 {channel}; }}"
    )
}

/// Both sides are up and have everything.
fn meet(lab: &mut Lab, settings: &str, speaker: SpeakerConfig, peer: PeerConfig) -> Ours {
    lab.start_bird(&bgp(settings), false);
    join(lab, speaker, peer)
}

fn join(lab: &Lab, speaker: SpeakerConfig, peer: PeerConfig) -> Ours {
    let mut ours = lab.start(speaker, peer);
    ours.exchanged(|prefix| lab.bird_has(prefix));
    ours
}

fn notices(lab: &Lab) {
    until("BIRD notices", || {
        !lab.birdc("show protocols ocicat").contains("Established")
    });
}

fn has_both(lab: &Lab) -> bool {
    lab.bird_has(OUR_V4) && lab.bird_has(OUR_V6)
}

#[test]
fn routes_both_ways_inside_an_as() {
    let mut lab = Lab::new();
    let mut ours = meet(&mut lab, INSIDE, speaker(64512), peer(64512));
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
    let route = ours.route(THEIR_V4);
    let attributes = &route.paths[0].attributes;
    assert!(attributes.communities().eq([Community(64513 << 16 | 7)]));
    assert!(
        attributes
            .large_communities()
            .eq([LargeCommunity(64513, 1, 2)])
    );
    ours.handle.withdraw(prefix(OUR_V4));
    until("our route gone at BIRD", || !lab.bird_has(OUR_V4));
    lab.birdc("disable s4");
    ours.wait("BIRD's route gone", |event| is_gone(event, THEIR_V4));
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
        let settings = peer(64513)
            .passive(passive)
            .password(Password::new("secret").unwrap())
            .ttl(Ttl::Security { hops: 1 });
        let bird = format!(
            "local 192.0.2.2 as 64513; neighbor 192.0.2.1 as 4200000001; {role}
             password \"secret\"; ttl security on; connect delay time 1;"
        );
        let ours = meet(&mut lab, &bird, speaker(4_200_000_001), settings);
        let seen = lab.birdc("show route 10.1.0.0/26 all");
        assert!(seen.contains("BGP.as_path: 4200000001"), "{seen}");
        let outgoing = ours.peers()[0].negotiated.as_ref().map(|n| n.outgoing);
        assert_eq!(outgoing, Some(!passive));
    }
}

#[test]
fn a_wrong_password_gets_nothing() {
    let mut lab = Lab::new();
    let bird = format!("{INSIDE} password \"right\"; connect delay time 1; connect retry time 1;");
    lab.start_bird(&bgp(&bird), false);
    let with = |password: &str| peer(64512).password(Password::new(password).unwrap());
    let mut ours = lab.start(speaker(64512), with("wrong"));
    until("BIRD tries", || {
        lab.birdc("show protocols ocicat").contains("Connect")
    });
    let first = ours.events.try_recv();
    assert!(first.is_ok_and(|event| matches!(event, Event::Best { .. })));
    ours.update_peer(with("right"));
    ours.exchanged(|prefix| lab.bird_has(prefix));
}

/// RFC 4724: BIRD keeps our routes when our process is killed, and until the new one has said End-of-RIB.
#[test]
fn bird_keeps_our_routes_through_a_kill_and_a_silent_stop() {
    let mut lab = Lab::new();
    let ours = meet(&mut lab, INSIDE, speaker(64512), peer(64512));
    let was = lab.birdc("show route 10.1.0.0/26");
    ours.kill();
    notices(&lab);
    assert!(has_both(&lab));

    let again = || join(&lab, speaker(64512).restarting(true), peer(64512));
    let mut ours = again();
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

    ours.stop(Stop::Silent);
    notices(&lab);
    assert!(has_both(&lab));
    drop(ours);

    let ours = again();
    let drained = Cease::AdministrativeShutdown("drained".into());
    ours.stop(Stop::Cease(drained));
    until("our routes gone at BIRD", || {
        !lab.bird_has(OUR_V4) && !lab.bird_has(OUR_V6)
    });
}

/// RFC 4724 section 4.2: BIRD is killed, we keep its routes, and its return changes none of them.
#[test]
fn we_keep_birds_routes_through_a_kill() {
    let mut lab = Lab::new();
    let bird = format!("{INSIDE} connect delay time 1;");
    let mut ours = meet(&mut lab, &bird, speaker(64512), peer(64512));
    ours.forget_events();
    lab.kill_neighbour();
    ours.loses_the_session();
    lab.start_bird(&bgp(&bird), true);
    ours.finds_the_same_routes();
    assert_eq!(ours.routes().len(), 4);
}
