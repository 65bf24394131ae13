//! Against GoBGP over real sockets, in network namespaces. Needs root and the package gobgpd.

#[path = "bird/lab.rs"]
mod lab;

use std::process::Command;
use std::time::Duration;

use lab::{Lab, Ours, until};
use ocicat_bgp::{
    Attributes, Community, Event, Families, GracefulRestart, LargeCommunity, NextHop, Password,
    PeerConfig, Prefix, SpeakerConfig,
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

/// Starts gobgpd in AS 64513 and gives it its routes.
fn gobgp(lab: &mut Lab, as_number: u32, password: &str) {
    for program in ["gobgpd", "gobgp"] {
        assert!(
            Command::new(program).arg("--version").output().is_ok(),
            "this test needs GoBGP: apt-get install gobgpd"
        );
    }
    let family = |name: &str| {
        format!(
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{name}\"\n\
             [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n"
        )
    };
    let text = format!(
        "[global.config]\nas = 64513\nrouter-id = \"192.0.2.2\"\n[[neighbors]]\n[neighbors.config]\n\
         neighbor-address = \"192.0.2.1\"\npeer-as = {as_number}\nauth-password = \"{password}\"\n\
         [neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\nconnect-retry = 1\n\
         idle-hold-time-after-reset = 1\n\
         [neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 20\n{}{}",
        family("ipv4-unicast"),
        family("ipv6-unicast")
    );
    let file = lab.file("gobgp.toml");
    std::fs::write(&file, text).unwrap();
    lab.start_program(&format!(
        "gobgpd -p --pprof-disable --api-hosts 127.0.0.1:50051 -f {}",
        file.display()
    ));
    until("gobgpd answers", || {
        lab.ask("gobgp global").contains("64513")
    });
    for line in [
        "-a ipv4 10.2.0.0/26 nexthop 192.0.2.2 community 64513:7 large-community 64513:1:2",
        "-a ipv6 2001:db8:2::/122 nexthop 2001:db8::2",
    ] {
        let said = lab.ask(&format!("gobgp global rib add {line}"));
        assert!(said.is_empty(), "{said}");
    }
}

fn start(lab: &Lab, as_number: u32, restarting: bool, password: &str) -> Ours {
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
    let restart = GracefulRestart::new(Duration::from_secs(20)).forwarding_preserved(true);
    let mut peer = PeerConfig::new([192, 0, 2, 2].into(), 64513)
        .families(Families::BOTH)
        .hold_time(Duration::from_secs(9))
        .graceful_restart(restart);
    if !password.is_empty() {
        peer = peer.password(Password::new(password).unwrap());
    }
    runtime().block_on(ours.handle.add_peer(peer)).unwrap();
    ours
}

fn table(lab: &Lab, prefix: &str) -> String {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    lab.ask(&format!("gobgp global rib -a {family} {prefix} -j"))
}

fn has(lab: &Lab, prefix: &str) -> bool {
    table(lab, prefix).contains("\"neighbor-ip\":\"192.0.2.1\"")
}

fn established(lab: &Lab) -> bool {
    lab.ask("gobgp neighbor 192.0.2.1").contains("ESTABLISHED")
}

fn exchanged(lab: &Lab, ours: &mut Ours) {
    let is_best = |event: &Event, wanted: &str| {
        matches!(event, Event::Best { prefix, routes, .. }
            if *prefix == self::prefix(wanted) && !routes.is_empty())
    };
    let events = ours.wait("an IPv4 route from GoBGP", |event| is_best(event, THEIR_V4));
    if !events.iter().any(|event| is_best(event, THEIR_V6)) {
        ours.wait("an IPv6 route from GoBGP", |event| is_best(event, THEIR_V6));
    }
    until("our routes at GoBGP", || {
        has(lab, OUR_V4) && has(lab, OUR_V6)
    });
}

#[test]
fn routes_both_ways_between_ases_with_md5() {
    let mut lab = Lab::new();
    gobgp(&mut lab, 4_200_000_001, "secret");
    let mut ours = start(&lab, 4_200_000_001, false, "secret");
    exchanged(&lab, &mut ours);
    let seen = table(&lab, OUR_V4);
    // 4227858441 is 64512:9.
    for expected in ["4200000001", "4227858441", "\"ASN\":64512", "192.0.2.1"] {
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
    lab.ask("gobgp neighbor 192.0.2.1 softresetin");
    ours.handle.withdraw(prefix(OUR_V4));
    until("our route gone at GoBGP", || !has(&lab, OUR_V4));
    assert!(has(&lab, OUR_V6));
    let said = lab.ask("gobgp global rib del -a ipv4 10.2.0.0/26");
    assert!(said.is_empty(), "{said}");
    ours.wait("GoBGP's route gone", |event| {
        matches!(event, Event::Best { prefix, routes, .. }
            if *prefix == self::prefix(THEIR_V4) && routes.is_empty())
    });
    assert!(established(&lab));
}

/// RFC 4724 in both roles.
#[test]
fn graceful_restart_in_both_roles() {
    let mut lab = Lab::new();
    gobgp(&mut lab, 64512, "");
    let mut ours = start(&lab, 64512, false, "");
    exchanged(&lab, &mut ours);
    ours.kill();
    until("GoBGP notices", || !established(&lab));
    assert!(has(&lab, OUR_V4) && has(&lab, OUR_V6), "kept");
    let mut ours = start(&lab, 64512, true, "");
    exchanged(&lab, &mut ours);
    ours.wait("GoBGP's routes are complete", |event| {
        *event == Event::RestartComplete
    });

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
