//! We reflect a client's route to each of them (RFC 4456): its originator and our cluster come with it.

use ocicat_bgp::PeerConfig;

use super::exabgp::{exabgp, heard, it};
use super::gobgp::{gobgp, table};
use super::lab::{Lab, until};
use super::ours::{Ours, peer, speaker};
use super::{bird, frr};

const AS: u32 = 64513;
const ROUTE: &str = "10.9.0.0/26";
/// The client of [`Lab::start_client`], and ourselves.
const ORIGINATOR: &str = "192.0.2.3";
const CLUSTER: &str = "192.0.2.1";

/// Our side with a client that has a route; the neighbour is another client.
fn reflect(lab: &Lab, neighbour: PeerConfig) -> (Ours, Ours) {
    let ours = lab.start(speaker(AS), neighbour.rr_client(true));
    let client = lab.start_client(&ours, AS, ROUTE);
    (ours, client)
}

/// What the neighbour says of the route, once it has it.
fn seen(what: impl Fn() -> String) -> String {
    let mut last = String::new();
    until("the reflected route at the neighbour", || {
        last = what();
        last.contains(ORIGINATOR) && last.contains(CLUSTER)
    });
    last
}

#[test]
fn to_bird() {
    let mut lab = Lab::new();
    let settings = "local 192.0.2.2 as 64513; neighbor 192.0.2.1 as 64513;";
    lab.start_bird(&bird::channels(settings, ""), false);
    let _both = reflect(&lab, peer(AS));
    let seen = seen(|| lab.birdc(&format!("show route {ROUTE} all")));
    for expected in [
        "BGP.originator_id: 192.0.2.3",
        "BGP.cluster_list: 192.0.2.1",
        "BGP.next_hop: 192.0.2.3",
        "BGP.med: 9",
    ] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
}

#[test]
fn to_frr() {
    let mut lab = Lab::new();
    lab.start_frr(AS, &frr::neighbor("192.0.2.1", AS, "", ""));
    let _both = reflect(&lab, peer(AS));
    let seen = seen(|| lab.vtysh(&format!("show bgp ipv4 unicast {ROUTE} json")));
    let seen: String = seen.chars().filter(|c| !c.is_whitespace()).collect();
    for expected in [
        "\"originatorId\":\"192.0.2.3\"",
        "\"clusterList\":{\"list\":[\"192.0.2.1\"]}",
    ] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
}

#[test]
fn to_gobgp() {
    let mut lab = Lab::new();
    gobgp(&mut lab, AS, "", "", "");
    let _both = reflect(&lab, peer(AS));
    // Attributes 9 and 10.
    let seen = seen(|| table(&lab, ROUTE));
    for expected in [
        "\"type\":9,\"value\":\"192.0.2.3\"",
        "\"type\":10,\"value\":[\"192.0.2.1\"]",
    ] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
}

#[test]
fn to_exabgp() {
    let mut lab = Lab::new();
    exabgp(&mut lab, AS, "", "", "");
    let _both = reflect(&lab, it());
    let seen = seen(|| {
        let heard = heard(&lab);
        let line = heard.lines().find(|line| line.contains(ROUTE));
        line.unwrap_or_default().to_owned()
    });
    for expected in [
        "\"originator-id\": \"192.0.2.3\"",
        "\"cluster-list\": [ \"192.0.2.1\" ]",
    ] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
}
