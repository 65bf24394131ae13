//! IPv4 routes over IPv6 next hops (RFC 8950), long messages (RFC 8654), roles (RFC 9234).

use std::net::{IpAddr, Ipv4Addr};

use ocicat_bgp::{
    Attributes, DownReason, Families, GracefulRestart, PeerConfig, Prefix, Role, State,
};

use super::exabgp::{exabgp_at, heard};
use super::lab::{Lab, until};
use super::ours::{OUR_V4, Ours, THEIR_V4, THEIR_V6, peer, speaker};
use super::{bird, frr};

/// The neighbour over IPv6, with IPv4 routes on that session.
fn over_v6() -> PeerConfig {
    PeerConfig::new("2001:db8::2".parse().unwrap(), 64513)
        .families(Families::BOTH)
        .graceful_restart(GracefulRestart::default())
        .extended_next_hop(true)
}

fn next_hop(ours: &Ours, prefix: &str) -> Option<IpAddr> {
    ours.route(prefix).paths[0].next_hop
}

fn has_both(ours: &Ours) -> bool {
    let routes = ours.routes();
    let has = |prefix: &str| {
        routes
            .iter()
            .any(|route| route.prefix == super::ours::prefix(prefix))
    };
    has(THEIR_V4) && has(THEIR_V6)
}

#[test]
fn ipv4_over_ipv6_with_bird() {
    let mut lab = Lab::new();
    let settings = "local 2001:db8::2 as 64513; neighbor 2001:db8::1 as 64512;";
    lab.start_bird(&bird::channels(settings, "extended next hop on;"), false);
    let mut ours = lab.start(speaker(64512), over_v6());
    ours.exchanged(|prefix| lab.bird_has(prefix));
    let seen = lab.birdc(&format!("show route {OUR_V4} all"));
    assert!(seen.contains("BGP.next_hop: 2001:db8::1"), "{seen}");
    assert_eq!(next_hop(&ours, THEIR_V4), "2001:db8::2".parse().ok());
    ours.handle.withdraw(super::ours::prefix(OUR_V4));
    until("our route gone at BIRD", || !lab.bird_has(OUR_V4));
}

#[test]
fn ipv4_over_ipv6_with_frr() {
    let mut lab = Lab::new();
    let extra = " neighbor N capability extended-nexthop\n";
    lab.start_frr(64513, &frr::neighbor("2001:db8::1", 64512, extra, ""));
    let ours = lab.start(speaker(64512), over_v6());
    until("both routes of FRR's", || has_both(&ours));
    assert_eq!(next_hop(&ours, THEIR_V4), "2001:db8::2".parse().ok());
    until("our route at FRR", || {
        let seen = lab.vtysh(&format!("show bgp ipv4 unicast {OUR_V4} json"));
        seen.contains("2001:db8::1")
    });
    ours.handle.withdraw(super::ours::prefix(OUR_V4));
    until("our route gone at FRR", || {
        let seen = lab.vtysh(&format!("show bgp ipv4 unicast {OUR_V4} json"));
        !seen.contains("2001:db8::1")
    });
}

#[test]
fn ipv4_over_ipv6_with_exabgp() {
    let mut lab = Lab::new();
    let extra = "nexthop { ipv4 unicast ipv6; }";
    let more = "route 10.3.0.0/26 next-hop 2001:db8::2;";
    let at = ("2001:db8::1", "2001:db8::2");
    exabgp_at(&mut lab, at, 64512, extra, "nexthop enable;", more);
    let ours = lab.start(speaker(64512), over_v6().passive(true));
    until("both routes of ExaBGP's", || has_both(&ours));
    assert_eq!(next_hop(&ours, "10.3.0.0/26"), "2001:db8::2".parse().ok());
    until("our route at ExaBGP", || {
        heard(&lab).contains("\"2001:db8::1\": [ { \"nlri\": \"10.1.0.0/26\" } ]")
    });
}

/// RFC 8654 with BIRD and FRR: 4000 prefixes with one set of attributes.
#[test]
fn long_messages() {
    let many = |ours: &Ours| {
        for number in 0..4000u32 {
            let address = Ipv4Addr::from(0x0a80_0000 + (number << 6));
            let prefix = Prefix::containing(address.into(), 26).unwrap();
            ours.handle.originate(prefix, Attributes::local());
        }
    };
    let agreed = |ours: &Ours| {
        let negotiated = ours.peers()[0].negotiated.clone();
        negotiated.is_some_and(|negotiated| negotiated.extended_messages)
    };
    let settings = peer(64513).extended_messages(true);

    let mut lab = Lab::new();
    let bird =
        "local 192.0.2.2 as 64513; neighbor 192.0.2.1 as 64512; enable extended messages on;";
    lab.start_bird(&bird::channels(bird, ""), false);
    let ours = lab.start(speaker(64512), settings.clone());
    until("a session with long messages", || agreed(&ours));
    many(&ours);
    until("all at BIRD", || {
        lab.birdc("show protocols all ocicat")
            .contains("4001 imported")
    });
    drop((ours, lab));

    let mut lab = Lab::new();
    lab.start_frr(64513, &frr::neighbor("192.0.2.1", 64512, "", ""));
    let ours = lab.start(speaker(64512), settings);
    until("a session with long messages", || agreed(&ours));
    many(&ours);
    until("all at FRR", || {
        let seen = lab.vtysh("show bgp ipv4 unicast statistics json");
        seen.replace(' ', "").contains("\"totalPrefixes\":4002")
    });
}

/// RFC 9234 with BIRD and FRR: roles that fit, a mark on what a provider sends, and roles that do not fit.
#[test]
fn roles() {
    let fits = |ours: &Ours| {
        until("the session", || {
            ours.peers()[0].state == State::Established
        });
        until("their route", || {
            ours.routes()
                .iter()
                .any(|route| route.prefix == super::ours::prefix(THEIR_V4))
        });
        let route = ours.route(THEIR_V4);
        let mark = route.paths[0].attributes.only_to_customer();
        assert_eq!(
            mark.map(|number| number.0),
            Some(64513),
            "a provider's route"
        );
    };
    let refused = |ours: &Ours| {
        let mismatch = |reason: &DownReason| {
            matches!(reason, DownReason::Sent(n) | DownReason::Received(n)
                if (n.code, n.subcode) == (2, 11))
        };
        until("the refusal", || {
            ours.peers()[0].last_error.as_ref().is_some_and(mismatch)
        });
    };
    let settings = peer(64513).role(Role::Customer).strict_role(true);
    let bird = |role: &str| {
        let settings =
            "local 192.0.2.2 as 64513; neighbor 192.0.2.1 as 64512; connect delay time 1;";
        bird::channels(&format!("{settings} local role {role};"), "")
    };
    for (role, good) in [("provider", true), ("customer", false)] {
        let mut lab = Lab::new();
        lab.start_bird(&bird(role), false);
        let ours = lab.start(speaker(64512), settings.clone());
        if good {
            fits(&ours)
        } else {
            refused(&ours)
        }
        drop((ours, lab));
        let mut lab = Lab::new();
        let extra = format!(" neighbor N local-role {role}\n");
        lab.start_frr(64513, &frr::neighbor("192.0.2.1", 64512, &extra, ""));
        let ours = lab.start(speaker(64512), settings.clone());
        if good { fits(&ours) } else { refused(&ours) }
    }
}
