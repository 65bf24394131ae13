//! GoBGP.

use ocicat_bgp::{Event, Password, Ttl};

use super::lab::{Lab, needs, until};
use super::ours::{OUR_V4, OUR_V6, THEIR_V4, THEIR_V6, is_gone, peer, prefix, speaker};

/// Starts gobgpd in AS 64513 and gives it its routes.
pub(crate) fn gobgp(lab: &mut Lab, as_number: u32, password: &str, extra: &str, more: &str) {
    needs("gobgpd", "gobgpd");
    let family = |name: &str| {
        format!(
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{name}\"\n\
             [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n{more}"
        )
    };
    let text = format!(
        "[global.config]\nas = 64513\nrouter-id = \"192.0.2.2\"\n[[neighbors]]\n[neighbors.config]\n\
         neighbor-address = \"192.0.2.1\"\npeer-as = {as_number}\nauth-password = \"{password}\"\n\
         [neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\nconnect-retry = 1\n\
         idle-hold-time-after-reset = 1\n\
         [neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 20\n{extra}{}{}",
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

pub(crate) fn table(lab: &Lab, prefix: &str) -> String {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    lab.ask(&format!("gobgp global rib -a {family} {prefix} -j"))
}

fn has(lab: &Lab, prefix: &str) -> bool {
    table(lab, prefix).contains("\"neighbor-ip\":\"192.0.2.1\"")
}

fn established(lab: &Lab) -> bool {
    lab.ask("gobgp neighbor 192.0.2.1").contains("ESTABLISHED")
}

/// With MD5 (RFC 2385) and GTSM (RFC 5082).
#[test]
fn routes_both_ways_between_ases_with_md5_and_gtsm() {
    let mut lab = Lab::new();
    let near = "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n";
    gobgp(&mut lab, 4_200_000_001, "secret", near, "");
    let settings = peer(64513)
        .password(Password::new("secret").unwrap())
        .ttl(Ttl::Security { hops: 1 });
    let mut ours = lab.start(speaker(4_200_000_001), settings);
    ours.exchanged(|prefix| has(&lab, prefix));
    let seen = table(&lab, OUR_V4);
    // 4227858441 is 64512:9.
    for expected in ["4200000001", "4227858441", "\"ASN\":64512", "192.0.2.1"] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
    ours.has_their_attributes(THEIR_V4, THEIR_V6);
    lab.ask("gobgp neighbor 192.0.2.1 softresetin");
    ours.handle.withdraw(prefix(OUR_V4));
    until("our route gone at GoBGP", || !has(&lab, OUR_V4));
    assert!(has(&lab, OUR_V6));
    let said = lab.ask("gobgp global rib del -a ipv4 10.2.0.0/26");
    assert!(said.is_empty(), "{said}");
    ours.wait("GoBGP's route gone", |event| is_gone(event, THEIR_V4));
    assert!(established(&lab));
}

/// RFC 4724 in both roles.
#[test]
fn graceful_restart_in_both_roles() {
    let mut lab = Lab::new();
    gobgp(&mut lab, 64512, "", "", "");
    let mut ours = lab.start(speaker(64512), peer(64513));
    ours.exchanged(|prefix| has(&lab, prefix));
    ours.kill();
    until("GoBGP notices", || !established(&lab));
    assert!(has(&lab, OUR_V4) && has(&lab, OUR_V6), "kept");
    let mut ours = lab.start(speaker(64512).restarting(true), peer(64513));
    ours.exchanged(|prefix| has(&lab, prefix));
    ours.wait("GoBGP's routes are complete", |event| {
        *event == Event::RestartComplete
    });

    ours.forget_events();
    lab.kill_neighbour();
    ours.loses_the_session();
}
