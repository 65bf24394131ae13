//! Several paths per prefix (RFC 7911) with each of them, in both directions.

use ocicat_bgp::{AddPath, Families, State};

use super::exabgp::{exabgp, heard, it};
use super::gobgp::{gobgp, table};
use super::lab::{Lab, until};
use super::ours::{OUR_V4, Ours, THEIR_V4, peer, prefix, speaker};
use super::{bird, frr};

const EVERY_PATH: AddPath = AddPath::both(Families::IPV4);

/// The identifiers of the paths that we have.
fn ids(ours: &Ours, prefix: &str) -> Vec<u32> {
    let routes = ours.routes();
    let route = routes
        .iter()
        .find(|route| route.prefix == self::prefix(prefix));
    let mut ids: Vec<u32> = route.map_or(Vec::new(), |route| {
        route.paths.iter().map(|path| path.path_id).collect()
    });
    ids.sort_unstable();
    ids
}

/// Our own path and a client's go to the neighbour, one goes away again.
fn two_paths_there(lab: &Lab, ours: &Ours, as_number: u32, count: impl Fn() -> usize) {
    let client = lab.start_client(ours, as_number, OUR_V4);
    until("both our paths at the neighbour", || count() == 2);
    ours.handle.withdraw(prefix(OUR_V4));
    until("one path at the neighbour", || count() == 1);
    client.handle.withdraw(prefix(OUR_V4));
    until("no path at the neighbour", || count() == 0);
    let up = |peer: &ocicat_bgp::PeerStatus| peer.state == State::Established;
    assert!(ours.peers().iter().all(up));
}

#[test]
fn with_bird() {
    let mut lab = Lab::new();
    let settings = "local 192.0.2.2 as 64513; neighbor 192.0.2.1 as 64512;";
    let config = format!(
        "protocol static s5 {{ ipv4; route {THEIR_V4} unreachable {{ bgp_med = 5; }}; }} {}",
        bird::channels(settings, "add paths on;")
    );
    lab.start_bird(&config, false);
    let ours = lab.start(speaker(64512), peer(64513).add_path(EVERY_PATH));
    until("both paths of BIRD's", || ids(&ours, THEIR_V4).len() == 2);
    assert!(!ids(&ours, THEIR_V4).contains(&0));
    lab.birdc("disable s5");
    until("one path of BIRD's", || ids(&ours, THEIR_V4).len() == 1);
    two_paths_there(&lab, &ours, 64512, || {
        let all = lab.birdc(&format!("show route {OUR_V4} all"));
        all.matches("BGP.next_hop").count()
    });
}

#[test]
fn with_frr() {
    let mut lab = Lab::new();
    let family = "  neighbor N addpath-tx-all-paths\n";
    lab.start_frr(64513, &frr::neighbor("192.0.2.1", 64512, "", family));
    let ours = lab.start(speaker(64512), peer(64513).add_path(EVERY_PATH));
    until("FRR's path", || ids(&ours, THEIR_V4).len() == 1);
    assert!(ids(&ours, THEIR_V4)[0] > 0, "it has an identifier");
    two_paths_there(&lab, &ours, 64512, || {
        let all = lab.vtysh(&format!("show bgp ipv4 unicast {OUR_V4} json"));
        all.matches("\"peerId\":\"192.0.2.1\"").count()
    });
}

#[test]
fn with_gobgp() {
    let mut lab = Lab::new();
    let family = "[neighbors.afi-safis.add-paths.config]\nreceive = true\nsend-max = 8\n";
    gobgp(&mut lab, 64512, "", "", family);
    for line in [
        "identifier 10 nexthop 192.0.2.2",
        "identifier 20 nexthop 192.0.2.9",
    ] {
        let said = lab.ask(&format!("gobgp global rib add -a ipv4 {THEIR_V4} {line}"));
        assert!(said.is_empty(), "{said}");
    }
    let ours = lab.start(speaker(64512), peer(64513).add_path(EVERY_PATH));
    // The path that it has from the beginning has no identifier of its own.
    until("three paths of GoBGP's", || ids(&ours, THEIR_V4).len() == 3);
    two_paths_there(&lab, &ours, 64512, || {
        let all = table(&lab, OUR_V4);
        all.matches("\"neighbor-ip\":\"192.0.2.1\"").count()
    });
}

#[test]
fn with_exabgp() {
    let mut lab = Lab::new();
    let more = format!(
        "route {THEIR_V4} next-hop 192.0.2.2 path-information 0.0.0.7;
         route {THEIR_V4} next-hop 192.0.2.9 path-information 0.0.0.8;"
    );
    exabgp(&mut lab, 64512, "", "add-path send/receive;", &more);
    let ours = lab.start(speaker(64512), it().add_path(EVERY_PATH));
    until("two paths of ExaBGP's", || {
        let ids = ids(&ours, THEIR_V4);
        ids.contains(&7) && ids.contains(&8)
    });
    // Each announcement or withdrawal of ours is a line; its identifier stands beside the prefix.
    two_paths_there(&lab, &ours, 64512, || {
        let mut held = std::collections::BTreeSet::new();
        for line in heard(&lab).lines().filter(|line| line.contains(OUR_V4)) {
            for part in line
                .split("\"nlri\": \"10.1.0.0/26\", \"path-information\": \"")
                .skip(1)
            {
                let id = part.split('"').next().unwrap_or_default().to_owned();
                if line.contains("\"withdraw\"") {
                    held.remove(&id);
                } else {
                    held.insert(id);
                }
            }
        }
        held.len()
    });
}
