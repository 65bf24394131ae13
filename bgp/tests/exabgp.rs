//! Against ExaBGP over real sockets, in network namespaces. Needs root and the package exabgp.

#[path = "bird/lab.rs"]
mod lab;

use std::process::Command;
use std::time::Duration;

use lab::{Lab, Ours, until};
use ocicat_bgp::{
    Attributes, Cease, Community, Event, Families, GracefulRestart, LargeCommunity, NextHop,
    Password, PeerConfig, Prefix, SpeakerConfig, Stop,
};
use tokio::runtime::Runtime;

const THEIR_V4: &str = "10.2.0.0/26";
const OUR_V4: &str = "10.1.0.0/26";
const THEIR_V6: &str = "2001:db8:2::/122";
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

/// Starts ExaBGP in AS 64513; what it hears goes line by line to the file `heard`.
fn exabgp(lab: &mut Lab, as_number: u32, extra: &str) {
    assert!(
        Command::new("exabgp").arg("--version").output().is_ok(),
        "this test needs ExaBGP: apt-get install exabgp"
    );
    let heard = lab.file("heard");
    let script = lab.file("hear");
    // The shell keeps its output open: when that is closed, ExaBGP takes the helper for dead.
    let text = format!("cat > {}\nexit 0\n", heard.display());
    std::fs::write(&script, text).unwrap();
    let text = format!(
        "process hear {{ run /bin/sh {}; encoder json; }}
         neighbor 192.0.2.1 {{
            router-id 192.0.2.2; local-address 192.0.2.2; local-as 64513; peer-as {as_number};
            hold-time 9; {extra}
            capability {{ asn4 enable; route-refresh enable; graceful-restart 20; }}
            family {{ ipv4 unicast; ipv6 unicast; }}
            static {{
               route {THEIR_V4} next-hop 192.0.2.2 community [64513:7] large-community [64513:1:2];
               route {THEIR_V6} next-hop 2001:db8::2;
            }}
            api {{ processes [hear]; neighbor-changes; receive {{ parsed; update; }} }}
         }}",
        script.display()
    );
    let file = lab.file("exabgp.conf");
    std::fs::write(&file, text).unwrap();
    lab.start_program(&format!(
        "env exabgp.daemon.user=root exabgp.daemon.drop=false exabgp.log.destination=stdout \
         exabgp.api.cli=false exabgp {}",
        file.display()
    ));
}

fn heard(lab: &Lab) -> String {
    std::fs::read_to_string(lab.file("heard")).unwrap_or_default()
}

fn start(lab: &Lab, as_number: u32, settings: impl FnOnce(PeerConfig) -> PeerConfig) -> Ours {
    let v6 = NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    };
    let ours = lab.start(SpeakerConfig::new(as_number, [192, 0, 2, 1].into()).next_hop_v6(v6));
    let attributes = Attributes::builder()
        .community(Community(64512 << 16 | 9))
        .large_community(LargeCommunity(64512, 3, 4));
    ours.handle.originate(prefix(OUR_V4), attributes.build());
    ours.handle.originate(prefix(OUR_V6), Attributes::local());
    ours.handle.originations_complete();
    // ExaBGP dials; by default it does not listen.
    let peer = PeerConfig::new([192, 0, 2, 2].into(), 64513)
        .families(Families::BOTH)
        .passive(true)
        .hold_time(Duration::from_secs(9))
        .graceful_restart(GracefulRestart::new(Duration::from_secs(20)));
    runtime()
        .block_on(ours.handle.add_peer(settings(peer)))
        .unwrap();
    ours
}

fn exchanged(lab: &Lab, ours: &mut Ours) {
    let is_best = |event: &Event, wanted: &str| {
        matches!(event, Event::Best { prefix, routes, .. }
            if *prefix == self::prefix(wanted) && !routes.is_empty())
    };
    let events = ours.wait("an IPv4 route from ExaBGP", |event| {
        is_best(event, THEIR_V4)
    });
    if !events.iter().any(|event| is_best(event, THEIR_V6)) {
        ours.wait("an IPv6 route from ExaBGP", |event| {
            is_best(event, THEIR_V6)
        });
    }
    until("our routes at ExaBGP", || {
        let heard = heard(lab);
        heard.contains(OUR_V4) && heard.contains(OUR_V6)
    });
}

#[test]
fn routes_both_ways_between_ases_with_md5() {
    let mut lab = Lab::new();
    exabgp(&mut lab, 4_200_000_001, "md5-password secret;");
    let mut ours = start(&lab, 4_200_000_001, |peer| {
        peer.password(Password::new("secret").unwrap())
    });
    exchanged(&lab, &mut ours);
    let seen = heard(&lab);
    for expected in [
        "\"as-path\": [ 4200000001 ]",
        "[ 64512, 9 ]",
        "[ 64512, 3 , 4 ]",
        "\"192.0.2.1\": [ { \"nlri\": \"10.1.0.0/26\" } ]",
        "\"2001:db8::1\": [ { \"nlri\": \"2001:db8:1::/122\" } ]",
        "\"eor\"",
    ] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
    let routes = runtime().block_on(ours.handle.routes()).unwrap();
    let find = |wanted: &str| routes.iter().find(|route| route.prefix == prefix(wanted));
    let attributes = &find(THEIR_V4).unwrap().paths[0].attributes;
    assert_eq!(attributes.as_path().to_string(), "64513");
    assert!(attributes.communities().eq([Community(64513 << 16 | 7)]));
    assert!(
        attributes
            .large_communities()
            .eq([LargeCommunity(64513, 1, 2)])
    );
    let v6 = &find(THEIR_V6).unwrap().paths[0];
    assert_eq!(v6.next_hop, Some("2001:db8::2".parse().unwrap()));
    ours.handle.withdraw(prefix(OUR_V4));
    until("our withdrawal at ExaBGP", || {
        heard(&lab).contains("\"withdraw\": { \"ipv4 unicast\": [ { \"nlri\": \"10.1.0.0/26\" } ]")
    });
    runtime().block_on(ours.handle.stop(Stop::Cease(Cease::PeerDeconfigured)));
    // ExaBGP 4.2 says that a NOTIFICATION is an UPDATE it cannot decode, and ends the session all the same.
    until("the end of the session at ExaBGP", || {
        heard(&lab).contains("\"state\": \"down\"")
    });
}

/// RFC 4724 section 4.2: ExaBGP is killed, and we keep its routes.
#[test]
fn we_keep_exabgps_routes_through_a_kill() {
    let mut lab = Lab::new();
    exabgp(&mut lab, 64512, "");
    let mut ours = start(&lab, 64512, |peer| peer);
    exchanged(&lab, &mut ours);
    while ours.events.try_recv().is_ok() {}
    lab.kill_bird();
    let down = ours.wait("the loss", |event| matches!(event, Event::PeerDown { .. }));
    assert!(
        matches!(down.last(), Some(Event::PeerDown { kept: Some(_), .. })),
        "{down:?}"
    );
    let routes = runtime().block_on(ours.handle.routes()).unwrap();
    assert_eq!(
        routes.iter().filter(|route| route.paths[0].stale).count(),
        2
    );
}
