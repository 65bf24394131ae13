//! FRR's bgpd, without zebra.

use ocicat_bgp::{Cease, Event, Password, Stop, Ttl};

use super::lab::{Lab, until};
use super::ours::{OUR_V4, OUR_V6, THEIR_V4, THEIR_V6, peer, prefix, speaker};

fn frr(as_number: u32, extra: &str) -> String {
    neighbor("192.0.2.1", as_number, extra, "")
}

/// A configuration with one neighbour; `family` is said in both address families, with `N` for the neighbour.
pub(crate) fn neighbor(address: &str, as_number: u32, extra: &str, family: &str) -> String {
    let family = family.replace('N', address);
    let extra = extra.replace(" N ", &format!(" {address} "));
    let mut text = format!(
        " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart restart-time 20\n \
         no bgp default ipv4-unicast\n neighbor {address} remote-as {as_number}\n \
         neighbor {address} timers 3 9\n neighbor {address} timers connect 1\n{extra}"
    );
    for (name, network) in [("ipv4", THEIR_V4), ("ipv6", THEIR_V6)] {
        text += &format!(
            " address-family {name} unicast\n  network {network}\n  neighbor {address} activate\n{family} \
             exit-address-family\n"
        );
    }
    text
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

#[test]
fn routes_both_ways_with_md5_and_gtsm() {
    let mut lab = Lab::new();
    let extra = " neighbor 192.0.2.1 password secret\n neighbor 192.0.2.1 ttl-security hops 1\n";
    lab.start_frr(64513, &frr(4_200_000_001, extra));
    let settings = peer(64513)
        .password(Password::new("secret").unwrap())
        .ttl(Ttl::Security { hops: 1 });
    let mut ours = lab.start(speaker(4_200_000_001), settings);
    ours.exchanged(|prefix| has(&lab, prefix));
    let seen = lab.vtysh("show bgp ipv4 unicast 10.1.0.0/26 json");
    for expected in ["4200000001", "64512:9", "64512:3:4", "192.0.2.1"] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
    lab.vtysh("clear bgp ipv4 unicast * soft in");
    ours.handle.withdraw(prefix(OUR_V4));
    until("our route gone at FRR", || !has(&lab, OUR_V4));
    let drained = Cease::AdministrativeShutdown("drained".into());
    ours.stop(Stop::Cease(drained));
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
    let mut ours = lab.start(speaker(64512), peer(64512));
    ours.exchanged(|prefix| has(&lab, prefix));
    ours.kill();
    until("FRR notices", || !established(&lab));
    assert!(has(&lab, OUR_V4) && has(&lab, OUR_V6), "kept");
    let mut ours = lab.start(speaker(64512).restarting(true), peer(64512));
    ours.exchanged(|prefix| has(&lab, prefix));
    ours.wait("FRR's routes are complete", |event| {
        *event == Event::RestartComplete
    });

    ours.forget_events();
    lab.kill_neighbour();
    ours.loses_the_session();
    lab.start_frr(64512, &frr(64512, ""));
    ours.finds_the_same_routes();

    ours.stop(Stop::Cease(Cease::PeerDeconfigured));
    until("our routes gone at FRR", || {
        !has(&lab, OUR_V4) && !has(&lab, OUR_V6)
    });
}
