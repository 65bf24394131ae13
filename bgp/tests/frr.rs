//! Against FRR's bgpd over real sockets, in network namespaces. Needs root and the package frr.

#[path = "bird/lab.rs"]
mod lab;

use std::time::Duration;

use lab::{Lab, Ours, until};
use ocicat_bgp::{
    Attributes, Cease, Community, Event, Families, GracefulRestart, LargeCommunity, NextHop,
    Password, PeerConfig, Prefix, SpeakerConfig, Stop, Ttl,
};
use tokio::runtime::Runtime;

const FRR_V4: &str = "10.2.0.0/26";
const OUR_V4: &str = "10.1.0.0/26";
const FRR_V6: &str = "2001:db8:2::/122";
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

fn frr(as_number: u32, extra: &str) -> String {
    format!(
        " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart restart-time 20\n \
         no bgp default ipv4-unicast\n neighbor 192.0.2.1 remote-as {as_number}\n \
         neighbor 192.0.2.1 timers 3 9\n neighbor 192.0.2.1 timers connect 1\n{extra} \
         address-family ipv4 unicast\n  network {FRR_V4}\n  neighbor 192.0.2.1 activate\n exit-address-family\n \
         address-family ipv6 unicast\n  network {FRR_V6}\n  neighbor 192.0.2.1 activate\n exit-address-family"
    )
}

fn start(lab: &Lab, as_number: u32, restarting: bool, peer: PeerConfig) -> Ours {
    let v6 = NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    };
    let config = SpeakerConfig::new(as_number, [192, 0, 2, 1].into())
        .next_hop_v6(v6)
        .restarting(restarting);
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

fn peer(as_number: u32) -> PeerConfig {
    let restart = GracefulRestart::new(Duration::from_secs(20)).forwarding_preserved(true);
    PeerConfig::new([192, 0, 2, 2].into(), as_number)
        .families(Families::BOTH)
        .hold_time(Duration::from_secs(9))
        .graceful_restart(restart)
}

fn has(lab: &Lab, prefix: &str) -> bool {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let text = lab.vtysh(&format!("show bgp {family} unicast {prefix} json"));
    text.contains("\"peerId\":\"192.0.2.1\"")
}

fn established(lab: &Lab) -> bool {
    lab.vtysh("show bgp neighbors 192.0.2.1 json")
        .contains("\"bgpState\":\"Established\"")
}

fn exchanged(lab: &Lab, ours: &mut Ours) {
    let is_best = |event: &Event, wanted: &str| {
        matches!(event, Event::Best { prefix, routes, .. }
            if *prefix == self::prefix(wanted) && !routes.is_empty())
    };
    let events = ours.wait("an IPv4 route from FRR", |event| is_best(event, FRR_V4));
    if !events.iter().any(|event| is_best(event, FRR_V6)) {
        ours.wait("an IPv6 route from FRR", |event| is_best(event, FRR_V6));
    }
    until("our routes at FRR", || has(lab, OUR_V4) && has(lab, OUR_V6));
}

#[test]
fn routes_both_ways_with_md5_and_gtsm() {
    let mut lab = Lab::new();
    let extra = " neighbor 192.0.2.1 password secret\n neighbor 192.0.2.1 ttl-security hops 1\n";
    lab.start_frr(64513, &frr(4_200_000_001, extra));
    let settings = peer(64513)
        .password(Password::new("secret").unwrap())
        .ttl(Ttl::Security { hops: 1 });
    let mut ours = start(&lab, 4_200_000_001, false, settings);
    exchanged(&lab, &mut ours);
    let seen = lab.vtysh("show bgp ipv4 unicast 10.1.0.0/26 json");
    for expected in ["4200000001", "64512:9", "64512:3:4", "192.0.2.1"] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
    lab.vtysh("clear bgp ipv4 unicast * soft in");
    ours.handle.withdraw(prefix(OUR_V4));
    until("our route gone at FRR", || !has(&lab, OUR_V4));
    runtime().block_on(
        ours.handle
            .stop(Stop::Cease(Cease::AdministrativeShutdown("drained".into()))),
    );
    until("our text at FRR", || {
        lab.vtysh("show bgp neighbors 192.0.2.1 json")
            .contains("drained")
    });
}

/// RFC 4724 in both roles.
#[test]
fn graceful_restart_in_both_roles() {
    let mut lab = Lab::new();
    lab.start_frr(64512, &frr(64512, ""));
    let mut ours = start(&lab, 64512, false, peer(64512));
    exchanged(&lab, &mut ours);
    ours.kill();
    until("FRR notices", || !established(&lab));
    assert!(has(&lab, OUR_V4) && has(&lab, OUR_V6), "kept");
    let mut ours = start(&lab, 64512, true, peer(64512));
    exchanged(&lab, &mut ours);
    ours.wait("FRR's routes are complete", |event| {
        *event == Event::RestartComplete
    });

    while ours.events.try_recv().is_ok() {}
    lab.kill_bird();
    let down = ours.wait("the loss", |event| matches!(event, Event::PeerDown { .. }));
    assert!(
        matches!(down.last(), Some(Event::PeerDown { kept: Some(_), .. })),
        "{down:?}"
    );
    lab.start_frr(64512, &frr(64512, ""));
    let mut events = ours.wait("one family of FRR's", |event| {
        matches!(event, Event::EndOfRib { .. })
    });
    events.extend(ours.wait("the other family", |event| {
        matches!(event, Event::EndOfRib { .. })
    }));
    let touched = |event: &&Event| matches!(event, Event::Best { .. } | Event::StaleDropped { .. });
    assert_eq!(events.iter().find(touched), None);

    runtime().block_on(ours.handle.stop(Stop::Cease(Cease::PeerDeconfigured)));
    until("our routes gone at FRR", || {
        !has(&lab, OUR_V4) && !has(&lab, OUR_V6)
    });
}
