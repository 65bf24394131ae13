//! ExaBGP.

use std::time::Duration;

use ocicat_bgp::{Cease, GracefulRestart, Password, PeerConfig, Stop, Ttl};

use super::lab::{Lab, needs, until};
use super::ours::{OUR_V4, Ours, THEIR_V4, THEIR_V6, peer, prefix, speaker};

/// Starts ExaBGP in AS 64513; what it hears goes line by line to the file `heard`.
pub(crate) fn exabgp(lab: &mut Lab, as_number: u32, extra: &str, capabilities: &str, routes: &str) {
    let ends = ("192.0.2.1", "192.0.2.2");
    exabgp_at(lab, ends, as_number, extra, capabilities, routes);
}

/// The same with the addresses of both ends, ours first.
pub(crate) fn exabgp_at(
    lab: &mut Lab,
    (ours, theirs): (&str, &str),
    as_number: u32,
    extra: &str,
    capabilities: &str,
    routes: &str,
) {
    needs("exabgp", "exabgp");
    let heard = lab.file("heard");
    let script = lab.file("hear");
    // The shell keeps its output open: when that is closed, ExaBGP takes the helper for dead.
    let text = format!("cat > {}\nexit 0\n", heard.display());
    std::fs::write(&script, text).unwrap();
    let text = format!(
        "process hear {{ run /bin/sh {}; encoder json; }}
         neighbor {ours} {{
            router-id 192.0.2.2; local-address {theirs}; local-as 64513; peer-as {as_number};
            hold-time 9; {extra}
            capability {{ asn4 enable; route-refresh enable; graceful-restart 20; {capabilities} }}
            family {{ ipv4 unicast; ipv6 unicast; }}
            static {{
               route {THEIR_V4} next-hop 192.0.2.2 community [64513:7] large-community [64513:1:2];
               route {THEIR_V6} next-hop 2001:db8::2;
               {routes}
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

pub(crate) fn heard(lab: &Lab) -> String {
    std::fs::read_to_string(lab.file("heard")).unwrap_or_default()
}

/// ExaBGP dials; by default it does not listen.
pub(crate) fn it() -> PeerConfig {
    peer(64513)
        .passive(true)
        .graceful_restart(GracefulRestart::new(Duration::from_secs(20)))
}

fn join(lab: &Lab, as_number: u32, peer: PeerConfig) -> Ours {
    let mut ours = lab.start(speaker(as_number), peer);
    ours.exchanged(|prefix| heard(lab).contains(prefix));
    ours
}

/// With MD5 (RFC 2385) and GTSM (RFC 5082).
#[test]
fn routes_both_ways_between_ases_with_md5_and_gtsm() {
    let mut lab = Lab::new();
    let extra = "md5-password secret; outgoing-ttl 255; incoming-ttl 255;";
    exabgp(&mut lab, 4_200_000_001, extra, "", "");
    let settings = it()
        .password(Password::new("secret").unwrap())
        .ttl(Ttl::Security { hops: 1 });
    let ours = join(&lab, 4_200_000_001, settings);
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
    ours.has_their_attributes(THEIR_V4, THEIR_V6);
    ours.handle.withdraw(prefix(OUR_V4));
    until("our withdrawal at ExaBGP", || {
        heard(&lab).contains("\"withdraw\": { \"ipv4 unicast\": [ { \"nlri\": \"10.1.0.0/26\" } ]")
    });
    ours.stop(Stop::Cease(Cease::PeerDeconfigured));
    // ExaBGP 4.2 says that a NOTIFICATION is an UPDATE it cannot decode, and ends the session all the same.
    until("the end of the session at ExaBGP", || {
        heard(&lab).contains("\"state\": \"down\"")
    });
}

/// RFC 4724 section 4.2: ExaBGP is killed, and we keep its routes.
#[test]
fn we_keep_exabgps_routes_through_a_kill() {
    let mut lab = Lab::new();
    exabgp(&mut lab, 64512, "", "", "");
    let mut ours = join(&lab, 64512, it());
    ours.forget_events();
    lab.kill_neighbour();
    ours.loses_the_session();
}
